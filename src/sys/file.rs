//! Files and directories: atomic writes, bounded reads, removals that cannot leave their tree.

mod dir_state;
mod probe;
mod removal;
mod usage;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::new_file;
use nix::errno::Errno;

use crate::fault::{Fault, Kind, kind_of_errno};

pub use dir_state::{DirState, WatchedDir};
pub use probe::{anonymous, find_age, find_mode, is_dir, peek};
pub(super) use removal::remove_below;
pub use removal::remove_tree;
pub use usage::disk_usage;

/// What a call on files answered.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A call failed.
    #[error("{call} {path}: {errno}", path = .path.display())]
    Call {
        /// The verb, as `strace` would show it or near.
        call: &'static str,
        /// The path it was given.
        path: PathBuf,
        /// What the kernel answered.
        errno: Errno,
    },
    /// A file is larger than what its reader accepts.
    #[error("{path} is larger than {limit} bytes", path = .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        limit: u64,
    },
    /// A file that must be regular is something else.
    #[error("{path} is not a regular file", path = .path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    /// What the kernel answered, when it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            FileError::Call { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

impl From<FileError> for Fault {
    fn from(error: FileError) -> Fault {
        let kind = match &error {
            FileError::Call { errno, .. } => kind_of_errno(*errno),
            FileError::TooLarge { .. } | FileError::NotRegular { .. } => Kind::InvalidArgument,
        };
        Fault::from_error(kind, error)
    }
}

type Result<T> = std::result::Result<T, FileError>;

fn failed(call: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_path_buf();
    move |error| FileError::Call { call, path, errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)) }
}

fn failed_errno(call: &'static str, path: &Path) -> impl FnOnce(Errno) -> FileError {
    let path = path.to_path_buf();
    move |errno| FileError::Call { call, path, errno }
}

/// Whether a write must survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// fsync of the file before the rename and of the directory after it.
    Yes,
    /// For tmpfs: what dies with the kernel objects it describes.
    No,
}

/// Whether anything (a dangling symlink included) is at `path`.
pub fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
        Err(error) => Err(failed("lstat", path)(error)),
    }
}

/// Reads a regular file of at most `limit` bytes; never blocks on a FIFO, never follows a final symlink.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed("open", path))?;
    read_open(file, path, limit)
}

/// As [`read`], but a final symlink is followed (host files such as `/etc/resolv.conf`).
pub fn read_following(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(failed("open", path))?;
    read_open(file, path, limit)
}

fn read_open(file: fs::File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let meta = file.metadata().map_err(failed("stat", path))?;
    if !meta.is_file() {
        return Err(FileError::NotRegular { path: path.to_path_buf() });
    }
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(failed("read", path))?;
    if content.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_path_buf(), limit });
    }
    Ok(content)
}

/// As [`read`], `None` when nothing is there.
pub fn find(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match read(path, limit) {
        Ok(content) => Ok(Some(content)),
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of a small kernel file (`/proc`, `/sys`), without the newline at its end.
pub fn read_kernel(path: &Path) -> Result<String> {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned()).map_err(failed("read", path))
}

/// Writes a kernel file (`/proc/sys`) in one `write`.
pub fn write_kernel(path: &Path, value: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path).map_err(failed("open", path))?;
    file.write_all(value.as_bytes()).map_err(failed("write", path))
}

/// The names in a directory, sorted; empty when the directory is not there.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("opendir", path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("readdir", path))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The names in a directory, byte for byte, sorted; empty when the directory is not there.
pub fn list_bytes(path: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("opendir", path)(error)),
    };
    let mut names =
        entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(failed("readdir", path))).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The absolute path of what is at `path`, without symlinks; `None` when nothing is there.
pub fn find_real_path(path: &Path) -> Result<Option<PathBuf>> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(Some(real)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(error) => Err(failed("realpath", path)(error)),
    }
}

/// Appends a line to a log, making it when it is not there.
pub fn append(path: &Path, line: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed("open", path))?;
    file.write_all(line.as_bytes()).map_err(failed("write", path))
}

/// Writes a file that is there anew without giving it another inode: those who have it mounted see it. Never follows a final symlink.
pub fn write_in_place(path: &Path, content: &[u8]) -> Result<()> {
    let mut file =
        fs::OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).map_err(failed("open", path))?;
    file.write_all(content).map_err(failed("write", path))?;
    file.set_len(content.len() as u64).map_err(failed("ftruncate", path))
}

/// Makes one directory that must be new, with exactly `mode`.
pub fn create_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().mode(mode).create(path).map_err(failed("mkdir", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("chmod", path))
}

/// Gives a file or directory to `owner` and its group; a symlink itself, not its target.
pub fn change_owner(path: &Path, owner: (u32, u32)) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(owner.0), Some(owner.1)).map_err(failed("lchown", path))
}

/// Makes a directory and its parents; those that are there stay as they are.
pub fn ensure_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().mode(mode).recursive(true).create(path).map_err(failed("mkdir", path))
}

/// Writes `content` under a temporary dot-name beside `path`, then renames it over `path`.
pub fn write_atomic(path: &Path, mode: u32, content: &[u8], durable: Durable) -> Result<()> {
    let temp = temporary_beside(path);
    let written = write_new(&temp, mode, content, durable).and_then(|()| fs::rename(&temp, path).map_err(failed("rename", path)));
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written?;
    if durable == Durable::Yes { sync_parent(path) } else { Ok(()) }
}

/// Writes a file through `write`, under a temporary dot-name that then takes the place of `path`; nothing stays when it fails.
pub fn replace_with(path: &Path, mode: u32, write: impl FnOnce(&mut fs::File) -> crate::fault::Result<()>) -> crate::fault::Result<()> {
    let temp = temporary_beside(path);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp).map_err(failed("create", &temp))?;
    let written = write(&mut file).and_then(|()| Ok(fs::rename(&temp, path).map_err(failed("rename", path))?));
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written
}

/// Writes a file that must be new and appears complete or not at all; `EEXIST` when it is there.
///
/// It has no name before, so that one who is killed leaves nothing; on file systems without such files it has a temporary dot-name.
pub fn create_atomic(path: &Path, mode: u32, content: &[u8], durable: Durable) -> Result<()> {
    if !new_file::create_whole(path, mode, content, durable)? {
        let temp = temporary_beside(path);
        let linked = write_new(&temp, mode, content, durable).and_then(|()| fs::hard_link(&temp, path).map_err(failed("link", path)));
        let _ = fs::remove_file(&temp);
        linked?;
    }
    if durable == Durable::Yes { sync_parent(path) } else { Ok(()) }
}

/// As [`create_atomic`] without a sync; where it needs another name that is `temp`, which a later command can tell again, if this one dies.
pub fn create_linked(temp: &Path, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    if new_file::create_whole(path, mode, content, Durable::No)? {
        return Ok(());
    }
    let linked = write_new(temp, mode, content, Durable::No).and_then(|()| fs::hard_link(temp, path).map_err(failed("link", path)));
    let _ = fs::remove_file(temp);
    linked
}

/// The dot-name that a writer of `path` uses while the content is not complete: `.NAME.PID.N.tmp`, another for each write.
fn temporary_beside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().unwrap_or(OsStr::new("file")).to_string_lossy();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}.{number}.tmp", std::process::id()))
}

fn write_new(path: &Path, mode: u32, content: &[u8], durable: Durable) -> Result<()> {
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed("create", path))?;
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed("chmod", path))?;
    file.write_all(content).map_err(failed("write", path))?;
    if durable == Durable::Yes {
        file.sync_all().map_err(failed("fsync", path))?;
    }
    Ok(())
}

/// Makes the names in the directory of `path` survive a power cut.
pub fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("fsync", parent))
}

/// Makes a file, and its name, survive a power cut.
pub fn sync(path: &Path) -> Result<()> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(failed("fsync", path))?;
    sync_parent(path)
}

/// Renames within one file system.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(failed("rename", to))
}

/// Makes a symlink that must be new.
pub fn create_symlink(target: &str, path: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, path).map_err(failed("symlink", path))
}

/// The target of a symlink; `None` when nothing is there.
pub fn find_symlink(path: &Path) -> Result<Option<String>> {
    match fs::read_link(path) {
        Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("readlink", path)(error)),
    }
}

/// Removes a file or symlink; absence is fine. Answers whether something was there.
pub fn remove_file(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
        Err(error) => Err(failed("unlink", path)(error)),
    }
}

/// Removes those directories that are empty, the last of `dirs` first; answers whether all are gone.
pub fn remove_dirs_if_empty(dirs: &[PathBuf]) -> Result<bool> {
    let mut all = true;
    for dir in dirs.iter().rev() {
        all &= remove_dir_if_empty(dir)?;
    }
    Ok(all)
}

/// Removes a directory if it is empty; absence and content are both fine. Answers whether it is gone.
pub fn remove_dir_if_empty(path: &Path) -> Result<bool> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST | libc::EBUSY)) => Ok(false),
        Err(error) => Err(failed("rmdir", path)(error)),
    }
}

/// Takes ownership of a raw descriptor that a system call just returned.
#[allow(unsafe_code)]
pub(super) fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just returned this descriptor to the caller, who passes it on exactly once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_without_what_its_links_point_to() {
        let world = tempfile::tempdir().unwrap();
        let canary = world.path().join("canary");
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("keep"), "x").unwrap();
        let tree = world.path().join("tree");
        let mut deep = tree.clone();
        for _ in 0..200 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("f"), "x").unwrap();
        std::os::unix::fs::symlink(&canary, tree.join("out")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!exists(&tree).unwrap());
        assert!(exists(&canary.join("keep")).unwrap());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_created_file_is_complete_and_never_replaces() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("10.88.0.2");
        create_atomic(&path, 0o600, b"one", Durable::Yes).unwrap();
        let again = create_atomic(&path, 0o600, b"two", Durable::Yes).unwrap_err();
        assert_eq!(again.errno(), Some(Errno::EEXIST));
        assert_eq!(read(&path, 10).unwrap(), b"one");
        assert_eq!(list(world.path()).unwrap(), ["10.88.0.2"]);
    }

    #[test]
    fn reads_are_bounded_and_never_block() {
        let world = tempfile::tempdir().unwrap();
        let big = world.path().join("big");
        fs::write(&big, vec![0; 11]).unwrap();
        assert!(matches!(read(&big, 10), Err(FileError::TooLarge { limit: 10, .. })));
        let fifo = world.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read(&fifo, 10), Err(FileError::NotRegular { .. })));
        assert_eq!(find(&world.path().join("none"), 1).unwrap(), None);
    }
}
