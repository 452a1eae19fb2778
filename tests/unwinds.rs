//! Every command, failed and killed at every one of its points: after `rkbox gc` the world is as it was.
//!
//! A debug build stops at `RKBOX_FAULT=<phase>:<index>:<fail|abort>`. For each phase the index counts up until the command
//! does not reach it any more. What a command makes must be gone; what a command removes must be there whole or gone whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Observation, World, images, portmap, reboot, registry};

/// The points that differ from their neighbours: before each step (`started`) and after it (`applied`), the same for undos, and the ends.
/// `before` and `done` are the same world as `started` and as the next step's.
const PHASES: [&str; 10] = ["journal", "started", "applied", "settle", "start", "remove", "removing", "undone", "unwound", "reclaim"];

/// A pod as crictl takes it, for `POD_FILE`.
const POD: &str = r#"{"metadata": {"name": "web", "namespace": "a", "uid": "u"}, "hostname": "web", "log_directory": "/tmp/rkbox-world/logs", "dns_config": {"servers": ["192.0.2.1"]},
    "port_mappings": [{"container_port": 80, "host_port": 8080}], "linux": {"sysctls": {"net.core.somaxconn": "8", "kernel.shmmni": "9"},
    "security_context": {"run_as_user": {"value": 7}, "seccomp": {"profile_type": 0}}}}"#;

/// A container in that pod, for `CONTAINER_FILE`.
const CONTAINER: &str = r#"{"metadata": {"name": "c"}, "image": {"image": "busybox"}, "command": ["sleep", "1000"], "log_path": "c/0.log",
    "mounts": [{"container_path": "/m", "host_path": "/tmp/rkbox-world/made/deep"}]}"#;

/// What may be left after a fault and `gc`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Law {
    /// The world as it was.
    Before,
    /// The world as it was, or as after the whole command.
    Either,
}

/// A command and the world that it needs.
#[derive(Clone, Copy)]
struct Row {
    /// Instead of rkbox: a script that stands in for it, to test the sweep.
    stand_in: Option<&'static str>,
    prepare: &'static str,
    command: &'static str,
    law: Law,
}

impl Row {
    /// A world made ready, tidied by `gc`, and what it looks like.
    fn world(&self) -> (World, Observation) {
        let mut world = World::new();
        if let Some(script) = self.stand_in {
            world.program = world.path("stand-in");
            world.sh(&format!("cat >$HOME/stand-in <<'EOF'\n{script}\nEOF\nchmod +x $HOME/stand-in")).ok();
        }
        world.sh(&self.filled(self.prepare)).ok();
        world.rk("gc").ok();
        let seen = world.observe();
        (world, seen)
    }

    fn filled(&self, text: &str) -> String {
        text.replace("CONTAINER_FILE", &format!("cat >$HOME/c.json <<'EOF'\n{CONTAINER}\nEOF\n"))
            .replace("POD_FILE", &format!("cat >$HOME/pod.json <<'EOF'\n{POD}\nEOF\n"))
            .replace("PORTMAP", portmap::CONFIGURE)
            .replace("BUSYBOX", &images().oci_archive("busybox"))
            .replace("LAYERED", &images().oci_archive("layers"))
            .replace("LAYERS", &images().layout("layers"))
            .replace("REBOOT", reboot::SCRIPT)
            .replace("REGISTRY", &registry::script(&images().layout("layers")))
    }

    /// What is there after the whole command; also checks that the command works at all.
    fn after(&self) -> Observation {
        let (mut world, _) = self.world();
        world.rk(&self.filled(self.command)).ok();
        world.rk("gc").ok();
        world.allow_leaks();
        let mut seen = world.observe();
        loop {
            std::thread::sleep(Duration::from_millis(400));
            let again = world.observe();
            if again == seen {
                return seen.normalise_ids();
            }
            seen = again;
        }
    }

    /// The points that the whole command reaches, in order.
    fn points(&self) -> Vec<String> {
        let (mut world, _) = self.world();
        world.allow_leaks();
        let trace = world.path("trace");
        world.rkbox_traced(&trace, self.filled(self.command).split_whitespace()).ok();
        let reached = std::fs::read_to_string(&trace).unwrap_or_default();
        let mut points: Vec<String> = Vec::new();
        for point in reached.lines() {
            let phase = point.split(':').next().unwrap_or_default();
            if PHASES.contains(&phase) && !points.iter().any(|known| known == point) {
                points.push(point.to_owned());
            }
        }
        points
    }

    fn sweep(&self, act: &str) {
        // The kernel's clean-up is waited for most of the time, so what can goes side by side, each in a world of its own.
        let (after, points) = beside(|| self.after(), || self.points());
        assert!(points.len() > 2, "rkbox {} has only these points: {points:?}", self.filled(self.command));
        let (first, second) = points.split_at(points.len() / 2);
        beside(|| self.sweep_points(first, act, &after), || self.sweep_points(second, act, &after));
    }

    fn sweep_points(&self, points: &[String], act: &str, after: &Observation) {
        let command = self.filled(self.command);
        let (mut world, mut before) = self.world();
        world.allow_leaks();
        for point in points {
            let fault = format!("{point}:{act}");
            let output = world.rkbox_faulty(&fault, command.split_whitespace());
            expect_the_fault(&fault, act, &output);
            world.rk("gc").ok();
            self.check(&world, &before, after, &format!("{fault} of rkbox {command}, then gc"));
            // The next fault needs the world of the first one again.
            if Observation::glance(&world) != before {
                drop(world);
                (world, before) = self.world();
                world.allow_leaks();
            }
        }
    }

    fn check(&self, world: &World, before: &Observation, after: &Observation, why: &str) {
        // The kernel takes the links of a dead namespace away in its own time.
        for _ in 0..20 {
            let seen = world.observe();
            if seen == *before || (self.law == Law::Either && lasting(&seen) == lasting(after)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        let against = match self.law {
            Law::Either => lasting(&world.observe()).difference(&lasting(after)),
            Law::Before => Vec::new(),
        };
        before.assert_again(world, &format!("{why} (against what is there when it succeeds: {against:#?})"));
    }
}

/// Two at once; a panic of either is this one's.
fn beside<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        match one.join() {
            Ok(one) => (one, other),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What two runs of the same commands have in common: a box that both leave running has another pid, and another state of runc, in each.
fn lasting(seen: &Observation) -> Observation {
    seen.normalise_ids().only(|key| !key.ends_with("/pid") && !key.ends_with("/state.json"))
}

/// The command ended because of the fault and not of something else.
#[track_caller]
fn expect_the_fault(fault: &str, act: &str, output: &common::Output) {
    let wanted = if act == "abort" { output.code == 134 } else { output.stderr.contains("fault injected") };
    assert!(wanted, "{fault} ended otherwise: {output}");
}

macro_rules! sweeps {
    ($($(#[$row:meta])* $name:ident: $law:ident, $prepare:expr, $command:expr;)+) => { $(
        mod $name {
            use super::*;
            const ROW: Row = Row { stand_in: None, prepare: $prepare, command: $command, law: Law::$law };

            #[test]
            $(#[$row])*
            fn failed_at_every_point_leaves_nothing() {
                ROW.sweep("fail");
            }

            #[test]
            $(#[$row])*
            fn killed_at_every_point_leaves_nothing() {
                ROW.sweep("abort");
            }
        }
    )+ };
}

sweeps! {
    net_add: Before, "ip netns add connet", "net add connet connet";
    net_add_second: Before, "ip netns add one; ip netns add two; rkbox net add connet one", "net add connet two";
    net_create: Before, "true", "net create mine";
    net_connect: Before, "rkbox net create mine --subnet 10.61.0.0/24; rkbox sandbox create --net connet web", "net connect mine web";
    net_disconnect: Either, "rkbox net create mine --subnet 10.61.0.0/24; rkbox sandbox create --net connet web; rkbox net connect mine web", "net disconnect mine web";
    net_del: Either, "ip netns add connet; rkbox net add connet connet", "net del connet connet";
    net_add_ports: Before, "ip netns add connet", "net add -p 8080:80 -p 127.0.0.1:5353:53/udp connet connet";
    net_del_ports: Either, "ip netns add connet; rkbox net add -p 8080:80 -p 127.0.0.1:5353:53/udp connet connet", "net del connet connet";
    net_add_portmap: Before, "ip netns add web; PORTMAP", "net add -p 8080:80 -p 5353:53/udp chain web";
    net_del_portmap: Either, "ip netns add web; PORTMAP rkbox net add -p 8080:80 -p 5353:53/udp chain web", "net del chain web";
    sandbox_create: Before, "true", "sandbox create -p 8080:80 -p 5353:53/udp -p 127.0.0.1:9090-9091:90-91 web";
    sandbox_create_userns: Before, "true", "sandbox create --userns auto web";
    sandbox_create_second: Before, "rkbox sandbox create db", "sandbox create web";
    sandbox_create_from_file: Before, "POD_FILE", "sandbox create --config /tmp/rkbox-world/pod.json";
    create_from_file: Before, "POD_FILE CONTAINER_FILE rkbox image load BUSYBOX; rkbox sandbox create --config $HOME/pod.json",
        "create --sandbox web_a_u_0 --config /tmp/rkbox-world/c.json";
    rm_from_file: Either, "POD_FILE CONTAINER_FILE rkbox image load BUSYBOX; rkbox sandbox create --config $HOME/pod.json; rkbox create --sandbox web_a_u_0 --config $HOME/c.json",
        "rm c_web_a_u_0";
    sandbox_stop: Either, "rkbox sandbox create web", "sandbox stop web";
    sandbox_rm: Either, "rkbox sandbox create -p 8080:80 -p 5353:53/udp -p 127.0.0.1:9090-9091:90-91 web", "sandbox rm --force web";
    run: Before, "rkbox image load BUSYBOX", "run --rm busybox true";
    run_userns: Before, "rkbox image load BUSYBOX", "run --rm --userns auto busybox true";
    rm_userns: Either, "rkbox image load BUSYBOX; rkbox run --userns auto --net none --name c busybox true", "rm c";
    run_in_sandbox: Before, "rkbox image load BUSYBOX; rkbox sandbox create web", "run --rm --sandbox web busybox true";
    create: Before, "rkbox image load BUSYBOX", "create --name c busybox true";
    run_detached: Before, "rkbox image load BUSYBOX", "run -d --name c busybox sleep 1000";
    // The start that fails takes what the former boot had left, as each does.
    start_after_reboot: Before, "rkbox image load BUSYBOX; rkbox run -d -p 8080:80 -v cache:/c -v $HOME/made:/m --name c busybox sleep 1000
        REBOOT
        RKBOX_FAULT=settle:0:fail rkbox start c || true", "start c";
    sandbox_start_after_reboot: Before, "rkbox sandbox create -p 8080:80 web
        REBOOT
        RKBOX_FAULT=settle:0:fail rkbox sandbox start web || true", "sandbox start web";
    rm_after_reboot: Either, "rkbox image load BUSYBOX; rkbox run -d --name c busybox sleep 1000
        REBOOT
        rkbox start c", "rm --force c";
    rm_running: Either, "rkbox image load BUSYBOX; rkbox run -d --name c busybox sleep 1000", "rm --force c";
    rm: Either, "rkbox image load BUSYBOX; rkbox run --name c busybox true", "rm c";
    image_load: Before, "true", "image load BUSYBOX";
    image_load_layers: Before, "rkbox image load BUSYBOX", "image load oci:LAYERS:latest";
    image_pull: Before, "REGISTRY", "image pull -q 127.0.0.1:5000/layers:1";
    image_rm: Either, "rkbox image load BUSYBOX", "image rm busybox";
    run_volumes: Either, "rkbox image load LAYERED", "run --rm --net none -v cache:/c -v /tmp/rkbox-world/made/deep:/m layers";
    rm_volumes: Either, "rkbox image load LAYERED; rkbox run --net none --name c -v cache:/c layers", "rm -v c";
    rename: Either, "rkbox image load BUSYBOX; rkbox run -d --name c busybox sleep 1000", "rename c d";
    rm_renamed: Either, "rkbox image load BUSYBOX; rkbox run --name c busybox true; rkbox rename c d", "rm d";
    update_policy: Either, "rkbox image load BUSYBOX; rkbox run -d --net none --name c busybox sleep 1000", "update --restart always c";
    update: Either, "rkbox image load BUSYBOX; rkbox run --net none --name c busybox true", "update --memory 64m --pids-limit 9 c";
    volume_create: Before, "true", "volume create cache";
    volume_rm: Either, "rkbox volume create cache", "volume rm cache";
    image_tag: Before, "rkbox image load BUSYBOX", "image tag busybox other:1";
    image_untag: Before, "rkbox image load BUSYBOX", "image untag busybox";
    image_pin: Before, "rkbox image load BUSYBOX", "image pin busybox";
    image_save: Before, "rkbox image load BUSYBOX", "image save busybox --to oci:/tmp/rkbox-world/out";
    image_mount: Before, "rkbox image load BUSYBOX", "image mount busybox";
    image_unmount: Either, "rkbox image load BUSYBOX; rkbox image mount busybox", "image unmount busybox";
    image_repair_blob: Either, "REGISTRY; rkbox image pull -q 127.0.0.1:5000/layers:1
        blob=$(ls -S $HOME/lib/images/blobs/sha256/* | head -1); printf X | dd of=$blob bs=1 seek=100 conv=notrunc status=none", "image verify --repair";
    image_repair_index: Either, "rkbox image load BUSYBOX; rm $HOME/lib/images/oci-layout", "image verify --repair";
    image_repair_file: Either, "rkbox image load LAYERED; printf X >>$(find $HOME/lib/layers/*/fs -type f -size +0 -links 1 | sort | head -1)", "image verify --repair";
    image_prune: Either, "rkbox image load BUSYBOX", "image prune -a";
    bundle_create: Before, "true", "bundle create oci:LAYERS:latest /tmp/rkbox-world/out";
    bundle_create_flat: Before, "true", "bundle create --flat oci:LAYERS:latest /tmp/rkbox-world/out";
    bundle_create_archive: Before, "true", "bundle create oci-archive:BUSYBOX /tmp/rkbox-world/out";
    bundle_rm: Either, "rkbox bundle create oci:LAYERS:latest /tmp/rkbox-world/out", "bundle rm /tmp/rkbox-world/out";
}

/// A second death, in the middle of taking back what a first one left.
#[test]
fn gc_killed_at_every_point_is_finished_by_the_next_one() {
    let mut world = World::new();
    world.allow_leaks();
    let before = world.observe();
    let killed = || world.rkbox_faulty("settle:0:abort", ["sandbox", "create", "web"]).fails(134);
    killed();
    let trace = "/run/trace";
    world.rkbox_traced(trace, ["gc"]).ok();
    let points: Vec<String> = std::fs::read_to_string(trace).unwrap().lines().map(str::to_owned).collect();
    std::fs::remove_file(trace).unwrap();
    assert!(points.len() > 20, "{points:?}");
    for point in points.iter().filter(|point| !point.starts_with("undo:")) {
        killed();
        let fault = format!("{point}:abort");
        world.rkbox_faulty(&fault, ["gc"]).fails(134);
        world.rk("gc").ok();
        before.assert_again(&world, &format!("sandbox create killed before it was settled, gc killed at {fault}, gc"));
    }
}

/// Two steps, each a file; `gc` takes both back.
const HONEST: &str = r#"#!/bin/sh
undo() { rm -f "$HOME/a" "$HOME/b"; }
point() {
    [ -z "${RKBOX_FAULT_TRACE:-}" ] || echo "$1" >>"$RKBOX_FAULT_TRACE"
    case ${RKBOX_FAULT:-} in
    "$1:fail") echo "fault injected at $1" >&2; undo; exit 1 ;;
    "$1:abort") kill -ABRT $$ ;;
    esac
}
case $1 in
gc) [ -e "$HOME/settled" ] || undo ;;
make) point started:0; touch "$HOME/a"; point applied:0; point started:1; touch "$HOME/b"; point applied:1; undo ;;
esac"#;

fn stand_in(script: &'static str) -> Row {
    Row { stand_in: Some(script), prepare: "true", command: "make", law: Law::Before }
}

#[test]
fn the_sweep_accepts_a_command_that_takes_everything_back() {
    stand_in(HONEST).sweep("fail");
    stand_in(HONEST).sweep("abort");
}

#[test]
fn the_sweep_finds_one_file_left_after_one_fault() {
    let leaky: &'static str = HONEST.replace("rm -f \"$HOME/a\" \"$HOME/b\"", "rm -f \"$HOME/a\"").leak();
    for act in ["fail", "abort"] {
        let message = *std::panic::catch_unwind(|| stand_in(leaky).sweep(act)).unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("applied:1") && message.contains("+ file /tmp/rkbox-world/b"), "{message}");
    }
}
