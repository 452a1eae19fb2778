//! Files that have no name until they are whole: a crash leaves nothing of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, Write};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;

use super::file::{Durable, FileError};
use super::room::{self, Reserve};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::{Compression, zstd_window};

type Tried<T> = std::result::Result<T, FileError>;

fn failed(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_path_buf();
    move |error| FileError::Call { call, path, errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
}

/// A regular file without a name in the directory `dir`, for reading and writing.
///
/// On file systems without O_TMPFILE it has one for a moment.
fn nameless(dir: &Path, mode: u32) -> Tried<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(mode);
    match options.clone().custom_flags(libc::O_TMPFILE).open(dir) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)) && dir.is_dir() => {
            let path = temporary(&dir.join("file"));
            let file = options.create_new(true).open(&path).map_err(failed("create", &path))?;
            fs::remove_file(&path).map_err(failed("unlink", &path))?;
            Ok(file)
        }
        opened => opened.map_err(failed("create a file in", dir)),
    }
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// A file that gets its name, over an old one, when it is whole; a pipe or device that is there already is written into.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    target: PathBuf,
    named: bool,
}

impl NewFile {
    /// Begins the file of `target`, with the mode that the umask leaves.
    ///
    /// *Errors:* `NotFound` without its directory, `FailedPrecondition` for a directory.
    pub fn begin(target: &Path) -> Result<Self> {
        let there = fs::metadata(target).ok();
        if there.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(Fault::new(Kind::FailedPrecondition, format!("{} is a directory", target.display())));
        }
        if there.is_some_and(|meta| !meta.is_file()) {
            let file = OpenOptions::new().write(true).open(target).map_err(failed("open", target))?;
            return Ok(NewFile { file, target: target.to_path_buf(), named: true });
        }
        // A symlink stays, and what it leads to is replaced.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
        let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(NewFile { file: nameless(dir, 0o666)?, target, named: false })
    }

    /// Gives it its name, once all of it is on the disk.
    pub fn commit(mut self) -> Result<()> {
        if self.named {
            return Ok(self.file.flush().map_err(failed("write", &self.target))?);
        }
        self.file.sync_all().map_err(failed("fsync", &self.target))?;
        match self.link(&self.target) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                let beside = temporary(&self.target);
                super::file::remove_file(&beside)?;
                self.link(&beside)?;
                super::file::rename(&beside, &self.target)?;
            }
            // Made under a name that is gone: linking needs the descriptor's own inode to have one.
            Err(error) if error.errno() == Some(Errno::ENOENT) => self.copy()?,
            linked => linked?,
        }
        Ok(super::file::sync_parent(&self.target)?)
    }

    fn link(&self, to: &Path) -> Tried<()> {
        link(&self.file, to)
    }

    fn copy(&mut self) -> Tried<()> {
        let beside = temporary(&self.target);
        self.file.rewind().map_err(failed("lseek", &self.target))?;
        let mut copy = OpenOptions::new().write(true).create(true).truncate(true).open(&beside).map_err(failed("create", &beside))?;
        io::copy(&mut self.file, &mut copy).and_then(|_| copy.sync_all()).map_err(failed("write", &beside))?;
        super::file::rename(&beside, &self.target)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn link(file: &File, to: &Path) -> Tried<()> {
    nix::unistd::linkat(nix::fcntl::AT_FDCWD, &descriptor(file), nix::fcntl::AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW)
        .map_err(|errno| FileError::Call { call: "link", path: to.to_path_buf(), errno })
}

/// Writes a file that must be new, with exactly `mode`; false where the file system knows no file without a name.
pub(super) fn create_whole(path: &Path, mode: u32, content: &[u8], durable: Durable) -> Tried<bool> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened = OpenOptions::new().write(true).mode(mode).custom_flags(libc::O_TMPFILE).open(dir);
    let mut file = match opened {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => return Ok(false),
        opened => opened.map_err(failed("create", path))?,
    };
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed("chmod", path))?;
    file.write_all(content).map_err(failed("write", path))?;
    if durable == Durable::Yes {
        file.sync_all().map_err(failed("fsync", path))?;
    }
    link(&file, path).map(|()| true)
}

fn descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A plain copy of a compressed or streamed archive, which has no name and goes with this value.
#[derive(Debug)]
pub struct Spool {
    file: File,
}

impl Spool {
    /// Where this process finds it.
    pub fn path(&self) -> PathBuf {
        descriptor(&self.file)
    }
}

/// Makes a plain, seekable copy of an archive in the file system of `near`; `None` when it is plain and seekable already.
///
/// Without a `path` it is the standard input. A pipe is read to its end, gzip and zstd are inflated. *Errors:* `InvalidArgument` for
/// compressed data that is damaged, `ResourceExhausted` when the disk is full but for `kept`, or zstd wants a window over 32 MiB.
pub fn spool(path: Option<&Path>, near: &Path, kept: Reserve) -> Result<Option<Spool>> {
    let opened = match path {
        Some(path) => OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY).open(path),
        None => io::stdin().as_fd().try_clone_to_owned().map(File::from),
    };
    // Whoever reads it in place says best that it is not there.
    if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let path = path.unwrap_or(Path::new("standard input"));
    let mut source = opened.map_err(failed("open", path))?;
    let kind = source.metadata().map_err(failed("stat", path))?.file_type();
    if kind.is_dir() || kind.is_block_device() {
        return Ok(None);
    }
    let head = head(&mut source).map_err(failed("read", path))?;
    let compression = Compression::sniff(&head);
    if kind.is_file() && compression == Compression::None {
        return Ok(None);
    }
    let dir = near.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let mut file = nameless(dir, 0o600)?;
    let window = zstd_window::window_of(&head);
    let whole = io::Cursor::new(head).chain(source);
    let room = room::room(dir, kept)?.bytes;
    let mut copy = |plain: &mut dyn io::Read| io::copy(&mut plain.take(room.usable().saturating_add(1)), &mut file);
    let copied = match compression {
        Compression::None => copy(&mut { whole }),
        Compression::Gzip => copy(&mut flate2::read::MultiGzDecoder::new(whole)),
        Compression::Zstd => {
            zstd_window::inflated(io::BufReader::with_capacity(128 << 10, whole)).and_then(|mut inflated| copy(&mut inflated))
        }
    };
    let count = copied
        .map_err(|error| match error.raw_os_error() {
            Some(_) => failed("copy", path)(error).into(),
            None => zstd_window::refusal(&error, window).unwrap_or_else(|| Fault::invalid(format!("the archive is damaged: {error}"))),
        })
        .doing(|| format!("unpacking {}", path.display()))?;
    if count > room.usable() {
        return Err(room::used_up(&format!("the unpacked {}", path.display()), dir, ("bytes", room), kept));
    }
    Ok(Some(Spool { file }))
}

/// The first bytes, enough to tell how the rest is compressed.
fn head(source: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    source.take(zstd_window::HEADER as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_before_it_has_a_name() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("entry");
        assert!(create_whole(&path, 0o640, b"all", Durable::No).unwrap(), "this file system knows files without a name");
        assert_eq!((fs::read(&path).unwrap(), fs::metadata(&path).unwrap().permissions().mode() & 0o7777), (b"all".to_vec(), 0o640));
        // One that is there stays, and nothing lies beside it.
        assert_eq!(create_whole(&path, 0o600, b"other", Durable::No).unwrap_err().errno(), Some(Errno::EEXIST));
        assert_eq!(fs::read(&path).unwrap(), b"all");
        assert_eq!(fs::read_dir(world.path()).unwrap().count(), 1);
        assert_eq!(create_whole(&world.path().join("no/entry"), 0o600, b"", Durable::No).unwrap_err().errno(), Some(Errno::ENOENT));
    }

    #[test]
    fn a_new_file_has_no_name_until_it_is_whole_and_replaces_an_old_one() {
        let world = tempfile::tempdir().unwrap();
        let target = world.path().join("out");
        let mut new = NewFile::begin(&target).unwrap();
        new.write_all(b"one").unwrap();
        assert!(fs::read_dir(world.path()).unwrap().next().is_none());
        drop(new);
        assert!(fs::read_dir(world.path()).unwrap().next().is_none());
        for text in ["one", "two"] {
            let mut new = NewFile::begin(&target).unwrap();
            new.write_all(text.as_bytes()).unwrap();
            new.commit().unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
            assert_eq!(fs::read_dir(world.path()).unwrap().count(), 1);
        }
        assert_eq!(NewFile::begin(world.path()).unwrap_err().kind(), Kind::FailedPrecondition);
        assert_eq!(NewFile::begin(&world.path().join("none/out")).unwrap_err().kind(), Kind::NotFound);
        NewFile::begin(Path::new("/dev/null")).unwrap().commit().unwrap();
    }

    #[test]
    fn only_what_cannot_be_read_in_place_is_spooled() {
        let world = tempfile::tempdir().unwrap();
        let at = |name: &str, bytes: &[u8]| {
            let path = world.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"hello").unwrap();
        let gzip = gzip.finish().unwrap();
        let near = world.path().join("not/yet/there");
        let spool = |path: Option<&Path>, near: &Path| spool(path, near, Reserve::default());
        for (name, bytes) in
            [("gz", gzip.clone()), ("zst", zstd::encode_all(&b"hello"[..], 1).unwrap()), ("gzgz", [gzip.clone(), gzip.clone()].concat())]
        {
            let spooled = spool(Some(&at(name, &bytes)), &near).unwrap().unwrap();
            assert!(fs::read_to_string(spooled.path()).unwrap().starts_with("hello"), "{name}");
        }
        assert!(spool(Some(&at("plain", b"hello")), &near).unwrap().is_none());
        assert!(spool(Some(&at("empty", b"")), &near).unwrap().is_none());
        assert!(spool(Some(world.path()), &near).unwrap().is_none());
        let cut = spool(Some(&at("cut", &gzip[..gzip.len() - 6])), &near).unwrap_err();
        assert!(cut.kind() == Kind::InvalidArgument && cut.to_string().contains("damaged"), "{cut}");
        let full = super::spool(Some(&world.path().join("gz")), &near, Reserve::Bytes(u64::MAX)).unwrap_err();
        assert!(full.kind() == Kind::ResourceExhausted && full.to_string().contains("does not fit"), "{full}");
        assert_eq!(fs::read_dir(world.path()).unwrap().count(), 6, "nothing else is left");
    }
}
