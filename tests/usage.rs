//! `stats`, `top` and `update` through the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{World, images};

/// Runs `script` while container `c` sleeps.
fn beside(world: &World, options: &str, script: &str) -> String {
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    let script = format!(
        "rkbox run --rm --name c {options} busybox sh -c 'head -c 8m /dev/zero >/dev/shm/x; while [ ! -e /done ]; do sleep 0.05; done' >$HOME/out 2>&1 & run=$!
        until rkbox top c 2>/dev/null | grep -q sleep; do kill -0 $run; sleep 0.05; done
        {script}
        : >$HOME/done; rkbox cp $HOME/done c:/done; wait $run"
    );
    world.sh(&script).ok().stdout
}

#[test]
fn what_a_container_uses_is_told_once_and_again() {
    let world = World::new();
    let program = world.program.display();
    let script = r#"
        rkbox --format json stats --no-stream; echo '--8<--'; rkbox stats --no-stream c; echo '--8<--'
        (timeout -s INT 2.5 PROGRAM --format json stats --interval 1 || true) | wc -l; echo '--8<--'
        rkbox --format json top c; echo '--8<--'; rkbox top c"#;
    let out = beside(&world, "--memory 64m --pids-limit 77", &script.replace("PROGRAM", &program.to_string()));
    let parts: Vec<&str> = out.split("--8<--\n").collect();
    let stats: serde_json::Value = serde_json::from_str(parts[0]).unwrap();
    let one = &stats[0];
    assert_eq!(
        (one["name"].as_str(), one["memory_limit_bytes"].as_u64(), one["pids_limit"].as_u64()),
        (Some("c"), Some(64 << 20), Some(77))
    );
    assert!(one["memory_bytes"].as_u64().unwrap() >= 8 << 20 && one["pids"].as_u64().unwrap() >= 1, "{one}");
    assert!(one["cpu_nanos"].as_u64().unwrap() > 0 && one["cpu_percent"].as_f64().unwrap() >= 0.0, "{one}");
    // The kernel's neighbour discovery, at the least.
    assert!(one["network_sent_bytes"].as_u64().unwrap() > 0, "{one}");
    assert!(parts[1].contains("/ 64MiB"), "{}", parts[1]);
    assert!(parts[2].trim().parse::<u32>().unwrap() >= 1, "{}", parts[2]);
    let top: serde_json::Value = serde_json::from_str(parts[3]).unwrap();
    assert!(
        top.as_array()
            .unwrap()
            .iter()
            .any(|process| process["pid_inside"] == 1 && process["command"].as_str().unwrap().starts_with("sh -c")),
        "{top}"
    );
    assert!(parts[4].starts_with("UID"), "{}", parts[4]);
}

#[test]
fn bounds_change_while_it_runs_and_are_remembered() {
    let world = World::new();
    let script = r#"
        g() { for f in "$@"; do cat /sys/fs/cgroup$f 2>/dev/null || true; done | head -n1; }
        p=$RKBOX_CGROUP_PARENT/$(basename $(ls -d $RKBOX_ROOT/containers/*))
        all() { echo $(g /memory$p/memory.limit_in_bytes $p/memory.max) $(g /cpu$p/cpu.cfs_quota_us $p/cpu.max) $(g /pids$p/pids.max $p/pids.max); }
        all; rkbox update --memory 128m --cpus 0.5 --pids-limit 99 c; all; rkbox update --memory 32m c; all
        RKBOX_FAULT=settle:0:fail rkbox update --memory 96m --pids-limit 55 c 2>&1 | head -n1; all
        cat $RKBOX_ROOT/containers/*/resources.json; jq -c '.linux.resources.memory, .linux.resources.devices' $RKBOX_ROOT/containers/*/config.json
        rkbox update --memory 1m c 2>&1 | head -n1; rkbox update c 2>&1 | head -n1; rkbox update --memory 64m --memory-swap 32m c 2>&1 | head -n1"#;
    let out = beside(&world, "--net none --memory 64m", script);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("67108864 ") && lines[0].ends_with(" 2048"), "{out}");
    assert_eq!((lines[1], lines[3]), ("c", "c"));
    assert!(lines[2].starts_with("134217728 50000 ") || lines[2].starts_with("134217728 50000"), "{out}");
    assert!(lines[2].ends_with(" 99") && lines[4].starts_with("33554432 "), "{out}");
    assert!(lines[5].contains("fault injected") && lines[6] == lines[4], "a failed update is taken back: {out}");
    assert!(lines[7].contains("\"memory\":33554432") && lines[7].contains("\"pids\":99"), "{out}");
    assert!(lines[8].contains("\"limit\":33554432") && lines[9].contains("\"allow\":false"), "{out}");
    assert!(
        lines[10].contains("less than 6m") && lines[11].contains("nothing to change") && lines[12].contains("less than --memory"),
        "{out}"
    );
}
