//! What an ordinary user needs for containers of his own.

use std::path::Path;

use super::Finding;
use crate::fault::Fault;
use crate::sys::{cgroup, exec, file, rootless, rootless_netns, security};

/// overlayfs in user namespaces, with `userxattr`.
const OVERLAY: (u32, u32) = (5, 11);
/// How many ids images count on.
const IDS: u32 = 65_536;

pub(super) fn look(all: &mut Vec<Finding>) {
    for name in ["newuidmap", "newgidmap"] {
        all.push(helper(name));
    }
    all.push(subordinate());
    all.push(namespaces());
    let (major, minor) = security::kernel_version();
    all.push(if (major, minor) >= OVERLAY {
        Finding::ok("overlayfs", "may be mounted in a user namespace")
    } else {
        let hint = format!("Linux {}.{} or newer can; with this one run rkbox as root", OVERLAY.0, OVERLAY.1);
        Finding::fail("overlayfs", format!("Linux {major}.{minor} mounts it for root alone"), hint)
    });
    all.push(runtime_dir());
    all.push(delegation());
    all.push(match rootless_netns::find_program() {
        Ok(path) => Finding::ok("pasta", format!("{} leads out of networks", path.display())),
        Err(fault) => Finding::warn("pasta", format!("{fault}: nothing leads out of networks"), "apt install passt"),
    });
    all.push(match rootless_netns::open_tun() {
        Ok(()) => Finding::ok("/dev/net/tun", "can be opened"),
        Err(error) => {
            let (found, hint) = match error.kind() {
                std::io::ErrorKind::NotFound => ("is not there", "as root: modprobe tun"),
                std::io::ErrorKind::PermissionDenied => {
                    ("is not for this user", "as root: chmod 0666 /dev/net/tun (udev does so by itself)")
                }
                _ => ("cannot be used", "as root: modprobe tun, or a kernel with CONFIG_TUN"),
            };
            Finding::warn("/dev/net/tun", format!("{found} ({error}): pasta needs it"), hint)
        }
    });
}

/// A helper that gives subordinate ids must have the right to: set-uid, or a capability of its file.
fn helper(name: &'static str) -> Finding {
    let hint = "apt install uidmap";
    let path = match exec::find(name) {
        Ok(path) => path,
        Err(error) => return Finding::fail(name, Fault::from(error).to_string(), hint),
    };
    let shown = path.display();
    if rootless::gives_rights(&path) {
        return Finding::ok(name, shown.to_string());
    }
    let mend = format!("as root: chmod u+s {shown}, or apt install --reinstall uidmap");
    Finding::fail(name, format!("{shown} is neither set-uid nor has capabilities"), mend)
}

fn subordinate() -> Finding {
    const TOPIC: &str = "subordinate ids";
    let name = rootless::own_name();
    let mend = format!("as root: usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {name}");
    match rootless::own_maps() {
        Err(fault) => Finding::fail(TOPIC, fault.to_string(), mend),
        Ok(None) => Finding::fail(TOPIC, format!("/etc/subuid and /etc/subgid give none to {name}"), mend),
        Ok(Some((uids, gids))) => {
            let count = |map: &crate::idmap::IdMap| map.0.iter().skip(1).map(|range| range.size).sum::<u32>();
            let (users, groups) = (count(&uids), count(&gids));
            if users.min(groups) >= IDS {
                return Finding::ok(TOPIC, format!("{users} users, {groups} groups"));
            }
            let found = format!("{users} users, {groups} groups: images may need {IDS}");
            Finding::warn(TOPIC, found, mend)
        }
    }
}

/// Asks the kernel by making one, and its switches why not.
fn namespaces() -> Finding {
    const TOPIC: &str = "user namespaces";
    let Err(errno) = rootless::try_namespace() else { return Finding::ok(TOPIC, "may be made") };
    let off = |name: &str, value: &str| file::read_kernel(&Path::new("/proc/sys").join(name)).is_ok_and(|text| text.trim() == value);
    let hint = if off("user/max_user_namespaces", "0") {
        "as root: sysctl user.max_user_namespaces=10000"
    } else if off("kernel/unprivileged_userns_clone", "0") {
        "as root: sysctl kernel.unprivileged_userns_clone=1"
    } else if off("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for rkbox with the rule userns"
    } else {
        "something around rkbox (a container, a seccomp filter) keeps it from them: run rkbox outside of it"
    };
    Finding::fail(TOPIC, format!("none may be made: {errno}"), hint)
}

fn runtime_dir() -> Finding {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) if Path::new(&dir).is_dir() => Finding::ok("XDG_RUNTIME_DIR", dir.to_string_lossy()),
        Some(dir) => Finding::fail(
            "XDG_RUNTIME_DIR",
            format!("{} is not there", dir.display()),
            "log in properly, or as root: loginctl enable-linger USER",
        ),
        None => Finding::fail("XDG_RUNTIME_DIR", "is not set", "log in properly (su and sudo do not), or set RKBOX_RUN"),
    }
}

/// What systemd has delegated. It makes no difference yet, and is said so.
fn delegation() -> Finding {
    let delegated = cgroup::delegated_controllers();
    let found = match &delegated {
        Some(names) if !names.is_empty() => format!("delegated: {}; ", names.join(" ")),
        _ => "not delegated; ".to_owned(),
    };
    let found = found + "rkbox bounds no container of an ordinary user: -m, --cpus and --pids-limit are refused or warned of";
    Finding::warn(
        "control groups",
        found,
        "for bounds run rkbox as root, or bound the whole login: systemctl set-property user-UID.slice MemoryMax=4G",
    )
}
