//! After a reboot: what had a restart policy runs again, with its files, its sandbox and its address; the rest can be started by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::io::Read as _;

use common::{Observation, World, reboot, wait_for, with_busybox_only};
use serde_json::Value;

fn states(world: &World) -> Vec<(String, String)> {
    let rows = world.rk("--format json ps -a").ok().json();
    let mut states: Vec<_> = rows.as_array().unwrap().iter().map(|row| (text(&row["name"]), text(&row["state"]))).collect();
    states.sort();
    states
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn running(world: &World) -> Vec<String> {
    states(world).into_iter().filter(|(_, state)| state == "running").map(|(name, _)| name).collect()
}

/// What rkbox says of a container.
fn record(world: &World, name: &str) -> Value {
    world.rkbox(["inspect", name]).ok().json()[0]["record"].clone()
}

fn address(world: &World, name: &str) -> String {
    text(&record(world, name)["attachments"][0]["addresses"][0])
}

/// What a server says to who connects; nothing when there is none.
fn asked(address: &str) -> String {
    let mut told = String::new();
    if let Ok(mut stream) = std::net::TcpStream::connect(address) {
        stream.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        let _ = stream.read_to_string(&mut told);
    }
    told
}

/// The way back: nothing of it all is left, but for what a reboot had taken and what is shared with other programs.
fn assert_nothing_left(world: &World, before: &Observation) {
    world.rk("gc").ok();
    const SHARED: [&str; 4] = ["sysctl", " directory", "/lock: ", "/last_reserved_ip.0: "];
    let left = before.difference(&world.observe());
    let left: Vec<_> = left.iter().filter(|line| line.starts_with('+') && !SHARED.iter().any(|shared| line.contains(shared))).collect();
    assert!(left.is_empty(), "{left:#?}");
}

const COUNT: &str = "echo x >> /lives; trap 'exit 3' TERM; while :; do sleep 0.05; done";

#[test]
fn restart_policies_hold_after_a_reboot() {
    let world = with_busybox_only();
    let before = world.observe();
    let run = |name: &str, policy: &str| {
        world.rkbox(["run", "-d", "--net", "none", "--name", name, "--restart", policy, "busybox", "sh", "-c", COUNT]).ok();
    };
    run("always", "always");
    run("always-stopped", "always");
    run("unless", "unless-stopped");
    run("unless-stopped", "unless-stopped");
    run("failure", "on-failure");
    run("failure-stopped", "on-failure");
    run("never", "no");
    world.rkbox(["run", "--net", "none", "--name", "well", "--restart", "on-failure", "busybox", "true"]).ok();
    world.rk("stop -t 5 always-stopped unless-stopped failure-stopped").ok();
    reboot(&world);
    assert_eq!(running(&world), [""; 0]);
    let told = world.rk("--format json start --all --restart-policy").ok().json();
    let told: Vec<_> = told.as_array().unwrap().iter().map(|row| (text(&row["name"]), row["started"] == true)).collect();
    let wanted = ["always", "always-stopped", "unless", "failure"];
    assert_eq!(told, wanted.map(|name| (name.to_owned(), true)), "the oldest first");
    assert_eq!(running(&world), ["always", "always-stopped", "failure", "unless"]);
    // Their files outlived it.
    wait_for("a second life", || world.rk("exec always wc -l /lives").ok().stdout.trim() == "2 /lives");
    assert_eq!(world.rk("start --all --restart-policy").ok().stdout, "", "all that is wanted runs");
    // From here on it is a container like any other, and one by hand too.
    world.rk("start never").ok().prints("never");
    world.rk("restart -t 5 never").ok();
    wait_for("a third life", || world.rk("exec never wc -l /lives").ok().stdout.trim() == "3 /lives");
    reboot(&world);
    assert_eq!(world.rk("start --all").ok().stdout.lines().count(), 8, "all, whatever the policy");
    wait_for("the short one's end", || states(&world).contains(&("well".into(), "exited".into())));
    assert_eq!(world.rk("wait well").ok().stdout.trim(), "0");
    world.rk("rm -f always always-stopped unless unless-stopped failure failure-stopped never well").ok();
    assert_nothing_left(&world, &before);
}

#[test]
fn a_container_keeps_its_address_and_ports_after_a_reboot_or_moves() {
    let world = with_busybox_only();
    let before = world.observe();
    let serve = "echo web-$(cat /lives 2>/dev/null | wc -l) >/tmp/answer; echo x >>/lives; while :; do nc -l -p 80 </tmp/answer; done";
    world.rkbox(["run", "-d", "--name", "other", "--restart", "always", "busybox", "sleep", "1000"]).ok();
    world.rkbox(["run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", "--restart", "always", "busybox", "sh", "-c", serve]).ok();
    let (web, other) = (address(&world, "web"), address(&world, "other"));
    let answers = |text: &str| wait_for(text, || asked("127.0.0.1:8080").trim() == text);
    answers("web-0");
    reboot(&world);
    // The youngest first: whoever chose anew would choose the first address.
    world.rk("start web other").ok();
    assert_eq!((address(&world, "web"), address(&world, "other")), (web.clone(), other));
    assert_eq!(
        world.sh("ip -n web -j -4 addr show eth0 | jq -r '.[0].addr_info[0].local'").ok().stdout.trim(),
        web.split('/').next().unwrap()
    );
    answers("web-1");
    reboot(&world);
    // Somebody takes its address, once it has let go.
    let bare = |address: &str| address.split('/').next().unwrap().to_owned();
    let lease = world.cni_state().join("networks/connet").join(bare(&web));
    std::fs::write(&lease, "somebody\r\neth0").unwrap();
    world.rk("start web").ok();
    let moved = bare(&address(&world, "web"));
    assert_ne!(moved, bare(&web));
    let hosts = world.rk("exec web cat /etc/hosts").ok().stdout;
    assert!(hosts.lines().any(|line| line.starts_with(&format!("{moved}\t"))), "{moved}: {hosts}");
    assert!(!hosts.contains(&format!("{}\t", bare(&web))), "{hosts}");
    answers("web-2");
    std::fs::remove_file(&lease).unwrap();
    world.rk("rm -f web other").ok();
    assert_nothing_left(&world, &before);
}

#[test]
fn a_container_brings_its_sandbox_back_after_a_reboot() {
    let world = with_busybox_only();
    let before = world.observe();
    world.rkbox(["sandbox", "create", "pod", "-p", "8080:80"]).ok();
    let sandbox = |field: &str| world.rkbox(["sandbox", "inspect", "pod"]).ok().json()[0][field].clone();
    let first = sandbox("record")["attachments"][0]["addresses"].clone();
    for name in ["one", "two"] {
        world.rkbox(["run", "-d", "--sandbox", "pod", "--name", name, "--restart", "always", "busybox", "sleep", "1000"]).ok();
    }
    reboot(&world);
    assert_eq!(sandbox("state"), "notready");
    assert_eq!(world.rk("start --all --restart-policy").ok().stdout, "one\ntwo\n");
    assert_eq!(sandbox("state"), "ready");
    assert_eq!(sandbox("record")["attachments"][0]["addresses"], first);
    let inside = |name: &str| world.rkbox(["exec", name, "ip", "-4", "addr", "show", "eth0"]).ok().stdout;
    assert_eq!(inside("one"), inside("two"));
    assert!(inside("one").contains(first[0].as_str().unwrap()), "{}", inside("one"));
    world.rk("sandbox rm --force pod").ok();
    assert_nothing_left(&world, &before);
}

#[test]
fn a_start_that_fails_after_a_reboot_leaves_what_the_reboot_left() {
    let world = with_busybox_only();
    let before = world.observe();
    world.sh("mkdir /run/source").ok();
    world
        .rkbox([
            "run",
            "-d",
            "--name",
            "web",
            "--mount",
            "type=bind,src=/run/source,dst=/data",
            "--restart",
            "always",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    world.rkbox(["run", "-d", "--name", "fine", "--restart", "always", "busybox", "sleep", "1000"]).ok();
    reboot(&world);
    world.sh("rmdir /run/source").ok();
    world.rk("gc").ok();
    let lost = world.observe();
    world.rk("start web").fails(3).says("cannot start container web");
    world.rk("gc").ok();
    // Its address is free by then, and what the former boot left of its mounts is gone; nothing is new.
    let new: Vec<_> = lost.difference(&world.observe()).into_iter().filter(|line| line.starts_with('+')).collect();
    assert!(new.is_empty(), "{new:#?}");
    // The others are started all the same.
    let told = world.rk("--format json start --all --restart-policy");
    assert_eq!(running(&world), ["fine"]);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told[0]["started"], false);
    assert!(text(&told[0]["error"]).contains("/run/source"), "{told}");
    world.sh("mkdir /run/source").ok();
    world.rk("start web").ok();
    world.rk("rm -f web fine").ok();
    world.sh("rmdir /run/source").ok();
    assert_nothing_left(&world, &before);
}

#[test]
fn two_starts_at_once_after_a_reboot_make_one() {
    let world = with_busybox_only();
    let before = world.observe();
    world.rkbox(["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
    reboot(&world);
    world.sh("for n in 1 2 3 4; do rkbox start web & all=\"${all:-} $!\"; done; for one in $all; do wait $one; done").ok();
    assert_eq!(running(&world), ["web"]);
    world.rk("rm -f web").ok();
    assert_nothing_left(&world, &before);
}

#[test]
fn files_of_a_container_that_a_reboot_ended_are_copied_and_seen_by_nobody_else() {
    let world = with_busybox_only();
    let before = world.observe();
    std::fs::create_dir(world.path("shared")).unwrap();
    std::fs::write(world.path("shared/note"), "of the host\n").unwrap();
    let fill = "mkdir /w; echo one >/w/one; chown 7:8 /w/one; rm /bin/wget; echo kept >/vol/kept; sleep 1000";
    let make = |name: &str, more: &[&str]| {
        let words =
            ["run", "-d", "--net", "none", "--name", name, "-v", "vol:/vol", "-v", "/tmp/rkbox-world/shared:/host", "--tmpfs", "/mem"];
        world.rkbox(words.iter().chain(more).chain(&["busybox", "sh", "-c", fill])).ok();
        wait_for("its files", || world.rk(&format!("exec {name} test -e /vol/kept")).code == 0);
        world.rk(&format!("exec {name} rm /vol/kept")).ok();
    };
    make("plain", &[]);
    make("mapped", &["--userns", "auto"]);
    reboot(&world);
    let asleep = world.observe();
    for name in ["plain", "mapped"] {
        let script = format!(
            "cd $HOME; rm -rf got; mkdir got
            rkbox export {name} | tar tvf - | awk '$NF ~ \"^w/|bin/wget|bin/busybox\" {{print $2, $NF}}' | sort -k2
            rkbox cp -a {name}:/w - | tar tvf - | awk '{{print $2, $NF}}'
            rkbox cp {name}:/host/note got/note; cat got/note
            echo new >got/new; rkbox cp got/new {name}:/w/new; rkbox cp got/new {name}:/host/{name}; rkbox cp got/new {name}:/vol/{name}
            rkbox cp {name}:/host/note {name}:/w/note; rkbox cp {name}:/w/one {name}:/host/one-{name}; rkbox diff {name} | grep ' /w'
            cat shared/{name} shared/one-{name}; rm -r got shared/one-{name}"
        );
        let told = world.sh(&script).ok().stdout.replace("root/root", "0/0");
        let own = "7/8 w/one\n";
        let expected = format!("0/0 bin/busybox\n0/0 w/\n{own}0/0 w/\n{own}of the host\nA /w\nA /w/new\nA /w/note\nA /w/one\nnew\none\n");
        assert_eq!(told, expected, "{name}");
        world.rk(&format!("cp {name}:/mem/x /tmp/rkbox-world/x")).fails(5).says("is in memory");
        world.rk(&format!("cp {name}:/none /tmp/rkbox-world/x")).fails(3).says("is not there");
    }
    // What was mounted went with each command: nothing is but what was written.
    let made = asleep.difference(&world.observe());
    let written = ["/work/work/", "/upper/w", "/w/new", "/w/note", "/shared", "/vol/"];
    let strange: Vec<_> = made.iter().filter(|line| !written.iter().any(|part| line.contains(part))).collect();
    assert!(strange.is_empty(), "{strange:#?}");
    // From one that runs into one that does not, and the other way; and what was written is there after the start.
    world.rk("start plain").ok();
    world.sh("rkbox cp plain:/w/new mapped:/w/from; rkbox cp mapped:/w/from plain:/w/back").ok();
    world.rk("start mapped").ok();
    let shown = "exec mapped stat -c %u:%g:%n /w/new /w/from /w/one /vol/plain";
    assert_eq!(world.rk(shown).ok().stdout, "0:0:/w/new\n0:0:/w/from\n7:8:/w/one\n0:0:/vol/plain\n");
    assert_eq!(world.rk("exec plain cat /w/new /w/back /host/mapped").ok().stdout, "new\nnew\nnew\n");
    world.rk("rm -f plain mapped").ok();
    world.sh("rkbox volume rm vol; rm -r $HOME/shared").ok();
    assert_nothing_left(&world, &before);
}

#[test]
fn a_sandbox_without_containers_is_started_after_a_reboot() {
    let world = with_busybox_only();
    let before = world.observe();
    world.rkbox(["sandbox", "create", "pod", "-p", "127.0.0.1:8080:80"]).ok();
    world.rk("sandbox create bare --net none").ok();
    let sandbox = |field: &str| world.rkbox(["sandbox", "inspect", "pod"]).ok().json()[0][field].clone();
    let first = sandbox("record")["attachments"][0]["addresses"].clone();
    assert_eq!(world.rk("sandbox start pod").ok().stdout, "pod\n", "one that is ready is fine");
    reboot(&world);
    assert_eq!(sandbox("pid"), Value::Null);
    world.rk("run --rm --sandbox pod busybox true").fails(125).says("rkbox sandbox start pod");
    world.rk("sandbox start nobody pod bare").fails(3).prints("pod\nbare\n").says("nobody");
    world.rk("sandbox start pod").ok();
    assert!(sandbox("pid").is_number());
    assert_eq!(sandbox("record")["attachments"][0]["addresses"], first);
    let serve =
        ["run", "-d", "--sandbox", "pod", "--name", "web", "busybox", "sh", "-c", "echo hi >/hi; while :; do nc -l -p 80 </hi; done"];
    world.rkbox(serve).ok();
    wait_for("its server", || asked("127.0.0.1:8080").trim() == "hi");
    // One that its user stopped in this boot is made anew, as before.
    world.rk("sandbox rm -f pod").ok();
    world.rk("sandbox stop bare").ok();
    world.rk("sandbox start bare").fails(5).says("rkbox sandbox create bare");
    world.rk("sandbox rm bare").ok();
    assert_nothing_left(&world, &before);
}

#[test]
fn a_start_after_a_reboot_is_told_before_it_is_made() {
    let world = with_busybox_only();
    let count = "echo x >>/lives; sleep 1000";
    world.rkbox(["run", "-d", "--name", "alone", "-p", "127.0.0.1:8080:80", "-v", "vol:/v", "busybox", "sh", "-c", count]).ok();
    world.rk("sandbox create pod").ok();
    world.rkbox(["run", "-d", "--sandbox", "pod", "--name", "member", "busybox", "sh", "-c", count]).ok();
    let pod = || world.rk("sandbox inspect pod").ok().json()[0].clone();
    let lives = |name: &str| world.rk(&format!("exec {name} wc -l /lives")).stdout.trim().to_owned();
    for name in ["alone", "member"] {
        wait_for("its first life", || lives(name) == "1 /lives");
    }
    let (first, of_pod) = (address(&world, "alone"), pod()["record"]["attachments"][0]["addresses"].clone());
    reboot(&world);
    let asleep = world.observe();
    let told: Vec<String> = ["alone", "member"].map(|name| world.rk(&format!("start --explain {name}")).ok().stdout).to_vec();
    asleep.assert_again(&world, "start --explain");
    assert!(told[1].contains("make sandbox pod ready again after a reboot"), "{}", told[1]);
    for (name, script) in ["alone", "member"].iter().zip(&told) {
        std::fs::write(world.path("script"), script).unwrap();
        world.sh("sh -eu $HOME/script").ok();
        wait_for("its second life", || lives(name) == "2 /lives");
    }
    std::fs::remove_file(world.path("script")).unwrap();
    assert_eq!((address(&world, "alone"), pod()["record"]["attachments"][0]["addresses"].clone()), (first, of_pod));
    world.sh("nft list map inet rkbox_ports ports4 2>/dev/null | grep -q 8080 || nft list ruleset | grep -q 8080").ok();
    // What a script made is taken back by the records; what is shared it noted nowhere.
    world.rk("rm -f alone member").ok();
    world.rk("sandbox rm -f pod").ok();
    world.rk("volume rm vol").ok();
    let left = "ls $RKBOX_ROOT/containers $RKBOX_ROOT/sandboxes $RKBOX_RUN/containers /run/netns 2>/dev/null; ls $RKBOX_CNI_STATE_DIR/networks/connet | grep 10.88 || true
        nft list ruleset | grep 8080 || true";
    let left = world.sh(left).stdout;
    assert!(left.lines().all(|line| line.is_empty() || line.ends_with(':')), "{left}");
}
