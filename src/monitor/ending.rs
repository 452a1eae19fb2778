//! The end of a life: what is left in the streams, the exit file, another life or none.

use std::time::{Duration, Instant};

use super::loops::{Monitor, Stage};
use super::process;
use super::streams::Streams;
use crate::record::life::{EventKind, Exit, Launch, Reason, Reply};
use crate::sys::exec::{Bond, Exec};
use crate::sys::file::{self, Durable};
use crate::sys::reaper::Ended;
use crate::sys::{cgroup, control, monitor, proc, runc_log};

/// How long processes that outlive the first one may take to go.
const REST_LIMIT: Duration = Duration::from_secs(2);
/// How long a slow client may take to read the rest.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Monitor {
    /// The first process is readable: it has ended.
    pub(super) fn on_process(&mut self) {
        let Stage::Alive(process) = &self.stage else { return };
        let ended = process.status();
        if ended.is_none() && process.is_ours {
            return;
        }
        self.watch.remove(&process.pidfd);
        let lived = process.since.elapsed();
        // With a pid namespace of its own the kernel has ended all others by now; with another one, they are ended here.
        if !self.drain() {
            let _ = cgroup::kill_all(&self.order.runtime.cgroups_path, REST_LIMIT);
            self.drain();
        }
        self.output.finish();
        self.streams = Streams::default();
        self.checks.end();
        let exit = self.exit_of(ended);
        self.note_exit(exit, lived);
        self.reap();
    }

    fn exit_of(&self, ended: Option<Ended>) -> Exit {
        let at = proc::now_rfc3339();
        match ended {
            Some(ended) => {
                let oom = cgroup::oom_kills(&self.order.runtime.cgroups_path).map(|kills| kills > 0);
                Exit::seen(ended.code, ended.signal, oom, at)
            }
            None => Exit::unseen("it was taken over from a monitor that is gone, and this kernel does not tell how it ended", at),
        }
    }

    /// Writes the exit file, tells everybody, then decides about another life.
    fn note_exit(&mut self, exit: Exit, lived: Duration) {
        let path = self.order.bundle.join("exit.json");
        let _ = file::write_atomic(&path, 0o600, &exit.to_bytes(), Durable::No);
        let again = !self.stopping && self.order.restart.wants(exit.exit_code, self.restarts);
        self.clients.tell_end(&Reply::Exited(exit.clone()));
        // Those who wait need not wait for what follows.
        let _ = self.clients.flush(&self.watch, false);
        if exit.reason == Reason::OomKilled {
            self.tell(EventKind::Oom, |_| {});
        }
        self.tell(EventKind::Die, |event| event.exit_code = Some(exit.exit_code));
        self.exit = Some(exit);
        let _ = process::runtime(&self.order).kill_and_delete(self.order.id.as_str(), &self.order.bundle, Duration::ZERO);
        if again {
            self.stage = Stage::Waiting(Instant::now() + self.backoff.after(lived));
            let _ = file::sync(&path);
        } else {
            self.finish();
        }
    }

    /// Starts the container again; a start that fails is a life without length.
    pub(super) fn start_again(&mut self) {
        self.restarts += 1;
        self.tell(EventKind::Restart, |_| {});
        let begun = process::begin(&self.order, Launch::Run, self.restarts).and_then(|(process, streams)| {
            self.streams = streams;
            self.live(process)
        });
        match begun {
            Ok(()) => self.tell(EventKind::Start, |_| {}),
            Err(fault) => {
                let mut exit = Exit::seen(runc_log::start_status(&fault.to_string()), None, None, proc::now_rfc3339());
                exit.message = fault.to_string();
                self.note_exit(exit, Duration::ZERO);
            }
        }
    }

    /// The container is over.
    pub(super) fn finish(&mut self) {
        let _ = file::sync(&self.order.bundle.join("exit.json"));
        if let Some(exit) = &self.exit {
            // A stop that came between two lives.
            self.clients.tell_end(&Reply::Exited(exit.clone()));
        }
        self.stage = Stage::Over(Instant::now() + LAST_WORDS);
    }

    /// Leaves nothing behind that says there is a monitor, and calls who comes after.
    pub(super) fn leave(&mut self) {
        for name in ["stdout", "stderr"] {
            let _ = file::remove_file(&self.order.run.join(name));
        }
        control::unlink(&self.order.run);
        let _ = monitor::forget(&self.order.run);
        if self.order.afterwards.is_empty() {
            return;
        }
        let mut exec = Exec::new(std::path::Path::new("/proc/self/exe")).arg0("rkbox").args(&self.order.afterwards);
        for (name, value) in &self.order.environment {
            exec = exec.env(name, value);
        }
        let _ = exec.spawn(Bond::Detached);
    }
}
