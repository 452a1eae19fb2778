//! What a container may do, whole: capabilities, filter, paths, devices, labels, settings.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxSeccomp, Mount};

use super::capabilities::{self, CapabilitySet};
use super::security_opt::{LabelPart, SecurityOptions};
use super::{paths, seccomp};
use crate::fault::Result;

/// Whether programs may gain privileges that their process does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// Set-uid bits and file capabilities have no effect (`no_new_privs`), the default.
    Fixed,
    /// They have (`--allow-new-privs`).
    Gainable,
}

/// How the kernel's file systems are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFiles {
    /// `/sys` and the control groups read-only, the default.
    ReadOnly,
    /// Writable (`--privileged`).
    Writable,
}

/// Who has an ambient set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambience {
    /// Every user but root, who needs none, the default.
    Users,
    /// Root too: it was asked for as such (CRI's `add_ambient_capabilities`).
    Everybody,
}

/// What a container may do.
#[derive(Clone, Debug)]
pub struct Posture {
    /// Whether it may gain privileges.
    pub privileges: Privileges,
    /// The bounding set, and what root holds.
    pub capabilities: CapabilitySet,
    /// What a process of another user than root holds: only what was asked for by name. *Source:* podman.
    pub ambient: CapabilitySet,
    /// Who has `ambient` as his ambient set.
    pub ambience: Ambience,
    /// The filter; `None` for no filter.
    pub seccomp: Option<LinuxSeccomp>,
    /// Hidden paths.
    pub masked: Vec<String>,
    /// Paths that cannot be written.
    pub read_only: Vec<String>,
    /// `/sys` and the control groups.
    pub kernel_files: KernelFiles,
    /// Devices besides the runtime's own (null, zero, full, random, urandom, tty).
    pub devices: Vec<LinuxDevice>,
    /// What the device group allows besides.
    pub device_rules: Vec<LinuxDeviceCgroup>,
    /// The AppArmor profile.
    pub apparmor: Option<String>,
    /// The SELinux label of the process.
    pub process_label: Option<String>,
    /// The SELinux label of mounts.
    pub mount_label: Option<String>,
    /// Settings of its namespaces.
    pub sysctls: BTreeMap<String, String>,
}

impl Posture {
    /// The default: our filter for the default capabilities, everything else closed. `throttled_cpus` have counters to be hidden.
    pub fn confined(throttled_cpus: &[u32]) -> Result<Self> {
        let capabilities = capabilities::default_set();
        Ok(Posture {
            privileges: Privileges::Fixed,
            seccomp: Some(seccomp::default_profile(&capabilities, seccomp::Architectures::Native)?),
            capabilities,
            ambient: CapabilitySet::new(),
            ambience: Ambience::Users,
            masked: paths::masked(throttled_cpus),
            read_only: paths::read_only(),
            kernel_files: KernelFiles::ReadOnly,
            devices: Vec::new(),
            device_rules: Vec::new(),
            apparmor: None,
            process_label: None,
            mount_label: None,
            sysctls: BTreeMap::new(),
        })
    }

    /// Hides and opens paths as `mask` and `unmask` say.
    pub fn mask(&mut self, options: &SecurityOptions) {
        self.masked = paths::without(std::mem::take(&mut self.masked), &options.unmask);
        self.read_only = paths::without(std::mem::take(&mut self.read_only), &options.unmask);
        self.masked.extend(options.mask.iter().cloned());
    }

    /// Lets `/sys` and the control groups be written where the posture says so.
    pub(super) fn open_kernel_mounts(&self, mounts: &mut [Mount]) {
        if self.kernel_files == KernelFiles::ReadOnly {
            return;
        }
        for mount in mounts.iter_mut().filter(|mount| mount.destination().starts_with("/sys")) {
            let options = mount.options().clone().unwrap_or_default();
            mount.set_options(Some(options.into_iter().map(|option| if option == "ro" { "rw".to_owned() } else { option }).collect()));
        }
    }
}

/// Builds the SELinux labels of process and mounts: what is not said is `system_u:system_r:container_t:s0`. *Source:* podman, container-selinux.
pub fn labels(parts: &[(LabelPart, String)]) -> (String, String) {
    let part = |wanted: LabelPart, default: &'static str| {
        parts.iter().rev().find(|(part, _)| *part == wanted).map_or(default.to_owned(), |(_, value)| value.clone())
    };
    let (user, level) = (part(LabelPart::User, "system_u"), part(LabelPart::Level, "s0"));
    let process = format!("{user}:{}:{}:{level}", part(LabelPart::Role, "system_r"), part(LabelPart::Type, "container_t"));
    (process, format!("{user}:object_r:container_file_t:{level}"))
}

/// Picks the AppArmor profile of a container that asks for none, from those that the kernel has loaded.
///
/// *Shape:* `loaded` is `/sys/kernel/security/apparmor/profiles`, a line `NAME (MODE)` each. The order is by whose profile fits us best.
pub fn default_apparmor(loaded: &str) -> Option<String> {
    let names: Vec<&str> = apparmor_names(loaded).collect();
    let known = ["rkbox-default", "cri-containerd.apparmor.d", "docker-default"];
    let found = known.iter().find(|name| names.contains(name)).copied();
    found.or_else(|| names.iter().find(|name| name.starts_with("containers-default-")).copied()).map(str::to_owned)
}

/// The names of the loaded profiles.
pub fn apparmor_names(loaded: &str) -> impl Iterator<Item = &str> {
    loaded.lines().filter_map(|line| line.rsplit_once(" (").map(|(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_whole_whatever_is_said() {
        assert_eq!(labels(&[]), ("system_u:system_r:container_t:s0".to_owned(), "system_u:object_r:container_file_t:s0".to_owned()));
        let said = [(LabelPart::Type, "spc_t".to_owned()), (LabelPart::Level, "s0:c1,c2".to_owned())];
        assert_eq!(labels(&said).0, "system_u:system_r:spc_t:s0:c1,c2");
    }

    #[test]
    fn an_apparmor_profile_is_taken_from_those_that_are_loaded() {
        assert_eq!(default_apparmor("docker-default (enforce)\nrkbox-default (enforce)\n").as_deref(), Some("rkbox-default"));
        assert_eq!(default_apparmor("containers-default-0.50.1 (enforce)\n").as_deref(), Some("containers-default-0.50.1"));
        assert_eq!(default_apparmor("/usr/bin/man (enforce)\n"), None);
    }

    #[test]
    fn the_default_is_closed() {
        let posture = Posture::confined(&[]).unwrap();
        assert!(posture.seccomp.is_some() && posture.devices.is_empty() && posture.ambient.is_empty());
        assert_eq!((posture.privileges, posture.kernel_files), (Privileges::Fixed, KernelFiles::ReadOnly));
    }
}
