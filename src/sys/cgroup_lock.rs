//! The kernel's lock of moves between control groups, kept in its fast state while the runtime is about to need it.
//!
//! A write to `cgroup.procs` takes a lock whose first taker waits for a grace period of RCU: 6–16 ms. For about as long after it was given
//! back, the next taker waits for nothing (`rcu_sync` in `kernel/rcu/sync.c`, taken by `cgroup_attach_lock` in `kernel/cgroup/cgroup.c`). A
//! runtime moves the first process of a container a dozen milliseconds after it was called. So that grace period is waited for here, beside
//! the work on files and networks, by a move that changes nothing: of this process into the control group in which it is.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cgroup::ROOT;

/// The time between two moves: well below the shortest time for which the fast state lasts.
const PERIOD: Duration = Duration::from_millis(5);

/// Until when the lock is kept; `None` while nobody keeps it.
static UNTIL: Mutex<Option<Instant>> = Mutex::new(None);

/// Keeps the lock in its fast state from about now on for `time`, by a thread of its own. Called again, it lasts longer.
///
/// Nothing is told of what goes wrong: without it the runtime just waits itself.
pub fn keep_fast(time: Duration) {
    let mut until = UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    let end = Instant::now() + time;
    if until.is_some() {
        *until = until.max(Some(end));
        return;
    }
    let keeper = std::thread::Builder::new().name("cgroup lock".to_owned());
    if keeper.spawn(keep).is_ok() {
        *until = Some(end);
    }
}

fn keep() {
    let mut group = own_group().and_then(|path| OpenOptions::new().write(true).open(path).ok());
    loop {
        let moved = group.as_mut().map(|file| file.write_all(b"0"));
        std::thread::sleep(PERIOD);
        let mut until = UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(moved, Some(Ok(()))) || until.is_none_or(|end| end < Instant::now()) {
            *until = None;
            return;
        }
    }
}

/// `cgroup.procs` of the group of this process in any one hierarchy.
fn own_group() -> Option<PathBuf> {
    let lines = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    lines.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        let path = Path::new(ROOT).join(name).join(group.trim_start_matches('/')).join("cgroup.procs");
        path.exists().then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_holds_this_process() {
        let path = own_group().expect("a host with control groups");
        let pids = std::fs::read_to_string(path).unwrap();
        assert!(pids.lines().any(|pid| pid == std::process::id().to_string()), "{pids}");
    }

    #[test]
    fn it_ends_by_itself_and_moves_nobody() {
        let before = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        keep_fast(Duration::from_millis(1));
        keep_fast(Duration::from_millis(30));
        let limit = Instant::now() + Duration::from_secs(20);
        while UNTIL.lock().unwrap().is_some() {
            assert!(Instant::now() < limit);
            std::thread::sleep(PERIOD);
        }
        assert_eq!(std::fs::read_to_string("/proc/self/cgroup").unwrap(), before);
    }
}
