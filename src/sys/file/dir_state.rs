//! Which state a directory is in: a word that is another one as soon as a name in it comes or goes.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use super::{Result, failed, failed_errno};

/// File systems on which the kernel itself keeps the times of directories, in nanoseconds: ext4, xfs, btrfs, tmpfs, f2fs.
const KNOWN: [libc::c_long; 5] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0xF2F5_2010];
/// By how much a mark lies before the moment when it is set.
const BACK: i64 = 1;
const NANOS: i64 = 1_000_000_000;

/// An open directory, whose state can be told and marked.
#[derive(Debug)]
pub struct WatchedDir {
    dir: File,
    path: PathBuf,
}

/// What a directory's inode says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirState {
    /// Device and inode.
    pub identity: (u64, u64),
    /// Seconds and nanoseconds of the last change of its names.
    modified: (i64, i64),
    /// Seconds and nanoseconds of the last change of its inode.
    changed: (i64, i64),
}

impl std::fmt::Display for DirState {
    /// *Shape:* `fd00.1f.1700000000.000000001.1700000001.000000002`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let DirState { identity: (dev, ino), modified, changed } = self;
        write!(f, "{dev:x}.{ino:x}.{}.{:09}.{}.{:09}", modified.0, modified.1, changed.0, changed.1)
    }
}

impl DirState {
    /// Whether it is one that [`WatchedDir::mark`] sets: a change of names makes the two times the same.
    fn is_marked(&self) -> bool {
        self.modified < self.changed
    }
}

impl WatchedDir {
    /// Opens a directory, not through a symlink.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let dir = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed("open", path))?;
        Ok(WatchedDir { dir, path: path.to_path_buf() })
    }

    /// Its state now.
    pub fn state(&self) -> Result<DirState> {
        let meta = self.dir.metadata().map_err(failed("stat", &self.path))?;
        Ok(DirState {
            identity: (meta.dev(), meta.ino()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Gives it a state of its own; `None` where that cannot be held.
    ///
    /// The kernel's clock for files ticks every 1 to 10 ms (before Linux 6.13), so that two changes can have one time. So the time of the
    /// last change is set a second back: the next change of a name makes it equal to the time of the inode's change, which no mark is.
    pub fn mark(&self) -> Result<Option<DirState>> {
        let fs = nix::sys::statfs::fstatfs(&self.dir).map_err(failed_errno("fstatfs", &self.path))?;
        if !KNOWN.contains(&fs.filesystem_type().0) {
            return Ok(None);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified = (i64::try_from(now.as_secs()).unwrap_or(0) - BACK, i64::from(now.subsec_nanos()).min(NANOS - 1));
        futimens(&self.dir, &TimeSpec::UTIME_OMIT, &TimeSpec::new(modified.0, modified.1)).map_err(failed_errno("futimens", &self.path))?;
        let state = self.state()?;
        Ok((state.modified == modified && state.is_marked()).then_some(state))
    }
}
