//! Protections shown to protect: each attack once where the protection is off, where it must succeed, and once where it is on. Also what is
//! written for a host with AppArmor or SELinux, which this machine need not have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use common::world::DIR;
use common::{World, with_busybox};

fn program(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// CVE-2024-21626, CVE-2016-9962: a runtime that inherits a directory of the host hands it to whoever knows its number.
#[test]
fn the_runtime_inherits_no_descriptor() {
    let world = with_busybox();
    let spy = program(&world, "spy", &format!("#!/bin/sh\nls -l /proc/$$/fd >>{DIR}/seen; exec runc \"$@\"\n"));
    let seen = |line: &str| {
        let _ = fs::remove_file(world.path("seen"));
        world.sh(&format!("exec 7</root 8</etc/passwd; {line}")).ok();
        let text = fs::read_to_string(world.path("seen")).unwrap();
        text.contains("-> /root\n") || text.contains("-> /etc/passwd\n")
    };
    let spy = spy.display();
    assert!(seen(&format!("{spy} --version >/dev/null")), "a descriptor is inherited where nobody closes it");
    assert!(!seen(&format!("rkbox --runtime {spy} run --rm --net none busybox true")));
    assert!(!seen(&format!("rkbox --runtime {spy} run -d --net none --name c busybox sleep 100")));
    for line in ["exec c true", "pause c", "unpause c", "stop -t 0 c", "rm c"] {
        world.sh(&format!("exec 7</root; : >{DIR}/seen; rkbox --runtime {spy} {line}; ! grep -q 'root$' {DIR}/seen")).ok();
    }
}

/// CVE-2025-31133 and its kin speak of what the masks hide: this is what would be read without them.
#[test]
fn what_is_hidden_can_be_read_without_the_masks() {
    let world = with_busybox();
    let look =
        "for f in /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/timer_list /proc/timer_stats; do
            [ ! -e $f ] || echo $f $(head -c 64 $f 2>/dev/null | wc -c); done
        for d in /proc/acpi /proc/asound /proc/scsi /sys/dev/block /sys/devices/virtual/powercap /sys/firmware /sys/fs/selinux; do
            [ ! -d $d ] || echo $d $(ls $d | wc -l); done";
    let sizes = |options: &[&str]| -> BTreeMap<String, u64> {
        let said = world.rkbox([&["run", "--rm", "--net", "none"], options, &["busybox", "sh", "-c", look]].concat()).ok().stdout;
        said.lines().filter_map(|line| line.split_once(' ')).map(|(path, size)| (path.to_owned(), size.parse().unwrap())).collect()
    };
    let (bare, masked) = (sizes(&["--security-opt", "unmask=ALL"]), sizes(&[]));
    let told = bare.iter().filter(|(_, size)| **size > 0).count();
    assert!(told >= 3, "the masks hide nothing on this kernel: {bare:?}");
    for (path, size) in &masked {
        assert_eq!(*size, 0, "{path}: {masked:?}, without masks {bare:?}");
    }
    // What is read-only can be written without that: a setting of the container's own, so that nothing of the host changes.
    let write = |options: &[&str]| {
        world
            .rkbox([&["run", "--rm", "--net", "none"], options, &["busybox", "sh", "-c", "echo w >/proc/sys/kernel/hostname"]].concat())
            .code
    };
    assert_ne!(write(&[]), 0);
    assert_eq!(write(&["--security-opt", "unmask=/proc/sys"]), 0);
}

/// Waits for a program that is not its own, holds it by `/proc/PID/exe`, and writes to it once nobody runs it any more.
const LURKER: &str = "exec 2>/dev/null; ln -s /proc/self/fd/9 /sleep; while :; do for p in /proc/[0-9]*; do \
    case $(readlink $p/exe) in ''|/bin/busybox|/bin/sh) ;; *) exec 8<$p/exe && while [ -e $p ]; do :; done; \
    for n in 1 2 3 4 5 6 7 8 9; do echo overwritten >/proc/self/fd/8 && echo hit >>/hits; done;; esac; done; done";

/// CVE-2019-5736: who enters a container with a program of the host lends it to the container.
#[test]
fn a_program_that_enters_a_container_can_be_overwritten_and_the_runtime_cannot() {
    let world = with_busybox();
    let runc = world.path("runtime");
    // All that enters is a copy: between its fork and its exec, `nsenter` itself can be held and overwritten.
    world.sh(&format!("cp $(command -v runc) {}; cp /bin/busybox {DIR}/victim", runc.display())).ok();
    let before = (fs::read(&runc).unwrap(), fs::read(world.path("victim")).unwrap(), fs::read(&world.program).unwrap());
    let rkbox = |line: &str| world.rkbox(["--runtime", &runc.display().to_string()].into_iter().chain(line.split_whitespace()));
    let lurk = |name: &str| {
        let runtime = runc.display().to_string();
        world
            .rkbox(["--runtime", &runtime, "run", "-d", "--name", name, "--net", "none", "--privileged", "busybox", "sh", "-c", LURKER])
            .ok();
    };
    // Without protection: a program of the host, by its descriptor (`/sleep`, by which name it is a sleep).
    lurk("bare");
    let pid = rkbox("inspect bare").ok().json()[0]["pid"].as_u64().unwrap();
    for _ in 0..200 {
        let copy = format!("cp $(command -v nsenter) {DIR}/nsenter");
        let enter = format!("{copy}; exec 9<{DIR}/victim; {DIR}/nsenter --target {pid} --mount --pid /sleep 0.2; sleep 0.1");
        let _ = world.sh(&enter);
        if fs::read(world.path("victim")).unwrap() != before.1 {
            break;
        }
    }
    let is_whole = fs::read(world.path("victim")).unwrap() == before.1;
    assert!(!is_whole, "the attack does not work on this kernel: it proves nothing");
    rkbox("rm --force bare").ok();
    // The runtime enters the same way.
    lurk("lurker");
    for _ in 0..20 {
        let _ = rkbox("exec lurker true");
    }
    let hits = rkbox("exec lurker cat /hits");
    rkbox("rm --force lurker").ok();
    assert!(fs::read(&runc).unwrap() == before.0, "the runtime was overwritten: {hits}");
    assert!(fs::read(&world.program).unwrap() == before.2);
}

/// The `config.json` in the script of a container.
fn explained(world: &World, options: &str) -> String {
    world.rk(&format!("run --explain --rm --net none {options} busybox true")).ok().stdout
}

#[test]
fn a_host_with_apparmor_gets_its_profile() {
    let world = with_busybox();
    world
        .sh("mount -t tmpfs tmpfs /sys/module; mkdir -p /sys/module/apparmor/parameters; echo Y >/sys/module/apparmor/parameters/enabled")
        .ok();
    world.sh("mount -t tmpfs tmpfs /sys/kernel/security; mkdir /sys/kernel/security/apparmor").ok();
    let load = |profiles: &str| fs::write("/sys/kernel/security/apparmor/profiles", profiles).unwrap();
    let profile = |name: &str| format!("\"apparmorProfile\":\"{name}\"");
    let has = |options: &str, name: &str| {
        let script = explained(&world, options).replace("\": \"", "\":\"");
        assert!(script.contains(&profile(name)), "{options}: no {name} in {script}");
    };
    load("docker-default (enforce)\n/usr/bin/man (enforce)\nmine (complain)\n");
    has("", "docker-default");
    load("docker-default (enforce)\nrkbox-default (enforce)\nmine (complain)\n");
    has("", "rkbox-default");
    has("--security-opt apparmor=mine", "mine");
    has("--security-opt apparmor=unconfined", "unconfined");
    has("--privileged --security-opt apparmor=mine", "mine");
    assert!(!explained(&world, "--privileged").contains("apparmorProfile"));
    world.rk("run --rm --net none --security-opt apparmor=absent busybox true").fails(125).says("absent").says("apparmor_parser");
    load("");
    assert!(!explained(&world, "").contains("apparmorProfile"), "none is loaded, none is named");
    world.sh("umount /sys/kernel/security /sys/module").ok();
}

#[test]
fn a_host_with_selinux_gets_the_labels_that_are_asked_for() {
    let world = with_busybox();
    world
        .sh(&format!(
            "mkdir {DIR}/groups; mount --rbind /sys/fs/cgroup {DIR}/groups; mount -t tmpfs tmpfs /sys/fs; mkdir /sys/fs/cgroup /sys/fs/selinux
             mount --rbind {DIR}/groups /sys/fs/cgroup; echo 1 >/sys/fs/selinux/enforce"
        ))
        .ok();
    let script = |options: &str| explained(&world, options).replace("\": \"", "\":\"");
    assert!(!script("").contains("selinuxLabel"), "labels are only as asked");
    let said = script("--security-opt label=level:s0:c1,c2");
    for part in
        ["\"selinuxLabel\":\"system_u:system_r:container_t:s0:c1,c2\"", "\"mountLabel\":\"system_u:object_r:container_file_t:s0:c1,c2\""]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(script("--security-opt label=type:spc_t").contains("system_u:system_r:spc_t:s0"));
    assert!(!script("--security-opt label=type:spc_t --security-opt label=disable").contains("selinuxLabel"));
    // Relabelling somebody's files is refused, not left undone.
    fs::create_dir(world.path("dir")).unwrap();
    world.rk(&format!("run --rm --net none -v {DIR}/dir:/d:Z busybox true")).fails(125).says("chcon");
    world.sh(&format!("umount -l /sys/fs; umount -l {DIR}/groups")).ok();
}

/// An image whose `/dev` is a link to a directory of the host, as CVE-2026-41579 has it: what the runtime makes of it alone, and under rkbox.
#[test]
fn links_of_an_image_lead_the_runtime_out_without_the_init_layer() {
    let world = with_busybox();
    let canary = world.path("canary");
    let fresh = || {
        let _ = fs::remove_dir_all(&canary);
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("ptmx"), "of the host").unwrap();
    };
    let listed = || {
        let mut names: Vec<String> =
            fs::read_dir(&canary).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        (names, fs::read_to_string(canary.join("ptmx")).unwrap_or_default())
    };
    fresh();
    let before = listed();
    let layout = common::images().layout("busybox");
    world
        .sh(&format!(
            "cd {DIR}; mkdir -p work/layer; cp -r {layout} work/oci; cd work; ln -s {} layer/dev; tar -C layer -cf layer.tar dev
             umoci raw add-layer --image oci:latest --tag links layer.tar; rkbox image load oci:oci:links
             umoci unpack --image oci:links plain",
            canary.display()
        ))
        .ok();
    // The same configuration, once on the files of the image alone.
    let config = explained_config(&world, "links");
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["root"] = serde_json::json!({ "path": "rootfs" });
    for key in ["resources", "cgroupsPath"] {
        config["linux"].as_object_mut().unwrap().remove(key);
    }
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.iter_mut().for_each(|namespace| drop(namespace.as_object_mut().unwrap().remove("path")));
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["source"].as_str().unwrap_or_default().starts_with(DIR));
    fs::write(world.path("work/plain/config.json"), config.to_string()).unwrap();
    let alone = world.sh(&format!("cd {DIR}/work/plain; runc --root {DIR}/runc-state run bare </dev/null"));
    let is_newer = runc_is_mended(&world);
    assert!(is_newer || listed() != before, "the runtime is not led out: the attack proves nothing on it ({alone})");
    fresh();
    world.rk("run --rm --net none links true").ok();
    assert_eq!(listed(), before, "led out");
}

/// Whether this runc has its own protection (1.3.6, 1.4.3): then the attack cannot be shown to work.
fn runc_is_mended(world: &World) -> bool {
    let report = world.rk("--format json doctor").ok().json();
    !report.as_array().unwrap().iter().any(|row| row["topic"] == "advisories" && row["found"].as_str().unwrap().contains("CVE-2026-41579"))
}

/// The `config.json` of a container of `image`.
fn explained_config(world: &World, image: &str) -> String {
    world.rk(&format!("create --name config --net none {image} true")).ok();
    let bundle = world.rk("inspect config").ok().json()[0]["record"]["bundle"].as_str().unwrap().to_owned();
    let text = fs::read_to_string(format!("{bundle}/config.json")).unwrap();
    world.rk("rm config").ok();
    text
}

/// The races on masks need a root file system that two containers write to at once: there is none, in a sandbox neither.
#[test]
fn no_two_containers_write_to_one_root() {
    let world = with_busybox();
    world.rk("sandbox create --net none s").ok();
    for name in ["a", "b"] {
        world.rk(&format!("run -d --name {name} --sandbox s busybox sleep 1000")).ok();
    }
    for (at, by) in [("/of-a", "a"), ("/dev/of-a", "a"), ("/etc/of-a", "a")] {
        world.rkbox(["exec", by, "sh", "-c", &format!("echo x >{at}")]).ok();
        world.rkbox(["exec", "b", "test", "!", "-e", at]).ok();
    }
    let roots: Vec<String> =
        ["a", "b"].map(|name| world.rk(&format!("inspect {name}")).ok().json()[0]["record"]["bundle"].as_str().unwrap().to_owned()).into();
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let uppers: std::collections::BTreeSet<&str> = mounts
        .lines()
        .filter(|line| roots.iter().any(|root| line.contains(root.as_str())))
        .filter_map(|line| line.split("upperdir=").nth(1))
        .collect();
    assert_eq!(uppers.len(), 2, "{mounts}");
    world.rk("sandbox rm --force s").ok();
}

/// R16, R17: an exec ends with its process although a child of it keeps the streams, and its output is not kept anywhere.
#[test]
fn an_exec_ends_with_its_process_and_keeps_nothing() {
    let world = with_busybox();
    world.rk("run -d --name c --net none busybox sleep 1000").ok();
    let began = std::time::Instant::now();
    let script = format!("{} exec c sh -c 'sleep 300 & echo done' >{DIR}/out 2>&1; cat {DIR}/out", world.program.display());
    world.sh(&script).ok().prints("done");
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "it waited for the child");
    // 400 MB go through it; what it needs at most is told by its parent, in KiB.
    let program = world.program.display();
    let measure = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=open('/dev/null', 'w')); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let flood = format!("python3 -c \"{measure}\" {program} exec c head -c 400000000 /dev/zero");
    let peak: u64 = world.sh(&flood).ok().stdout.trim().parse().unwrap();
    assert!(peak < 150_000, "{peak} KiB");
    world.rk("rm --force c").ok();
}
