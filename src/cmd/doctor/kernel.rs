//! The kernel and what this process may ask of it.

use std::path::Path;

use super::Finding;
use crate::sys::{file, privilege, proc, security};

/// `close_range` with CLOSE_RANGE_CLOEXEC, without which descriptors could leak into containers.
const OLDEST: (u32, u32) = (5, 11);

pub(super) fn look(all: &mut Vec<Finding>) {
    let (major, minor) = security::kernel_version();
    all.push(if (major, minor) >= OLDEST {
        Finding::ok("kernel", format!("{major}.{minor}"))
    } else {
        Finding::fail("kernel", format!("{major}.{minor}"), format!("rkbox needs Linux {}.{} or newer", OLDEST.0, OLDEST.1))
    });
    let systems = file::read_kernel(Path::new("/proc/filesystems")).unwrap_or_default();
    let has = |name: &str| systems.lines().any(|line| line.split_whitespace().last() == Some(name));
    all.push(if has("overlay") {
        Finding::ok("overlayfs", "the kernel has it")
    } else {
        Finding::warn("overlayfs", "not loaded", "modprobe overlay (the kernel may also load it by itself)")
    });
    all.push(if file::exists(Path::new("/proc/sys/kernel/seccomp/actions_avail")).unwrap_or(false) {
        Finding::ok("seccomp", "the kernel has filters")
    } else {
        Finding::fail(
            "seccomp",
            "the kernel has no filters",
            "use a kernel with CONFIG_SECCOMP_FILTER, or --security-opt seccomp=unconfined",
        )
    });
    labels(all);
    if let Ok(limit) = proc::nofile_limit() {
        all.push(Finding::ok("open files", format!("hard limit {limit}")));
    }
}

/// What only root can have.
pub(super) fn privileges(all: &mut Vec<Finding>) {
    all.push(match privilege::require() {
        Ok(()) => Finding::ok("privilege", "all capabilities that rkbox needs"),
        Err(fault) => {
            Finding::fail("privilege", fault.to_string(), "run it as root, or grant them to the container or unit that rkbox runs in")
        }
    });
    let held = proc::permitted_capabilities().unwrap_or_default();
    if !held.contains("CAP_SYS_RESOURCE") {
        all.push(Finding::warn(
            "privilege",
            "CAP_SYS_RESOURCE is missing: limits cannot be raised, oom_score_adj not lowered",
            "grant it to what rkbox runs in, if containers need more than the host's limits",
        ));
    }
    let namespaces = file::read_kernel(Path::new("/proc/sys/user/max_user_namespaces")).unwrap_or_default();
    if namespaces.trim().parse::<u64>().unwrap_or(0) == 0 {
        all.push(Finding::warn("user namespaces", "none may be made", "sysctl user.max_user_namespaces=10000, for --userns"));
    }
}

fn labels(all: &mut Vec<Finding>) {
    let found = match (security::apparmor_profiles(), security::has_selinux()) {
        (Some(loaded), _) => format!("AppArmor, {} profiles", loaded.lines().count()),
        (None, true) => "SELinux".to_owned(),
        (None, false) => "neither AppArmor nor SELinux: --security-opt apparmor= and label= are refused".to_owned(),
    };
    all.push(Finding::ok("labels", found));
}
