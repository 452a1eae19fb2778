//! Health checks: run at their time, ended at theirs, written down.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use super::process;
use crate::record::life::{Health, HealthState, HealthStatus, Order, Outcome};
use crate::sys::exec::{Bond, Stream};
use crate::sys::file::{self, Durable};
use crate::sys::reaper::Ended;
use crate::sys::subgroup::Subgroup;
use crate::sys::{proc, scratch};

/// How much of what a check prints is kept, in bytes.
const OUTPUT: usize = 4096;
/// How long the processes of one may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// The exit code of a check that took too long.
const TIMED_OUT: u8 = 124;

/// A check that runs.
#[derive(Debug)]
struct Running {
    pid: i32,
    pidfd: OwnedFd,
    /// Where it and all its children are.
    /// None for an ordinary user, who has no control groups: then only the runtime's own process is ended.
    group: Option<Subgroup>,
    output: File,
    at: String,
    until: Instant,
    timed_out: bool,
}

/// The checks of one container.
#[derive(Debug)]
pub struct Checks {
    health: Option<Health>,
    status: HealthStatus,
    begun: Instant,
    next: Option<Instant>,
    running: Option<Running>,
    changed: Option<HealthState>,
}

impl Checks {
    /// The checks that are ordered; none without an order.
    pub fn new(health: Option<Health>) -> Self {
        Checks { health, status: HealthStatus::default(), begun: Instant::now(), next: None, running: None, changed: None }
    }

    /// A life begins: the first check comes after one interval.
    pub fn begin(&mut self, now: Instant) {
        self.status = HealthStatus::default();
        self.begun = now;
        self.next = self.health.as_ref().map(|health| now + health.interval);
    }

    /// It ended.
    pub fn end(&mut self) {
        (self.next, self.running) = (None, None);
    }

    /// What they say; `None` without any.
    pub fn state(&self) -> Option<HealthState> {
        self.health.as_ref().map(|_| self.status.state)
    }

    /// When something is to be done next.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.running {
            Some(running) if running.timed_out => None,
            Some(running) => Some(running.until),
            None => self.next,
        }
    }

    /// What changed since this was asked last.
    pub fn take_change(&mut self) -> Option<HealthState> {
        self.changed.take()
    }

    /// Begins a check that is due, ends one that takes too long.
    pub fn on_time(&mut self, order: &Order, now: Instant) {
        if let Some(running) = &mut self.running {
            if now >= running.until && !running.timed_out {
                running.timed_out = true;
                if let Some(group) = &running.group {
                    let _ = group.kill(KILL_LIMIT);
                }
                let _ = proc::send_kill(running.pidfd.as_fd());
            }
            return;
        }
        if self.next.is_some_and(|next| now >= next) {
            self.next = None;
            self.start(order, now);
        }
    }

    fn start(&mut self, order: &Order, now: Instant) {
        let Some(health) = self.health.clone() else { return };
        let at = proc::now_rfc3339();
        let started = scratch::create().ok().and_then(|output| {
            let (out, err) = (output.try_clone().ok()?, output.try_clone().ok()?);
            let group = match order.runtime.cgroups_path.as_str() {
                "" => None,
                path => Some(Subgroup::make(path, "health").ok()?),
            };
            let exec = process::runtime(order).exec_words(order.id.as_str(), group.as_ref(), &health.command);
            let child = exec.streams(Stream::Null, Stream::Fd(out.into()), Stream::Fd(err.into())).spawn(Bond::Helper).ok()?;
            let pid = child.id().cast_signed();
            let pidfd = proc::open_pidfd(pid).ok()?;
            Some(Running { pid, pidfd, output, at: at.clone(), until: now + health.timeout, timed_out: false, group })
        });
        match started {
            Some(running) => self.running = Some(running),
            None => self.note(order, &health, Outcome { at, exit_code: 125, output: "the check could not be started".to_owned() }),
        }
    }

    /// Whether a child is the check that runs.
    pub fn is_check(&self, pid: i32) -> bool {
        self.running.as_ref().is_some_and(|running| running.pid == pid)
    }

    /// The check that runs has ended.
    pub fn on_ended(&mut self, order: &Order, ended: Ended) {
        let (Some(running), Some(health)) = (self.running.take(), self.health.clone()) else { return };
        let exit_code = if running.timed_out { TIMED_OUT } else { ended.code };
        let mut output = scratch::tail(running.output);
        let cut = (0..=OUTPUT.min(output.len())).rev().find(|at| output.is_char_boundary(*at)).unwrap_or(0);
        output.truncate(cut);
        self.note(order, &health, Outcome { at: running.at, exit_code, output });
    }

    fn note(&mut self, order: &Order, health: &Health, outcome: Outcome) {
        if self.status.note(outcome, health, self.begun.elapsed()) {
            self.changed = Some(self.status.state);
        }
        self.next = Some(Instant::now() + health.interval.max(Duration::from_millis(10)));
        let text = serde_json::to_vec(&self.status).unwrap_or_default();
        let _ = file::write_atomic(&order.run.join("health.json"), 0o600, &text, Durable::No);
    }
}
