//! Writing a layer into a tree: rooted in descriptors, one component at a time, never through a name that an image chose.
//!
//! Parents are opened by openat2(2) with `RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS | NO_XDEV`, one component each, so
//! that depth and length have no bound but the tar's; symbolic links among them are resolved here, in the view that the
//! container will have (all layers merged), and can lead nowhere but into that view. Leaves are made with `O_EXCL |
//! O_NOFOLLOW`; attributes go through the new descriptor: owner, mode, extended attributes, times (chown clears setuid
//! bits and file capabilities). Directories get their times at the end. What has to be remembered of a tree overflows into
//! nameless files, so that no layer, however hostile, takes more memory than a fixed amount.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{FileStat, Mode, fstatat};

use crate::fault::{Fault, Kind, Result, kind_of_errno};
use crate::image::layer_stream::Stream;
use crate::image::tar_entry::Verdict;
use crate::image::tar_path::TarPath;
use crate::image::tar_reader::TarReader;

pub use super::tree_list::Listed;
pub use super::tree_merged::Below;
use super::tree_pending::{own_and_mode, stamp, undescribed};
use super::tree_write::Writer;

/// Why a tree could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A call failed.
    #[error("{call} {path}: {errno}", errno = .errno.desc())]
    Call {
        /// The call.
        call: &'static str,
        /// The path in the layer, escaped.
        path: String,
        /// What the kernel answered.
        errno: Errno,
    },
    /// An entry that cannot be made where it is.
    #[error("entry {path}: {why}")]
    Refused {
        /// The path in the layer, escaped.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Entries imply more directories than a layer may have entries.
    #[error("the layer has too many directories")]
    TooMany,
    /// The layers below are not there.
    #[error("{0}")]
    Below(Fault),
}

impl From<Errno> for TreeError {
    fn from(errno: Errno) -> TreeError {
        TreeError::Call { call: "read", path: "the layer".to_owned(), errno }
    }
}

impl From<TreeError> for Fault {
    fn from(error: TreeError) -> Fault {
        let kind = match &error {
            TreeError::Call { errno, .. } => kind_of_errno(*errno),
            TreeError::Refused { .. } => Kind::InvalidArgument,
            TreeError::TooMany => Kind::ResourceExhausted,
            TreeError::Below(_) => Kind::Internal,
        };
        if let TreeError::Below(fault) = error {
            return fault;
        }
        Fault::from_error(kind, error)
    }
}

pub(super) type Wrote<T> = std::result::Result<T, TreeError>;

/// Names the call and the path of an errno.
pub(super) fn call(call: &'static str, path: &TarPath) -> impl FnOnce(Errno) -> TreeError {
    move |errno| TreeError::Call { call, path: path.to_string(), errno }
}

/// Refuses an entry.
pub(super) fn refused<T>(path: &TarPath, why: &'static str) -> Wrote<T> {
    Err(TreeError::Refused { path: path.to_string(), why })
}

/// In which form a layer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Alone, for overlayfs: whiteouts are character devices 0:0, opaque directories bear `trusted.overlay.opaque`.
    Overlay,
    /// Over the layers that are there already; whiteouts remove.
    Flat,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries of the tar.
    pub entries: u64,
    /// Bytes of content of its files.
    pub bytes: u64,
    /// Whether the layer hides all layers below it.
    pub opaque_root: bool,
    /// Of the list of its files, when one was asked for.
    pub listed: Option<Listed>,
}

/// Where a layer is written.
pub struct Place<'a> {
    /// The directory, empty for [`Form::Overlay`].
    pub root: &'a Path,
    /// In which form.
    pub form: Form,
    /// A new file that gets the list of all files ([`crate::image::file_list`]).
    pub list: Option<File>,
}

/// Writes the layer in `reader`, seen over the layers of `below` (none for a flat tree).
///
/// *Errors:* whatever is wrong with an entry, an errno with its call and path. The tree is then to be thrown away.
pub fn write_layer(reader: &mut TarReader<Stream>, place: Place<'_>, below: Below<'_>) -> Result<Written> {
    let mut writer = Writer::open(place.root, below, place.form, place.list, reader.limits().entries)?;
    while let Some(verdict) = reader.next_verdict()? {
        match verdict {
            Verdict::Make(entry) => writer.make(&entry, reader)?,
            Verdict::Whiteout(path) => writer.whiteout(&path)?,
            Verdict::Opaque(path) => writer.opaque(&path)?,
            Verdict::Ignore => {}
        }
    }
    let (opaque_root, listed) = writer.finish(reader)?;
    Ok(Written { entries: reader.entries(), bytes: reader.bytes(), opaque_root, listed })
}

/// Opens the regular file that holds a blob, `offset` bytes into it.
pub fn open_blob(path: &Path, offset: u64) -> Result<File> {
    let failed = |call: &str, error: std::io::Error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        Fault::new(kind_of_errno(errno), format!("{call} {}: {}", path.display(), errno.desc()))
    };
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let mut file = opened.map_err(|error| failed("open", error))?;
    if !file.metadata().map_err(|error| failed("stat", error))?.is_file() {
        return Err(Fault::invalid(format!("{} is not a regular file", path.display())));
    }
    file.seek(SeekFrom::Start(offset)).map_err(|error| failed("lseek", error))?;
    Ok(file)
}

/// Creates the file that gets the list of a layer's files.
pub fn create_list(path: &Path) -> Result<File> {
    let created = File::options().read(true).write(true).create_new(true).mode(0o600).open(path);
    created.map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        Fault::new(kind_of_errno(errno), format!("open {}: {}", path.display(), errno.desc()))
    })
}

/// Gives the empty directory `path` the attributes of a root that no layer describes: 0755, root, 1970.
pub fn prepare_root(path: &Path) -> Result<()> {
    let dir = open_root(path)?;
    own_and_mode(dir.as_fd(), &undescribed(), &TarPath::root())?;
    Ok(stamp(dir.as_fd(), undescribed().mtime, &TarPath::root())?)
}

/// Device and inode of the directory at `path`; `None` when there is none.
pub fn find_identity(path: &Path) -> Result<Option<(u64, u64)>> {
    match nix::sys::stat::lstat(path) {
        Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => Ok(Some((stat.st_dev, stat.st_ino))),
        Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(Fault::new(kind_of_errno(errno), format!("lstat {}: {}", path.display(), errno.desc()))),
    }
}

/// Opens the directory that a tree is rooted in; the path is ours.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Fault::new(kind_of_errno(errno), format!("open {}: {}", path.display(), errno.desc())))
}

/// What a name in one directory is.
pub(super) enum Node {
    Absent,
    Directory(OwnedFd),
    Other(FileStat),
}

/// Whether a node is overlayfs's whiteout.
pub(super) fn is_whiteout(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

/// Opens `name` (one component) of `dir` without following anything.
pub(super) fn open_beneath(dir: BorrowedFd<'_>, name: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    openat2(dir, name, OpenHow::new().flags(flags).resolve(resolve))
}

/// Looks at `name` of `dir`; a directory comes back open.
pub(super) fn probe(dir: BorrowedFd<'_>, name: &[u8]) -> nix::Result<Node> {
    match open_beneath(dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(fd) => Ok(Node::Directory(fd)),
        Err(Errno::ENOENT) => Ok(Node::Absent),
        Err(Errno::ENOTDIR | Errno::ELOOP) => Ok(Node::Other(fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)),
        Err(errno) => Err(errno),
    }
}

/// Opens a directory of the tree below `root` by its path, component by component.
pub(super) fn open_path(root: BorrowedFd<'_>, path: &TarPath) -> nix::Result<OwnedFd> {
    let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    if path.as_bytes().len() < 4000 {
        let whole = if path.is_root() { b".".as_slice() } else { path.as_bytes() };
        return open_beneath(root, whole, directory);
    }
    let mut dir = open_beneath(root, b".", directory)?;
    for component in path.components() {
        dir = open_beneath(dir.as_fd(), component, directory)?;
    }
    Ok(dir)
}
