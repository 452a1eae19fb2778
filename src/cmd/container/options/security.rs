//! What a container may do.

use std::path::Path;

use clap::Args;

use crate::bundle::capabilities::{self, CapabilitySet};
use crate::bundle::posture::{self, KernelFiles, Posture, Privileges};
use crate::bundle::seccomp::{self, Target};
use crate::bundle::security_opt::{self, SeccompChoice, SecurityOptions};
use crate::bundle::{devices, sysctl};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::idmap::IdMap;
use crate::sys::{device, file, proc, security};

/// The largest seccomp profile that is read, in bytes.
const PROFILE_LIMIT: u64 = 1 << 20;

/// The rights of a container.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Security")]
pub struct SecurityArgs {
    /// Give it a capability (NET_RAW, ALL); to a user too, not only to root
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub cap_drop: Vec<String>,
    /// Every capability and device, no filter, nothing hidden or read-only
    #[arg(long)]
    pub privileged: bool,
    /// Let set-uid programs and file capabilities work
    #[arg(long)]
    pub allow_new_privs: bool,
    /// seccomp=, apparmor=, label=, mask=, unmask=, no-new-privileges=
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Device of the host, or a directory of them
    #[arg(long, value_name = "HOST[:CTR][:rwm]")]
    pub device: Vec<String>,
    /// Devices that it may use when it has the node, such as "c 10:* rw"
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// Whose user ids it has: host, auto (a range of its own), auto:size=N,
    /// keep-id, CONTAINER:HOST:SIZE
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Kernel setting of its network or ipc namespace
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
}

/// Whose the namespaces of a container are: settings are made only in its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owns<'a> {
    /// The network namespace.
    pub network: bool,
    /// The ipc namespace.
    pub ipc: bool,
    /// The ids of its user namespace, when it has one.
    pub ids: Option<&'a IdMap>,
}

impl SecurityArgs {
    /// Settles all of it on this host.
    pub fn posture(&self, owns: Owns<'_>) -> Result<Posture> {
        let options = security_opt::parse(&self.security_opt)?;
        let mut posture = Posture::confined(&proc::throttled_cpus())?;
        self.settle_capabilities(&mut posture)?;
        if self.privileged {
            (posture.masked, posture.read_only) = (Vec::new(), Vec::new());
            posture.kernel_files = KernelFiles::Writable;
            posture.device_rules.push(devices::every()?);
            for (path, node) in device::below(Path::new("/dev"))? {
                posture.devices.push(devices::linux(&path, "rwm", &node)?.0);
            }
        }
        let gainable = self.privileged || self.allow_new_privs || options.no_new_privileges == Some(false);
        if gainable && options.no_new_privileges != Some(true) {
            posture.privileges = Privileges::Gainable;
        }
        posture.seccomp = self.seccomp(&options, &posture.capabilities)?;
        posture.mask(&options);
        self.settle_devices(&mut posture)?;
        self.settle_labels(&options, &mut posture)?;
        self.settle_sysctls(owns, &mut posture)?;
        Ok(posture)
    }

    /// Nobody can give what he does not have: `ALL` is what rkbox itself may pass on, and a capability by name must be among it.
    fn settle_capabilities(&self, posture: &mut Posture) -> Result<()> {
        let all = ["ALL".to_owned()];
        let add = if self.privileged { [self.cap_add.as_slice(), &all].concat() } else { self.cap_add.clone() };
        let wanted = capabilities::select(&add, &self.cap_drop)?;
        let held = proc::permitted_capabilities()?;
        let named = capabilities::select_only(&self.cap_add)?;
        if let Some(lacking) = named.iter().find(|name| !held.contains(*name)) {
            return Err(Fault::new(Kind::PermissionDenied, format!("{lacking} cannot be given: this process does not have it"))
                .hint("grant it to the container or unit that rkbox runs in, or leave it out of --cap-add"));
        }
        posture.ambient = named.intersection(&wanted).cloned().collect();
        posture.capabilities = wanted.intersection(&held).cloned().collect();
        Ok(())
    }

    fn seccomp(&self, options: &SecurityOptions, capabilities: &CapabilitySet) -> Result<Option<oci_spec::runtime::LinuxSeccomp>> {
        match &options.seccomp {
            SeccompChoice::Unconfined => Ok(None),
            SeccompChoice::Default if self.privileged => Ok(None),
            SeccompChoice::Default => seccomp::default_profile(capabilities, options.architectures).map(Some),
            SeccompChoice::File(path) => {
                let doing = || format!("reading the seccomp profile {path}");
                let text = file::read_following(Path::new(path), PROFILE_LIMIT).doing(doing)?;
                seccomp::parse(&text, Target { capabilities, kernel: security::kernel_version() }).doing(doing).map(Some)
            }
        }
    }

    fn settle_devices(&self, posture: &mut Posture) -> Result<()> {
        for text in &self.device {
            let wish = devices::parse(text)?;
            let found = device::find(&wish.source, &wish.destination).doing(|| format!("looking at device {text}"))?;
            if found.is_empty() {
                return Err(Fault::not_found(format!("{} is not a device", wish.source.display()))
                    .hint("name a device node of the host, or a directory with some"));
            }
            for (path, node) in found {
                let (linux, rule) = devices::linux(&path, &wish.access, &node)?;
                posture.devices.retain(|known| known.path() != linux.path());
                posture.devices.push(linux);
                posture.device_rules.push(rule);
            }
        }
        for text in &self.device_cgroup_rule {
            posture.device_rules.push(devices::parse_rule(text)?);
        }
        Ok(())
    }

    /// A label that the host cannot hold is refused: a container that was to be confined would not be.
    fn settle_labels(&self, options: &SecurityOptions, posture: &mut Posture) -> Result<()> {
        let lacking = |what: &str, word: &str| {
            Err(Fault::new(Kind::FailedPrecondition, format!("this host does not have {what}"))
                .hint(format!("leave out --security-opt {word}")))
        };
        let loaded = security::apparmor_profiles();
        posture.apparmor = match (options.apparmor.as_deref(), &loaded) {
            (Some("unconfined"), None) => None,
            (Some("unconfined"), Some(_)) => Some("unconfined".to_owned()),
            (Some(_), None) => return lacking("AppArmor", "apparmor="),
            (Some(name), Some(loaded)) if !posture::apparmor_names(loaded).any(|known| known == name) => {
                return Err(Fault::not_found(format!("AppArmor profile {name:?} is not loaded")).hint("load it: apparmor_parser -r FILE"));
            }
            (Some(name), Some(_)) => Some(name.to_owned()),
            (None, _) if self.privileged => None,
            (None, loaded) => loaded.as_deref().and_then(posture::default_apparmor),
        };
        if !options.label.is_empty() && !options.label_disabled {
            if !security::has_selinux() {
                return lacking("SELinux", "label=");
            }
            let (process, mount) = posture::labels(&options.label);
            (posture.process_label, posture.mount_label) = (Some(process), Some(mount));
        }
        Ok(())
    }

    fn settle_sysctls(&self, owns: Owns<'_>, posture: &mut Posture) -> Result<()> {
        if owns.network {
            posture.sysctls.extend(security::within(security::network_sysctls(), owns.ids));
        }
        for text in &self.sysctl {
            let (name, value, scope) = sysctl::parse(text)?;
            let (owned, whose) = match scope {
                sysctl::Scope::Network => (owns.network, "network"),
                sysctl::Scope::Ipc => (owns.ipc, "ipc"),
            };
            if !owned {
                return Err(Fault::invalid(format!("sysctl {name}: the {whose} namespace is not this container's own"))
                    .hint("give it to the sandbox or to whoever made the namespace"));
            }
            posture.sysctls.insert(name, value);
        }
        Ok(())
    }
}
