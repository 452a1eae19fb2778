//! Control groups: the version, the controllers, and which driver others on this host use.

use std::path::Path;

use super::Finding;
use crate::cmd::Context;
use crate::cmd::driver::{self, Peer};
use crate::ids::CgroupDriver;
use crate::sys::cgroup::{self, Layout};
use crate::sys::privilege;

/// What limits containers; without one its limit is not held.
const WANTED: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];

pub(super) fn look(cx: &Context, all: &mut Vec<Finding>) {
    let (host, controllers) = (&cx.host, cgroup::controllers());
    let found = match cgroup::layout() {
        Layout::V2 => "version 2",
        Layout::V1 if Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists() => "version 1 with a unified tree beside it (hybrid)",
        Layout::V1 => "version 1",
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
    let ours = host.cgroup_driver.word();
    all.push(Finding::ok("cgroup driver", format!("{ours}, below {} ({})", host.cgroup_parent, cx.driver.reason())));
    if let Some(change) = cx.driver.change(host) {
        all.push(Finding::warn("cgroup driver", change, "name one with --cgroup-driver (RKBOX_CGROUP_DRIVER) to be sure"));
    }
    if host.cgroup_driver == CgroupDriver::Systemd && !privilege::has_systemd() {
        all.push(Finding::fail("cgroup driver", "systemd is not pid 1", "use --cgroup-driver cgroupfs"));
    }
    for Peer { name, stated } in driver::peers() {
        let other = stated.driver.word();
        all.push(if stated.driver == host.cgroup_driver {
            Finding::ok("cgroup driver", format!("{name} uses {other} too"))
        } else {
            let how = if stated.written { "" } else { " (its default)" };
            let hint = format!("two drivers on one node fight over the tree: --cgroup-driver {other} (RKBOX_CGROUP_DRIVER={other})");
            Finding::warn("cgroup driver", format!("{name} uses {other}{how}, rkbox {ours}"), hint)
        });
    }
}
