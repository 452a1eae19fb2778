//! `linux.cgroupsPath`: what the runtime is told, and where the control groups then are.

use crate::fault::{Fault, Result};
use crate::ids::CgroupDriver;

/// The prefix of our systemd scopes.
pub const SCOPE_PREFIX: &str = "rkbox";

/// Builds the path for a runtime that writes cgroup file systems itself: `/rkbox/<id>`.
///
/// *Errors:* `InvalidArgument` for a parent that is relative, has `..`, or is a systemd slice (mixed drivers).
pub fn cgroupfs_path(parent: &str, id: &str) -> Result<String> {
    if parent.ends_with(".slice") {
        return Err(Fault::invalid(format!("cgroup parent {parent} is a systemd slice, but the cgroup driver is cgroupfs"))
            .hint("use --cgroup-driver systemd, or a parent such as /rkbox"));
    }
    if !parent.starts_with('/') || parent.split('/').any(|part| matches!(part, "." | "..")) || parent.contains(['\0', '\n']) {
        return Err(Fault::invalid(format!("cgroup parent {parent:?} is not an absolute path")));
    }
    Ok(format!("{}/{id}", parent.trim_end_matches('/')))
}

/// Builds the triple for a runtime that asks systemd: `system.slice:rkbox:<id>`.
///
/// The parent may be a path of slices, as a kubelet gives it: its last part counts. *Errors:* `InvalidArgument` for anything but a slice.
pub fn systemd_path(parent: &str, id: &str) -> Result<String> {
    let slice = parent.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let word = |c: char| c.is_ascii_alphanumeric() || "_.-\\@".contains(c);
    if !slice.ends_with(".slice") || !slice.chars().all(word) {
        return Err(Fault::invalid(format!("cgroup parent {parent:?} is not a systemd slice, but the cgroup driver is systemd"))
            .hint("use --cgroup-driver cgroupfs, or a parent such as system.slice"));
    }
    Ok(format!("{slice}:{SCOPE_PREFIX}:{id}"))
}

/// Builds the `linux.cgroupsPath` for `driver`.
pub fn path(driver: CgroupDriver, parent: &str, id: &str) -> Result<String> {
    match driver {
        CgroupDriver::Cgroupfs => cgroupfs_path(parent, id),
        CgroupDriver::Systemd => systemd_path(parent, id),
    }
}

/// The parent in a `cgroupsPath` that [`path`] built.
///
/// *Shape:* `/rkbox/ab` → `/rkbox`, `/ab` → `/`; `system.slice:rkbox:ab` → `system.slice`.
pub fn parent(cgroups_path: &str) -> Option<&str> {
    match cgroups_path.strip_prefix('/') {
        Some(_) => cgroups_path.rsplit_once('/').map(|(parent, _)| if parent.is_empty() { "/" } else { parent }),
        None => cgroups_path.split_once(':').map(|(slice, _)| slice),
    }
}

/// Tells where below each hierarchy the control group of a `cgroupsPath` is, without a slash at its start.
///
/// *Shape:* `/rkbox/ab` → `rkbox/ab`; `a-b.slice:rkbox:ab` → `a.slice/a-b.slice/rkbox-ab.scope` (dashes nest). *Source:* systemd.slice(5).
pub fn relative(cgroups_path: &str) -> Option<String> {
    let safe = |path: String| {
        let bad = path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if bad { None } else { Some(path) }
    };
    if let Some(path) = cgroups_path.strip_prefix('/') {
        return safe(path.to_owned());
    }
    let mut parts = cgroups_path.split(':');
    let (Some(slice), Some(prefix), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else { return None };
    let stem = slice.strip_suffix(".slice")?;
    let mut path = String::new();
    for (at, _) in stem.match_indices('-').filter(|(at, _)| *at > 0) {
        path.push_str(&format!("{}.slice/", &stem[..at]));
    }
    safe(format!("{path}{slice}/{prefix}-{name}.scope"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drivers_name_the_id_last_and_refuse_the_other() {
        assert_eq!(cgroupfs_path("/rkbox", "ab").unwrap(), "/rkbox/ab");
        assert_eq!(cgroupfs_path("/", "ab").unwrap(), "/ab");
        assert_eq!(systemd_path("system.slice", "ab").unwrap(), "system.slice:rkbox:ab");
        assert_eq!(systemd_path("/kubepods.slice/kubepods-pod1.slice", "ab").unwrap(), "kubepods-pod1.slice:rkbox:ab");
        for bad in ["rkbox", "/a/../b", "/kubepods.slice", ""] {
            assert!(cgroupfs_path(bad, "ab").is_err(), "{bad}");
        }
        for bad in ["/rkbox", "a:b.slice", "a b.slice"] {
            assert!(systemd_path(bad, "ab").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_knows_its_parent() {
        for (driver, parent) in [(CgroupDriver::Cgroupfs, "/rkbox"), (CgroupDriver::Cgroupfs, "/"), (CgroupDriver::Systemd, "a-b.slice")] {
            assert_eq!(super::parent(&path(driver, parent, "ab").unwrap()), Some(parent));
        }
        assert_eq!(super::parent(""), None);
    }

    #[test]
    fn the_place_of_a_group_follows_from_its_path() {
        assert_eq!(relative("/rkbox/ab").unwrap(), "rkbox/ab");
        assert_eq!(relative("a-b.slice:rkbox:ab").unwrap(), "a.slice/a-b.slice/rkbox-ab.scope");
        assert_eq!(relative("system.slice:rkbox:ab").unwrap(), "system.slice/rkbox-ab.scope");
        for bad in ["", "/", "/a/../b", "x", "/a//b", "a:b"] {
            assert_eq!(relative(bad), None, "{bad}");
        }
    }
}
