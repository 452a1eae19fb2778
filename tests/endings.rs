//! How containers end, and who is told: out of memory, signals to the client, what cannot be started at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{World, wait_for, with_busybox_only};

/// Code, signal, flag and reason of the last end.
#[track_caller]
fn exit(world: &World, name: &str) -> (u64, Option<i64>, Option<bool>, String) {
    let seen = world.rkbox(["inspect", name]).ok().json()[0]["exit"].clone();
    (
        seen["exit_code"].as_u64().unwrap(),
        seen["signal"].as_i64(),
        seen["oom_killed"].as_bool(),
        seen["reason"].as_str().unwrap().to_owned(),
    )
}

/// More than the bound, touched at once.
const HOG: &str = "exec dd if=/dev/zero of=/dev/null bs=200M count=1";

#[test]
fn who_is_killed_for_lack_of_memory_is_told_apart() {
    let world = with_busybox_only();
    let run = |name: &str, how: &[&str], line: &str| {
        world.rkbox(
            [&["run", "--net", "none", "--name", name, "--memory", "24m", "--memory-swap", "24m"][..], how, &["busybox", "sh", "-c", line]]
                .concat(),
        )
    };
    let bound = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true";
    assert_eq!(run("bound", &[], bound).ok().stdout.trim(), (24 << 20).to_string());
    assert_eq!(exit(&world, "bound"), (0, None, Some(false), "exited".to_owned()));
    // The first process, under a monitor without and with a client.
    run("hog", &["-d"], HOG).ok();
    assert_eq!(world.rk("wait hog").ok().stdout.trim(), "137");
    run("front", &[], HOG).fails(137);
    run("gone", &["--rm"], HOG).fails(137);
    for name in ["hog", "front"] {
        assert_eq!(exit(&world, name), (137, Some(9), Some(true), "oom-killed".to_owned()), "{name}");
        let told = world.rk(&format!("events --container {name}")).ok().stdout;
        let kinds: Vec<&str> = told.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(kinds[kinds.len() - 2..], ["oom", "die"], "{told}");
    }
    // A child of it: that is no reason for its end. SIGKILL of somebody else: no lack of memory.
    run("child", &["-d"], &format!("(sh -c '{HOG}'); echo $?; exit 3")).ok();
    assert_eq!(world.rk("wait child").ok().stdout.trim(), "3");
    assert_eq!(exit(&world, "child"), (3, None, Some(true), "exited".to_owned()));
    world.rk("logs child").ok().prints("137");
    run("killed", &["-d"], "exec sleep 1000").ok();
    world.rk("kill killed").ok();
    assert_eq!(world.rk("wait killed").ok().stdout.trim(), "137");
    assert_eq!(exit(&world, "killed"), (137, Some(9), Some(false), "exited".to_owned()));
    world.rk("rm bound hog front child killed").ok();
}

/// A container that says which signals it gets, run by a client that gets one itself; what both came to.
fn signalled(world: &World, options: &str, signal: &str) -> String {
    let inside = "for s in TERM INT HUP QUIT; do trap \"echo got $s; exit 9\" $s; done; echo up; while :; do sleep 0.05; done";
    let script = format!(
        "rm -f $HOME/out; rkbox run --net none --name c {options} busybox sh -c '{inside}' >$HOME/out & run=$!
        until grep -qs up $HOME/out; do kill -0 $run; sleep 0.05; done
        kill -{signal} $run; code=0; wait $run || code=$?; grep got $HOME/out || true; echo $code; rkbox ps -a"
    );
    let program = world.program.display();
    // The client itself is the shell's child, or the signal would be the function's.
    let told = world.sh(&script.replace("rkbox run", &format!("{program} run"))).ok().stdout;
    world.rk("rm -f c").ok();
    told
}

#[test]
fn signals_to_the_client_are_for_the_container_unless_it_is_told_otherwise() {
    let world = with_busybox_only();
    for options in ["", "--sig-proxy", "--pidfile /tmp/rkbox-world/pid --sig-proxy=true"] {
        for signal in ["TERM", "HUP", "QUIT"] {
            let told = signalled(&world, options, signal);
            assert!(told.starts_with(&format!("got {signal}\n9\n")) && told.contains("exited"), "{options:?} {signal}: {told}");
        }
    }
    // The client ends by it, the container does not notice.
    for (signal, code) in [("TERM", 143), ("HUP", 129)] {
        let told = signalled(&world, "--sig-proxy=false", signal);
        assert!(told.starts_with(&format!("{code}\n")) && told.contains("running"), "{signal}: {told}");
    }
    // The same for who attaches later.
    world
        .rkbox(["run", "-d", "--net", "none", "--name", "c", "busybox", "sh", "-c", "trap 'exit 8' TERM; while :; do sleep 0.05; done"])
        .ok();
    let attached = |options: &str| {
        let program = world.program.display();
        world
            .sh(&format!("{program} attach {options} c & one=$!; sleep 0.5; kill -TERM $one; code=0; wait $one || code=$?; echo $code"))
            .ok()
            .stdout
    };
    assert_eq!(attached("--sig-proxy=false"), "143\n");
    assert_eq!(world.rkbox(["inspect", "c"]).ok().json()[0]["state"], "running");
    assert_eq!(attached(""), "8\n");
    wait_for("its end", || exit(&world, "c").0 == 8);
    world.rk("rm c").ok();
}

#[test]
fn a_start_that_is_over_at_once_is_a_start() {
    let world = with_busybox_only();
    for _ in 0..20 {
        world.rk("create --net none --name c busybox true").ok();
        world.rk("start c").ok();
        assert_eq!(world.rk("wait c").ok().stdout, "0\n");
        world.rk("rm c").ok();
    }
}

#[test]
fn a_signal_right_after_the_start_is_heard() {
    let world = with_busybox_only();
    for round in 0..20 {
        world.rk("create --init --net none --name c busybox sleep 1000").ok();
        world.sh("rkbox start c; rkbox kill -s TERM c").ok();
        wait_for(&format!("the end of round {round}"), || world.rkbox(["inspect", "c"]).ok().json()[0]["state"] == "exited");
        assert_eq!(exit(&world, "c").0, 143);
        world.rk("rm c").ok();
    }
}

#[test]
fn nothing_more_runs_in_a_container_that_is_full_and_the_error_says_so() {
    let world = with_busybox_only();
    let full = ["run", "-d", "--net", "none", "--name", "c", "--pids-limit", "2", "busybox", "sh", "-c", "sleep 1000 & exec sleep 1000"];
    world.rkbox(full).ok();
    wait_for("its processes", || world.rk("top c").ok().stdout.matches("sleep 1000").count() == 2);
    let refused = world.rk("exec c true").fails(125);
    let why = "it has 2 of the 2 processes and threads that it may have (--pids-limit), and another one takes 5";
    assert_eq!(refused.stderr, format!("rkbox: cannot run in container c: {why}\nhint: rkbox update --pids-limit 7 c\n"));
    world.rk("exec -d c true").fails(125).says("--pids-limit");
    world.rk("update --pids-limit 7 c").ok();
    assert_eq!(world.rkbox(["exec", "c", "echo", "room"]).ok().stdout, "room\n");
    // Where the runtime would come half-way, it is not tried.
    world.rk("update --pids-limit 6 c").ok();
    world.rk("exec c true").fails(125).says("2 of the 6");
    world.rk("rm -f c").ok();
}
