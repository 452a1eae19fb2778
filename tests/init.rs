//! `--init`: a first process that hands signals on, reaps orphans and ends with the command's status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::time::Duration;

use common::{World, wait_for, with_busybox_only};

/// Processes that have ended and that nobody has waited for, as the container sees them.
fn zombies(world: &World, name: &str) -> usize {
    world.rk(&format!("exec {name} ps -o stat,comm")).ok().stdout.lines().filter(|line| line.trim_start().starts_with('Z')).count()
}

#[test]
fn orphans_are_reaped() {
    let world = with_busybox_only();
    // What a subshell leaves behind belongs to the first process; a shell that became sleep waits for nobody.
    let script = "for n in 1 2 3 4 5 6 7 8 9; do (sleep 0.1 &); done; exec sleep 1000";
    for (name, options) in [("with", &["--init"][..]), ("without", &[])] {
        world.rkbox([&["run", "-d", "--net", "none", "--name", name][..], options, &["busybox", "sh", "-c", script]].concat()).ok();
    }
    wait_for("orphans that ended", || zombies(&world, "without") == 9);
    wait_for("their end", || world.rk("exec with ps -o comm").ok().stdout.matches("sleep").count() == 1);
    assert_eq!(zombies(&world, "with"), 0);
    world.rk("rm -f with without").ok();
}

#[test]
fn signals_end_a_command_that_has_no_handler() {
    let world = with_busybox_only();
    let before = world.observe();
    world.rk("run -d --net none --name with --init busybox sleep 1000").ok();
    let stop = world.rk("stop -t 20 with").ok();
    assert!(stop.took < Duration::from_secs(5), "{stop}");
    assert_eq!(world.rk("wait with").ok().stdout.trim(), "143");
    // Any other than these two kinds goes through as well, also those that a first process cannot be sent from inside.
    for (signal, code) in [("HUP", 129), ("ABRT", 134), ("SEGV", 139), ("USR2", 140), ("RTMIN+3", 165), ("KILL", 137)] {
        world.rk("start with").ok();
        // One that comes before the program runs is lost, as to any first process.
        wait_for("the command", || world.rk("exec with ps -o comm").ok().stdout.contains("sleep"));
        world.rk(&format!("kill -s {signal} with")).ok();
        assert_eq!(world.rk("wait with").ok().stdout.trim(), code.to_string(), "{signal}");
    }
    world.rk("run -d --net none --name without busybox sleep 1000").ok();
    world.rk("stop -t 1 without").ok();
    assert_eq!(world.rk("wait without").ok().stdout.trim(), "137");
    world.rk("rm with without").ok();
    world.rk("gc").ok();
    before.assert_again(&world, "lives under an init");
}

#[test]
fn a_signal_goes_to_the_command_and_not_to_its_children() {
    let world = with_busybox_only();
    let script = "trap 'echo parent' USR1; (trap 'echo child' USR1; while :; do sleep 0.05; done) & echo up; while :; do sleep 0.05; done";
    world.rkbox(["run", "-d", "--net", "none", "--name", "c", "--init", "busybox", "sh", "-c", script]).ok();
    let logs = || world.rk("logs c").ok().stdout;
    wait_for("the script", || logs().contains("up"));
    world.rk("kill -s USR1 c").ok();
    wait_for("the trap", || logs().contains("parent"));
    // Those of a terminal to who reads in the background are not the command's.
    world.rk("kill -s TTIN c").ok();
    std::thread::sleep(Duration::from_millis(300));
    world.rk("kill -s USR1 c").ok();
    wait_for("the trap", || logs().matches("parent").count() == 2);
    assert!(!logs().contains("child"), "{}", logs());
    world.rk("rm -f c").ok();
}

#[test]
fn the_status_is_the_commands_in_every_way_to_run_it() {
    let world = with_busybox_only();
    let foreground = |words: &[&str]| world.rkbox([&["run", "--rm", "--net", "none", "--init"][..], words].concat());
    for (words, code) in
        [(&["true"][..], 0), (&["sh", "-c", "exit 7"], 7), (&["sh", "-c", "kill -9 $$"], 137), (&["sh", "-c", "kill $$"], 143)]
    {
        foreground(&[&["busybox"], words].concat()).fails(code);
    }
    // Only the init can look for the command now; it says what the runtime would.
    foreground(&["busybox", "no-such-program"]).fails(127).says("rkbox-init: no-such-program: no such program");
    foreground(&["busybox", "/no/such/program"]).fails(127);
    foreground(&["busybox", "/etc"]).fails(126).says("may not be executed");
    foreground(&["-e", "PATH=/nowhere:/bin", "busybox", "echo", "found"]).ok().prints("found");
    foreground(&["--entrypoint", r#"["sh", "-c"]"#, "busybox", "echo $$ $PPID"]).ok().prints(" 1\n");
    // Arguments that look like its own are the command's.
    foreground(&["busybox", "echo", "--", "-x"]).ok().prints("-- -x");
    world
        .rkbox(["create", "--net", "none", "--name", "c", "--init", "busybox", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; exit 4"])
        .ok();
    world.rk("start --attach c").fails(4).prints("/.rkbox-init -- sh -c cat");
    let seen = world.rk("inspect c").ok().json()[0].clone();
    assert_eq!((&seen["record"]["init"], &seen["record"]["args"][0]), (&true.into(), &"sh".into()), "{seen}");
    assert_eq!(world.rk("diff c").ok().stdout, "", "it lies in the init layer, not in what the container changed");
    world.rk("rm c").ok();
}

#[test]
fn it_works_for_every_user_and_on_a_root_that_cannot_be_written() {
    let world = with_busybox_only();
    for options in ["--user alice", "--read-only", "--userns auto", "--privileged", "--cap-drop ALL --user 12345:6"] {
        world.rkbox(format!("run --rm --net none --init {options} busybox stat -c %A /.rkbox-init").split(' ')).ok().prints("-r-xr-xr-x");
    }
    // It goes with a restart, and with another life of the same container.
    world.rk("run -d --net none --name c --init busybox sleep 1000").ok();
    world.rk("restart c").ok();
    world.rk("exec c cat /proc/1/comm").ok().prints(".rkbox-init");
    world.rk("rm -f c").ok();
}
