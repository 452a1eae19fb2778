//! Starts a container, detached, through the OCI runtime.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Id;
use std::path::PathBuf;

/// Starts a container, detached, through the OCI runtime.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Container id.
    pub id: Id,
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// Its state directory (`--root`).
    pub state: PathBuf,
    /// Pass `--systemd-cgroup`.
    pub systemd_cgroup: bool,
    /// The bundle.
    pub bundle: PathBuf,
    /// Where the runtime writes the pid.
    pub pid_file: PathBuf,
    /// Where the runtime writes its log, JSON lines.
    pub log: PathBuf,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start container {id}", id = self.id)
    }
}

super::stub!(Process);
