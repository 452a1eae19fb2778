//! What a file lets its container do.

use std::path::Path;

use super::ContainerFile;
use crate::bundle::capabilities;
use crate::bundle::devices;
use crate::bundle::posture::{Ambience, Posture};
use crate::cmd::container::options::{Owns, SecurityArgs};
use crate::cmd::cri::Confinement;
use crate::fault::{Context as _, Fault, Result};
use crate::pod::cri::{LinuxContainerSecurity, Profile};
use crate::sys::device;

const PATH: &str = "linux.security_context";

/// Settles all of it on this host.
pub fn posture(file: &ContainerFile, owns: Owns<'_>) -> Result<Posture> {
    let security = &file.config.linux.security_context;
    let asked = Confinement { seccomp: seccomp(security)?, apparmor: security.apparmor()?, selinux: &security.selinux_options };
    let mut options = asked.options()?;
    options.push(format!("no-new-privileges={}", security.no_new_privs));
    let wanted = &security.capabilities;
    let words = SecurityArgs {
        cap_add: [wanted.add_capabilities.as_slice(), &wanted.add_ambient_capabilities].concat(),
        cap_drop: wanted.drop_capabilities.clone(),
        privileged: security.privileged,
        security_opt: options,
        ..SecurityArgs::default()
    };
    let mut posture = words.posture(Owns { ipc: file.has_own_ipc(), ..owns }).doing(|| PATH)?;
    settle_ambient(security, &mut posture)?;
    if !security.privileged {
        let paths = |said: &Vec<String>, own: &mut Vec<String>| {
            if !said.is_empty() {
                own.clone_from(said);
            }
        };
        paths(&security.masked_paths, &mut posture.masked);
        paths(&security.readonly_paths, &mut posture.read_only);
    }
    settle_devices(file, &mut posture)?;
    Ok(posture)
}

/// A privileged container has no filter, whatever is said; else nothing said is the runtime's own, as CRI-O has it.
fn seccomp(security: &LinuxContainerSecurity) -> Result<Option<Profile>> {
    let said = security.seccomp()?;
    Ok(if security.privileged { Some(Profile::Unconfined) } else { said })
}

/// What is added for root alone is in all sets but the ambient one.
fn settle_ambient(security: &LinuxContainerSecurity, posture: &mut Posture) -> Result<()> {
    let names = &security.capabilities.add_ambient_capabilities;
    let all = names.iter().any(|name| name.eq_ignore_ascii_case("all"));
    let named = capabilities::select_only(names)?;
    posture.ambient = posture.capabilities.iter().filter(|name| all || named.contains(*name)).cloned().collect();
    posture.ambience = Ambience::Everybody;
    Ok(())
}

fn settle_devices(file: &ContainerFile, posture: &mut Posture) -> Result<()> {
    for (nth, wish) in file.config.devices.iter().enumerate() {
        let path = || format!("devices[{nth}].host_path");
        let inside = if wish.container_path.is_empty() { &wish.host_path } else { &wish.container_path };
        let access = if wish.permissions.is_empty() { "rwm" } else { &wish.permissions };
        let found = device::find(Path::new(&wish.host_path), inside).doing(path)?;
        if found.is_empty() {
            return Err(Fault::not_found(format!("{}: {} is not a device", path(), wish.host_path)));
        }
        for (place, node) in found {
            let (linux, rule) = devices::linux(&place, access, &node)?;
            posture.devices.retain(|known| known.path() != linux.path());
            posture.devices.push(linux);
            posture.device_rules.push(rule);
        }
    }
    Ok(())
}
