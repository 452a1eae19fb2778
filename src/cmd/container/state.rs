//! What a container is now: derived from the exit file, the monitor's note and the kernel, never stored.

use std::path::Path;

use super::run_dir;
use crate::cmd::records;
use crate::fault::Result;
use crate::record::ContainerRecord;
use crate::record::life::{Alive, Exit, HealthState, HealthStatus};
use crate::sys::{Host, cgroup, file, monitor, proc};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Made, not started.
    Created,
    /// Its first process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and waits to be started again.
    Restarting,
    /// It ended.
    Exited,
}

/// Who waits for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// Its monitor, with this pid.
    Monitor(i32),
    /// Nobody, though there was a monitor: how it ends will not be known.
    Lost,
    /// No monitor was ever started: the command that runs it, or nobody.
    Command,
}

/// What a container is now.
#[derive(Clone, Debug)]
pub struct State {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its first process, while that lives.
    pub pid: Option<i32>,
    /// How it ended last.
    pub exit: Option<Exit>,
    /// Who waits for its end.
    pub watcher: Watcher,
    /// When its first process was made.
    pub started_at: Option<String>,
    /// How many times it was started again.
    pub restarts: u32,
    /// What the checks say.
    pub health: Option<HealthStatus>,
}

/// Derives the state of a container.
pub fn of(host: &Host, record: &ContainerRecord) -> Result<State> {
    let run = run_dir(host, &record.id);
    let alive = monitor::find(&run)?;
    let pid = first_process(record, alive.as_ref())?;
    let watching = alive.as_ref().filter(|alive| proc::find_start_time(alive.monitor) == Some(alive.monitor_start));
    let exit = exit(record)?;
    let phase = match (pid, watching, &exit) {
        (Some(_), ..) if is_created(record) => Phase::Created,
        (Some(_), ..) if cgroup::is_frozen(&record.runtime.cgroups_path) => Phase::Paused,
        (Some(_), ..) => Phase::Running,
        // The end of the last life is taken away a moment before the next one has a process.
        (None, Some(_), _) if record.life.restart.is_active() => Phase::Restarting,
        (None, ..) if exit.is_some() || was_started(&run, record)? => Phase::Exited,
        _ => Phase::Created,
    };
    let exit = match phase {
        Phase::Exited => exit.or_else(|| Some(lost(record))),
        _ => exit,
    };
    Ok(State {
        phase,
        pid,
        exit,
        watcher: match (&alive, watching) {
            (_, Some(alive)) => Watcher::Monitor(alive.monitor),
            (Some(_), None) => Watcher::Lost,
            (None, None) => Watcher::Command,
        },
        started_at: alive.as_ref().map(|alive| alive.started_at.clone()),
        restarts: alive.as_ref().map_or(0, |alive| alive.restarts),
        health: health(&run, record)?,
    })
}

/// The first process: by the note of the monitor, which is shorter than the runtime's own state, else by that.
fn first_process(record: &ContainerRecord, alive: Option<&Alive>) -> Result<Option<i32>> {
    match alive {
        Some(alive) => Ok((proc::find_start_time(alive.pid) == Some(alive.pid_start)).then_some(alive.pid)),
        None => records::running_pid(&record.runtime, &record.boot_id, &record.id),
    }
}

fn is_created(record: &ContainerRecord) -> bool {
    records::runtime(&record.runtime).is_created(record.id.as_str())
}

/// Whether a first process was ever made: the runtime writes its pid. A reboot takes that away, and all that was made with it.
fn was_started(run: &Path, record: &ContainerRecord) -> Result<bool> {
    Ok(record.boot_id != proc::boot_id()? || file::exists(&run.join("pid"))?)
}

/// The exit file; `None` when there is none, or a torn one.
pub fn exit(record: &ContainerRecord) -> Result<Option<Exit>> {
    Ok(file::find(&record.bundle.join("exit.json"), 1 << 20)?.and_then(|text| Exit::parse(&text)))
}

/// The end of a container that nobody saw.
fn lost(record: &ContainerRecord) -> Exit {
    let boot = proc::boot_id().unwrap_or_default();
    let why = if record.boot_id == boot { "whoever watched it is gone" } else { "lost at a reboot" };
    Exit::unseen(why, String::new())
}

fn health(run: &Path, record: &ContainerRecord) -> Result<Option<HealthStatus>> {
    if record.life.health.is_none() {
        return Ok(None);
    }
    let text = file::find(&run.join("health.json"), 1 << 20)?;
    Ok(Some(text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()))
}

impl State {
    /// For people: `running`, `exited (1)`, `running (healthy)`.
    pub fn text(&self) -> String {
        let health = self.health.as_ref().map(|health| health.state).map_or(String::new(), |state| format!(" ({})", state.word()));
        match (self.phase, &self.exit) {
            (Phase::Running, _) if self.watcher == Watcher::Lost => format!("running (unwatched){health}"),
            (Phase::Running, _) => format!("running{health}"),
            (Phase::Exited, Some(exit)) if exit.reason == crate::record::life::Reason::Unknown => "exited (unknown)".to_owned(),
            (Phase::Exited | Phase::Restarting, Some(exit)) => format!("{} ({})", self.word(), exit.exit_code),
            _ => self.word().to_owned(),
        }
    }

    /// The phase as it is written.
    pub fn word(&self) -> &'static str {
        match self.phase {
            Phase::Created => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Restarting => "restarting",
            Phase::Exited => "exited",
        }
    }

    /// Whether it has a first process that was started.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused)
    }

    /// What the checks say, as it is written.
    pub fn health_word(&self) -> Option<&'static str> {
        self.health.as_ref().map(|health| HealthState::word(health.state))
    }
}
