//! Waiting that can be interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Session;
use crate::fault::{Fault, Kind, Result};
use crate::sys::{Halt, signal};

/// How often somebody who waits looks around.
const GLANCE: Duration = Duration::from_millis(50);

/// Fails with `Cancelled` when the user or a failed neighbour wants an end.
pub(super) fn check(halt: &Halt) -> Result<()> {
    if halt.is_set() {
        return Err(Fault::new(Kind::Cancelled, "stopped, because another step failed"));
    }
    signal::check()
}

/// Waits for `limit`, or for less when it is cancelled.
pub(super) fn sleep(limit: Duration, halt: &Halt) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        check(halt)?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(GLANCE));
    }
}

/// Watches for SIGINT and SIGTERM while a session works, and then shuts its connections: a read that waits for a server does not see
/// a signal that another thread got. Dropping it ends the watch.
#[derive(Debug)]
pub struct Vigil {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Session {
    /// Begins to watch for signals.
    pub fn watch_signals(&self) -> Vigil {
        let over = Arc::new(AtomicBool::new(false));
        let (session, ended) = (self.clone(), over.clone());
        let watch = move || {
            while !ended.load(Ordering::Relaxed) {
                if signal::pending().is_some() {
                    session.inner.agents.shut();
                    return;
                }
                std::thread::park_timeout(GLANCE);
            }
        };
        // Without the thread a signal is seen a little later, at the next byte or timeout.
        Vigil { over, thread: std::thread::Builder::new().name("signals".to_owned()).spawn(watch).ok() }
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
