//! `rkbox unit`: what it prints is a unit to systemd, and does to a shell what made the box.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;

use common::{World, images};

/// The command lines of a unit, by key.
fn lines(unit: &str, key: &str) -> Vec<String> {
    unit.lines().filter_map(|line| line.strip_prefix(&format!("{key}="))).map(|line| line.trim_start_matches('-').to_owned()).collect()
}

/// Asks systemd itself, where it is installed.
fn verify(world: &World, name: &str, unit: &str) {
    if !fs::exists("/usr/bin/systemd-analyze").unwrap() {
        return;
    }
    let path = world.path(name);
    fs::write(&path, unit).unwrap();
    let said = world.sh(&format!("systemd-analyze verify --man=no {} 2>&1 || true", path.display())).ok().stdout;
    assert!(!said.contains(name), "{said}\n{unit}");
}

#[test]
fn a_unit_makes_the_container_anew_and_takes_it_away() {
    let world = World::new();
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    let words =
        ["run", "--name", "web", "--net", "none", "-e", "A=two words 100% $HOME", "busybox", "sh", "-c", "echo \"$A\"; exit 0", "--name"];
    let first = world.rkbox(words).ok().stdout;
    assert_eq!(first, "two words 100% $HOME\n");
    let unit = world.rk("unit web").ok().stdout;
    verify(&world, "rkbox-web.service", &unit);
    assert_eq!(lines(&unit, "KillMode"), ["mixed"]);
    // What systemd would run, quoted the shell's way: only `%%` and `$$` are systemd's own.
    let shell = |line: &str| line.replace("%%", "%").replace("$$", "\\$");
    for line in [lines(&unit, "ExecStartPre"), lines(&unit, "ExecStart"), lines(&unit, "ExecStopPost")].concat() {
        let said = world.sh(&shell(&line)).ok();
        assert!(!line.contains(" run ") || said.stdout == first, "{line}: {said}");
    }
    world.rk("ps -aq").ok();
    assert_eq!(world.rk("ps -aq").ok().stdout, "", "the unit takes it away");
    world.rk("unit web").fails(3).says("web");
}

#[test]
fn a_sandbox_and_the_boot_have_units_too() {
    let world = World::new();
    world.rk("sandbox create web --net none --hostname www").ok();
    let unit = world.rk("unit web").ok().stdout;
    verify(&world, "rkbox-web.service", &unit);
    for line in [lines(&unit, "ExecStartPre"), lines(&unit, "ExecStart")].concat() {
        world.sh(&line).ok();
    }
    let seen = world.rk("sandbox inspect web").ok().json();
    assert_eq!(seen[0]["record"]["hostname"], "www");
    world.sh(&lines(&unit, "ExecStop")[0]).ok();
    assert_eq!(world.rk("sandbox ls -q").ok().stdout, "");
    let boot = world.rk("unit --boot").ok().stdout;
    verify(&world, "rkbox-boot.service", &boot);
    assert!(lines(&boot, "ExecStart")[0].ends_with(" gc"), "{boot}");
    world.sh(&lines(&boot, "ExecStart")[0]).ok();
    world.rk("unit").fails(2);
}
