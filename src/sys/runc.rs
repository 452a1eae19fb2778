//! The OCI runtime: runc, or another program with its command line.
//!
//! `runc delete -f` is never used: it polls with sleeps of 100 ms after the kill. Processes are killed through a pidfd, then deleted.

mod launch;
mod verbs;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use serde::Deserialize;

use super::exec::{self, Bond, Captured, Exec, Stream};
use super::{CgroupDriver, Host, cgroup, cgroup_lock, file, proc, runc_log, scratch, signal};
use crate::fault::{Context, Fault, Kind, Result};

pub use launch::Verb;
pub use verbs::ExecRequest;

/// How long the runtime may take to start or delete a container.
pub const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the runtime may take to tell a state.
pub const STATE_LIMIT: Duration = Duration::from_secs(5);
/// How long after its start the runtime may still move processes between control groups.
const MOVES_WITHIN: Duration = Duration::from_millis(20);
/// How many of the runtime's last lines are shown.
const LAST_LINES: usize = 5;
/// How long processes may take to go after SIGKILL: thousands that fork, on a busy machine.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// The largest state file or configuration that is read, in bytes.
const STATE_FILE_LIMIT: u64 = 4 << 20;

/// An OCI runtime with its state directory.
#[derive(Clone, Debug)]
pub struct Runc {
    program: PathBuf,
    root: PathBuf,
    driver: CgroupDriver,
}

/// What the runtime says of a container.
#[derive(Clone, Debug, Deserialize)]
pub struct State {
    /// `creating`, `created`, `running`, `paused` or `stopped`.
    pub status: String,
    /// The first process; 0 when there is none.
    #[serde(default)]
    pub pid: i32,
}

/// How the standard streams of a container in the foreground are bound to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// `/dev/null`.
    Null,
    /// Ours: `-i`, and with a terminal in the specification `-t`.
    Ours,
}

/// What is started: a container id, its bundle, and where the runtime writes.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Container id.
    pub id: &'a str,
    /// The bundle.
    pub bundle: &'a Path,
    /// Where the runtime writes the pid of the first process.
    pub pid_file: &'a Path,
    /// Where the runtime writes its log, JSON lines.
    pub log: &'a Path,
}

/// Finds the runtime of this host.
///
/// *Errors:* `Unavailable` when it is not installed.
pub fn find(host: &Host) -> Result<Runc> {
    let program = exec::find(&host.runtime)
        .hint(|| "install it: apt-get install runc (or name another runtime with --runtime)")
        .doing(|| "finding the OCI runtime")?;
    Ok(Runc::new(program, host.runtime_root(), host.cgroup_driver))
}

impl Runc {
    /// Names a runtime by its path and state directory.
    pub fn new(program: PathBuf, root: PathBuf, driver: CgroupDriver) -> Self {
        Runc { program, root, driver }
    }

    /// Its path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The first line of `--version`.
    pub fn version(&self) -> Result<String> {
        let done = Exec::new(&self.program).arg("--version").capture(STATE_LIMIT)?;
        if !done.status.success() {
            return Err(self.failure("asking the version", &done));
        }
        Ok(String::from_utf8_lossy(&done.stdout).lines().next().unwrap_or_default().to_owned())
    }

    fn exec(&self) -> Exec {
        let exec = Exec::new(&self.program).arg("--root").arg(&self.root);
        if self.driver == CgroupDriver::Systemd { exec.arg("--systemd-cgroup") } else { exec }
    }

    /// The first words of any shell command.
    fn words(&self) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut words = vec![text(&self.program), "--root".to_owned(), text(&self.root)];
        if self.driver == CgroupDriver::Systemd {
            words.push("--systemd-cgroup".to_owned());
        }
        words
    }

    /// The words of a shell command that starts a container that was created.
    pub fn start_words(&self, id: &str) -> Vec<String> {
        let mut words = self.words();
        words.extend(["start".to_owned(), id.to_owned()]);
        words
    }

    /// The words of a shell command that runs a container in the foreground.
    pub fn foreground_words(&self, launch: &Launch<'_>) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut words = self.words();
        words.extend(["--log".to_owned(), text(launch.log)]);
        words.extend(["--log-format", "json", "run", "--pid-file"].map(str::to_owned));
        words.extend([text(launch.pid_file), "--bundle".to_owned(), text(launch.bundle), launch.id.to_owned()]);
        words
    }

    fn run(&self, launch: &Launch<'_>, detach: bool) -> Exec {
        cgroup_lock::keep_fast(MOVES_WITHIN);
        let exec = self.exec().arg("--log").arg(launch.log).args(["--log-format", "json", "run"]);
        let exec = if detach { exec.arg("--detach") } else { exec };
        exec.arg("--pid-file").arg(launch.pid_file).arg("--bundle").arg(launch.bundle).arg(launch.id)
    }

    /// Creates and starts a container whose streams are `/dev/null`; returns when its process runs.
    ///
    /// *Errors:* what the runtime logged; [`runc_log::start_status`] tells 125, 126 and 127 apart. `DeadlineExceeded` after 30 s.
    pub fn run_detached(&self, launch: &Launch<'_>) -> Result<()> {
        let mark = runc_log::length(launch.log);
        // Not captured: the container inherits the streams of the runtime, and a pipe would tie it to us.
        let errors = scratch::create().map_err(|error| Fault::internal(error.to_string()).doing("making a file in memory"))?;
        let theirs = errors.try_clone().map_err(|error| Fault::internal(error.to_string()).doing("copying a descriptor"))?;
        let mut child = self.run(launch, true).streams(Stream::Null, Stream::Null, Stream::Fd(theirs.into())).spawn(Bond::Helper)?;
        let Some(status) = exec::wait_timeout(&mut child, START_LIMIT)? else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Fault::new(Kind::DeadlineExceeded, format!("the runtime did not start it within {START_LIMIT:?}")));
        };
        if status.success() && file::exists(launch.pid_file)? {
            return Ok(());
        }
        Err(runc_log::failure(launch.log, mark, &self.ending(status, &scratch::tail(errors))))
    }

    /// Runs a container to its end with our output and errors; the runtime copies nothing without a terminal.
    ///
    /// Signals to us go to the runtime, which hands them on. It dies with us: else it would go on making a container behind the back of
    /// `gc`; a process that already runs is not touched. *Errors:* as [`Self::run_detached`]; a container's own exit status, 1
    /// too, is a status: the runtime failed only where its log has an error.
    pub fn run_foreground(&self, launch: &Launch<'_>, input: Input) -> Result<ExitStatus> {
        let mark = runc_log::length(launch.log);
        let stdin = if input == Input::Ours { Stream::Inherit } else { Stream::Null };
        let mut child = self.run(launch, false).streams(stdin, Stream::Inherit, Stream::Inherit).spawn(Bond::Helper)?;
        let status = wait_forwarding(&mut child)?;
        // Without its pid the container never was: then the status is the runtime's own.
        let started = file::exists(launch.pid_file)?;
        if !started || (status.code() == Some(1) && runc_log::has_error(launch.log, mark)) {
            return Err(runc_log::failure(launch.log, mark, &self.ending(status, "")));
        }
        Ok(status)
    }

    /// How the runtime itself ended, and its own last words.
    fn ending(&self, status: ExitStatus, said: &str) -> String {
        let mut text = format!("{} ended with {status} and started nothing", self.program.display());
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
            text.push_str("\n  ");
            text.push_str(line);
        }
        text
    }

    /// Asks the runtime for the state of a container; `None` when it has none of that id.
    pub fn state(&self, id: &str) -> Result<Option<State>> {
        let done = self.exec().args(["state", id]).capture(STATE_LIMIT).doing(|| format!("asking the state of container {id}"))?;
        if done.status.success() {
            return serde_json::from_slice(&done.stdout)
                .map(Some)
                .map_err(|error| Fault::from_error(Kind::DataLoss, error).doing(format!("reading the state of container {id}")));
        }
        if says_absent(&done.stderr) { Ok(None) } else { Err(self.failure(&format!("asking the state of container {id}"), &done)) }
    }

    /// Changes what a container may use: `resources` is a part of `linux.resources`.
    pub fn update(&self, id: &str, resources: &serde_json::Value) -> Result<()> {
        use std::io::{Seek as _, Write as _};
        let internal = |error: std::io::Error| Fault::internal(error.to_string()).doing("making a file in memory");
        let mut input = scratch::create().map_err(|error| Fault::internal(error.to_string()).doing("making a file in memory"))?;
        input.write_all(resources.to_string().as_bytes()).and_then(|()| input.rewind()).map_err(internal)?;
        let exec = self.exec().args(["update", "--resources", "-", id]);
        let done = exec
            .streams(Stream::Fd(input.into()), Stream::Null, Stream::Null)
            .capture(START_LIMIT)
            .doing(|| format!("updating container {id}"))?;
        if done.status.success() { Ok(()) } else { Err(self.failure(&format!("updating container {id}"), &done)) }
    }

    /// Deletes a container that has stopped; absence is fine.
    pub fn delete(&self, id: &str) -> Result<()> {
        let done = self.exec().args(["delete", id]).capture(START_LIMIT).doing(|| format!("deleting container {id}"))?;
        if done.status.success() || says_absent(&done.stderr) {
            Ok(())
        } else {
            Err(self.failure(&format!("deleting container {id}"), &done))
        }
    }

    /// Whether the runtime keeps anything of a container, whole or damaged.
    pub fn knows(&self, id: &str) -> Result<bool> {
        Ok(file::exists(&self.state_dir(id))?)
    }

    fn state_dir(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Opens the first process of a container, known by pid and start time; `None` when it has ended.
    pub fn open_process(&self, id: &str) -> Result<Option<std::os::fd::OwnedFd>> {
        let Some(content) = file::find(&self.state_dir(id).join("state.json"), STATE_FILE_LIMIT)? else { return Ok(None) };
        match serde_json::from_slice::<StateFile>(&content) {
            Ok(state) => proc::open_same(state.init_process_pid, state.init_process_start),
            Err(_) => Ok(None),
        }
    }

    /// The pid of the first process of a container; `None` when it has ended.
    pub fn running_pid(&self, id: &str) -> Result<Option<i32>> {
        let Some(content) = file::find(&self.state_dir(id).join("state.json"), STATE_FILE_LIMIT)? else { return Ok(None) };
        let Ok(state) = serde_json::from_slice::<StateFile>(&content) else { return Ok(None) };
        Ok(proc::open_same(state.init_process_pid, state.init_process_start)?.map(|_| state.init_process_pid))
    }

    /// Ends a container and removes all that the runtime keeps of it; absence is fine, and so is a half-made one.
    ///
    /// SIGTERM goes first when `grace` is not zero. `bundle` tells the control group, should the state be damaged.
    pub fn kill_and_delete(&self, id: &str, bundle: &Path, grace: Duration) -> Result<()> {
        let cgroups_path = find_cgroups_path(bundle)?;
        if !self.knows(id)? {
            // A runtime that was killed while it started may have left a group and somebody in it.
            return cgroups_path.as_deref().filter(|path| path.contains(id)).map_or(Ok(()), sweep);
        }
        if let Some(process) = self.open_process(id)? {
            if !grace.is_zero() {
                proc::terminate(process.as_fd(), grace)?;
            }
            proc::send_signal(process.as_fd(), libc::SIGKILL)?;
            if !proc::wait_readable(process.as_fd(), KILL_LIMIT)? {
                return Err(Fault::new(Kind::DeadlineExceeded, format!("container {id} survives SIGKILL")));
            }
        }
        // With a pid namespace of another container the kernel does not end the rest; a group that is not named after us is left alone.
        let ours = cgroups_path.as_deref().filter(|path| path.contains(id));
        if let Some(path) = ours {
            cgroup::kill_all(path, KILL_LIMIT)?;
        }
        match self.delete(id) {
            Err(fault) if ours.is_none() => return Err(fault),
            // A runtime that died before it wrote its state says that there is no such container, and leaves some of its groups.
            _ => ours.map_or(Ok(()), sweep)?,
        }
        // The runtime leaves a directory without a state when it died early.
        file::remove_tree(&self.state_dir(id)).doing(|| format!("removing the state of container {id}"))
    }

    fn failure(&self, doing: &str, done: &Captured) -> Fault {
        let said = runc_log::last_line(&done.stderr);
        let kind = if said.contains("permission denied") { Kind::PermissionDenied } else { Kind::Internal };
        let message = if said.is_empty() { format!("{} ended with {}", self.program.display(), done.status) } else { said };
        Fault::new(kind, message).doing(doing)
    }
}

/// What `state.json` of runc holds, as far as it matters.
#[derive(Deserialize)]
struct StateFile {
    init_process_pid: i32,
    init_process_start: u64,
}

fn says_absent(stderr: &str) -> bool {
    stderr.contains("does not exist")
}

/// Kills what is left in a group and removes the group.
fn sweep(cgroups_path: &str) -> Result<()> {
    cgroup::kill_all(cgroups_path, KILL_LIMIT)?;
    cgroup::remove(cgroups_path);
    Ok(())
}

/// The `linux.cgroupsPath` of a bundle; `None` when the bundle is gone or half written.
fn find_cgroups_path(bundle: &Path) -> Result<Option<String>> {
    let Some(content) = file::find(&bundle.join("config.json"), STATE_FILE_LIMIT)? else { return Ok(None) };
    let value: serde_json::Value = serde_json::from_slice(&content).unwrap_or_default();
    Ok(value.pointer("/linux/cgroupsPath").and_then(serde_json::Value::as_str).map(str::to_owned))
}

/// Waits for a child while signals to us go to it; it is reaped only after the last could have been sent.
pub fn wait_forwarding(child: &mut Child) -> Result<ExitStatus> {
    let pid = child.id().cast_signed();
    let pidfd = proc::open_pidfd(pid)?;
    let forwarding = signal::Forwarding::to(pid)?;
    while !proc::wait_readable(pidfd.as_fd(), Duration::from_secs(60))? {}
    drop(forwarding);
    child.wait().map_err(|error| Fault::from_error(Kind::Internal, error).doing("waiting for the OCI runtime"))
}
