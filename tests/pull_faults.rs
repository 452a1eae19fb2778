//! `rkbox image pull` when the network or the registry fails: a gate before a real registry cuts, spoils and refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Act, Gate, Observation, Registry, Request, World, images};

/// A world with a registry that has `layers:1`, and what is there before any pull.
fn world() -> (World, Registry, Observation) {
    let world = World::new();
    let registry = Registry::start(&world, 5000, "");
    registry.push(&world, &format!("oci:{}:latest", images().layout("layers")), "layers:1", "");
    world.rk("gc").ok();
    let before = world.observe();
    (world, registry, before)
}

/// The first layer, which has a megabyte.
fn is_big(request: &Request) -> bool {
    request.is_blob() && request.path.ends_with(&big())
}

fn big() -> String {
    let index: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{}/index.json", images().layout("layers"))).unwrap()).unwrap();
    let blob = |digest: &str| format!("{}/blobs/sha256/{}", images().layout("layers"), digest.trim_start_matches("sha256:"));
    let manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(blob(index["manifests"][0]["digest"].as_str().unwrap())).unwrap()).unwrap();
    manifest["layers"][0]["digest"].as_str().unwrap().to_owned()
}

/// The image is whole, and nothing unfinished is left.
#[track_caller]
fn assert_whole(world: &World, name: &str) {
    world.rkbox(["run", "--rm", "--net", "none", "--pull", "never", "--user", "0", name, "true"]).ok();
    assert_eq!(world.sh("ls -A $HOME/lib/images/blobs/sha256 | grep -c partial || true").ok().stdout.trim(), "0");
}

/// What passes is waited for; what was there already is asked for again from where it ended.
#[test]
fn what_may_pass_is_tried_again() {
    let (world, registry, _) = world();
    // What the gate does with the first, second, … request for the big blob; the `Range`s that must have come.
    let cases: [(&str, Vec<Act>, Vec<&str>); 6] = [
        ("cut", vec![Act::Cut(300_000), Act::Cut(200_000)], vec!["", "bytes=300000-", "bytes=500000-"]),
        ("cut at once", vec![Act::Cut(0)], vec!["", ""]),
        ("503", vec![Act::status("503 Service Unavailable", ""), Act::status("500 Oops", "")], vec!["", "", ""]),
        ("429", vec![Act::status("429 Too Many Requests", "Retry-After: 1\r\n")], vec!["", ""]),
        ("no ranges", vec![Act::Cut(300_000), Act::Whole], vec!["", "bytes=300000-"]),
        ("gone between", vec![Act::Cut(300_000), Act::status("502 Bad Gateway", "")], vec!["", "bytes=300000-", "bytes=300000-"]),
    ];
    for (nth, (what, acts, ranges)) in cases.into_iter().enumerate() {
        let gate = gate_for_big(5010 + u16::try_from(nth).unwrap(), &registry, acts);
        let started = Instant::now();
        let output = world.rkbox(["image", "pull", &gate.name("layers:1")]).ok();
        assert_eq!(output.stderr.matches("trying again: http://127.0.0.1:").count(), ranges.len() - 1, "{what}: {output}");
        let asked: Vec<String> = gate.seen().iter().filter(|one| is_big(one)).map(|one| one.header("range").to_owned()).collect();
        assert_eq!(asked, ranges, "{what}");
        assert!(what != "429" || started.elapsed() >= Duration::from_secs(1), "Retry-After was not obeyed");
        assert_whole(&world, &gate.name("layers:1"));
        world.rkbox(["image", "rm", &gate.name("layers:1")]).ok();
    }
}

fn gate_for_big(port: u16, registry: &Registry, acts: Vec<Act>) -> Gate {
    let (left, digest) = (std::sync::Mutex::new(acts.into_iter()), big());
    Gate::open(port, &registry.address, move |_, request| match request.is_blob() && request.path.ends_with(&digest) {
        true => left.lock().unwrap().next().unwrap_or(Act::Pass),
        false => Act::Pass,
    })
}

/// A manifest that fails twice comes at the third time.
#[test]
fn documents_are_tried_again_too() {
    let (world, registry, _) = world();
    let gate =
        Gate::open(
            5001,
            &registry.address,
            |nth, _| if nth < 2 { Act::status("503 Service Unavailable", "Retry-After: 0\r\n") } else { Act::Pass },
        );
    world.rkbox(["image", "pull", &gate.name("layers:1")]).ok();
    assert_whole(&world, &gate.name("layers:1"));
}

/// What does not pass ends with a list of what was tried; the next pull goes on from what came, and gc takes it away.
#[test]
fn what_stays_broken_is_told_and_what_came_is_kept() {
    let (world, registry, before) = world();
    let gate = gate_for_big(5003, &registry, vec![Act::Cut(400_000), Act::status("404 Not Found", "")]);
    world.rkbox(["image", "pull", &gate.name("layers:1")]).fails(3);
    assert!(Observation::glance(&world) != before, "what came is kept");
    world.rk("gc").ok();
    before.assert_again(&world, "gc after a failed pull");

    let endless =
        std::iter::once(Act::Cut(400_000)).chain(std::iter::repeat_n(Act::status("503 Service Unavailable", "Retry-After: 0\r\n"), 20));
    let gate = gate_for_big(5001, &registry, endless.collect());
    world
        .rkbox(["image", "pull", &gate.name("layers:1")])
        .fails(8)
        .says("http://127.0.0.1:5001/v2: 503 Service Unavailable")
        .says("goes on from there");
    let gate_again = Gate::open(5002, &registry.address, |_, _| Act::Pass);
    world.rkbox(["image", "pull", &gate_again.name("layers:1")]).ok();
    let asked: Vec<Request> = gate_again.seen().into_iter().filter(Request::is_blob).collect();
    assert!(asked.iter().any(|one| one.header("range") == "bytes=400000-"), "{asked:?}");
    assert_whole(&world, &gate_again.name("layers:1"));
    world.rkbox(["image", "rm", &gate_again.name("layers:1")]).ok();
}

/// Wrong bytes are never kept; another host that has the right ones is asked.
#[test]
fn wrong_bytes_are_refused_and_asked_for_elsewhere() {
    let (world, registry, before) = world();
    let spoiling = gate_for_big(5001, &registry, vec![Act::Spoil; 20]);
    world.rkbox(["image", "pull", &spoiling.name("layers:1")]).fails(13).says("gave content with digest sha256:");
    world.rk("gc").ok();
    before.assert_again(&world, "gc after wrong bytes");
    let line = format!("image pull --mirror http://{} {}", spoiling.address, registry.name("layers:1"));
    world.rk(&line).ok();
    assert_whole(&world, &registry.name("layers:1"));
}

/// A pull that is killed in the middle of a blob; the next one asks for the rest. Damage in what is left is found and fetched anew.
#[test]
fn a_killed_pull_is_gone_on_with() {
    let (world, registry, before) = world();
    let kill = |port: u16, signal: &str| {
        let gate = gate_for_big(port, &registry, vec![Act::Stall(600_000); 20]);
        let mut child = world.command(&world.program).args(["image", "pull", "-q", &gate.name("layers:1")]).spawn().unwrap();
        let partial = format!("$HOME/lib/images/blobs/sha256/.partial-{}", big().trim_start_matches("sha256:"));
        let size = || world.sh(&format!("stat -c %s {partial} 2>/dev/null || echo 0")).ok().stdout.trim().parse::<u64>().unwrap();
        common::until(Duration::from_secs(20), size, |size| *size >= 500_000).unwrap();
        world.sh(&format!("kill -{signal} {}", child.id())).ok();
        let started = Instant::now();
        child.wait().unwrap();
        assert!(started.elapsed() < Duration::from_secs(10), "signal {signal} was not heard while the server was silent");
        partial
    };
    kill(5013, "KILL");
    world.rk("gc").ok();
    before.assert_again(&world, "gc after a killed pull");
    for (port, signal) in [(5010, "KILL"), (5011, "INT")] {
        kill(port, signal);
        let gate = Gate::open(port + 10, &registry.address, |_, _| Act::Pass);
        world.rkbox(["image", "pull", "-q", &gate.name("layers:1")]).ok();
        let ranges: Vec<String> = gate.seen().iter().filter(|one| is_big(one)).map(|one| one.header("range").to_owned()).collect();
        assert!(ranges.len() == 1 && ranges[0].starts_with("bytes=5") || ranges[0].starts_with("bytes=6"), "{signal}: {ranges:?}");
        assert_whole(&world, &gate.name("layers:1"));
        world.rkbox(["image", "rm", &gate.name("layers:1")]).ok();
    }
    // As a power cut may leave it: the right length, other bytes.
    let partial = kill(5012, "KILL");
    world.sh(&format!("printf XXXX | dd of={partial} bs=1 seek=100000 conv=notrunc status=none")).ok();
    world.rkbox(["image", "pull", "-q", &registry.name("layers:1")]).ok();
    assert_whole(&world, &registry.name("layers:1"));
}

/// When the command that fetches is killed, one that waits for it takes over at once.
#[test]
fn who_waits_takes_over_from_the_dead() {
    let (world, registry, _) = world();
    let gate = gate_for_big(5001, &registry, vec![Act::Stall(600_000)]);
    let start = || {
        world.command(&world.program).args(["image", "pull", &gate.name("layers:1")]).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let mut leader = start();
    let asked = || gate.seen().iter().filter(|one| is_big(one)).count();
    common::until(Duration::from_secs(20), asked, |count| *count == 1).unwrap();
    let follower = start();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(asked(), 1, "the follower waits");
    leader.kill().unwrap();
    leader.wait().unwrap();
    let killed = Instant::now();
    let output = follower.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("which another command fetches"), "{said}");
    assert!(killed.elapsed() < Duration::from_secs(30) && asked() == 2);
    assert_whole(&world, &gate.name("layers:1"));
}

/// A server that falls silent in the middle of a blob is given up after a while, and asked for the rest.
#[test]
fn a_silent_server_is_asked_again() {
    let (world, registry, _) = world();
    let gate = gate_for_big(5001, &registry, vec![Act::Stall(400_000)]);
    let started = Instant::now();
    world.rkbox(["image", "pull", &gate.name("layers:1")]).ok().says("no answer in time");
    assert!(started.elapsed() >= Duration::from_secs(20), "it was not given any time");
    let ranges: Vec<String> = gate.seen().iter().filter(|one| is_big(one)).map(|one| one.header("range").to_owned()).collect();
    assert_eq!(ranges, ["", "bytes=400000-"]);
    assert_whole(&world, &gate.name("layers:1"));
}
