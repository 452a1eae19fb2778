//! Namespaces: entered by throw-away threads, made and pinned by bind mounts, recognised for what they are.

pub mod holder;
mod pin;
mod root;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, fstatfs};

use crate::fault::{Fault, Kind, kind_of_errno};

pub use pin::{Pins, create_pinned, is_ours, pin_open, pin_pid, pinned, unpin};
pub use root::{ensure_root, find_root, remove_root};

const NSFS_MAGIC: FsType = FsType(0x6e73_6673);
const PROC_MAGIC: FsType = FsType(0x9fa0);
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// A kind of namespace that rkbox makes or joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NsKind {
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Processes: joined by others, pinned from a process in it.
    Pid,
    /// Users and groups.
    User,
}

impl NsKind {
    fn flag(self) -> CloneFlags {
        match self {
            NsKind::Net => CloneFlags::CLONE_NEWNET,
            NsKind::Ipc => CloneFlags::CLONE_NEWIPC,
            NsKind::Uts => CloneFlags::CLONE_NEWUTS,
            NsKind::Pid => CloneFlags::CLONE_NEWPID,
            NsKind::User => CloneFlags::CLONE_NEWUSER,
        }
    }

    /// Its name in `/proc/PID/ns`, and the option of unshare(1).
    pub fn file(self) -> &'static str {
        match self {
            NsKind::Net => "net",
            NsKind::Ipc => "ipc",
            NsKind::Uts => "uts",
            NsKind::Pid => "pid",
            NsKind::User => "user",
        }
    }

    fn own_path(self) -> PathBuf {
        Path::new("/proc/thread-self/ns").join(self.file())
    }

    fn word(self) -> &'static str {
        match self {
            NsKind::Net => "network",
            NsKind::Ipc => "IPC",
            NsKind::Uts => "UTS",
            NsKind::Pid => "pid",
            NsKind::User => "user",
        }
    }
}

/// What a path to a namespace is instead, or which call failed.
#[derive(Debug, thiserror::Error)]
pub enum NsError {
    /// Nothing is there.
    #[error("no namespace at {path}", path = .path.display())]
    Absent {
        /// The path.
        path: PathBuf,
    },
    /// A symlink outside `/proc`: what it points to could change between two looks.
    #[error("{path} is a symlink, not a namespace", path = .path.display())]
    Symlink {
        /// The path.
        path: PathBuf,
    },
    /// Something else: a regular file (what a deleted namespace leaves), a directory, another kind of namespace.
    #[error("{path} is not a {} namespace", .kind.word(), path = .path.display())]
    NotNamespace {
        /// The path.
        path: PathBuf,
        /// What it should be.
        kind: NsKind,
    },
    /// The namespace in which rkbox itself runs.
    #[error("{path} is the network namespace of rkbox itself", path = .path.display())]
    Own {
        /// The path.
        path: PathBuf,
    },
    /// A call failed.
    #[error("{call} {path}: {errno}", path = .path.display())]
    Call {
        /// The call.
        call: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the kernel answered.
        errno: Errno,
    },
}

impl NsError {
    pub(in crate::sys::ns) fn call(call: &'static str, path: &Path) -> impl FnOnce(Errno) -> NsError {
        let path = path.to_path_buf();
        move |errno| NsError::Call { call, path, errno }
    }

    pub(in crate::sys::ns) fn io(call: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> NsError {
        let path = path.to_path_buf();
        move |error| NsError::Call { call, path, errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)) }
    }

    /// What the kernel answered, when a call failed.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NsError::Call { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

impl From<NsError> for Fault {
    fn from(error: NsError) -> Fault {
        let name = |path: &Path| path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        match &error {
            NsError::Absent { path } => {
                let hint = format!("make it first: ip netns add {}", name(path));
                Fault::from_error(Kind::NotFound, error).hint(hint)
            }
            NsError::NotNamespace { path, kind: NsKind::Net } => {
                let hint = format!("if it is what a deleted namespace left: ip netns delete {0}; ip netns add {0}", name(path));
                Fault::from_error(Kind::InvalidArgument, error).hint(hint)
            }
            NsError::Symlink { .. } => Fault::from_error(Kind::InvalidArgument, error).hint("give the path that it points to"),
            NsError::NotNamespace { .. } => Fault::from_error(Kind::InvalidArgument, error),
            NsError::Own { .. } => {
                Fault::from_error(Kind::InvalidArgument, error).hint("name a namespace of its own, made by `ip netns add NAME`")
            }
            NsError::Call { errno, .. } => Fault::from_error(kind_of_errno(*errno), error),
        }
    }
}

/// Opens the namespace at `path`, which must be one of `kind`; a final symlink is followed only on procfs (`/proc/PID/ns/net`).
///
/// What is there is recognised before it is opened for good, so that a FIFO or device that somebody put there is not touched.
pub fn open(path: &Path, kind: NsKind) -> Result<OwnedFd, NsError> {
    let peek = File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path);
    let peek = match peek {
        Ok(file) => file,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            return Err(NsError::Absent { path: path.to_path_buf() });
        }
        Err(error) => return Err(NsError::io("open", path)(error)),
    };
    let found = fstatfs(&peek).map_err(NsError::call("fstatfs", path))?.filesystem_type();
    let is_symlink = peek.metadata().map_err(NsError::io("fstat", path))?.file_type().is_symlink();
    let file = match (found, is_symlink) {
        (NSFS_MAGIC, _) => File::open(format!("/proc/self/fd/{}", peek.as_raw_fd())),
        (PROC_MAGIC, true) => File::open(path),
        (_, true) => return Err(NsError::Symlink { path: path.to_path_buf() }),
        _ => return Err(NsError::NotNamespace { path: path.to_path_buf(), kind }),
    };
    let file = file.map_err(NsError::io("open", path))?;
    if kind_of(file.as_fd()).map_err(NsError::call("fstatfs", path))? == Some(kind.flag()) {
        return Ok(file.into());
    }
    Err(NsError::NotNamespace { path: path.to_path_buf(), kind })
}

#[allow(unsafe_code)]
fn kind_of(fd: BorrowedFd<'_>) -> nix::Result<Option<CloneFlags>> {
    if fstatfs(fd)?.filesystem_type() != NSFS_MAGIC {
        return Ok(None);
    }
    // SAFETY: NS_GET_NSTYPE takes no argument; the descriptor is borrowed for the call and is on nsfs, whose request this is.
    let flag = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    Ok(CloneFlags::from_bits(Errno::result(flag)?))
}

/// Whether a namespace of `kind` is at `path`; absence and anything else there is `false`.
pub fn is_namespace(path: &Path, kind: NsKind) -> Result<bool, NsError> {
    match open(path, kind) {
        Ok(_) => Ok(true),
        Err(NsError::Call { call, path, errno }) => Err(NsError::Call { call, path, errno }),
        Err(_) => Ok(false),
    }
}

/// What tells one namespace from another while either lives: device and inode.
pub type NsId = (u64, u64);

/// The network namespace of the calling thread; `None` without /proc.
pub fn own_netns_id() -> Option<NsId> {
    std::fs::metadata(NsKind::Net.own_path()).ok().map(|own| (own.dev(), own.ino()))
}

/// Whether `path` is the network namespace of the calling thread.
pub fn is_own_netns(path: &Path) -> Result<bool, NsError> {
    let own = NsKind::Net.own_path();
    let own = std::fs::metadata(&own).map_err(NsError::io("stat", &own))?;
    let other = std::fs::metadata(path).map_err(NsError::io("stat", path))?;
    Ok(own.dev() == other.dev() && own.ino() == other.ino())
}

/// Opens the network namespace at `path`, which must be another than that of the calling thread.
pub fn open_foreign_netns(path: &Path) -> Result<OwnedFd, NsError> {
    let fd = open(path, NsKind::Net)?;
    if is_own_netns(path)? {
        return Err(NsError::Own { path: path.to_path_buf() });
    }
    Ok(fd)
}

/// Runs `act` in the network namespace at `netns`, on a thread that ends with it.
///
/// The thread never goes back, so no failure can leave another thread in a wrong namespace.
pub fn inside<T: Send>(netns: &Path, act: impl FnOnce() -> T + Send) -> Result<T, NsError> {
    inside_open(&open(netns, NsKind::Net)?, netns, act)
}

/// As [`inside`], in a namespace that is open; `path` is for errors.
pub fn inside_open<T: Send>(netns: &OwnedFd, path: &Path, act: impl FnOnce() -> T + Send) -> Result<T, NsError> {
    apart(path, || {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(NsError::call("setns", path))?;
        Ok(act())
    })
}

/// As [`inside`], in a new network namespace that goes with the thread.
pub fn inside_nothing<T: Send>(act: impl FnOnce() -> T + Send) -> Result<T, NsError> {
    let at = NsKind::Net.own_path();
    apart(&at, || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(NsError::call("unshare", &at))?;
        Ok(act())
    })
}

/// Runs `act` on a thread of its own; `path` is for errors.
fn apart<T: Send>(path: &Path, act: impl FnOnce() -> Result<T, NsError> + Send) -> Result<T, NsError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".into()).spawn_scoped(scope, act);
        let thread = thread.map_err(NsError::io("clone", path))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
