//! The life of a container in words: what its monitor is told and asked, what it writes (log lines, events, the exit file).

mod control;
mod cri_log;
mod event;
mod exit;
mod health;
mod order;
mod restart;
mod signal;

use serde::{Deserialize, Serialize};

pub use control::{CHUNK, Channel, HEADER, Header, Reply, Request};
pub use cri_log::{Line, RECORD_LIMIT, Splitter, StreamName};
pub use event::{Event, EventKind};
pub use exit::{Exit, Reason};
pub use health::{Health, HealthState, HealthStatus, Outcome};
pub use order::{Alive, Answer, Launch, LogOrder, Order};
pub use restart::{Backoff, RestartPolicy};
pub use signal::parse_signal;

/// What was asked of the life of a container beyond its first process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Life {
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout: Option<u32>,
    /// Whether its input ends with the first client's.
    pub stdin_once: bool,
    /// Where its output goes; `None` when nobody keeps it.
    pub log: Option<LogOrder>,
    /// How it is asked whether it is well.
    pub health: Option<Health>,
}

/// Seconds between the stop signal and SIGKILL unless told otherwise. *Source:* Docker, nerdctl, podman.
pub const STOP_TIMEOUT: u32 = 10;
