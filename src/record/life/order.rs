//! What a monitor is told when it starts, and what it leaves for others to find it by.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::{Pairs, RuntimeFacts};
use super::{Health, RestartPolicy};
use crate::fault::Kind;
use crate::ids::Id;

/// What a monitor does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Launch {
    /// Make the container; somebody else starts it.
    Create,
    /// Make and start it.
    Run,
    /// Take over one whose monitor is gone.
    Adopt,
}

/// Where output is kept, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOrder {
    /// The current file; older ones have `.1`, `.2`, … behind it.
    pub path: PathBuf,
    /// Bytes of one file.
    pub max_bytes: u64,
    /// How many there are at most, the current one included.
    pub max_files: u32,
}

impl LogOrder {
    /// The default bounds: 10 MiB, five files.
    pub fn new(path: PathBuf) -> Self {
        LogOrder { path, max_bytes: 10 << 20, max_files: 5 }
    }
}

/// Everything a monitor must know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The container.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// What to do first.
    pub launch: Launch,
    /// The OCI bundle, also the place of the exit file.
    pub bundle: PathBuf,
    /// The volatile directory, mode 0700: socket, pid file, streams.
    pub run: PathBuf,
    /// The OCI runtime.
    pub runtime: RuntimeFacts,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input is kept open for those who attach.
    pub stdin: bool,
    /// Whether the input ends with the first client's.
    pub stdin_once: bool,
    /// Whether nothing is read of its output before the first client is attached.
    pub awaits_client: bool,
    /// The log.
    pub log: Option<LogOrder>,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// How it is asked whether it is well.
    pub health: Option<Health>,
    /// The event log.
    pub events: PathBuf,
    /// Arguments with which rkbox is called when it has ended for good (`rm --force ID`); empty for none.
    pub afterwards: Vec<String>,
    /// Environment of that call: the roots.
    pub environment: Pairs,
}

/// What a monitor says, once, to the command that started it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The container is made (and started, if that was ordered); the pid of its first process.
    Ready(i32),
    /// It is not, and nothing of it is left.
    Failed {
        /// The kind of the fault.
        kind: Kind,
        /// Its text.
        message: String,
    },
}

/// The file `monitor.json`: who watches, and whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Pid of the monitor.
    pub monitor: i32,
    /// Its start time, field 22 of `/proc/<pid>/stat`.
    pub monitor_start: u64,
    /// Pid of the container's first process; 0 before the first.
    pub pid: i32,
    /// Its start time.
    pub pid_start: u64,
    /// The boot in which these hold.
    pub boot_id: String,
    /// When the first process was made, RFC 3339.
    pub started_at: String,
    /// How many times it was started again.
    pub restarts: u32,
}
