//! One life of the container: from the runtime's start to the status of its first process.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use super::streams::Streams;
use crate::fault::{Fault, Kind, Result};
use crate::record::life::{Alive, Launch, Order};
use crate::sys::reaper::{self, Ended};
use crate::sys::runc::{self, Runc, Verb};
use crate::sys::{file, monitor, proc};

/// How long the parent of a process that was taken over may take to reap it.
const REAP_LIMIT: Duration = Duration::from_secs(1);

/// A first process that lives.
#[derive(Debug)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// The process, opened; readable when it has ended.
    pub pidfd: OwnedFd,
    /// Since when, for the back-off.
    pub since: Instant,
    /// Whether it is our child, so that its status comes to us.
    pub is_ours: bool,
}

/// The runtime of an order.
pub fn runtime(order: &Order) -> Runc {
    Runc::new(order.runtime.path.clone(), order.runtime.state.clone(), order.runtime.cgroup_driver)
}

/// Makes the container, or takes over one that is there, and writes down who watches it.
pub fn begin(order: &Order, launch: Launch, restarts: u32) -> Result<(Process, Streams)> {
    match launch {
        Launch::Adopt => adopt(order),
        Launch::Create => make(order, Verb::Create, restarts),
        Launch::Run => make(order, Verb::Run, restarts),
    }
}

fn make(order: &Order, verb: Verb, restarts: u32) -> Result<(Process, Streams)> {
    let runtime = runtime(order);
    // From here on the old end is no longer the last one.
    file::remove_file(&order.bundle.join("exit.json"))?;
    let (mut streams, ends) = Streams::make(order)?;
    let launch = runc::Launch {
        id: order.id.as_str(),
        bundle: &order.bundle,
        pid_file: &order.run.join("pid"),
        log: &order.run.join("runtime.log"),
    };
    let made = runtime.launch(&launch, verb, ends.streams, ends.console.as_ref()).and_then(|pid| {
        if let Some(console) = &ends.console {
            streams.take_terminal(console)?;
        }
        let process = watch(pid)?;
        note(order, &process, restarts)?;
        Ok(process)
    });
    match made {
        Ok(process) => Ok((process, streams)),
        Err(fault) => {
            let removed = runtime.kill_and_delete(order.id.as_str(), &order.bundle, Duration::ZERO);
            let _ = file::remove_file(launch.pid_file);
            Err(removed.err().map_or_else(
                || Fault::new(fault.kind(), fault.to_string()),
                |later| Fault::new(fault.kind(), format!("{fault}; then {later}")),
            ))
        }
    }
}

fn adopt(order: &Order) -> Result<(Process, Streams)> {
    let gone = || Fault::new(Kind::FailedPrecondition, "the container does not run");
    let runtime = runtime(order);
    let pid = runtime.running_pid(order.id.as_str())?.ok_or_else(gone)?;
    let pidfd = runtime.open_process(order.id.as_str())?.ok_or_else(gone)?;
    let process = Process { pid, pidfd, since: Instant::now(), is_ours: false };
    let left = monitor::find(&order.run)?;
    note_since(order, &process, left.as_ref().map_or(0, |left| left.restarts), left.map(|left| left.started_at))?;
    Ok((process, Streams::open(order)?))
}

fn watch(pid: i32) -> Result<Process> {
    if !reaper::is_child(pid) {
        return Err(Fault::new(Kind::DataLoss, format!("the runtime wrote pid {pid}, which is no child of the monitor")));
    }
    Ok(Process { pid, pidfd: proc::open_pidfd(pid)?, since: Instant::now(), is_ours: true })
}

fn note(order: &Order, process: &Process, restarts: u32) -> Result<()> {
    note_since(order, process, restarts, None)
}

fn note_since(order: &Order, process: &Process, restarts: u32, started_at: Option<String>) -> Result<()> {
    let own = std::process::id().cast_signed();
    let start = |pid| proc::find_start_time(pid).unwrap_or(0);
    let alive = Alive {
        monitor: own,
        monitor_start: start(own),
        pid: process.pid,
        pid_start: start(process.pid),
        boot_id: proc::boot_id()?,
        started_at: started_at.unwrap_or_else(proc::now_rfc3339),
        restarts,
    };
    monitor::write_alive(&order.run, &alive)
}

impl Process {
    /// How it ended, if it has; `None` when that cannot be known.
    pub fn status(&self) -> Option<Ended> {
        if self.is_ours {
            return reaper::reap_one(self.pid);
        }
        // Its true parent reaps it in its own time; only then the kernel tells others.
        let _ = proc::wait_reaped(self.pidfd.as_fd(), REAP_LIMIT);
        reaper::ended_by_pidfd(self.pidfd.as_fd(), self.pid)
    }
}
