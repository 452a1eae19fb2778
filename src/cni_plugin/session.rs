//! One call of the protocol: what the environment and standard input say, checked in upstream's order.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::cni::args::CniArgs;
use crate::cni::built_in::Policy;
use crate::cni::keys::Keys;
use crate::cni::list::Plugin;
use crate::cni::request::{self, CniError};
use crate::cni::result::CniResult;
use crate::cni::version::{self, Version};
use crate::fault::{Fault, Kind};
use crate::ids::{CgroupDriver, IfName, NetworkName};
use crate::network::call::Call;
use crate::sys::room::Reserve;
use crate::sys::{Halt, Host, Plugins};

/// A configuration larger than this is none.
const LIMIT: u64 = 16 << 20;

/// A fallible answer to a runtime.
pub type Answer<T> = Result<T, CniError>;

/// One call of a plugin.
#[derive(Debug)]
pub struct Session {
    /// The host.
    pub host: Host,
    /// The type of the plugin.
    pub kind: &'static str,
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub owner: String,
    /// `CNI_IFNAME`.
    pub ifname: Option<IfName>,
    /// `CNI_NETNS`; empty when there is none.
    pub netns: String,
    /// `CNI_ARGS`, as text.
    pub args: String,
    /// The configuration.
    pub conf: Plugin,
    /// Its text.
    pub stdin: Vec<u8>,
    /// Its network.
    pub network: NetworkName,
    /// Its version.
    pub version: Version,
}

fn variable(name: &str) -> String {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The variables that a command cannot do without.
///
/// *Source:* cni `skel.getCmdArgsFromEnv`.
fn required(command: &str) -> &'static [&'static str] {
    match command {
        "ADD" | "CHECK" => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
        "DEL" => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
        "GC" | "STATUS" => &["CNI_PATH"],
        _ => &[],
    }
}

/// The `CNI_COMMAND` of this call, with the variables that it needs.
pub fn command() -> Answer<String> {
    let command = variable("CNI_COMMAND");
    if command.is_empty() {
        return Err(CniError::new(request::INVALID_ENVIRONMENT, "required env variables [CNI_COMMAND] missing"));
    }
    let missing: Vec<&str> = required(&command).iter().copied().filter(|name| variable(name).is_empty()).collect();
    if missing.is_empty() {
        return Ok(command);
    }
    Err(CniError::new(request::INVALID_ENVIRONMENT, format!("required env variables [{}] missing", missing.join(","))))
}

impl Session {
    /// Reads all that a call says.
    ///
    /// *Source:* cni `skel.pluginMain`: the configuration, container id, interface, command, version, in this order.
    pub fn read(kind: &'static str, command: String) -> Answer<Session> {
        let stdin = read_stdin()?;
        let raw = decode(&stdin)?;
        let text = |key: &str| Keys::new(&raw, "configuration").text(key).map(str::to_owned);
        let wrong = |fault: Fault| CniError::new(request::DECODING_FAILURE, format!("error unmarshall network config: {fault}"));
        let name = text("name").map_err(wrong)?;
        request::check_network(&name)?;
        let (owner, ifname) = (variable("CNI_CONTAINERID"), variable("CNI_IFNAME"));
        let of_one = matches!(command.as_str(), "ADD" | "DEL" | "CHECK");
        if of_one {
            request::check_container_id(&owner)?;
            request::check_ifname(&ifname)?;
        } else if !matches!(command.as_str(), "GC" | "STATUS") {
            return Err(CniError::new(request::INVALID_ENVIRONMENT, format!("unknown CNI_COMMAND: {command}")));
        }
        let version = read_version(&text("cniVersion").map_err(wrong)?, &command)?;
        let network = name.parse().map_err(|fault: Fault| CniError::new(request::INVALID_CONFIG, fault.to_string()))?;
        let bad_ifname = |fault: Fault| CniError::new(request::INVALID_ENVIRONMENT, fault.to_string());
        let conf = Plugin { kind: kind.to_owned(), raw };
        let ifname = of_one.then(|| ifname.parse()).transpose().map_err(bad_ifname)?;
        Ok(Session {
            host: host(),
            kind,
            command,
            owner,
            ifname,
            netns: variable("CNI_NETNS"),
            args: variable("CNI_ARGS"),
            conf,
            stdin,
            network,
            version,
        })
    }

    /// `CNI_ARGS`.
    pub fn args(&self) -> Answer<CniArgs> {
        Ok(CniArgs::parse(&self.args)?)
    }

    /// The interface that the command is for.
    pub fn ifname(&self) -> Answer<&IfName> {
        self.ifname.as_ref().ok_or_else(|| CniError::new(request::INVALID_ENVIRONMENT, "interface name is empty"))
    }

    /// What the planner is asked: the attachment of this call.
    pub fn call(&self) -> Answer<Call<'_>> {
        Ok(Call {
            host: &self.host,
            network: &self.network,
            version: self.version,
            owner: &self.owner,
            ifname: self.ifname()?,
            netns: Path::new(&self.netns),
            own_netns: false,
            lo: false,
            acting: true,
            preferred: &[],
        })
    }

    /// The result of the plugin before, or of the whole list.
    pub fn previous(&self) -> Answer<Option<CniResult>> {
        let Some(value) = self.conf.keys().find("prevResult") else { return Ok(None) };
        let read = CniResult::from_json(value);
        Ok(Some(read.map_err(|fault| CniError::new(request::DECODING_FAILURE, format!("could not parse prevResult: {fault}")))?))
    }
}

fn read_stdin() -> Answer<Vec<u8>> {
    let failed = |text: String| CniError::new(request::IO_FAILURE, format!("error reading from stdin: {text}"));
    let mut text = Vec::new();
    std::io::stdin().lock().take(LIMIT + 1).read_to_end(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > LIMIT {
        return Err(failed(format!("the configuration is larger than {LIMIT} bytes")));
    }
    Ok(text)
}

fn decode(text: &[u8]) -> Answer<Map<String, Value>> {
    serde_json::from_slice(text)
        .map_err(|error| CniError::new(request::DECODING_FAILURE, format!("error unmarshall network config: {error}")))
}

/// The version of the configuration, if the command is known in it.
fn read_version(text: &str, command: &str) -> Answer<Version> {
    let Ok(version) = Version::parse(text) else {
        if version::is_version(text) {
            return Err(request::incompatible(text));
        }
        return Err(CniError::new(request::INCOMPATIBLE_VERSION, "incompatible CNI versions").details(format!("config is {text:?}")));
    };
    let since = match command {
        "CHECK" => Version::V0_4_0,
        "GC" | "STATUS" => Version::V1_1_0,
        _ => return Ok(version),
    };
    if version < since {
        return Err(CniError::new(request::INCOMPATIBLE_VERSION, format!("config version does not allow {command}")));
    }
    Ok(version)
}

/// The host of a plugin: the roots of the command line, unless the environment says otherwise.
fn host() -> Host {
    let root = |name: &str, default: &str| match variable(name) {
        text if text.starts_with('/') => PathBuf::from(text),
        _ => PathBuf::from(default),
    };
    Host {
        root: root("RKBOX_ROOT", "/var/lib/rkbox"),
        run: root("RKBOX_RUN", "/run/rkbox"),
        netns: PathBuf::from("/run/netns"),
        rootless_netns: None,
        cni_conf: root("RKBOX_CNI_CONF_DIR", "/etc/cni/net.d"),
        cni_state: root("RKBOX_CNI_STATE_DIR", "/var/lib/cni"),
        plugins: Plugins { path: variable("CNI_PATH"), policy: Policy::Prefer, limit: Duration::from_secs(120) },
        runtime: "runc".to_owned(),
        cgroup_driver: CgroupDriver::Cgroupfs,
        cgroup_parent: "/rkbox".to_owned(),
        keep_free: Reserve::default(),
        registry: None,
        halt: Halt::default(),
    }
}

impl From<Fault> for CniError {
    fn from(fault: Fault) -> CniError {
        let code = match fault.kind() {
            Kind::Conflict | Kind::DeadlineExceeded => request::TRY_AGAIN_LATER,
            _ => request::INTERNAL,
        };
        let more = fault.later().iter().map(|later| format!("then: {later}")).chain(fault.hints().iter().cloned());
        CniError::new(code, fault.to_string()).details(more.collect::<Vec<_>>().join("; "))
    }
}
