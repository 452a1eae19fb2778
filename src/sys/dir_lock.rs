//! flock(2) on a directory: a lock that leaves no file behind.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::fault::{Fault, Kind, Result, kind_of_errno};

/// Who else may hold the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nobody.
    Nobody,
    /// Others that say the same.
    Others,
}

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct DirLock {
    _dir: File,
}

/// Waits for the lock of directory `path`; `None` when there is no such directory.
///
/// *Errors:* `DeadlineExceeded` after `limit`.
#[allow(clippy::disallowed_methods)] // flock(2) has no deadline of its own: short pauses, doubled up to 10 ms
pub fn acquire(path: &Path, beside: Beside, limit: Duration) -> Result<Option<DirLock>> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let dir = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(dir) => dir,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("opening", path, &error)),
    };
    let (started, mut pause) = (Instant::now(), Duration::from_micros(200));
    loop {
        let tried = if beside == Beside::Nobody { dir.try_lock() } else { dir.try_lock_shared() };
        match tried {
            Ok(()) => return Ok(Some(DirLock { _dir: dir })),
            Err(TryLockError::Error(error)) => return Err(failed("locking", path, &error)),
            Err(TryLockError::WouldBlock) if started.elapsed() < limit => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("directory {} is locked by another process after {limit:?}", path.display());
                return Err(Fault::new(Kind::DeadlineExceeded, message));
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> Fault {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    Fault::new(kind_of_errno(errno), errno.to_string()).doing(format!("{doing} {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_locks_stand_beside_each_other_and_keep_an_exclusive_one_out() {
        let world = tempfile::tempdir().unwrap();
        let short = Duration::from_millis(5);
        let one = acquire(world.path(), Beside::Others, short).unwrap().unwrap();
        let two = acquire(world.path(), Beside::Others, short).unwrap().unwrap();
        assert_eq!(acquire(world.path(), Beside::Nobody, short).unwrap_err().kind(), Kind::DeadlineExceeded);
        drop((one, two));
        // A child that another test is just starting holds a copy of every descriptor until it executes.
        assert!(acquire(world.path(), Beside::Nobody, Duration::from_secs(5)).unwrap().is_some());
        assert!(acquire(&world.path().join("none"), Beside::Nobody, short).unwrap().is_none());
    }
}
