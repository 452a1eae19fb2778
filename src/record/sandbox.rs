//! The record of a sandbox.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Attachment, Metadata, Pairs, RawConfig, RuntimeFacts, UserNs};
use crate::ids::{Id, Name};

/// What was asked of a sandbox, and the names and addresses that were chosen for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// [`super::VERSION`].
    pub v: u32,
    /// The id.
    pub id: Id,
    /// The unique name.
    pub name: Name,
    /// CRI metadata.
    pub metadata: Metadata,
    /// Labels.
    #[serde(default)]
    pub labels: Pairs,
    /// Annotations.
    #[serde(default)]
    pub annotations: Pairs,
    /// Host name inside.
    pub hostname: String,
    /// Who made it: `cli`, later `cri`, `static-pod`.
    pub owner: String,
    /// When, RFC 3339 with nanoseconds.
    pub created_at: String,
    /// The boot in which it was made.
    pub boot_id: String,
    /// Version of rkbox.
    pub rkbox: String,
    /// Pin of the network namespace; `None` is the host's.
    pub netns: Option<PathBuf>,
    /// Its user namespace; none has the host's ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userns: Option<UserNs>,
    /// Pin of the IPC namespace; `None` is the host's.
    pub ipcns: Option<PathBuf>,
    /// Pin of the UTS namespace.
    pub utsns: PathBuf,
    /// The tmpfs that its containers see as /dev/shm; the host's own where the IPC namespace is the host's.
    pub shm: PathBuf,
    /// Directory of `hosts`, `hostname` and `resolv.conf`.
    pub files: PathBuf,
    /// Its network attachments.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// Runtime and cgroups.
    pub runtime: RuntimeFacts,
    /// The request, verbatim.
    pub config: RawConfig,
    /// What a later version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
