//! Making a container whose first process outlives the runtime.

use super::{Launch, MOVES_WITHIN, Runc, START_LIMIT};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::sys::exec::{self, Bond, Exec, Stream};
use crate::sys::pty::ConsoleSocket;
use crate::sys::{cgroup_lock, file, runc_log};

/// How far the runtime goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The first process waits to be started.
    Create,
    /// It runs.
    Run,
}

impl Runc {
    /// The words of a shell command that makes a container of `launch`.
    pub fn create_words(&self, launch: &Launch<'_>) -> Vec<String> {
        let mut words = self.foreground_words(launch);
        if let Some(verb) = words.iter_mut().find(|word| *word == "run") {
            "create".clone_into(verb);
        }
        words
    }

    fn launch_exec(&self, launch: &Launch<'_>, verb: Verb) -> Exec {
        cgroup_lock::keep_fast(MOVES_WITHIN);
        let exec = self.exec().arg("--log").arg(launch.log).args(["--log-format", "json"]);
        let exec = match verb {
            Verb::Create => exec.arg("create"),
            Verb::Run => exec.args(["run", "--detach"]),
        };
        exec.arg("--pid-file").arg(launch.pid_file).arg("--bundle").arg(launch.bundle)
    }

    /// Makes a container with the streams given, or with a terminal that is sent to `console`; answers the pid of its first process.
    ///
    /// The caller becomes that process's parent if it is the nearest sub-reaper. *Errors:* as [`Self::run_detached`].
    pub fn launch(&self, launch: &Launch<'_>, verb: Verb, streams: [Stream; 3], console: Option<&ConsoleSocket>) -> Result<i32> {
        let mark = runc_log::length(launch.log);
        file::remove_file(launch.pid_file)?;
        let [stdin, stdout, stderr] = streams;
        let exec = self.launch_exec(launch, verb);
        let exec = match console {
            Some(console) => exec.arg("--console-socket").arg(console.path()),
            None => exec,
        };
        let mut child = exec.arg(launch.id).streams(stdin, stdout, stderr).spawn(Bond::Helper)?;
        let Some(status) = exec::wait_timeout(&mut child, START_LIMIT)? else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Fault::new(Kind::DeadlineExceeded, format!("the runtime did not start it within {START_LIMIT:?}")));
        };
        if !status.success() {
            return Err(runc_log::failure(launch.log, mark, &self.ending(status, "")));
        }
        let text = file::read(launch.pid_file, 64).doing(|| "reading the pid that the runtime wrote")?;
        let pid = String::from_utf8_lossy(&text).trim().parse::<i32>().ok().filter(|pid| *pid > 1);
        pid.ok_or_else(|| Fault::new(Kind::DataLoss, "the runtime wrote no pid"))
    }
}
