//! `PodSandboxConfig` and `ContainerConfig` of the CRI v1 API, as `crictl runp` and `crictl create` take them: JSON or YAML.
//!
//! Every field of the API is in one table (`schema.rs`): it is honoured, or refused by its path; a key that the API does not have is
//! refused with the one that was meant. What a field asks of a host is said by whoever carries it out. *Source:* kubernetes 1.36
//! `cri-api/pkg/apis/runtime/v1/api.proto`; cri-tools `docs/crictl.md`.

mod container;
mod document;
mod names;
mod namespaces;
mod profile;
mod read;
mod sandbox;
mod schema;
mod shared;
mod suggest;
mod user;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fault::{Fault, Kind, Result};

pub use container::{
    Capability, ContainerConfig, ContainerMetadata, Device, KeyValue, LinuxContainerConfig, LinuxContainerSecurity, Mount, Propagation,
};
pub use document::document;
pub use names::{container_name, hostname_of, log_file, sandbox_name, uuid};
pub use namespaces::{Modes, NamespaceMode, NamespaceOption};
pub use profile::{Profile, SecurityProfile};
pub use sandbox::{DnsConfig, LinuxPodSandboxConfig, LinuxSandboxSecurity, PodMetadata, PodSandboxConfig, PortMapping};
pub use shared::{HugepageLimit, ImageSpec, LinuxResources, SelinuxOption};
pub use user::{GroupsPolicy, Who};

/// Reads a `PodSandboxConfig` from what [`document()`] read.
///
/// *Errors:* `InvalidArgument` for an unknown key and for a value that is none of its field; `Unimplemented` for a field that rkbox does
/// not honour; each names the path of the field (`linux.security_context.run_as_user`).
pub fn sandbox(raw: &Value) -> Result<PodSandboxConfig> {
    let config: PodSandboxConfig = typed(read::normal(raw, &schema::SANDBOX)?)?;
    config.check()?;
    Ok(config)
}

/// Reads a `ContainerConfig` from what [`document()`] read.
///
/// *Errors:* as [`sandbox()`].
pub fn container(raw: &Value) -> Result<ContainerConfig> {
    let config: ContainerConfig = typed(read::normal(raw, &schema::CONTAINER)?)?;
    config.check()?;
    Ok(config)
}

fn typed<T: DeserializeOwned>(normal: Value) -> Result<T> {
    // The table has let through only what the types can hold.
    serde_json::from_value(normal).map_err(|error| Fault::from_error(Kind::Internal, error).doing("reading what the table let through"))
}

#[cfg(test)]
mod tests;
