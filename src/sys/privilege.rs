//! What this process may do, and what the host runs.

use std::path::Path;

use super::{file, proc};
use crate::fault::{Fault, Kind, Result};
use crate::ids::CgroupDriver;

/// Fails with `PermissionDenied`, naming what is missing, unless this process may make namespaces, mounts and links.
pub fn require() -> Result<()> {
    let missing = proc::missing_capabilities()?;
    if missing.is_empty() {
        return Ok(());
    }
    let fault = Fault::new(Kind::PermissionDenied, format!("this process lacks {}", missing.join(", ")));
    Err(fault.hint(if nix::unistd::geteuid().is_root() {
        "grant them to the container or unit that rkbox runs in"
    } else {
        "run it as root, or give this user subordinate ids: usermod --add-subuids 200000-265535 --add-subgids 200000-265535 NAME"
    }))
}

/// Whether the host has only the unified cgroup hierarchy.
pub fn has_cgroup_v2() -> bool {
    file::exists(Path::new("/sys/fs/cgroup/cgroup.controllers")).unwrap_or(false)
}

/// The cgroup driver that fits the host, and why: systemd where it is pid 1 and the hierarchy is unified, cgroupfs elsewhere.
pub fn cgroup_driver() -> (CgroupDriver, &'static str) {
    match (has_systemd(), has_cgroup_v2()) {
        (true, true) => (CgroupDriver::Systemd, "systemd is pid 1 and control groups are version 2"),
        (true, false) => (CgroupDriver::Cgroupfs, "control groups are version 1"),
        (false, true) => (CgroupDriver::Cgroupfs, "control groups are version 2 and pid 1 is not systemd"),
        (false, false) => (CgroupDriver::Cgroupfs, "control groups are version 1 and pid 1 is not systemd"),
    }
}

/// Whether systemd is pid 1. *Source:* sd_booted(3).
pub fn has_systemd() -> bool {
    file::exists(Path::new("/run/systemd/system")).unwrap_or(false)
}
