//! The root that paths are resolved in: a container's, or the host's.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fstat};

use crate::fault::{Fault, Result, kind_of_errno};

/// A directory that is `/` to every path resolved in it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    name: String,
}

/// What is at a path: opened, but not for reading.
#[derive(Debug)]
pub struct Found {
    /// The thing itself.
    pub fd: OwnedFd,
    /// What it is.
    pub stat: FileStat,
}

impl Found {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.stat.st_mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Whether this directory is `other` or below it, by what the kernel says of its parents: a volume may have two paths.
    pub fn is_within(&self, other: &Found) -> Result<bool> {
        let failed = |errno: Errno| Fault::new(kind_of_errno(errno), format!("looking at the parents of the destination: {errno}"));
        let mut at = self.fd.try_clone().map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
        let mut seen = self.stat;
        // Deeper than a path can be only when somebody turns the directories meanwhile.
        for _ in 0..libc::PATH_MAX {
            if (seen.st_dev, seen.st_ino) == (other.stat.st_dev, other.stat.st_ino) {
                return Ok(true);
            }
            let parent = openat(&at, "..", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
            let stat = fstat(parent.as_fd()).map_err(failed)?;
            if (stat.st_dev, stat.st_ino) == (seen.st_dev, seen.st_ino) {
                return Ok(false);
            }
            (at, seen) = (parent, stat);
        }
        Ok(true)
    }
}

impl Root {
    /// The root of process `pid` in its own mount namespace. The caller holds its pidfd, and asks afterwards whether it still lives.
    pub fn of_process(pid: i32) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/root"));
        let fd = open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        let fd = fd.map_err(|errno| Fault::new(kind_of_errno(errno), format!("open {}: {errno}", path.display())))?;
        Ok(Root { fd, name: "the container".to_owned() })
    }

    /// The directory at `path` of the host, where it is no link.
    pub fn of_path(path: &Path) -> Result<Self> {
        let fd = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty());
        let fd = fd.map_err(|errno| Fault::new(kind_of_errno(errno), format!("open {}: {errno}", path.display())))?;
        Ok(Root { fd, name: path.display().to_string() })
    }

    /// Opens what is at `path`; `None` when nothing is. A link at its end is followed, inside the root, only when `follow` says so.
    pub fn find(&self, path: &Path, follow: bool) -> Result<Option<Found>> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        loop {
            match openat2(&self.fd, relative, OpenHow::new().flags(flags).resolve(resolve)) {
                Ok(fd) => {
                    let stat = fstat(fd.as_fd()).map_err(|errno| self.failed("fstat", path, errno))?;
                    return Ok(Some(Found { fd, stat }));
                }
                Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
                // The kernel could not tell whether a rename let the walk out of the root: it asks for another try.
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(self.failed("open", path, errno)),
            }
        }
    }

    fn failed(&self, call: &str, path: &Path, errno: Errno) -> Fault {
        Fault::new(kind_of_errno(errno), format!("{call} {} in {}: {errno}", path.display(), self.name))
    }
}

/// Opens for reading what was opened as a place: the same inode, whatever its name is now.
pub(super) fn reopen(fd: &OwnedFd, flags: OFlag) -> nix::Result<OwnedFd> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    open(&path, flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, Mode::empty())
}
