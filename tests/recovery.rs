//! After a death at any moment, a reboot, or somebody's rm -rf: `gc` and `rm` bring the world back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod dice;

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{Observation, Output, World, wait_for, with_busybox_only};
use dice::Dice;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Starts rkbox and does not wait.
fn start(world: &World, line: &str, more: &[&str]) -> Child {
    let mut command = world.command(&world.program);
    command.args(line.split_whitespace()).args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// The exit status, 128+n by signal.
fn code(mut child: Child) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    let status = child.wait().unwrap();
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

fn state(world: &World, sandbox: &str) -> String {
    let seen = world.rkbox(["sandbox", "inspect", sandbox]).ok().json();
    seen[0]["state"].as_str().unwrap().to_owned()
}

/// The directory of the only sandbox.
fn sandbox_dir(world: &World) -> std::path::PathBuf {
    fs::read_dir(world.root().join("sandboxes")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn gc_takes_a_container_whose_foreground_command_was_killed() {
    let world = with_busybox_only();
    let before = world.observe();
    let mut command = start(&world, "run --rm busybox sleep 1000", &[]);
    let runs = || world.rkbox(["--format", "json", "ps"]).ok().json()[0]["state"] == "running";
    wait_for("a running container", runs);
    command.kill().unwrap();
    command.wait().unwrap();
    world.rk("gc").ok();
    before.assert_again(&world, "run --rm killed, then gc");
}

#[test]
fn gc_takes_back_what_kills_at_random_moments_left() {
    let world = with_busybox_only();
    let before = world.observe();
    let mut dice = Dice(u64::from(std::process::id()) | 1);
    for round in 0..120 {
        let line = match round % 3 {
            0 => "sandbox create web",
            1 => "run --rm busybox true",
            _ => "sandbox rm --force web",
        };
        if round % 3 == 2 {
            world.rk("sandbox create web");
        }
        let mut child = start(&world, line, &[]);
        std::thread::sleep(Duration::from_micros(dice.roll(60_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        if round % 5 == 4 {
            world.rk("gc").ok();
            world.rk("sandbox rm --force web").ok();
            world.rk("gc").ok();
            before.assert_again(&world, &format!("rounds up to {round}, the last one {line}, killed; gc"));
        }
    }
}

#[test]
fn sigint_and_sigterm_roll_a_creation_back() {
    let world = World::new();
    let before = world.observe();
    fs::write("/run/slow", "#!/bin/sh\ntouch /run/started\nsleep 0.7\nexec runc \"$@\"\n").unwrap();
    world.sh("chmod +x /run/slow").ok();
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let child = start(&world, "--runtime /run/slow sandbox create web", &[]);
        wait_for("the runtime", || fs::exists("/run/started").unwrap());
        send(&child, signal);
        assert_eq!(code(child), status);
        world.rk("sandbox inspect web").fails(3);
        let leases = world.sh("ls $RKBOX_CNI_STATE_DIR/networks/connet 2>/dev/null | grep -c ^10 || true").ok();
        assert_eq!(leases.stdout.trim(), "0");
        fs::remove_file("/run/started").unwrap();
    }
    fs::remove_file("/run/slow").unwrap();
    // Shared things that the kernel still held at that moment (a dead veth in the bridge) went to the ledger.
    world.rk("gc").ok();
    before.assert_again(&world, "two interrupted creations");
}

#[test]
fn a_signal_to_a_foreground_run_reaches_the_container() {
    let world = with_busybox_only();
    let before = world.observe();
    let script = "trap 'echo told > /out/told; exit 9' TERM; echo up > /out/up; while :; do sleep 0.05; done";
    fs::create_dir("/run/out").unwrap();
    let child = start(&world, "run --rm -v /run/out:/out busybox sh -c", &[script]);
    wait_for("the script", || fs::exists("/run/out/up").unwrap());
    send(&child, Signal::SIGTERM);
    assert_eq!(code(child), 9);
    assert_eq!(fs::read_to_string("/run/out/told").unwrap(), "told\n");
    fs::remove_dir_all("/run/out").unwrap();
    world.rk("gc").ok();
    before.assert_again(&world, "run --rm ended by SIGTERM, then gc");
}

#[test]
fn after_a_reboot_gc_frees_the_leases_and_rm_takes_the_records() {
    let world = World::new();
    let before = world.observe();
    world.sh("rkbox sandbox create web; rkbox sandbox create db").ok();
    // What a reboot does: processes, namespaces, links, /run.
    world.sh(
        "for pid in $(rkbox --format json sandbox ls | jq '.[].pid'); do kill -9 $pid; done
        umount /run/netns/web /run/netns/db; rm -rf /run/netns/*; umount -R $HOME/run/* $HOME/lib/sandboxes/*/* 2>/dev/null || true
        for mount in $(awk -v home=$HOME/run '$5 ~ \"^\" home {print $5}' /proc/self/mountinfo); do umount $mount; done
        umount /run/netns 2>/dev/null || true; rm -rf $HOME/run /run/netns
        ip link delete cni0; nft flush ruleset
        for way in /sys/fs/cgroup/*/ /sys/fs/cgroup/; do find $way$RKBOX_CGROUP_PARENT -depth -mindepth 1 -type d -exec rmdir {} + 2>/dev/null || true; done",
    )
    .ok();
    let rebooted = |line: &str| {
        let mut command = world.command(&world.program);
        Output::of(command.env("RKBOX_TEST_BOOT_ID", "another-boot").args(line.split_whitespace()), world.limit)
    };
    let seen = rebooted("--format json sandbox ls").ok().json();
    assert!(seen.as_array().unwrap().iter().all(|row| row["state"] == "notready"), "{seen}");
    rebooted("gc").ok();
    let leases = world.sh("ls $RKBOX_CNI_STATE_DIR/networks/connet 2>/dev/null | grep -c ^10 || true").ok();
    assert_eq!(leases.stdout.trim(), "0");
    assert_eq!(rebooted("--format json sandbox ls").ok().json().as_array().unwrap().len(), 2, "records survive gc");
    rebooted("sandbox rm web db").ok();
    rebooted("gc").ok();
    world.sh("sysctl -q net.ipv4.ip_forward=0").ok();
    // A reboot takes the notes of what is shared; what it does not take is empty.
    const EMPTY: [&str; 4] = ["sysctl", " directory", "/lock: ", "/last_reserved_ip.0: "];
    let left = before.difference(&world.observe());
    let left: Vec<_> = left.iter().filter(|line| line.starts_with('+') && !EMPTY.iter().any(|empty| line.contains(empty))).collect();
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn a_sandbox_without_its_pause_process_is_not_ready_and_can_be_removed() {
    let world = with_busybox_only();
    let before = world.observe();
    world.sh("rkbox sandbox create web; kill -9 $(rkbox --format json sandbox ls | jq '.[0].pid')").ok();
    wait_for("notready", || state(&world, "web") == "notready");
    world.rk("run --rm --sandbox web busybox true").fails(125).says("not ready").says("hint:");
    world.rk("sandbox rm web").ok();
    world.rk("gc").ok();
    before.assert_again(&world, "pause killed, sandbox rm, gc");
}

/// Somebody else's hands: what they did, and what then cannot be put back by anybody.
const HANDS: [(&str, &str); 8] = [
    ("the namespace", "umount /run/netns/web; rm /run/netns/web"),
    ("the bridge", "ip link delete cni0"),
    ("the tables", "nft flush ruleset"),
    ("the leases", "rm -rf $RKBOX_CNI_STATE_DIR/networks"),
    ("the cache", "rm -rf $RKBOX_CNI_STATE_DIR/results"),
    ("the interface", "ip -n web link delete eth0"),
    ("the state of the runtime", "rm -rf $RKBOX_RUN/runtime/*"),
    ("the name", "rm -rf $RKBOX_ROOT/names"),
];

#[test]
fn rm_takes_what_is_left_when_somebody_took_a_part() {
    for (what, script) in HANDS {
        let world = World::new();
        // umount(8) keeps notes there.
        fs::create_dir("/run/mount").unwrap();
        let before = world.observe();
        world.rk("sandbox create web").ok();
        let id = sandbox_dir(&world).file_name().unwrap().to_str().unwrap().to_owned();
        world.sh(script).ok();
        world.rkbox(["sandbox", "rm", &id]).ok();
        world.rk("gc").ok();
        before.assert_again(&world, &format!("{what} taken away, sandbox rm, gc"));
    }
}

#[test]
fn rm_works_from_the_record_when_the_journal_is_missing() {
    let world = World::new();
    world.rk("sandbox create keep").ok();
    fs::create_dir("/run/mount").unwrap();
    let before = world.observe();
    world.sh("rkbox sandbox create --explain web | sh -eu").ok();
    assert_eq!(state(&world, "web"), "ready");
    world.rk("sandbox rm web").ok();
    assert_unchanged(&before, &world, "a sandbox made by a script, sandbox rm");
    world.sh("id=$(rkbox sandbox create web); rm $RKBOX_RUN/journals/$id.jsonl; rkbox sandbox stop web; rkbox sandbox rm web").ok();
    assert_unchanged(&before, &world, "journal missing, sandbox stop, sandbox rm");
    world.rk("sandbox rm keep").ok();
}

/// The last address that was given is one higher each time.
fn assert_unchanged(before: &Observation, world: &World, why: &str) {
    let steady = |seen: &Observation| seen.only(|key| !key.contains("last_reserved_ip"));
    let again = common::World::observe(world);
    let left = steady(before).difference(&steady(&again));
    assert!(left.is_empty(), "{why}: {left:#?}");
}

#[test]
fn a_damaged_journal_is_named_and_force_works_from_the_record() {
    let world = World::new();
    let before = world.observe();
    world.sh("id=$(rkbox sandbox create web); echo nonsense > $RKBOX_RUN/journals/$id.jsonl").ok();
    world.rk("sandbox rm web").fails(13).says(".jsonl").says("rkbox sandbox rm --force web");
    world.rk("sandbox rm --force web").ok();
    world.rk("gc").ok();
    before.assert_again(&world, "damaged journal, sandbox rm --force, gc");
}

#[test]
fn gc_takes_a_directory_that_nothing_tells_about() {
    let world = World::new();
    let before = world.observe();
    world.sh("id=$(rkbox sandbox create web); rkbox sandbox rm web; mkdir -p $RKBOX_ROOT/sandboxes/$id; echo torn > $RKBOX_ROOT/sandboxes/$id/record.json").ok();
    world.rk("sandbox ls").ok().prints("damaged");
    world.rk("gc").ok();
    before.assert_again(&world, "a leftover directory, gc");
}
