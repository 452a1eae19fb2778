//! The cgroup driver: remembered for a host, told when the host changes, refused when others on the node use the other; and what happens
//! where a controller is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;

use common::with_busybox;

/// A world with the busybox image.
#[test]
fn a_driver_is_remembered_while_there_is_a_box_and_a_changed_host_is_told() {
    let world = with_busybox();
    let file = world.root().join("cgroup-driver.json");
    world.rk("run --rm --net none busybox true").ok().quiet();
    // Nothing relies on it: gc forgets it, as all else that is shared.
    world.rk("gc").ok();
    assert!(!file.exists());
    world.rk("sandbox create --net none a").ok();
    let said = fs::read_to_string(&file).unwrap();
    let systemd = fs::exists("/run/systemd/system").unwrap() && fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let (driver, other) = if systemd { ("systemd", "cgroupfs") } else { ("cgroupfs", "systemd") };
    assert!(said.contains(&format!("\"driver\":\"{driver}\"")) && said.contains("control groups are version"), "{said}");
    world.rk("gc").ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), said);
    // Another host than it was: the same driver as long as it works, and everybody is told.
    let changed = |driver: &str| fs::write(&file, format!("{{\"v\":1,\"driver\":\"{driver}\",\"why\":\"it was so\"}}\n")).unwrap();
    changed("cgroupfs");
    world.rk("--cgroup-parent /rkbox-test-changed run --rm --net none busybox true").ok().says("this host has changed").says("it was so");
    world.rk("doctor -q").ok().prints("this host has changed").prints(&file.to_string_lossy());
    assert!(fs::read_to_string(&file).unwrap().contains("it was so"), "what is remembered stands");
    if !systemd {
        changed(other);
        world.rk("run --rm --net none busybox true").ok().says("systemd cannot work, new boxes use cgroupfs");
        assert_eq!(fs::read_to_string(&file).unwrap(), said);
        world.rk("--cgroup-driver systemd --cgroup-parent system.slice run --net none busybox true").fails(125).says("systemd as pid 1");
        world
            .rk("--cgroup-driver systemd --cgroup-parent system.slice sandbox create --net none b")
            .fails(5)
            .says("--cgroup-driver cgroupfs");
    }
    // A damaged file is written anew; a driver that is named is not remembered.
    fs::write(&file, "{").unwrap();
    world.rk(&format!("--cgroup-driver {driver} run --rm --net none busybox true")).ok().quiet();
    assert_eq!(fs::read_to_string(&file).unwrap(), "{");
    world.rk("run --rm --net none busybox true").ok().quiet();
    assert_eq!(fs::read_to_string(&file).unwrap(), said);
    world.rk("sandbox rm --force a").ok();
    world.rk("gc").ok();
    assert!(!file.exists());
}

/// The scripts run in a pid namespace of their own, so that a `kubelet` is seen by nobody else.
#[test]
fn a_kubelet_or_containerd_with_the_other_driver_is_refused_with_the_line_that_mends_it() {
    let world = with_busybox();
    let systemd = fs::exists("/run/systemd/system").unwrap() && fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let (ours, other) = if systemd { ("systemd", "cgroupfs") } else { ("cgroupfs", "systemd") };
    fs::write(world.path("kubelet.yaml"), format!("kind: KubeletConfiguration\ncgroupDriver: {other}\n")).unwrap();
    fs::write(
        world.path("containerd.toml"),
        format!("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = {}\n", !systemd),
    )
    .unwrap();
    let alone = |name: &str, script: &str| {
        let script = format!(
            "cp /bin/sleep {dir}/{name}; {dir}/{name} 60 & \n mkdir -p /var/lib/kubelet /etc/containerd\n\
             mount -t tmpfs tmpfs /var/lib/kubelet; mount -t tmpfs tmpfs /etc/containerd\n{script}",
            dir = common::world::DIR
        );
        let program = format!("rkbox() {{ {} \"$@\"; }}\n{script}", world.program.display());
        fs::write(world.path("script"), program).unwrap();
        world.sh(&format!("unshare --pid --fork --mount-proc --kill-child sh -eu {}", world.path("script").display()))
    };
    let run = "rkbox run --rm --net none busybox echo it runs";
    for (name, place) in [("kubelet", "/var/lib/kubelet/config.yaml"), ("containerd", "/etc/containerd/config.toml")] {
        let file = world.path(if name == "kubelet" { "kubelet.yaml" } else { "containerd.toml" });
        let configured = format!("cp {} {place}\n", file.display());
        alone(name, &format!("{configured}{run}"))
            .fails(125)
            .says(&format!("{name} runs on this node with the cgroup driver {other}, rkbox uses {ours}"))
            .says(&format!("--cgroup-driver {other}"))
            .says(&format!("--cgroup-driver {ours}"));
        alone(name, &format!("{configured}rkbox create --net none busybox true")).fails(5).says("fight over the tree");
        alone(name, &format!("{configured}rkbox sandbox create --net none s")).fails(5).says("fight over the tree");
        let meant = alone(name, &format!("{configured}rkbox --cgroup-driver {ours} run --rm --net none busybox echo it runs")).ok();
        meant.prints("it runs").says(&format!("{name} runs on this node"));
        alone(name, &format!("{configured}rkbox doctor -q")).ok().prints(&format!("{name} uses {other}, rkbox {ours}"));
        // Configured the same; not configured; configured and not running.
        let same = format!("sed -i 's/{other}/{ours}/; s/{}/{systemd}/' {place}\n", !systemd);
        alone(name, &format!("{configured}{same}{run}")).ok().prints("it runs").quiet();
        alone(name, run).ok().prints("it runs").quiet();
        alone("bystander", &format!("{configured}{run}")).ok().prints("it runs").quiet();
    }
    assert_eq!(world.rk("sandbox ls -q").ok().stdout, "");
    assert_eq!(world.rk("ps -aq").ok().stdout, "");
}

/// A hierarchy that is not mounted is a controller that the host lacks (version 1; version 2 is seen in scripts/vm-test).
#[test]
fn a_missing_controller_is_told_and_what_asks_for_it_is_refused() {
    if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap() {
        return;
    }
    let world = with_busybox();
    let without = |controller: &str| {
        let row = format!("/sys/fs/cgroup/{controller}");
        world.sh(&format!("umount -l $(readlink -f {row})")).ok();
    };
    without("pids");
    world.rk("run --rm --net none busybox echo it runs").ok().prints("it runs").says("lacks the cgroup controller pids");
    world.rk("run --rm --net none --pids-limit -1 busybox echo it runs").ok().prints("it runs");
    world.rk("run --rm --net none --pids-limit 9 busybox true").fails(125).says("--pids-limit cannot be held").says("controller pids");
    world.rk("create --name c --net none busybox true").ok().says("pids");
    world.rk("update --pids-limit 9 c").fails(5).says("--pids-limit cannot be held");
    // Nothing may be left where it is not seen any more.
    world.rk("rm c").ok();
    world.rk("gc").ok();
    without("memory");
    world.rk("create --name c --net none busybox true").ok();
    world.rk("update --memory 64m c").fails(5).says("controller memory");
    world.rk("run --rm --net none -m 64m busybox true").fails(125).says("--memory cannot be held").says("leave --memory out");
    world.rk("run --rm --net none busybox echo it runs").ok().prints("it runs");
    world.rk("doctor -q").ok().prints("missing").prints("memory").prints("pids");
    world.rk("rm c").ok();
}

/// `--cgroup-conf`: no word of it is a path or reaches a terminal as it is, and where there are no such files it is refused, not passed over.
#[test]
fn files_of_version_2_are_taken_by_their_names_only() {
    let world = with_busybox();
    for (bad, why) in [
        ("../../memory.high=1", "is no file of a control group"),
        ("memory.\u{1b}[2Jhigh=1", "is no file of a control group"),
        ("memory.high=1\n2", "needs a value of one line"),
        ("memory.high", "has no value"),
        ("nothing.max=1", "belongs to no controller"),
        ("cgroup.procs=1", "does not bound a group"),
    ] {
        let said = world
            .rkbox(["run", "--rm", "--net", "none", "--cgroup-conf", bad, "busybox", "true"])
            .fails(125)
            .says("--cgroup-conf")
            .says(why);
        assert!(!said.stderr.contains('\u{1b}'), "{bad:?}: {}", said.stderr);
        world.rkbox(["create", "--name", "c", "--net", "none", "--cgroup-conf", bad, "busybox", "true"]).fails(2).says(why);
    }
    if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap() {
        return;
    }
    // Version 2 is seen in scripts/vm-test.
    world
        .rk("create --name c --net none --cgroup-conf memory.high=64m busybox true")
        .fails(5)
        .says("control groups of version 1")
        .says("--memory");
    world.rk("create --name c --net none busybox true").ok();
    world.rk("update --cgroup-conf memory.high=64m c").fails(5).says("--cgroup-conf memory.high cannot be held");
    world.rk("rm c").ok();
}
