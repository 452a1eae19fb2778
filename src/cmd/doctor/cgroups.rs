//! Control groups: the version, the controllers, and which driver others on this host use.

use std::path::Path;

use super::Finding;
use crate::bundle::cgroup_peers;
use crate::ids::CgroupDriver;
use crate::sys::cgroup::{self, Layout};
use crate::sys::{Host, file, privilege, proc};

/// What limits containers; without one its limit is not held.
const WANTED: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];

pub(super) fn look(host: &Host, all: &mut Vec<Finding>) {
    let (found, controllers) = match cgroup::layout() {
        Layout::V2 => ("version 2", v2_controllers()),
        Layout::V1 if Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists() => {
            ("version 1 with a unified tree beside it (hybrid)", v1_controllers())
        }
        Layout::V1 => ("version 1", v1_controllers()),
    };
    all.push(Finding::ok("cgroups", found));
    let missing: Vec<&str> = WANTED.iter().filter(|name| !controllers.iter().any(|known| known == *name)).copied().collect();
    all.push(if missing.is_empty() {
        Finding::ok("controllers", controllers.join(" "))
    } else {
        let hint =
            "boot with them (memory: cgroup_enable=memory), or delegate them to what rkbox runs in; until then such limits are not held";
        Finding::warn("controllers", format!("missing: {}", missing.join(" ")), hint)
    });
    let ours = word(host.cgroup_driver);
    let why = if host.cgroup_driver == privilege::cgroup_driver() { "fits pid 1 and the version" } else { "as asked" };
    all.push(Finding::ok("cgroup driver", format!("{ours}, below {} ({why})", host.cgroup_parent)));
    if host.cgroup_driver == CgroupDriver::Systemd && !Path::new("/run/systemd/system").exists() {
        all.push(Finding::fail("cgroup driver", "systemd is not pid 1", "use --cgroup-driver cgroupfs"));
    }
    for (name, driver) in peers() {
        all.push(if driver == host.cgroup_driver {
            Finding::ok("cgroup driver", format!("{name} uses {} too", word(driver)))
        } else {
            let other = word(driver);
            let hint = format!("two drivers on one node fight over the tree: --cgroup-driver {other} (RKBOX_CGROUP_DRIVER={other})");
            Finding::warn("cgroup driver", format!("{name} uses {other}, rkbox {ours}"), hint)
        });
    }
}

fn word(driver: CgroupDriver) -> &'static str {
    match driver {
        CgroupDriver::Cgroupfs => "cgroupfs",
        CgroupDriver::Systemd => "systemd",
    }
}

fn v2_controllers() -> Vec<String> {
    let text = file::read_kernel(&Path::new(cgroup::ROOT).join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// `/proc/cgroups` names what version 1 has; `blkio` is there what `io` is in version 2.
fn v1_controllers() -> Vec<String> {
    let text = file::read_kernel(Path::new("/proc/cgroups")).unwrap_or_default();
    let enabled = text.lines().filter(|line| !line.starts_with('#') && line.split_whitespace().last() == Some("1"));
    enabled.filter_map(|line| line.split_whitespace().next()).map(|name| if name == "blkio" { "io" } else { name }.to_owned()).collect()
}

/// Those that run here or are configured here, with their drivers.
fn peers() -> Vec<(&'static str, CgroupDriver)> {
    let text = |path: &str| file::read_following(Path::new(path), 1 << 20).map(|text| String::from_utf8_lossy(&text).into_owned()).ok();
    let mut found = Vec::new();
    let arguments = proc::find_arguments("kubelet");
    if let Some(driver) = cgroup_peers::of_kubelet(text("/var/lib/kubelet/config.yaml").as_deref(), arguments.as_deref()) {
        found.push(("kubelet", driver));
    }
    if let Some(driver) = text("/etc/containerd/config.toml").as_deref().and_then(cgroup_peers::of_containerd) {
        found.push(("containerd", driver));
    }
    if let Some(driver) = text("/etc/crio/crio.conf").as_deref().and_then(cgroup_peers::of_crio) {
        found.push(("cri-o", driver));
    }
    found
}
