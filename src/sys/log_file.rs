//! A log that is appended to in whole records and cut into files of bounded size.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::fault::{Context as _, Fault, Result, kind_of_errno};

/// The longest record that is looked for at the end of a file that a dead writer left.
const TAIL: u64 = 128 << 10;

/// A log at `path`; older files are `path.1`, `path.2`, ….
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    max_bytes: u64,
    max_files: u32,
    /// Bytes that could not be written since the last that could.
    lost: u64,
}

/// The name of the `nth` file of a log; 0 is the current one.
pub fn nth(path: &Path, nth: u32) -> PathBuf {
    if nth == 0 {
        return path.to_path_buf();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{nth}"));
    PathBuf::from(name)
}

fn fault(error: &std::io::Error, path: &Path) -> Fault {
    Fault::new(kind_of_errno(Errno::from_raw(error.raw_os_error().unwrap_or(0))), format!("{}: {error}", path.display()))
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK);
    options.open(path).map_err(|error| fault(&error, path)).doing(|| "opening the log")
}

impl LogFile {
    /// Opens the log for appending, mode 0600. Half a record that a killed writer left at the end is taken away.
    pub fn open(path: &Path, max_bytes: u64, max_files: u32) -> Result<Self> {
        let mut file = open(path)?;
        let size = whole_records(&mut file).map_err(|error| fault(&error, path))?;
        Ok(LogFile { path: path.to_path_buf(), file, size, max_bytes, max_files: max_files.max(1), lost: 0 })
    }

    /// Appends whole records. What cannot be written is left out and counted; nothing here fails or waits.
    ///
    /// *Shape:* after a gap, `note` makes the record that says how many bytes were lost.
    pub fn append(&mut self, records: &[u8], note: impl FnOnce(u64) -> Vec<u8>) {
        if self.lost > 0 {
            let said = note(self.lost);
            if self.write(&said) {
                self.lost = 0;
            }
        }
        let mut rest = records;
        while !rest.is_empty() {
            let room = self.max_bytes.saturating_sub(self.size);
            let fits = fitting(rest, usize::try_from(room).unwrap_or(usize::MAX));
            if fits == 0 && self.size > 0 {
                if self.rotate().is_err() {
                    self.lost += rest.len() as u64;
                    return;
                }
                continue;
            }
            // A record longer than a whole file is written all the same.
            let part = if fits == 0 { memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1) } else { fits };
            if !self.write(&rest[..part]) {
                self.lost += part as u64;
            }
            rest = &rest[part..];
        }
    }

    /// Writes all or nothing.
    fn write(&mut self, bytes: &[u8]) -> bool {
        if self.file.write_all(bytes).is_ok() {
            self.size += bytes.len() as u64;
            return true;
        }
        let _ = self.file.set_len(self.size);
        false
    }

    /// Moves each file one on, the last one away, and begins a new one.
    fn rotate(&mut self) -> Result<()> {
        if self.max_files == 1 {
            let _ = std::fs::remove_file(&self.path);
        }
        for older in (0..self.max_files.saturating_sub(1)).rev() {
            match std::fs::rename(nth(&self.path, older), nth(&self.path, older + 1)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(&error, &self.path)),
                _ => {}
            }
        }
        self.reopen()
    }

    /// Begins a new file where somebody moved the old one away; goes on in the same one where not.
    pub fn reopen(&mut self) -> Result<()> {
        let file = open(&self.path)?;
        self.size = file.metadata().map_err(|error| fault(&error, &self.path))?.len();
        self.file = file;
        Ok(())
    }

    /// Sets other bounds; files beyond them go at once.
    pub fn limit(&mut self, max_bytes: u64, max_files: u32) {
        let before = self.max_files;
        (self.max_bytes, self.max_files) = (max_bytes, max_files.max(1));
        for old in self.max_files..before {
            let _ = std::fs::remove_file(nth(&self.path, old));
        }
    }
}

/// How many bytes of whole records fit into `room`.
fn fitting(records: &[u8], room: usize) -> usize {
    if records.len() <= room {
        return records.len();
    }
    memchr::memrchr(b'\n', &records[..room]).map_or(0, |at| at + 1)
}

/// Cuts half a record off the end of a file; answers its length.
fn whole_records(file: &mut File) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.read_to_end(&mut tail)?;
    let whole = match memchr::memrchr(b'\n', &tail) {
        Some(at) => from + at as u64 + 1,
        None if from == 0 => 0,
        None => length,
    };
    if whole < length {
        file.set_len(whole)?;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn note(lost: u64) -> Vec<u8> {
        format!("lost {lost}\n").into_bytes()
    }

    #[test]
    fn rotation_loses_and_doubles_nothing_but_the_oldest() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("log");
        let mut log = LogFile::open(&path, 100, 3).unwrap();
        let all: Vec<String> = (0..60).map(|n| format!("line {n:04}\n")).collect();
        for chunk in all.chunks(7) {
            log.append(chunk.concat().as_bytes(), note);
        }
        let kept: String = (0..3).rev().map(|n| fs::read_to_string(nth(&path, n)).unwrap()).collect();
        assert!(all.concat().ends_with(&kept) && kept.len() > 200, "{kept}");
        assert!(!nth(&path, 3).exists());
        for n in 0..3 {
            let meta = fs::metadata(nth(&path, n)).unwrap();
            assert!(meta.len() <= 100 && meta.permissions().mode() & 0o777 == 0o600);
        }
        log.append(format!("{}\n", "x".repeat(300)).as_bytes(), note);
        assert_eq!(fs::metadata(&path).unwrap().len(), 301, "a record that is longer than a file is kept whole");
        log.limit(100, 1);
        assert!(!nth(&path, 1).exists() && !nth(&path, 2).exists());
        log.append(b"last\n", note);
        assert_eq!(fs::read_to_string(&path).unwrap(), "last\n");
    }

    #[test]
    fn a_moved_file_is_replaced_and_a_torn_record_goes() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("log");
        fs::write(&path, "whole\nhal").unwrap();
        let mut log = LogFile::open(&path, 1000, 2).unwrap();
        log.append(b"next\n", note);
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nnext\n");
        fs::rename(&path, world.path().join("away")).unwrap();
        log.reopen().unwrap();
        log.append(b"new\n", note);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    }

    #[test]
    fn a_full_disk_is_said_in_the_log_when_there_is_room_again() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let world = tempfile::tempdir().unwrap();
        nix::mount::mount(Some("tmpfs"), world.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=64k")).unwrap();
        let path = world.path().join("log");
        let mut log = LogFile::open(&path, 1 << 20, 2).unwrap();
        fs::write(world.path().join("ballast"), vec![0; 32 << 10]).unwrap();
        let line = format!("{}\n", "x".repeat(40 << 10));
        log.append(line.as_bytes(), note);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        fs::remove_file(world.path().join("ballast")).unwrap();
        log.append(b"again\n", note);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("lost {}\nagain\n", line.len()));
    }
}
