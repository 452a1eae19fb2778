//! What directories get at the end, when nothing more is made in them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};

use crate::image::tar_entry::{Attributes, Moment};
use crate::image::tar_path::TarPath;

use super::tree::{Wrote, call, open_path};
use super::tree_xattr;

/// The attributes of a directory that no layer describes.
pub(super) fn undescribed() -> Attributes {
    Attributes { mode: 0o755, ..Attributes::default() }
}

enum Later {
    /// The directory is new, or described by the layer.
    All(Attributes),
    /// The directory was there and is not described by the layer: its time stays.
    Time(Moment),
}

/// Attributes by path, applied deepest first.
#[derive(Default)]
pub(super) struct Pending {
    later: BTreeMap<TarPath, Later>,
}

impl Pending {
    /// Gives a directory these attributes in the end; the last call wins.
    pub(super) fn set(&mut self, path: &TarPath, attributes: Attributes) {
        self.later.insert(path.clone(), Later::All(attributes));
    }

    /// Keeps the time that a directory has now, unless it gets attributes anyway.
    pub(super) fn hold_time(&mut self, path: &TarPath, fd: BorrowedFd<'_>) -> Wrote<()> {
        if !self.later.contains_key(path) {
            let stat = fstat(fd).map_err(call("fstat", path))?;
            let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
            self.later.insert(path.clone(), Later::Time(Moment { seconds: stat.st_mtime, nanos }));
        }
        Ok(())
    }

    /// Drops what was meant for `path` and everything below it, which are gone.
    pub(super) fn forget(&mut self, path: &TarPath) {
        self.later.remove(path);
        let first = path.join(b"\0");
        while let Some(below) = self.later.range(&first..).next().map(|(below, _)| below.clone()).filter(|below| below.is_within(path)) {
            self.later.remove(&below);
        }
    }

    /// Applies all of it, children before their parents.
    pub(super) fn apply(self, root: BorrowedFd<'_>) -> Wrote<()> {
        for (path, later) in self.later.into_iter().rev() {
            let dir = match open_path(root, &path) {
                Ok(dir) => dir,
                // Something else took the name; only directories get here.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
                Err(errno) => return Err(call("openat2", &path)(errno)),
            };
            match later {
                Later::All(attributes) => {
                    own_and_mode(dir.as_fd(), &attributes, &path)?;
                    tree_xattr::replace(dir.as_fd(), &attributes.xattrs).map_err(call("fsetxattr", &path))?;
                    stamp(dir.as_fd(), attributes.mtime, &path)?;
                }
                Later::Time(moment) => stamp(dir.as_fd(), moment, &path)?,
            }
        }
        Ok(())
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
