//! Many commands at once: each ends in bounded time, whole or refused by name, and nobody breaks another's box.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Output, World, images};

/// A command that runs beside others; its words go to files below the world.
fn start(world: &World, line: &str) -> (String, Child) {
    let mut command = world.command(&world.program);
    command.args(line.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (line.to_owned(), command.spawn().unwrap())
}

/// Waits for commands that say little.
fn ends(started: Vec<(String, Child)>) -> Vec<(String, Option<i32>, String)> {
    let end = |(line, child): (String, Child)| {
        let output = child.wait_with_output().unwrap();
        (line, output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    started.into_iter().map(end).collect()
}

#[track_caller]
fn assert_all_ok(ended: &[(String, Option<i32>, String)]) {
    let failed: Vec<_> = ended.iter().filter(|(_, code, _)| *code != Some(0)).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), ended.len());
}

#[test]
fn thirty_sandboxes_are_made_and_removed_at_once() {
    let world = World::new();
    let before = world.observe();
    let started = Instant::now();
    assert_all_ok(&ends((0..30).map(|n| start(&world, &format!("sandbox create box{n}"))).collect()));
    let seen = world.rk("--format json sandbox ls").ok().json();
    let rows = seen.as_array().unwrap();
    let addresses: BTreeSet<String> = rows.iter().map(|row| row["addresses"][0].to_string()).collect();
    assert_eq!((rows.len(), addresses.len()), (30, 30), "{seen}");
    assert!(rows.iter().all(|row| row["state"] == "ready"), "{seen}");
    assert_all_ok(&ends((0..30).map(|n| start(&world, &format!("sandbox rm box{n}"))).collect()));
    world.rk("gc").ok();
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    before.assert_again(&world, "30 sandboxes made and removed at once, gc");
}

#[test]
fn many_hands_on_four_names_end_whole_or_refused() {
    let world = World::new();
    let before = world.observe();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    let mut random = |limit: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % limit
    };
    for _ in 0..10 {
        let mut lines = Vec::new();
        for _ in 0..16 {
            let name = ["w", "x", "y", "z"][random(4) as usize];
            lines.push(match random(5) {
                0 | 1 => format!("sandbox create {name}"),
                2 => format!("sandbox rm {name}"),
                3 => format!("sandbox rm --force {name}"),
                _ => format!("sandbox stop {name}"),
            });
        }
        let started = Instant::now();
        let ended = ends(lines.iter().map(|line| start(&world, line)).collect());
        assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
        // Done, not found, exists, its state forbids it, lost races.
        let bad: Vec<_> = ended.iter().filter(|(_, code, _)| !matches!(code, Some(0 | 3 | 4 | 5 | 11))).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
    world.rk("sandbox rm --force w x y z").ok();
    world.rk("gc").ok();
    before.assert_again(&world, "160 commands on four names, gc");
}

#[test]
fn gc_never_breaks_what_others_are_making() {
    let world = World::new();
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    world.rk("gc").ok();
    let before = world.observe();
    let over = AtomicBool::new(false);
    let mut sweeper = world.command(&world.program);
    sweeper.arg("gc");
    std::thread::scope(|scope| {
        let sweeps = scope.spawn(|| {
            let mut failed = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let output = Output::of(&mut sweeper, Duration::from_secs(60));
                if output.code != 0 {
                    failed.push(output.to_string());
                }
            }
            failed
        });
        let mut all = Vec::new();
        for round in 0..8 {
            let lines = [0, 1].map(|n| format!("sandbox create box{round}x{n}"));
            let runs = [0, 1].map(|_| "run --rm busybox true".to_owned());
            all.extend(ends(lines.iter().chain(&runs).map(|line| start(&world, line)).collect()));
            all.extend(ends([0, 1].map(|n| start(&world, &format!("sandbox rm --force box{round}x{n}"))).into_iter().collect()));
        }
        over.store(true, Ordering::Relaxed);
        assert_all_ok(&all);
        assert_eq!(sweeps.join().unwrap(), Vec::<String>::new());
    });
    world.rk("gc").ok();
    before.assert_again(&world, "creations and runs beside gc");
}

#[test]
fn images_are_loaded_at_once_beside_gc_and_rm() {
    let world = World::new();
    let sources = [
        images().oci_archive("busybox"),
        images().docker_archive("busybox"),
        images().oci_archive("layers"),
        format!("oci:{}:latest", images().layout("layers")),
    ];
    for _ in 0..3 {
        let loads = sources.iter().chain(&sources).map(|source| start(&world, &format!("image load {source}")));
        let mut started: Vec<_> = loads.collect();
        started.push(start(&world, "gc"));
        let removal = start(&world, "image rm busybox");
        started.push(start(&world, "gc"));
        let ended = ends(started);
        assert_all_ok(&ended);
        let (_, code, said) = ends(vec![removal]).remove(0);
        assert!(matches!(code, Some(0 | 3)), "{said}");
    }
    // What is in the store is whole: both run, whoever made their common layers.
    world.rkbox(["image", "load", &sources[0]]).ok();
    world.rk("run --rm --net none busybox true").ok();
    let listed = world.rk("--format json image ls").ok().json();
    for row in listed.as_array().unwrap() {
        let name = format!("{}:{}", row["repository"].as_str().unwrap(), row["tag"].as_str().unwrap());
        world.rkbox(["image", "inspect", &name]).ok();
        world.rkbox(["image", "rm", &name]).ok();
    }
    world.rk("gc").ok();
    let left: Vec<String> =
        world.observe().facts.into_iter().map(|(key, _)| key).filter(|key| key.starts_with("file") && key.contains("/lib/")).collect();
    let kept = ["index.json", "oci-layout", "/lib/images", "/lib/containers", "/lib/names", "/lib/names/containers"];
    assert!(left.iter().all(|key| kept.iter().any(|kept| key.ends_with(kept))), "{left:#?}");
}
