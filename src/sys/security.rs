//! What the host's kernel can confine with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file;
use super::rootless::in_user_namespace;
use crate::bundle::sysctl::OF_NETWORK;
use crate::idmap::IdMap;

/// Major and minor version of the running kernel; zeros when it does not say.
pub fn kernel_version() -> (u32, u32) {
    let release = file::read_kernel(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The AppArmor profiles that are loaded, a line `NAME (MODE)` each; `None` on a host without AppArmor.
pub fn apparmor_profiles() -> Option<String> {
    let enabled = file::read_kernel(Path::new("/sys/module/apparmor/parameters/enabled")).ok()?;
    if enabled.trim() != "Y" {
        return None;
    }
    // Without securityfs the kernel still confines, but nobody can say by what.
    Some(file::read_kernel(Path::new("/sys/kernel/security/apparmor/profiles")).unwrap_or_default())
}

/// Whether the host runs with SELinux.
pub fn has_selinux() -> bool {
    file::exists(Path::new("/sys/fs/selinux/enforce")).unwrap_or(false)
}

/// The settings that every network namespace of ours gets, as far as the kernel has them.
pub fn network_sysctls() -> BTreeMap<String, String> {
    OF_NETWORK.iter().filter(|(name, _)| has_sysctl(name)).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The same settings as a user namespace of these ids can have them; without one, as the namespace of rkbox can.
pub fn within(mut all: BTreeMap<String, String>, ids: Option<&IdMap>) -> BTreeMap<String, String> {
    // Both ends of the range of groups must be groups that the namespace has.
    let last = match ids {
        Some(map) => map.last_without_gap(),
        None if in_user_namespace() => {
            IdMap::of_kernel(&file::read_kernel(Path::new("/proc/self/gid_map")).unwrap_or_default()).last_without_gap()
        }
        None => None,
    };
    if let (Some(last), Some(range)) = (last, all.get_mut("net.ipv4.ping_group_range")) {
        *range = format!("0 {}", last.min(i32::MAX.unsigned_abs()));
    }
    all
}

/// Whether the kernel has a setting of this name (`net.ipv4.ping_group_range`).
fn has_sysctl(name: &str) -> bool {
    let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
    file::exists(&path).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_says_its_version() {
        assert!(super::kernel_version() >= (5, 11), "{:?}", super::kernel_version());
        assert!(super::has_sysctl("net.ipv4.ip_forward") && !super::has_sysctl("net.ipv4.no_such"));
    }
}
