//! Whose namespaces a sandbox and its containers live in.

use serde::Deserialize;

use crate::fault::{Fault, Kind, Result};

/// `NamespaceMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum NamespaceMode {
    /// The sandbox's, shared by its containers. It is what an omitted mode means, for processes too.
    #[default]
    #[serde(rename = "POD")]
    Pod,
    /// The container's own.
    #[serde(rename = "CONTAINER")]
    Container,
    /// The host's.
    #[serde(rename = "NODE")]
    Node,
    /// That of another container of the sandbox.
    #[serde(rename = "TARGET")]
    Target,
}

impl NamespaceMode {
    fn word(self) -> &'static str {
        match self {
            NamespaceMode::Pod => "POD",
            NamespaceMode::Container => "CONTAINER",
            NamespaceMode::Node => "NODE",
            NamespaceMode::Target => "TARGET",
        }
    }
}

/// `NamespaceOption`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NamespaceOption {
    /// Network.
    pub network: NamespaceMode,
    /// Processes.
    pub pid: NamespaceMode,
    /// Shared memory and message queues.
    pub ipc: NamespaceMode,
    /// The container of the mode TARGET.
    pub target_id: String,
    /// User ids.
    pub userns_options: UserNamespace,
}

/// `UserNamespace`; its mappings are refused by the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UserNamespace {
    /// Whose.
    pub mode: NamespaceMode,
}

/// The modes of a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// Whether the network is the host's.
    pub host_network: bool,
    /// Whether processes are the host's.
    pub host_pid: bool,
    /// Whether shared memory is the host's.
    pub host_ipc: bool,
}

const PATH: &str = "linux.security_context.namespace_options";

fn refuse(name: &str, why: &str) -> Fault {
    Fault::invalid(format!("{PATH}.{name}: {why}"))
}

impl NamespaceOption {
    /// The modes of a sandbox.
    ///
    /// *Errors:* `InvalidArgument` for a mode that a sandbox cannot have.
    pub fn of_sandbox(&self) -> Result<Modes> {
        self.check_users()?;
        if self.network == NamespaceMode::Container {
            return Err(refuse("network", "CONTAINER is not for a sandbox: its containers share its network").hint("use POD or NODE"));
        }
        for (name, mode) in [("network", self.network), ("pid", self.pid), ("ipc", self.ipc)] {
            if mode == NamespaceMode::Target {
                return Err(refuse(name, "TARGET is for containers alone").hint("use POD, CONTAINER or NODE"));
            }
        }
        if !self.target_id.is_empty() {
            return Err(refuse("target_id", "it is for containers alone"));
        }
        let is_host = |mode| mode == NamespaceMode::Node;
        Ok(Modes { host_network: is_host(self.network), host_pid: is_host(self.pid), host_ipc: is_host(self.ipc) })
    }

    /// Checks the modes of a container of a sandbox with `modes`.
    ///
    /// *Errors:* `InvalidArgument` for a mode that a container cannot have, `FailedPrecondition` for one that its sandbox does not have.
    pub fn in_sandbox(&self, modes: Modes) -> Result<()> {
        self.check_users()?;
        for (name, mode, host) in
            [("network", self.network, modes.host_network), ("pid", self.pid, modes.host_pid), ("ipc", self.ipc, modes.host_ipc)]
        {
            if mode == NamespaceMode::Node && !host {
                return Err(Fault::new(Kind::FailedPrecondition, format!("{PATH}.{name}: NODE, but the sandbox has its own"))
                    .hint("the sandbox must be made with NODE too"));
            }
            if name != "pid" && mode == NamespaceMode::Target {
                return Err(refuse(name, "TARGET is for pid alone"));
            }
        }
        if self.network == NamespaceMode::Container {
            return Err(refuse("network", "CONTAINER: the containers of a sandbox share its network").hint("use POD"));
        }
        match (self.pid == NamespaceMode::Target, self.target_id.is_empty()) {
            (true, true) => Err(refuse("target_id", "it is needed by TARGET").hint("give the id of a container of the sandbox")),
            (false, false) => Err(refuse("target_id", "it is for the mode TARGET").hint("say pid: TARGET, or leave it out")),
            _ => Ok(()),
        }
    }

    fn check_users(&self) -> Result<()> {
        match self.userns_options.mode {
            NamespaceMode::Pod | NamespaceMode::Node => Ok(()),
            other => Err(refuse("userns_options.mode", &format!("{} is not for user ids", other.word())).hint("use NODE, or leave it out")),
        }
    }
}
