//! flock(2) on dedicated files. The kernel frees a lock with its holder, so a free lock means a dead or finished owner.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::fault::{Fault, Kind, Result};

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    waited: Duration,
}

impl Lock {
    /// How long the holder of this lock was waited for.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the locked file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Waits for the exclusive lock of `path`, making the file (mode 0600) when it is not there.
///
/// *Errors:* `DeadlineExceeded` after `limit`, with the file named. *Source:* RELIABILITY 4.5; upstream host-local blocks on the same flock.
pub fn acquire(path: &Path, limit: Duration) -> Result<Lock> {
    wait(path, limit, Absent::Make)?.ok_or_else(|| Fault::internal(format!("lock {} vanished", path.display())))
}

/// As [`acquire`], but `None` when the file is not there.
pub fn acquire_existing(path: &Path, limit: Duration) -> Result<Option<Lock>> {
    wait(path, limit, Absent::Leave)
}

/// What to do about a lock file that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Make,
    Leave,
}

/// What one try found.
enum Try {
    Mine(Lock),
    Held,
    Absent,
}

#[allow(clippy::disallowed_methods)] // flock(2) has no deadline of its own: short pauses, doubled up to 10 ms
fn wait(path: &Path, limit: Duration, absent: Absent) -> Result<Option<Lock>> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        match try_once(path, absent)? {
            Try::Mine(mut lock) => {
                lock.waited = started.elapsed();
                return Ok(Some(lock));
            }
            Try::Absent => return Ok(None),
            Try::Held => {}
        }
        if started.elapsed() >= limit {
            let holder = holder_of(path).map_or(String::new(), |pid| format!(" (held by pid {pid})"));
            return Err(Fault::new(
                Kind::DeadlineExceeded,
                format!("lock {} is held by another process{holder} after {limit:?}", path.display()),
            ));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Takes the exclusive lock of `path` if it is free at once; `None` when somebody holds it.
pub fn find_free(path: &Path) -> Result<Option<Lock>> {
    match try_once(path, Absent::Make)? {
        Try::Mine(lock) => Ok(Some(lock)),
        Try::Held | Try::Absent => Ok(None),
    }
}

/// As [`find_free`], but a file that is not there is not made.
pub fn find_free_existing(path: &Path) -> Result<Option<Lock>> {
    match try_once(path, Absent::Leave)? {
        Try::Mine(lock) => Ok(Some(lock)),
        Try::Held | Try::Absent => Ok(None),
    }
}

fn try_once(path: &Path, absent: Absent) -> Result<Try> {
    loop {
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = match options.create(absent == Absent::Make).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && absent == Absent::Leave => return Ok(Try::Absent),
            Err(error) => return Err(io_fault(&error, format!("opening lock {}", path.display()))),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Try::Held),
            Err(TryLockError::Error(error)) => return Err(io_fault(&error, format!("locking {}", path.display()))),
        }
        // The file may have been removed or replaced between open and flock: then this lock guards nothing.
        if is_same(&file, path) {
            return Ok(Try::Mine(Lock { file, path: path.to_path_buf(), waited: Duration::ZERO }));
        }
    }
}

fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

/// The pid that `/proc/locks` names for the flock on `path`.
fn holder_of(path: &Path) -> Option<u32> {
    let inode = std::fs::metadata(path).ok()?.ino();
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    let row = table
        .lines()
        .find(|row| row.contains("FLOCK") && row.split_whitespace().nth(5).is_some_and(|field| field.ends_with(&format!(":{inode}"))))?;
    row.split_whitespace().nth(4)?.parse().ok()
}

fn io_fault(error: &std::io::Error, doing: String) -> Fault {
    let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0));
    Fault::new(crate::fault::kind_of_errno(errno), error.to_string()).doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_refused_and_a_dropped_one_is_free() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("lock");
        let held = acquire(&path, Duration::from_secs(1)).unwrap();
        assert!(find_free(&path).unwrap().is_none());
        let late = acquire(&path, Duration::from_millis(5)).unwrap_err();
        assert_eq!(late.kind(), Kind::DeadlineExceeded);
        assert!(late.to_string().contains(&std::process::id().to_string()), "{late}");
        drop(held);
        // A child that another test is just starting holds a copy of every descriptor until it executes.
        assert!(acquire(&path, Duration::from_secs(5)).is_ok());
    }
}
