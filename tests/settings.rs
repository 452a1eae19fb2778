//! What may be changed of a container after it was made: its name and its restart policy; and its start as a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::time::Duration;

use common::{World, wait_for, with_busybox, with_busybox_only};
use serde_json::Value;

fn seen(world: &World, key: &str) -> Value {
    world.rkbox(["inspect", key]).ok().json()[0].clone()
}

/// Runs lines of the console with a short back-off.
fn run(world: &World, lines: &str) -> common::Output {
    world.sh(&format!("export RKBOX_TEST_BACKOFF_MS=50; {lines}"))
}

#[test]
fn a_renamed_container_is_known_by_its_new_name_and_by_no_other() {
    let world = with_busybox();
    world.rkbox(["run", "-d", "--name", "old", "--restart", "always", "busybox", "sh", "-c", "echo life; sleep 1000"]).ok();
    world.rk("create --name other busybox true").ok();
    let id = seen(&world, "old")["id"].as_str().unwrap().to_owned();
    assert_eq!(world.rk("rename old new").ok().stdout, "new\n");
    assert_eq!((seen(&world, "new")["name"].as_str(), seen(&world, "new")["record"]["name"].as_str()), (Some("new"), Some("new")));
    assert_eq!(seen(&world, "new")["id"], id.as_str());
    world.rk("inspect old").fails(3).says("no container is named old");
    assert_eq!(world.rk("--format json ps -f name=new").ok().json()[0]["name"], "new");
    assert_eq!(world.rk("logs new").ok().stdout, "life\n");
    // Its own name in its own hosts file, which is written in place; its host name stays.
    let (hosts, hostname) = (world.rk("exec new cat /etc/hosts").ok().stdout, world.rk("exec new hostname").ok().stdout);
    assert!(hosts.lines().any(|line| line == format!("10.88.0.2\t{} new", hostname.trim())), "{hosts}");
    assert_eq!(hostname.trim(), &id[..12]);
    // The monitor speaks of it by the new name; the old events are found by it too.
    let pid = seen(&world, "new")["pid"].to_string();
    run(&world, &format!("kill -9 {pid}")).ok();
    wait_for("its end", || world.rk("events --event die --container new").ok().stdout.contains("die"));
    world.rk("events --event die --container new").ok().prints(" new ");
    let events = world.rk("events --container new").ok();
    events.prints("create").prints(" old ").prints("rename").prints(" new old");
    world.rk("rm -f new").ok();
    // Nothing of either name is left.
    world.rk("create --name old busybox true").ok();
    world.rk("create --name new busybox true").ok();
    world.rk("rm old new other").ok();
    assert!(!world.root().join("names/containers").exists() || world.root().join("names/containers").read_dir().unwrap().next().is_none());
}

#[test]
fn a_name_that_is_taken_is_refused_and_nothing_changes() {
    let world = with_busybox();
    world.rk("run -d --net none --name a busybox sleep 1000").ok();
    world.rk("create --net none --name b busybox true").ok();
    let before = world.observe();
    world.rk("rename a b").fails(4).says("the name b is taken").says("hint:");
    world.rk("rename a a").fails(2).says("named a already");
    world.rk("rename nobody c").fails(3).says("no container is named nobody");
    world.rk("rename a /x").fails(2);
    world.rk("rename a").fails(2);
    before.assert_again(&world, "a refused renaming");
    // In no order are two ever called the same: the name of one is free for the other once it has another.
    world.rk("rename a c").ok();
    world.rk("rename b a").ok();
    assert_eq!((seen(&world, "c")["state"].as_str(), seen(&world, "a")["state"].as_str()), (Some("running"), Some("created")));
    // Back again, and by id.
    let id = seen(&world, "c")["id"].as_str().unwrap().to_owned();
    world.rk(&format!("rename {} b", &id[..12])).ok();
    world.rk("rm -f a b").ok();
}

#[test]
fn many_that_want_one_name_get_it_one_at_a_time() {
    let world = with_busybox();
    let names: Vec<String> = (0..6).map(|n| format!("c{n}")).collect();
    for name in &names {
        world.rk(&format!("create --net none --name {name} busybox true")).ok();
    }
    let script = "for n in 0 1 2 3 4 5; do (rkbox rename c$n one 2>/dev/null || true) & done; (rkbox gc || true) & wait";
    world.sh(script).ok();
    let rows = world.rk("--format json ps -a").ok().json();
    let mut left: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    left.sort_unstable();
    assert_eq!((left.len(), left.iter().filter(|name| **name == "one").count()), (6, 1), "{left:?}");
    left.dedup();
    assert_eq!(left.len(), 6);
    for name in left {
        world.rk(&format!("rm {name}")).ok();
    }
}

#[test]
fn a_new_container_takes_the_name_of_a_renamed_one_that_still_runs() {
    let world = with_busybox();
    world.rk("run -d --name web busybox sleep 1000").ok();
    world.rk("rename web before").ok();
    world.rk("run -d --name web busybox sleep 1000").ok();
    let address = |name: &str| seen(&world, name)["record"]["attachments"][0]["addresses"][0].as_str().unwrap().to_owned();
    assert!(address("web") != address("before"));
    let hosts = world.rk("exec web cat /etc/hosts").ok().stdout;
    assert!(hosts.lines().any(|line| line.starts_with("10.88.0.3\t") && line.ends_with(" web")), "{hosts}");
    // Both live on: stopped, started, removed.
    world.rk("restart -t 0 before web").ok();
    world.rk("rm -f before").ok();
    world.rk("exec web true").ok();
    world.rk("rm -f web").ok();
}

#[test]
fn members_of_a_sandbox_and_containers_in_the_foreground_are_renamed_too() {
    let world = with_busybox();
    world.rk("sandbox create pod").ok();
    world.rk("run -d --sandbox pod --name a busybox sleep 1000").ok();
    let hosts = world.rk("exec a cat /etc/hosts").ok().stdout;
    world.rk("rename a b").ok();
    assert_eq!(world.rk("exec b cat /etc/hosts").ok().stdout, hosts, "the hosts file of a sandbox bears its own name");
    assert_eq!(world.rk("--format json ps -f sandbox=pod").ok().json()[0]["name"], "b");
    world.rk("sandbox rm -f pod").ok();
    let front = "rkbox run --rm --net none --name front busybox sh -c 'while [ ! -e /go ]; do sleep 0.05; done' & front=$!
        until rkbox ps -q -f name=front | grep -q .; do sleep 0.05; done
        rkbox rename front back; rkbox exec back touch /go; wait $front; rkbox ps -aq; ls $RKBOX_ROOT/names/containers 2>/dev/null || true";
    assert_eq!(world.sh(front).ok().stdout, "back\n");
}

#[test]
fn a_container_is_started_again_or_not_as_its_new_policy_says() {
    let world = with_busybox_only();
    let kill = |name: &str| world.sh(&format!("kill -9 {}", seen(&world, name)["pid"])).ok();
    run(&world, "rkbox run -d --net none --name c busybox sh -c 'echo life; sleep 1000'").ok();
    let lives = || world.rk("logs c").ok().stdout.lines().count();
    wait_for("its first words", || lives() == 1);
    world.rk("update --restart always c").ok().prints("c");
    assert_eq!(seen(&world, "c")["record"]["life"]["restart"], "always");
    kill("c");
    wait_for("a second life", || lives() == 2 && seen(&world, "c")["state"] == "running");
    world.rk("update --restart no c").ok();
    kill("c");
    wait_for("its end", || seen(&world, "c")["state"] == "exited");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lives(), 2);
    // A new policy starts nothing by itself, and holds when it is started.
    world.rk("update --restart on-failure c").ok();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(seen(&world, "c")["state"], "exited");
    run(&world, "rkbox start c").ok();
    wait_for("a third life", || lives() == 3);
    kill("c");
    wait_for("a fourth life", || lives() == 4 && seen(&world, "c")["state"] == "running");
    world.rk("rm -f c").ok();
}

#[test]
fn the_number_of_tries_can_be_changed_while_it_is_tried() {
    let world = with_busybox_only();
    world.sh("export RKBOX_TEST_BACKOFF_MS=300; rkbox run -d --net none --name c --restart always busybox sh -c 'echo life; exit 3'").ok();
    wait_for("two lives", || world.rk("logs c").ok().stdout.lines().count() >= 2);
    // Waiting or alive: it ends with the tries that it has had, or after the last one that it may have.
    world.rk("update --restart on-failure:2 c").ok();
    wait_for("its end", || seen(&world, "c")["state"] == "exited");
    assert_eq!(world.rk("logs c").ok().stdout.lines().count(), 3);
    assert_eq!(world.rk("wait c").ok().stdout, "3\n");
    // One that waits to be started again is left where it is.
    world.rk("update --restart always c").ok();
    world.sh("export RKBOX_TEST_BACKOFF_MS=60000; rkbox start c").ok();
    wait_for("the wait", || seen(&world, "c")["state"] == "restarting");
    world.rk("update --restart no c").ok();
    wait_for("its end", || seen(&world, "c")["state"] == "exited");
    world.rk("rm c").ok();
}

#[test]
fn a_policy_that_cannot_hold_is_refused_and_a_failed_update_is_taken_back() {
    let world = with_busybox_only();
    world.rk("run -d --rm --net none --name going busybox sleep 1000").ok();
    world.rk("update --restart always going").fails(5).says("--rm").says("hint:");
    world.rk("update --restart sometimes going").fails(2).says("not known");
    world.rk("update going").fails(2).says("--restart");
    run(&world, "rkbox run -d --net none --name c busybox sleep 1000").ok();
    world.rkbox_faulty("settle:0:fail", ["update", "--restart", "always", "--memory", "64m", "c"]).fails(1).says("fault injected");
    assert_eq!(seen(&world, "c")["record"]["life"]["restart"], "no");
    world.sh(&format!("kill -9 {}", seen(&world, "c")["pid"])).ok();
    wait_for("its end", || seen(&world, "c")["state"] == "exited");
    // Stopped by its user before it had a policy: no boot starts it.
    run(&world, "rkbox start c; rkbox stop -t 0 c; rkbox update --restart unless-stopped c").ok();
    assert_eq!(world.rk("start --all --restart-policy").ok().stdout, "");
    world.rk("update --restart always c").ok();
    assert_eq!(world.rk("start --all --restart-policy").ok().stdout, "c\n");
    world.rk("rm -f c going").ok();
}

#[test]
fn a_start_is_told_before_it_is_made() {
    let world = with_busybox_only();
    world.rkbox(["run", "-d", "--net", "none", "--name", "c", "busybox", "sh", "-c", "echo x >>/lives; sleep 1000"]).ok();
    let lives = |count: usize| wait_for("a life", || world.rk("exec c cat /lives").stdout.lines().count() == count);
    lives(1);
    world.rk("start --explain c").ok().prints("# it runs already");
    world.rk("stop -t 0 c").ok();
    let before = world.observe();
    let script = world.rk("start --explain c").ok().stdout;
    before.assert_again(&world, "start --explain");
    std::fs::write(world.path("script"), script).unwrap();
    world.sh("sh -eu $HOME/script").ok();
    lives(2);
    assert_eq!(seen(&world, "c")["state"], "running");
    world.rk("stop -t 0 c").ok();
    let told = world.rk("start --timings c").ok();
    assert!(told.stdout == "c\n" && told.stderr.contains("ms  start the container"), "{told}");
    lives(3);
    world.rk("start --attach --explain c").fails(2);
    world.sh("export RKBOX_TEST_BACKOFF_MS=60000; rkbox run -d --net none --name r --restart always busybox true").ok();
    wait_for("the wait", || seen(&world, "r")["state"] == "restarting");
    world.rk("start --explain r").fails(5).says("by its monitor");
    world.rk("rm -f c r").ok();
}
