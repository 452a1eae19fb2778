//! Whose namespaces a sandbox and its containers live in.

use serde::Deserialize;

use crate::fault::{Context as _, Fault, Kind, Result};
use crate::idmap::{IdMap, IdRange};

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
    pub userns_options: Option<UserNamespace>,
}

/// `UserNamespace`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UserNamespace {
    /// Whose.
    pub mode: NamespaceMode,
    /// Users, of the mode POD.
    pub uids: Vec<IdMapping>,
    /// Groups, the same.
    pub gids: Vec<IdMapping>,
}

/// `IDMapping`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IdMapping {
    /// The first on the host.
    pub host_id: u32,
    /// The first inside.
    pub container_id: u32,
    /// How many.
    pub length: u32,
}

impl UserNamespace {
    /// The ids; `None` are the host's.
    ///
    /// *Errors:* `InvalidArgument` for a mode that is none for ids, and a map that the kernel would refuse; `Unimplemented` for groups that
    /// are mapped otherwise than users. *Source:* containerd, `parseUsernsIDs`.
    pub fn map(&self) -> Result<Option<IdMap>> {
        let said = !self.uids.is_empty() || !self.gids.is_empty();
        match self.mode {
            NamespaceMode::Node if said => {
                Err(refuse("userns_options.mode", "NODE has the ids of the host").hint("use POD, or leave uids and gids out"))
            }
            NamespaceMode::Node => Ok(None),
            NamespaceMode::Pod if !said => Err(refuse("userns_options", "POD needs uids and gids")
                .hint("such as {\"container_id\": 0, \"host_id\": 100000, \"length\": 65536} in both, or NODE for the ids of the host")),
            NamespaceMode::Pod if self.uids != self.gids => {
                let why = format!("{PATH}.userns_options: groups that are mapped otherwise than users are not done");
                Err(Fault::new(Kind::Unimplemented, why).hint("say the same in uids and gids, as a kubelet does"))
            }
            NamespaceMode::Pod => {
                let range = |one: &IdMapping| IdRange { inside: one.container_id, outside: one.host_id, size: one.length };
                IdMap::checked(self.uids.iter().map(range).collect()).map(Some).doing(|| format!("{PATH}.userns_options"))
            }
            other => Err(refuse("userns_options.mode", &format!("{} is not for user ids", other.word())).hint("use POD or NODE")),
        }
    }
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
        let map = self.users()?;
        if map.is_some() && (self.pid == NamespaceMode::Node || self.ipc == NamespaceMode::Node) {
            return Err(refuse("userns_options", "a user namespace of its own cannot show the pid or ipc of NODE").hint("use POD for them"));
        }
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
        self.users()?;
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

    /// The ids that are asked for; `None` are the host's, or of a container that says nothing those of its sandbox.
    pub fn users(&self) -> Result<Option<IdMap>> {
        self.userns_options.as_ref().map_or(Ok(None), UserNamespace::map)
    }

    /// Checks the ids of a container against those of its sandbox; one that says nothing has them.
    ///
    /// *Errors:* `FailedPrecondition` for others. *Source:* containerd, which refuses a container that says another thing.
    pub fn fit_users(&self, of_sandbox: Option<&IdMap>) -> Result<()> {
        let Some(said) = &self.userns_options else { return Ok(()) };
        if said.map()?.as_ref() == of_sandbox {
            return Ok(());
        }
        let theirs = of_sandbox.map_or("those of the host".to_owned(), |map| format!("{} (CONTAINER:HOST:SIZE)", map.words()));
        Err(Fault::new(Kind::FailedPrecondition, format!("{PATH}.userns_options: the ids of the sandbox are others: {theirs}"))
            .hint("the containers of a sandbox share its user namespace: say the same, or leave it out"))
    }
}
