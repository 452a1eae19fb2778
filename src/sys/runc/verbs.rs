//! The other verbs of the runtime: start, pause, resume, exec.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{MOVES_WITHIN, Runc, START_LIMIT};
use crate::fault::{Context as _, Result};
use crate::sys::exec::{Captured, Exec};
use crate::sys::subgroup::Subgroup;
use crate::sys::{cgroup_lock, proc};

/// How long the runtime's init may take to execute the program of a container that was started.
const EXEC_LIMIT: Duration = Duration::from_secs(2);
/// How long a program may take from there to its handler of a signal.
const HANDLER_LIMIT: Duration = Duration::from_millis(200);

/// A process to be added to a container.
#[derive(Clone, Copy, Debug)]
pub struct ExecRequest<'a> {
    /// The process as an OCI document (`--process`).
    pub process: &'a Path,
    /// Where the runtime writes its pid.
    pub pid_file: &'a Path,
    /// Where the runtime writes its log, JSON lines.
    pub log: &'a Path,
    /// A control group below the container's own for it and its children.
    pub group: Option<&'a Subgroup>,
}

impl Runc {
    fn verb(&self, words: &[&str], doing: &str) -> Result<()> {
        let done: Captured = self.exec().args(words).capture(START_LIMIT).doing(|| doing.to_owned())?;
        if done.status.success() { Ok(()) } else { Err(self.failure(doing, &done)) }
    }

    /// Starts the first process of a container that was created.
    pub fn start(&self, id: &str) -> Result<()> {
        let started = self.verb(&["start", id], "starting the container");
        match started {
            // The process was let go and has ended, and whoever watches it took the rest away before the runtime could.
            Err(fault) if fault.to_string().contains("exec.fifo: no such file") && !self.is_created(id) => Ok(()),
            other => other,
        }
    }

    /// Opens the first process of a container, once it runs its own program and that sees `signal`; `None` when there is none.
    ///
    /// The runtime's `start` returns before its init has executed the program, and the kernel drops what the first process of a pid namespace
    /// has no handler for: right after a start that is every signal but SIGKILL and SIGSTOP. One that was only created is not waited for,
    /// and one that never sees the signal not for long.
    #[allow(clippy::disallowed_methods)] // the kernel tells nobody of an execve(2) or a sigaction(2) but a tracer
    pub fn open_attentive(&self, id: &str, signal: i32) -> Result<Option<OwnedFd>> {
        let Some(process) = self.open_process(id)? else { return Ok(None) };
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP) || self.is_created(id) {
            return Ok(Some(process));
        }
        let pid = self.running_pid(id)?.unwrap_or(0);
        let is_init = || std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"runc:[2:INIT]\n");
        let (begun, mut limit) = (Instant::now(), EXEC_LIMIT);
        loop {
            if is_init() {
                limit = EXEC_LIMIT;
            } else if limit == EXEC_LIMIT {
                limit = begun.elapsed() + HANDLER_LIMIT;
            }
            let seen = !is_init() && proc::attention(process.as_fd(), signal).sees;
            if seen || begun.elapsed() >= limit || proc::wait_readable(process.as_fd(), Duration::ZERO)? {
                return Ok(Some(process));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Freezes the processes of a container.
    pub fn pause(&self, id: &str) -> Result<()> {
        self.verb(&["pause", id], "freezing the container")
    }

    /// Lets the processes of a container go on.
    pub fn resume(&self, id: &str) -> Result<()> {
        self.verb(&["resume", id], "thawing the container")
    }

    /// The command that adds a process to a container; the caller adds streams, and options between.
    pub fn exec_process(&self, request: &ExecRequest<'_>, options: &[&str], id: &str) -> Exec {
        cgroup_lock::keep_fast(MOVES_WITHIN);
        let exec = self.exec().arg("--log").arg(request.log).args(["--log-format", "json", "exec"]).args(options);
        let exec = exec.arg("--process").arg(request.process).arg("--pid-file").arg(request.pid_file);
        let exec = match request.group {
            Some(group) => exec.args(["--cgroup", group.word()]),
            None => exec,
        };
        exec.arg(id)
    }

    /// The command that runs `words` in a container as its own user, for a health check.
    pub fn exec_words(&self, id: &str, group: Option<&Subgroup>, words: &[String]) -> Exec {
        let exec = self.exec().arg("exec");
        let exec = match group {
            Some(group) => exec.args(["--cgroup", group.word()]),
            None => exec,
        };
        exec.arg(id).args(words)
    }

    /// Whether a container that runs waits to be started: runc keeps a FIFO for that.
    pub fn is_created(&self, id: &str) -> bool {
        self.state_dir(id).join("exec.fifo").exists()
    }
}
