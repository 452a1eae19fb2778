//! The record of a container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::life::Life;
use super::{Attachment, Metadata, Mount, Pairs, RawConfig, RuntimeFacts, UserNs};
use crate::ids::{Id, Name};

/// The image of a container, as asked for and as found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageUsed {
    /// What the user wrote.
    pub requested: String,
    /// The reference that it was found under.
    pub reference: String,
    /// Digest of its configuration.
    pub id: String,
    /// Digest of its manifest.
    pub manifest: String,
    /// Chain ids, lowest first.
    pub chain: Vec<String>,
}

/// The first process of another box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstProcess {
    /// The box.
    pub id: Id,
    /// Where the runtime wrote its pid.
    pub pid_file: PathBuf,
}

/// What was asked of a container, and the names and addresses that were chosen for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// [`super::VERSION`].
    pub v: u32,
    /// The id.
    pub id: Id,
    /// The unique name.
    pub name: Name,
    /// The sandbox whose namespaces it joins.
    pub sandbox_id: Option<Id>,
    /// CRI metadata.
    pub metadata: Metadata,
    /// Labels.
    #[serde(default)]
    pub labels: Pairs,
    /// Annotations.
    #[serde(default)]
    pub annotations: Pairs,
    /// The image.
    pub image: ImageUsed,
    /// Digest of the image's configuration, where `image rm` looks for it.
    pub image_id: String,
    /// The process arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// Bind mounts, volumes, images and tmpfs.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// What it may use, as `update` reads it; an update writes `resources.json` beside this.
    #[serde(default)]
    pub resources: Value,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its command runs under our init program.
    #[serde(default)]
    pub init: bool,
    /// Whether it has the caller's standard input.
    pub stdin: bool,
    /// Effective stop signal.
    pub stop_signal: String,
    /// Effective uid, gid and supplementary groups.
    pub user: (u32, u32, Vec<u32>),
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// Who made it.
    pub owner: String,
    /// When, RFC 3339 with nanoseconds.
    pub created_at: String,
    /// The boot in which it was made.
    pub boot_id: String,
    /// Version of rkbox.
    pub rkbox: String,
    /// Whether `netns` is its own, made by its plan and gone with it.
    pub owns_netns: bool,
    /// The network namespace it joins; `None` is the host's.
    pub netns: Option<PathBuf>,
    /// The box whose pid namespace it joins; `None` is one of its own, or the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace_of: Option<FirstProcess>,
    /// Its user namespace; none has the host's ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userns: Option<UserNs>,
    /// Its own network attachments.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// The OCI bundle.
    pub bundle: PathBuf,
    /// Mode, and owner and group, of the root directory of the image.
    pub root_attributes: (u32, (u32, u32)),
    /// Overlay layers, highest first.
    pub lowers: Vec<PathBuf>,
    /// Runtime and cgroups.
    pub runtime: RuntimeFacts,
    /// Restarts, stop, log, health.
    #[serde(default)]
    pub life: Life,
    /// The request, verbatim.
    pub config: RawConfig,
    /// What a later version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
