//! `rkbox doctor`: what it says of this host, and that saying it changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::World;
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
