//! `rkbox doctor`: what it says of this host, and that saying it changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::world::DIR;
use common::{User, World};
use serde_json::Value;

/// The findings about `topic`.
fn about<'a>(report: &'a Value, topic: &str) -> Vec<&'a Value> {
    report.as_array().unwrap().iter().filter(|finding| finding["topic"] == topic).collect()
}

#[test]
fn a_report_names_what_is_there_and_changes_nothing() {
    let world = World::new();
    let before = world.observe();
    let report = world.rk("--format json doctor").ok().json();
    before.assert_again(&world, "after doctor");
    let release = world.sh("uname -r").ok().stdout;
    assert!(release.starts_with(about(&report, "kernel")[0]["found"].as_str().unwrap()), "{report}");
    let version = world.sh("runc --version").ok().stdout;
    let runtime = about(&report, "runtime")[0]["found"].as_str().unwrap();
    assert!(runtime.contains(version.lines().next().unwrap()), "{runtime}");
    if version.starts_with("runc version 1.1.5+ds1") {
        let known = about(&report, "advisories")[0];
        assert_eq!(known["verdict"], "warn");
        let found = known["found"].as_str().unwrap();
        // Debian mended the one and not the others.
        assert!(found.contains("CVE-2025-52881") && !found.contains("CVE-2024-21626"), "{found}");
    }
    let expected = if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap() { "version 2" } else { "version 1" };
    assert!(about(&report, "cgroups")[0]["found"].as_str().unwrap().starts_with(expected), "{report}");
    // For people: everything that is not as it should be comes with what to do.
    let bad = report.as_array().unwrap().iter().filter(|finding| finding["verdict"] != "ok");
    assert!(bad.clone().all(|finding| finding["hint"].is_string()), "{report}");
    let short = world.rk("--format json doctor --quiet").ok().json();
    assert_eq!(short.as_array().unwrap().len(), bad.count());
    world.rk("doctor").ok().prints("STATUS").prints("kernel");
}

#[test]
fn what_stops_containers_is_a_failure_with_a_way_out() {
    let world = World::new();
    world.rk("--runtime no-such-runtime doctor").fails(5).prints("FAIL").prints("apt-get install runc");
    world.rk("--runtime /bin/true doctor").ok().prints("warn");
    fs::create_dir_all(world.root()).unwrap();
    fs::set_permissions(world.root(), fs::Permissions::from_mode(0o755)).unwrap();
    world.rk("doctor -q").ok().prints("others can look in").prints("chmod 0700");
    world.configure("10-broken.conflist", "{");
    world.rk("doctor -q").ok().prints("10-broken.conflist");
    if !fs::exists("/run/systemd/system").unwrap() {
        world.rk("--cgroup-driver systemd doctor -q").fails(5).prints("use --cgroup-driver cgroupfs");
    }
}

/// What an ordinary user lacks, each with the way to get it.
#[test]
fn an_ordinary_user_is_told_what_is_missing_and_how_to_get_it() {
    let user = User::new("ordinary:200000:65536\\n");
    user.world.sh(&format!("mknod -m 0666 {DIR}/tun c 10 200; mount --bind {DIR}/tun /dev/net/tun")).ok();
    let report = user.rk("--format json doctor").ok().json();
    for topic in ["newuidmap", "newgidmap", "subordinate ids", "user namespaces", "overlayfs", "pasta", "/dev/net/tun", "XDG_RUNTIME_DIR"] {
        assert_eq!(about(&report, topic).last().unwrap()["verdict"], "ok", "{topic}: {report}");
    }
    assert!(about(&report, "state")[0]["found"].as_str().unwrap().contains("home/.local/share/rkbox"), "{report}");
    assert_eq!(about(&report, "control groups")[0]["verdict"], "warn");
    assert_eq!(fs::read_dir(format!("{DIR}/home")).unwrap().count(), 0, "nothing was made");
    let lacks = |break_it: &str, mend_it: &str, code: u8, found: &str, hint: &str| {
        user.world.sh(break_it).ok();
        let said = user.rk("doctor --quiet");
        assert_eq!(said.code, i32::from(code), "{said}");
        said.prints(found).prints(hint);
        user.world.sh(mend_it).ok();
    };
    lacks("mount --bind /dev/null /usr/bin/newuidmap", "umount /usr/bin/newuidmap", 5, "newuidmap is not in PATH", "apt install uidmap");
    lacks(
        &format!("cp /usr/bin/newgidmap {DIR}/plain; chmod 755 {DIR}/plain; mount --bind {DIR}/plain /usr/bin/newgidmap"),
        "umount /usr/bin/newgidmap",
        5,
        "neither set-uid nor has capabilities",
        "chmod u+s",
    );
    let pasta = user.world.sh("command -v pasta").ok().stdout.trim().to_owned();
    lacks(&format!("mount --bind /dev/null {pasta}"), &format!("umount {pasta}"), 0, "nothing leads out", "apt install passt");
    lacks(&format!("chmod 600 {DIR}/tun"), &format!("chmod 666 {DIR}/tun"), 0, "is not for this user", "chmod 0666 /dev/net/tun");
    lacks("mount -t tmpfs tmpfs /dev/net", "umount /dev/net", 0, "is not there", "modprobe tun");
    lacks(
        &format!("echo other:1:2 >{DIR}/subid"),
        &format!("echo ordinary:200000:1000 >{DIR}/subid"),
        5,
        "give none to ordinary",
        "usermod --add-subuids",
    );
    lacks("true", "true", 0, "1000 users", "usermod --add-subuids");
    user.sh("unset XDG_RUNTIME_DIR; rkbox doctor -q").fails(5).prints("is not set").prints("RKBOX_RUN");
    // In a namespace where no further one may be made.
    let inner = format!("echo 0 >/proc/sys/user/max_user_namespaces; exec {} doctor -q", user.world.program.display());
    let said = user.sh(&format!("unshare --user --map-user=$(id -u) --map-group=$(id -g) --keep-caps sh -c '{inner}'"));
    said.fails(5).prints("none may be made").prints("sysctl user.max_user_namespaces");
}
