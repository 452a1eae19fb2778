//! `PodSandboxConfig`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::namespaces::{Modes, NamespaceOption};
use super::profile::{Profile, SecurityProfile};
use super::shared::{LinuxResources, SelinuxOption};
use super::user::{GroupsPolicy, Said, Who};
use crate::fault::{Fault, Result};

/// `PodSandboxConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodSandboxConfig {
    /// Who it is.
    pub metadata: PodMetadata,
    /// Host name; empty is the pod's name, on the host's network the host's.
    pub hostname: String,
    /// Where its containers log, absolute.
    pub log_directory: String,
    /// What is written to resolv.conf; `None` is the host's.
    pub dns_config: Option<DnsConfig>,
    /// What of it is reachable from outside.
    pub port_mappings: Vec<PortMapping>,
    /// Labels, byte for byte.
    pub labels: BTreeMap<String, String>,
    /// Annotations, byte for byte.
    pub annotations: BTreeMap<String, String>,
    /// What is Linux's.
    pub linux: LinuxPodSandboxConfig,
}

/// `PodSandboxMetadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodMetadata {
    /// Name of the pod.
    pub name: String,
    /// Uid of the pod; empty is one made for it.
    pub uid: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// How often it was made again.
    pub attempt: u32,
}

/// `DNSConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// `PortMapping`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`; empty is TCP.
    pub protocol: String,
    /// Port in the pod.
    pub container_port: u32,
    /// Port of the host; 0 publishes nothing.
    pub host_port: u32,
    /// Address of the host; empty is all.
    pub host_ip: String,
}

/// `LinuxPodSandboxConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LinuxPodSandboxConfig {
    /// The control group above its own; empty is rkbox's.
    pub cgroup_parent: String,
    /// What its pause process may do.
    pub security_context: LinuxSandboxSecurity,
    /// Settings of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// What it uses beyond its containers: kept, for whoever asks. The caller bounds the pod by `cgroup_parent`.
    pub overhead: LinuxResources,
    /// The sum of its containers: kept, as `overhead`.
    pub resources: LinuxResources,
}

/// `LinuxSandboxSecurityContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LinuxSandboxSecurity {
    /// Its namespaces.
    pub namespace_options: NamespaceOption,
    /// SELinux label.
    pub selinux_options: SelinuxOption,
    /// User of the pause process.
    pub run_as_user: Option<i64>,
    /// Group of the pause process.
    pub run_as_group: Option<i64>,
    /// Always so: the root file system of the pause process is read-only.
    pub readonly_rootfs: bool,
    /// Further groups of the pause process.
    pub supplemental_groups: Vec<i64>,
    /// The pause process has no image: both policies mean the same.
    pub supplemental_groups_policy: GroupsPolicy,
    /// Whether a container of it may be privileged.
    pub privileged: bool,
    /// Filter of the pause process.
    pub seccomp: Option<SecurityProfile>,
    /// AppArmor profile of the pause process.
    pub apparmor: Option<SecurityProfile>,
    /// The old word for `seccomp`.
    pub seccomp_profile_path: String,
}

const SECURITY: &str = "linux.security_context";

impl LinuxSandboxSecurity {
    /// As whom the pause process runs.
    pub fn who(&self) -> Result<Who> {
        let said = Said {
            user: self.run_as_user,
            name: "",
            group: self.run_as_group,
            groups: &self.supplemental_groups,
            policy: self.supplemental_groups_policy,
        };
        said.read(SECURITY)
    }

    /// The filter of the pause process.
    pub fn seccomp(&self) -> Result<Option<Profile>> {
        Profile::seccomp(self.seccomp.as_ref(), &self.seccomp_profile_path, SECURITY)
    }

    /// The AppArmor profile of the pause process.
    pub fn apparmor(&self) -> Result<Option<Profile>> {
        Profile::apparmor(self.apparmor.as_ref(), "", SECURITY)
    }
}

impl PodSandboxConfig {
    /// Its namespaces.
    pub fn modes(&self) -> Result<Modes> {
        self.linux.security_context.namespace_options.of_sandbox()
    }

    /// Refuses what contradicts itself, whatever the host.
    pub(super) fn check(&self) -> Result<()> {
        for (name, value) in [("name", &self.metadata.name), ("namespace", &self.metadata.namespace)] {
            if value.is_empty() {
                return Err(Fault::invalid(format!("metadata.{name}: it is needed"))
                    .hint("such as {\"name\": \"web\", \"namespace\": \"default\"}"));
            }
        }
        super::names::check_parts(&[
            ("metadata.name", &self.metadata.name),
            ("metadata.namespace", &self.metadata.namespace),
            ("metadata.uid", &self.metadata.uid),
        ])?;
        if !self.log_directory.is_empty() && !self.log_directory.starts_with('/') {
            return Err(Fault::invalid(format!("log_directory: {:?} is not an absolute path", self.log_directory)));
        }
        let modes = self.modes()?;
        for (nth, mapping) in self.port_mappings.iter().enumerate() {
            mapping.check(&format!("port_mappings[{nth}]"), modes.host_network)?;
        }
        self.linux.overhead.check("linux.overhead")?;
        self.linux.resources.check("linux.resources")?;
        let security = &self.linux.security_context;
        security.who()?;
        security.seccomp()?;
        security.apparmor().map(drop)
    }
}

impl PortMapping {
    fn check(&self, path: &str, host_network: bool) -> Result<()> {
        for (name, port) in [("container_port", self.container_port), ("host_port", self.host_port)] {
            if port > 65_535 {
                return Err(Fault::invalid(format!("{path}.{name}: {port} is not a port from 1 to 65535")));
            }
        }
        if self.host_port == 0 {
            return Ok(());
        }
        if self.container_port == 0 {
            return Err(Fault::invalid(format!("{path}.container_port: it is needed")));
        }
        if !self.host_ip.is_empty() && self.host_ip.parse::<std::net::IpAddr>().is_err() {
            return Err(Fault::invalid(format!("{path}.host_ip: {:?} is not an IP address", self.host_ip)));
        }
        // On the host's network a port is where it is; a kubelet names both alike there.
        if host_network && self.host_port != self.container_port {
            return Err(Fault::invalid(format!(
                "{path}.host_port: on the host's network port {} cannot be {}",
                self.container_port, self.host_port
            ))
            .hint("leave the mapping out: its ports are the host's"));
        }
        Ok(())
    }
}
