//! `ContainerConfig`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::namespaces::NamespaceOption;
use super::profile::{Profile, SecurityProfile};
use super::shared::{ImageSpec, LinuxResources, SelinuxOption};
use super::user::{GroupsPolicy, Said, Who};
use crate::fault::{Fault, Result};

/// `ContainerConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Who it is.
    pub metadata: ContainerMetadata,
    /// Its image.
    pub image: ImageSpec,
    /// Instead of the image's entrypoint, whose Cmd then goes too.
    pub command: Vec<String>,
    /// Instead of the image's Cmd.
    pub args: Vec<String>,
    /// Working directory; empty is the image's.
    pub working_dir: String,
    /// Environment variables.
    pub envs: Vec<KeyValue>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Labels, byte for byte.
    pub labels: BTreeMap<String, String>,
    /// Annotations, byte for byte.
    pub annotations: BTreeMap<String, String>,
    /// Its log, below the sandbox's `log_directory`.
    pub log_path: String,
    /// Whether its input is kept open.
    pub stdin: bool,
    /// Whether its input ends with the first client's.
    pub stdin_once: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// What is Linux's.
    pub linux: LinuxContainerConfig,
    /// `SIGTERM`, `SIGRTMINPLUS3`; empty or `RUNTIME_DEFAULT` is the image's.
    pub stop_signal: String,
}

/// `ContainerMetadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ContainerMetadata {
    /// Name in the pod.
    pub name: String,
    /// How often it was made again.
    pub attempt: u32,
}

/// `KeyValue`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KeyValue {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
}

/// `MountPropagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Propagation {
    /// Neither way.
    #[default]
    #[serde(rename = "PROPAGATION_PRIVATE")]
    Private,
    /// From the host into the container.
    #[serde(rename = "PROPAGATION_HOST_TO_CONTAINER")]
    HostToContainer,
    /// Both ways.
    #[serde(rename = "PROPAGATION_BIDIRECTIONAL")]
    Bidirectional,
}

/// `Mount`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// In the container.
    pub container_path: String,
    /// On the host; a missing one is made, a directory.
    pub host_path: String,
    /// Whether it is read-only; what is mounted below it is not.
    pub readonly: bool,
    /// Whether it gets the container's label, on a host with SELinux.
    pub selinux_relabel: bool,
    /// Whether later mounts come through.
    pub propagation: Propagation,
    /// Whether what is mounted below it is read-only too.
    pub recursive_read_only: bool,
    /// An image instead of a path of the host.
    pub image: Option<ImageSpec>,
    /// A path in the image.
    pub image_sub_path: String,
}

/// `Device`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Device {
    /// In the container; empty is as on the host.
    pub container_path: String,
    /// On the host; a directory stands for every device below it.
    pub host_path: String,
    /// Of `rwm`; empty is all three.
    pub permissions: String,
}

/// `LinuxContainerConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LinuxContainerConfig {
    /// What it may use.
    pub resources: LinuxResources,
    /// What it may do.
    pub security_context: LinuxContainerSecurity,
}

/// `Capability`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Capability {
    /// To all sets but the ambient one.
    pub add_capabilities: Vec<String>,
    /// From all sets.
    pub drop_capabilities: Vec<String>,
    /// To all sets.
    pub add_ambient_capabilities: Vec<String>,
}

/// `LinuxContainerSecurityContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LinuxContainerSecurity {
    /// Capabilities beside the runtime's own.
    pub capabilities: Capability,
    /// Every capability and device, nothing hidden.
    pub privileged: bool,
    /// Its namespaces.
    pub namespace_options: NamespaceOption,
    /// SELinux label.
    pub selinux_options: SelinuxOption,
    /// User by number.
    pub run_as_user: Option<i64>,
    /// Group by number.
    pub run_as_group: Option<i64>,
    /// User by name.
    pub run_as_username: String,
    /// Whether its root file system is read-only.
    pub readonly_rootfs: bool,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Whether those of the image come too.
    pub supplemental_groups_policy: GroupsPolicy,
    /// Whether set-uid programs gain nothing.
    pub no_new_privs: bool,
    /// Hidden paths; empty is the runtime's own.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written; empty is the runtime's own.
    pub readonly_paths: Vec<String>,
    /// Filter.
    pub seccomp: Option<SecurityProfile>,
    /// AppArmor profile.
    pub apparmor: Option<SecurityProfile>,
    /// The old word for `apparmor`.
    pub apparmor_profile: String,
    /// The old word for `seccomp`.
    pub seccomp_profile_path: String,
}

const SECURITY: &str = "linux.security_context";

impl LinuxContainerSecurity {
    /// As whom it runs.
    pub fn who(&self) -> Result<Who> {
        let said = Said {
            user: self.run_as_user,
            name: &self.run_as_username,
            group: self.run_as_group,
            groups: &self.supplemental_groups,
            policy: self.supplemental_groups_policy,
        };
        said.read(SECURITY)
    }

    /// Its filter.
    pub fn seccomp(&self) -> Result<Option<Profile>> {
        Profile::seccomp(self.seccomp.as_ref(), &self.seccomp_profile_path, SECURITY)
    }

    /// Its AppArmor profile.
    pub fn apparmor(&self) -> Result<Option<Profile>> {
        Profile::apparmor(self.apparmor.as_ref(), &self.apparmor_profile, SECURITY)
    }
}

impl ContainerConfig {
    /// Its stop signal as signal(7) writes it; `None` is the image's.
    pub fn stop_signal(&self) -> Option<String> {
        match self.stop_signal.as_str() {
            "" | "RUNTIME_DEFAULT" => None,
            name => Some(name.replace("PLUS", "+").replace("MINUS", "-")),
        }
    }

    /// Refuses what contradicts itself, whatever the host and the sandbox.
    pub(super) fn check(&self) -> Result<()> {
        if self.metadata.name.is_empty() {
            return Err(Fault::invalid("metadata.name: it is needed").hint("such as {\"metadata\": {\"name\": \"web\"}}"));
        }
        super::names::check_parts(&[("metadata.name", &self.metadata.name)])?;
        if self.image.image.is_empty() {
            return Err(Fault::invalid("image.image: it is needed").hint("such as {\"image\": {\"image\": \"docker.io/library/busybox\"}}"));
        }
        for (nth, variable) in self.envs.iter().enumerate() {
            if variable.key.is_empty() || variable.key.contains('=') {
                return Err(Fault::invalid(format!("envs[{nth}].key: {:?} is no name of a variable", variable.key)));
            }
        }
        for (nth, mount) in self.mounts.iter().enumerate() {
            mount.check(&format!("mounts[{nth}]"))?;
        }
        for (nth, device) in self.devices.iter().enumerate() {
            device.check(&format!("devices[{nth}]"))?;
        }
        let security = &self.linux.security_context;
        for (name, paths) in [("masked_paths", &security.masked_paths), ("readonly_paths", &security.readonly_paths)] {
            let bad = |path: &String| !path.starts_with('/') || path.split('/').any(|part| part == "..");
            if let Some(nth) = paths.iter().position(bad) {
                return Err(Fault::invalid(format!("{SECURITY}.{name}[{nth}]: {:?} is not an absolute path", paths[nth])));
            }
        }
        security.who()?;
        security.seccomp()?;
        security.apparmor()?;
        self.linux.resources.check("linux.resources")
    }
}

impl Mount {
    fn check(&self, path: &str) -> Result<()> {
        let wrong = [
            (!self.host_path.is_empty() && self.image.is_some(), "host_path", "image is there too: a mount comes from one of them"),
            (self.host_path.is_empty() && self.image.is_none(), "host_path", "it is needed, or image"),
            (!self.host_path.is_empty() && !self.host_path.starts_with('/'), "host_path", "it is not an absolute path"),
            (self.image.as_ref().is_some_and(|image| image.image.is_empty()), "image.image", "it is needed"),
            (!self.image_sub_path.is_empty() && self.image.is_none(), "image_sub_path", "it is for a mount of an image"),
            (self.propagation != Propagation::Private && self.image.is_some(), "propagation", "an image has none"),
            (self.recursive_read_only && !self.readonly, "recursive_read_only", "it needs readonly"),
            (
                self.recursive_read_only && self.propagation != Propagation::Private,
                "recursive_read_only",
                "it needs PROPAGATION_PRIVATE: writable mounts could come in later",
            ),
        ];
        match wrong.into_iter().find(|(wrong, ..)| *wrong) {
            Some((_, name, why)) => Err(Fault::invalid(format!("{path}.{name}: {why}"))),
            None => Ok(()),
        }
    }
}

impl Device {
    fn check(&self, path: &str) -> Result<()> {
        if !self.host_path.starts_with('/') {
            return Err(Fault::invalid(format!("{path}.host_path: {:?} is not an absolute path", self.host_path)));
        }
        let inside = &self.container_path;
        if !inside.is_empty() && (!inside.starts_with('/') || inside.split('/').any(|part| part == "..")) {
            return Err(Fault::invalid(format!("{path}.container_path: {inside:?} is not an absolute path")));
        }
        if !self.permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
            return Err(Fault::invalid(format!("{path}.permissions: {:?} is not made of r, w and m", self.permissions)));
        }
        Ok(())
    }
}
