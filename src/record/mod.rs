//! The records: what was asked, immutable JSON written by a command before it acts.
//!
//! *Shape:* one directory per box with `record.json`, `"v": 1`; unknown fields are kept. *Source:* DATA-MODEL.

mod bundle;
mod container;
pub mod driver;
pub mod life;
mod mount;
mod renewal;
mod sandbox;
pub mod unit;
mod userns;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ports::Forward;

pub use bundle::{BundleLayer, BundleRecord};
pub use container::{ContainerRecord, FirstProcess, ImageUsed};
pub use mount::{Mount, MountFrom, VolumeRecord};
pub use renewal::Renewal;
pub use sandbox::SandboxRecord;
pub use userns::{Shift, UserNs};

/// Version of the records.
pub const VERSION: u32 = 1;

/// The file with the name of a container that was renamed, beside its record, which never changes.
pub const NAME_FILE: &str = "name";
/// The file with the restart policy of a container whose policy was changed, beside its record.
pub const RESTART_FILE: &str = "restart";

/// Name and place of a box in the words of CRI.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// The name as given.
    pub name: String,
    /// Kubernetes namespace; empty for a box of the command line.
    #[serde(default)]
    pub namespace: String,
    /// Pod uid; empty for a box of the command line.
    #[serde(default)]
    pub uid: String,
    /// How often it was made again.
    #[serde(default)]
    pub attempt: u32,
}

/// The request, verbatim, and the language it is in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RawConfig {
    /// `rkbox.v1` (an argument list), later `cri.v1` and `pod.v1`.
    pub kind: String,
    /// The request as it was given.
    pub raw: Value,
}

/// A network attachment as it was planned: all that a DEL needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attachment {
    /// Network name.
    pub network: String,
    /// Interface in the namespace.
    pub ifname: String,
    /// CNI container id, also the owner of the lease.
    pub owner: String,
    /// Addresses with prefix.
    pub addresses: Vec<ipnetwork::IpNetwork>,
    /// The default route's next hop.
    pub gateway: Option<std::net::IpAddr>,
    /// The whole CNI result.
    pub result: Value,
    /// Published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Forward>,
}

/// The OCI runtime and cgroups of a box.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuntimeFacts {
    /// The runtime's path.
    pub path: PathBuf,
    /// Its state directory (`--root`).
    pub state: PathBuf,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: crate::ids::CgroupDriver,
    /// `linux.cgroupsPath` of the OCI configuration.
    pub cgroups_path: String,
}

/// Key-value pairs, byte for byte as given.
pub type Pairs = BTreeMap<String, String>;
