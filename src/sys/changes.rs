//! Changes in directories: inotify(7).

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::proc;
use crate::fault::{Fault, Result, kind_of_errno};

/// Tells when something is written, made or moved in some directories.
#[derive(Debug)]
pub struct Changes {
    inotify: Inotify,
}

fn failed(call: &'static str) -> impl FnOnce(Errno) -> Fault {
    move |errno| Fault::new(kind_of_errno(errno), format!("{call}: {errno}"))
}

impl Changes {
    /// Looks at nothing yet.
    pub fn new() -> Result<Self> {
        Ok(Changes { inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed("inotify_init"))? })
    }

    /// Looks at `dir` from now on.
    pub fn of(&self, dir: &Path) -> Result<()> {
        let what = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF;
        self.inotify.add_watch(dir, what).map(drop).map_err(failed("inotify_add_watch"))
    }

    /// Waits for a change, or for something of `others`; false after `limit`.
    pub fn wait(&self, others: &[BorrowedFd<'_>], limit: Duration) -> Result<bool> {
        let mut all = vec![self.inotify.as_fd()];
        all.extend_from_slice(others);
        let came = proc::wait_any(&all, limit)?;
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        Ok(came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_a_change() {
        let world = tempfile::tempdir().unwrap();
        let changes = Changes::new().unwrap();
        changes.of(world.path()).unwrap();
        assert!(!changes.wait(&[], Duration::from_millis(1)).unwrap());
        std::fs::write(world.path().join("x"), "x").unwrap();
        assert!(changes.wait(&[], Duration::from_secs(5)).unwrap());
        assert!(!changes.wait(&[], Duration::from_millis(1)).unwrap());
    }
}
