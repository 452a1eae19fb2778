//! What is asked of a sandbox, by words of the command line or by a file of crictl.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use super::CreateArgs;
use crate::bundle::cgroup;
use crate::bundle::etc::{self, Resolver};
use crate::bundle::pause::Confinement;
use crate::bundle::sysctl::{self, Scope};
use crate::bundle::user::Identity;
use crate::cmd::container::{Owns, SecurityArgs};
use crate::cmd::names::NamesArgs;
use crate::cmd::publish::PortArgs;
use crate::cmd::{Context, cri, parse};
use crate::cni::ports::PortAsk;
use crate::fault::{Context as _, Fault, Result};
use crate::ids::Name;
use crate::pod::cri::{self as files, LinuxSandboxSecurity, Modes, PodMetadata, PodSandboxConfig};
use crate::ports::Protocol;
use crate::record::{Metadata, Pairs, RawConfig};
use crate::sys::{file, proc, security};

/// What is asked of a sandbox.
#[derive(Debug)]
pub struct Wishes {
    /// The unique name.
    pub name: Name,
    /// Who it is.
    pub metadata: Metadata,
    /// CNI networks, as `--net` names them; none is the default one.
    pub networks: Vec<String>,
    /// What of it is reachable.
    pub ports: PortArgs,
    /// Host name inside.
    pub hostname: String,
    /// What it knows by name.
    pub names: NamesArgs,
    /// The text of resolv.conf, where a file says all of it.
    pub resolv_conf: Option<String>,
    /// Labels.
    pub labels: Pairs,
    /// Annotations.
    pub annotations: Pairs,
    /// Which of its namespaces are the host's.
    pub modes: Modes,
    /// The control group above its own; `None` is the host's usual one.
    pub cgroup_parent: Option<String>,
    /// As whom its pause process runs.
    pub identity: Identity,
    /// What confines its pause process.
    pub confinement: Confinement,
    /// Whose ids its containers have, as `--userns` says it.
    pub userns: Option<String>,
    /// Settings of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The request, verbatim.
    pub config: RawConfig,
}

impl Wishes {
    /// Reads what the caller said.
    ///
    /// *Errors:* as [`files::sandbox`]; `FailedPrecondition` for what this host lacks.
    pub fn read(cx: &Context, args: &CreateArgs) -> Result<Self> {
        match (&args.config, &args.name) {
            (Some(path), _) => of_file(cx, path, args).doing(|| format!("reading {}", path.display())),
            (None, Some(name)) => of_words(name, args),
            (None, None) => Err(Fault::invalid("neither a name nor a file is given")),
        }
    }
}

fn own_sysctls(modes: Modes) -> BTreeMap<String, String> {
    if modes.host_network { BTreeMap::new() } else { security::network_sysctls() }
}

fn of_words(name: &Name, args: &CreateArgs) -> Result<Wishes> {
    let modes = Modes { host_network: args.is_on_host()?, ..Modes::default() };
    args.ports.refuse_without_network(false, args.networks.first().map(String::as_str))?;
    let pairs = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<Pairs>();
    Ok(Wishes {
        name: name.clone(),
        metadata: Metadata { name: name.to_string(), ..Metadata::default() },
        networks: args.networks.clone(),
        ports: args.ports.clone(),
        hostname: args.hostname.clone().unwrap_or_else(|| name.to_string()),
        names: args.names.clone(),
        resolv_conf: None,
        labels: pairs(&args.labels),
        annotations: pairs(&args.annotations),
        modes,
        cgroup_parent: None,
        identity: Identity::root(),
        confinement: Confinement::default(),
        userns: args.userns.clone(),
        sysctls: own_sysctls(modes),
        config: RawConfig { kind: "rkbox.v1".to_owned(), raw: parse::command_line() },
    })
}

fn of_file(cx: &Context, path: &Path, args: &CreateArgs) -> Result<Wishes> {
    let document = cri::document(path)?;
    let config = files::sandbox(&document)?;
    let modes = config.modes()?;
    if modes.host_network && !args.networks.is_empty() {
        return Err(Fault::invalid("--net: the file says NODE, the host's network").hint("leave one of them out"));
    }
    let mut who = config.metadata.clone();
    if who.uid.is_empty() {
        who.uid = files::uuid(proc::random::<16>()?);
    }
    let parent = Some(config.linux.cgroup_parent.clone()).filter(|parent| !parent.is_empty());
    if let Some(parent) = &parent {
        cgroup::path(cx.host.cgroup_driver, parent, "pod").doing(|| "linux.cgroup_parent")?;
    }
    let security = &config.linux.security_context;
    Ok(Wishes {
        name: files::sandbox_name(&who)?,
        networks: args.networks.clone(),
        ports: ports(&config, modes)?,
        hostname: hostname(&config, &who, modes)?,
        names: NamesArgs::default(),
        resolv_conf: resolv_conf(&config)?,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        modes,
        cgroup_parent: parent,
        identity: identity(security)?,
        confinement: confinement(security)?,
        userns: security.namespace_options.users()?.map(|map| map.words()),
        sysctls: sysctls(&config, modes)?,
        metadata: Metadata { name: who.name, namespace: who.namespace, uid: who.uid, attempt: who.attempt },
        config: cri::raw(document),
    })
}

/// A mapping without a port of the host publishes nothing; on the host's network ports are where they are.
fn ports(config: &PodSandboxConfig, modes: Modes) -> Result<PortArgs> {
    let mut publish = Vec::new();
    for (nth, mapping) in config.port_mappings.iter().enumerate().filter(|(_, mapping)| mapping.host_port != 0 && !modes.host_network) {
        let path = || format!("port_mappings[{nth}]");
        let port = |port: u32| u16::try_from(port).map_err(|_| Fault::invalid(format!("{port} is no port"))).doing(path);
        let protocol: Protocol = match mapping.protocol.as_str() {
            "" => Protocol::Tcp,
            word => word.to_lowercase().parse().doing(path)?,
        };
        let host_ip = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_| Fault::invalid(format!("{text:?} is no address"))).doing(path)?.to_canonical()),
        };
        let (host, container) = (port(mapping.host_port)?, port(mapping.container_port)?);
        publish.push(PortAsk {
            text: format!("{host}:{container}/{protocol}"),
            host_ip,
            host: Some(host..=host),
            container: container..=container,
            protocol,
        });
    }
    Ok(PortArgs { publish, force_publish: false })
}

fn hostname(config: &PodSandboxConfig, who: &PodMetadata, modes: Modes) -> Result<String> {
    match config.hostname.as_str() {
        "" if modes.host_network => Ok(file::read_kernel(Path::new("/proc/sys/kernel/hostname"))?.trim().to_owned()),
        "" => parse::hostname(&files::hostname_of(who)).doing(|| "metadata.name as the host name"),
        name => parse::hostname(name).doing(|| "hostname"),
    }
}

fn resolv_conf(config: &PodSandboxConfig) -> Result<Option<String>> {
    let Some(dns) = &config.dns_config else { return Ok(None) };
    let said = Resolver::parse(&dns.servers, &dns.searches, &dns.options).doing(|| "dns_config")?;
    // What is said is all there is: nothing of the host's is added.
    Ok((said != Resolver::default()).then(|| etc::resolv_conf_of(&said, &Resolver::default(), "")))
}

fn identity(security: &LinuxSandboxSecurity) -> Result<Identity> {
    let who = security.who()?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| Fault::internal(format!("{text:?} is no id")));
    let uid = who.user.as_deref().map_or(Ok(0), number)?;
    let gid = who.group.unwrap_or(0);
    let mut groups = who.groups;
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(Identity { uid, gid, groups })
}

/// Only what is asked for: the pause program has no capability and reads nothing.
fn confinement(security: &LinuxSandboxSecurity) -> Result<Confinement> {
    let asked = cri::Confinement { seccomp: security.seccomp()?, apparmor: security.apparmor()?, selinux: &security.selinux_options };
    let options = asked.options()?;
    let all = ["ALL".to_owned()];
    let posture = SecurityArgs { cap_drop: all.to_vec(), security_opt: options, ..SecurityArgs::default() }
        .posture(Owns { network: false, ipc: false, ids: None })
        .doing(|| "linux.security_context")?;
    Ok(Confinement {
        seccomp: posture.seccomp.filter(|_| asked.seccomp.is_some()),
        apparmor: posture.apparmor.filter(|_| asked.apparmor.is_some()),
        label: posture.process_label,
    })
}

fn sysctls(config: &PodSandboxConfig, modes: Modes) -> Result<BTreeMap<String, String>> {
    let mut all = own_sysctls(modes);
    for (key, value) in &config.linux.sysctls {
        let path = || format!("linux.sysctls[{key:?}]");
        let (name, value, scope) = sysctl::parse(&format!("{key}={value}")).doing(path)?;
        let (is_hosts, mode) = match scope {
            Scope::Network => (modes.host_network, "network"),
            Scope::Ipc => (modes.host_ipc, "ipc"),
        };
        if is_hosts {
            return Err(Fault::invalid(format!("{}: namespace_options.{mode} is NODE: it would change the host", path())));
        }
        all.insert(name, value);
    }
    Ok(all)
}
