//! The attributes of directories: owner, mode and extended attributes at once, times at the end, when nothing more is made in them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};

use crate::image::tar_entry::{Attributes, Moment};
use crate::image::tar_path::TarPath;

use super::tree::{Wrote, call, open_path};
use super::tree_names::{PathQueue, PathSet};
use super::tree_xattr;

/// The attributes of a directory that no layer describes.
pub(super) fn undescribed() -> Attributes {
    Attributes { mode: 0o755, ..Attributes::default() }
}

/// Times by path, of which the last counts.
pub(super) struct Pending {
    times: PathQueue,
    known: PathSet,
    /// The root's, which comes before all others.
    root: Option<Moment>,
    /// Whether a directory may be in `times` more than once.
    repeated: bool,
}

impl Pending {
    /// Nothing yet; `dir` is where it may overflow to.
    pub(super) fn new(dir: &OwnedFd) -> nix::Result<Self> {
        Ok(Pending { times: PathQueue::new(dir)?, known: PathSet::new(dir)?, root: None, repeated: false })
    }

    /// Gives an open directory these attributes; the last call wins.
    pub(super) fn describe(&mut self, path: &TarPath, dir: BorrowedFd<'_>, attributes: &Attributes) -> Wrote<()> {
        own_and_mode(dir, attributes, path)?;
        tree_xattr::replace(dir, &attributes.xattrs).map_err(call("fsetxattr", path))?;
        self.push(path, attributes.mtime)
    }

    /// As [`Self::describe`] for a directory just made, which has no attributes of another description.
    pub(super) fn describe_new(&mut self, path: &TarPath, dir: BorrowedFd<'_>, attributes: &Attributes) -> Wrote<()> {
        own_and_mode(dir, attributes, path)?;
        tree_xattr::set_all(dir, &attributes.xattrs).map_err(call("fsetxattr", path))?;
        self.push(path, attributes.mtime)
    }

    /// Whether no path is there twice.
    pub(super) fn is_plain(&self) -> bool {
        !self.repeated
    }

    /// Keeps the time that a directory has now, unless it gets another anyway.
    pub(super) fn hold_time(&mut self, path: &TarPath, dir: BorrowedFd<'_>) -> Wrote<()> {
        if self.known.contains(path).map_err(call("pread", path))? {
            return Ok(());
        }
        let stat = fstat(dir).map_err(call("fstat", path))?;
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        self.push(path, Moment { seconds: stat.st_mtime, nanos })
    }

    fn push(&mut self, path: &TarPath, moment: Moment) -> Wrote<()> {
        let new = self.known.insert(path).map_err(call("write", path))?;
        if path.is_root() {
            self.root = Some(moment);
            return Ok(());
        }
        self.repeated |= !new || self.known.has_overflowed();
        self.times.push(path, moment).map_err(call("write", path))
    }

    /// Sets all times. What is no longer a directory is passed over: a later entry took the name.
    pub(super) fn apply(&mut self, root: BorrowedFd<'_>) -> Wrote<()> {
        self.each(root, |path, dir, moment| stamp(dir.as_fd(), moment, path))
    }

    /// Gives the directories to `each`, open, the root first; some of them more than once.
    pub(super) fn each(&mut self, root: BorrowedFd<'_>, mut each: impl FnMut(&TarPath, &OwnedFd, Moment) -> Wrote<()>) -> Wrote<()> {
        if let Some(moment) = self.root {
            let path = TarPath::root();
            each(&path, &open_path(root, &path).map_err(call("openat2", &path))?, moment)?;
        }
        self.times.each(|path, moment| match open_path(root, path) {
            Ok(dir) => each(path, &dir, moment),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(()),
            Err(errno) => Err(call("openat2", path)(errno)),
        })
    }
}

/// Sets owner, then mode.
pub(super) fn own_and_mode(fd: BorrowedFd<'_>, attributes: &Attributes, path: &TarPath) -> Wrote<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    fchown(fd, Some(uid), Some(gid)).map_err(call("fchown", path))?;
    fchmod(fd, Mode::from_bits_truncate(attributes.mode)).map_err(call("fchmod", path))
}

/// Sets both times.
pub(super) fn stamp(fd: BorrowedFd<'_>, moment: Moment, path: &TarPath) -> Wrote<()> {
    let time = timespec(moment);
    futimens(fd, &time, &time).map_err(call("futimens", path))
}

/// A moment as the kernel takes it.
pub(super) fn timespec(moment: Moment) -> TimeSpec {
    TimeSpec::new(moment.seconds, i64::from(moment.nanos))
}
