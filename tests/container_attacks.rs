//! Attacks by and on running containers: those of the list R that no other test bears.
//!
//! R1 R11 R15 R21 R22: `posture.rs`; R2 R3 R6 R14: `hostile_rootfs.rs`; R4 R7: `volumes.rs`; R8: `names.rs`; R12 R13: `copies.rs`;
//! R17: `containers.rs`; the others are here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{World, wait_for, with_busybox_only};

/// The most that a monitor may hold, in KiB.
const MOST_RSS: u64 = 32 << 10;

/// A container `c` that runs a shell line under its monitor.
fn run(world: &World, options: &[&str], line: &str) {
    world.rkbox([&["run", "-d", "--net", "none", "--name", "c"][..], options, &["busybox", "sh", "-c", line]].concat()).ok();
}

fn inspect(world: &World) -> serde_json::Value {
    world.rk("inspect c").ok().json()[0].clone()
}

/// The most memory that a process has held, in KiB.
fn most_rss(pid: &serde_json::Value) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// R5: what the runtime needs is not mounted over, and no mount leads out of the container.
#[test]
fn mounts_over_what_the_runtime_needs_are_refused() {
    let world = with_busybox_only();
    let before = world.observe();
    fs::create_dir(world.path("dir")).unwrap();
    for target in [
        "/",
        "/proc",
        "/proc/x",
        "/proc/self/fd",
        "/sys",
        "/sys/fs",
        "/dev",
        "/a/../proc",
        "//proc//",
        "/../../srv/../x",
        "/.",
        "relative",
        "",
    ] {
        for options in [&["-v", &format!("/tmp/rkbox-world/dir:{target}")][..], &["--mount", &format!("type=tmpfs,target={target}")]] {
            let words = [&["run", "--rm", "--net", "none"], options, &["busybox", "true"]].concat();
            let output = world.rkbox(words);
            assert!(output.code == 125 && output.stderr.contains("rkbox: "), "{target:?}: {output}");
        }
    }
    fs::remove_dir(world.path("dir")).unwrap();
    world.rk("gc").ok();
    before.assert_again(&world, "mounts that are refused");
}

/// R9: what a stranger or a user calls a label is none of the runtime's business.
#[test]
fn labels_never_become_annotations_of_the_runtime() {
    let world = with_busybox_only();
    let layout = world.path("labelled").display().to_string();
    let hostile: Vec<String> = [
        "io.kubernetes.cri-o.userns-mode",
        "run.oci.hooks.stdout",
        "module.wasm.image/variant",
        "io.katacontainers.config.hypervisor.path",
        "org.rkbox.id",
        "org.systemd.property.Delegate",
    ]
    .iter()
    .flat_map(|key| ["auto", "/bin/sh", "../../x", "a\nb", "\u{1b}[31m"].map(|value| format!("{key}={value}")))
    .collect();
    assert_eq!(hostile.len(), 30);
    world.sh(&format!("cp -r {} {layout}", common::images().layout("busybox"))).ok();
    let image = format!("{layout}:latest");
    let mut umoci = world.command("umoci");
    umoci.args(["config", "--no-history", "--image", &image]);
    umoci.args(hostile.iter().flat_map(|pair| ["--config.label", pair, "--manifest.annotation", pair]));
    common::Output::of(&mut umoci, world.limit).ok();
    world.rkbox(["image", "load", "--name", "labelled", &format!("oci:{layout}")]).ok();
    let labels: Vec<&str> = hostile.iter().filter(|pair| !pair.contains('\n')).flat_map(|pair| ["--label", pair]).collect();
    world.rkbox([&["create", "--net", "none", "--name", "c", "--annotation", "mine=x"][..], &labels, &["labelled", "true"]].concat()).ok();
    let config = world.sh("cat $RKBOX_ROOT/containers/*/config.json").ok().json();
    let annotations = config["annotations"].as_object().unwrap();
    let id = inspect(&world)["id"].clone();
    assert_eq!(annotations.iter().collect::<Vec<_>>(), [(&"mine".to_owned(), &"x".into()), (&"org.rkbox.id".to_owned(), &id)]);
    world.rk("rm c").ok();
}

/// R10: settings that are the host's, or that are none.
#[test]
fn settings_of_the_host_are_refused() {
    let world = with_busybox_only();
    let host = || fs::read_to_string("/proc/sys/vm/swappiness").unwrap() + &fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = host();
    for setting in [
        "vm.swappiness=1",
        "kernel.core_pattern=|/x",
        "kernel.modprobe=/x",
        "fs.file-max=1",
        "kernel.shmmax+1=1",
        "kernel.shm_rmid_forced=1\nx",
        "net.core.somaxconn+=+8",
        "net/../vm/swappiness=1",
        "net...vm.swappiness=1",
        "net.ipv4.../vm=1",
        "net.ipv4.conf.*.forwarding=1",
        "=1",
        "net.=1",
        "net.core.somaxconn",
        "kernel.shmmni\0=1",
        "net.core.somaxconn=1\n2",
    ] {
        if setting.contains('\0') {
            continue;
        }
        let output = world.rkbox(["run", "--rm", "--net", "none", "--sysctl", setting, "busybox", "true"]);
        assert!(output.code == 125, "{setting:?}: {output}");
    }
    // On the host's network those of a network are the host's too.
    world.rk("run --rm --net host --sysctl net.core.somaxconn=8 busybox true").fails(125);
    assert_eq!(host(), before);
    world.rk("gc").ok();
}

/// R16: ten gigabytes through exec, which nobody copies; a client of attach that is stopped.
#[test]
fn output_without_end_costs_the_monitor_nothing() {
    let world = with_busybox_only();
    run(&world, &["--log-max-files", "2"], "while [ ! -e /go ]; do sleep 0.05; done; exec yes $(printf %01000d 0)");
    let monitor = inspect(&world)["monitor_pid"].clone();
    let told = world.sh("rkbox exec c dd if=/dev/zero bs=1M count=10240 2>/dev/null | wc -c").ok();
    assert_eq!(told.stdout.trim(), (10_u64 << 30).to_string(), "{told}");
    assert!(most_rss(&monitor) < MOST_RSS, "{} KiB", most_rss(&monitor));
    // One client reads on, one is stopped: it stays so, misses output, and keeps nobody waiting longer than is documented (1 s).
    let program = world.program.display();
    let script = format!(
        "{program} attach --no-stdin --sig-proxy=false c 2>/dev/null >$HOME/slow & slow=$!
        {program} attach --no-stdin --sig-proxy=false c 2>/dev/null | dd of=/dev/null bs=64k 2>$HOME/read & quick=$!
        sleep 1; kill -STOP $slow; rkbox exec c touch /go; sleep 8
        sed -n 's/^State:.//p' /proc/$slow/status; stat -c %s $HOME/slow; awk '/VmHWM/ {{ print $2 }}' /proc/{monitor}/status
        kill -KILL $slow; rkbox kill c >/dev/null; wait $quick; awk '/copied/ {{ print $1 }}' $HOME/read"
    );
    let told = world.sh(&script).ok().stdout;
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with('T'), "the stopped client was woken: {told}");
    // The other one has read far more than the pipes and queues hold: the container went on.
    let [slow, most, quick] = [1, 2, 3].map(|line| lines[line].trim().parse::<u64>().unwrap());
    assert!(slow < 8 << 20 && quick > 64 << 20 && most < MOST_RSS, "{told}");
    world.rk("rm -f c").ok();
}

/// R18: a line of 100 MB, bytes of all kinds, and more than the cap.
#[test]
fn a_hostile_log_keeps_its_form_and_its_cap() {
    let world = with_busybox_only();
    run(
        &world,
        &["--log-max-size", "1m", "--log-max-files", "3"],
        "dd if=/dev/zero bs=1M count=100 2>/dev/null | tr '\\0' x; echo; printf 'a\\0b\\377\\033[31mc\\n'; echo last",
    );
    assert_eq!(world.rk("wait c").ok().stdout, "0\n");
    let log = inspect(&world)["log_path"].as_str().unwrap().to_owned();
    let mut files: Vec<_> = fs::read_dir(world.path(&log).parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.display().to_string().starts_with(&log));
    assert_eq!(files.len(), 3, "{files:?}");
    for path in &files {
        let bytes = fs::read(path).unwrap();
        assert!(bytes.len() <= (1 << 20) * 11 / 10, "{}: {}", path.display(), bytes.len());
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let head: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
            assert!(head[0].len() == 30 && head[1] == b"stdout" && matches!(head[2], b"P" | b"F") && head[3].len() <= 16 << 10);
        }
    }
    let newest = fs::read(&log).unwrap();
    let at = |part: &[u8]| newest.windows(part.len()).any(|window| window == part);
    assert!(at(b" stdout F a\0b\xff\x1b[31mc\n") && at(b" stdout F last\n"));
    world.rk("rm c").ok();
}

/// R19: bombs go off inside.
#[test]
fn bombs_stay_inside() {
    let world = with_busybox_only();
    run(&world, &["--pids-limit", "64", "--memory", "64m", "--tmpfs", "/t:size=1m"], "sleep 1000");
    let inside = |line: &str| world.rkbox(["exec", "--timeout", "20s", "c", "sh", "-c", line]);
    let started = Instant::now();
    inside("n=0; while [ $n -lt 200 ]; do n=$((n+1)); sleep 100 & done; wait").says("fork");
    let peak = world.sh("cat /sys/fs/cgroup/pids$RKBOX_CGROUP_PARENT/*/pids.current 2>/dev/null || cat /sys/fs/cgroup$RKBOX_CGROUP_PARENT/*/pids.current").ok().stdout;
    assert!(peak.trim().parse::<u32>().unwrap() <= 64, "{peak}");
    // Nothing can be added to one that is full; it is ended as any other.
    world.rk("restart -t 0 c").ok();
    inside("exec dd if=/dev/zero of=/dev/null bs=200M count=1").fails(137);
    inside("dd if=/dev/zero of=/t/full bs=1M count=9").says("No space left");
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(inspect(&world)["state"], "running");
    world.rk("rm -f c").ok();
}

/// R20: the pause process reaps what others leave; when it is gone its sandbox says so, and goes.
#[test]
fn a_sandbox_without_its_pause_process_is_not_ready_and_goes() {
    let world = with_busybox_only();
    let before = world.observe();
    let pod = r#"{"metadata": {"name": "web", "namespace": "n", "uid": "u"}, "linux": {"security_context": {"namespace_options": {"network": 2}}}}"#;
    fs::write(world.path("pod.json"), pod).unwrap();
    let container = r#"{"metadata": {"name": "c"}, "image": {"image": "busybox"}, "command": ["sh", "-c", "n=0; while [ $n -lt 500 ]; do n=$((n+1)); (sleep 0.01 &); done; exec sleep 1000"]}"#;
    fs::write(world.path("c.json"), container).unwrap();
    for signal in ["KILL", "STOP"] {
        let sandbox = world.rk("sandbox create --config /tmp/rkbox-world/pod.json").ok().stdout.trim().to_owned();
        let id = world.rk(&format!("create --sandbox {sandbox} --config /tmp/rkbox-world/c.json")).ok().stdout.trim().to_owned();
        world.rk(&format!("start {id}")).ok();
        let processes = || world.rk(&format!("exec {id} ps -o stat,comm")).ok().stdout;
        wait_for("500 orphans to be reaped", || {
            let all = processes();
            !all.contains("sh\n") && all.matches("sleep").count() == 1 && !all.lines().any(|line| line.trim_start().starts_with('Z'))
        });
        let pause = fs::read_to_string(world.run_dir().join("sandboxes").join(&sandbox).join("pid")).unwrap();
        world.sh(&format!("kill -{signal} {pause}")).ok();
        if signal == "KILL" {
            wait_for("the end of its namespace", || world.rk("sandbox ls").ok().stdout.contains("notready"));
            world.rk(&format!("exec {id} true")).fails(125);
        }
        // One that is stopped cannot be asked: it is made to go.
        world.rk(&format!("sandbox rm -f {sandbox}")).ok();
    }
    fs::remove_file(world.path("pod.json")).unwrap();
    fs::remove_file(world.path("c.json")).unwrap();
    world.rk("gc").ok();
    before.assert_again(&world, "sandboxes without pause processes");
}

/// R18: a flood for half a minute, as fast as it can be written, in numbered lines.
#[test]
fn a_flood_of_log_lines_keeps_its_cap_and_loses_only_what_is_rotated() {
    const LONG: Duration = Duration::from_secs(30);
    const CAP: u64 = 10 << 20;
    let world = with_busybox_only();
    run(
        &world,
        &["--log-max-size", "10m", "--log-max-files", "3"],
        "p=$(printf %04000d 0); while [ ! -e /done ]; do n=$((n+1)); echo $n $p; done; echo $n last",
    );
    let seen = inspect(&world);
    let (log, monitor) = (seen["log_path"].as_str().unwrap().to_owned(), seen["monitor_pid"].clone());
    let names = [format!("{log}.2"), format!("{log}.1"), log];
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < LONG {
        most = most.max(names.iter().filter_map(|name| fs::metadata(name).ok()).map(|meta| meta.len()).sum());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(most > 2 * CAP && most <= 3 * CAP * 11 / 10, "{most} bytes at most");
    assert!(most_rss(&monitor) < MOST_RSS, "{} KiB", most_rss(&monitor));
    world.rk("exec c touch /done").ok();
    assert_eq!(world.rk("wait c").ok().stdout, "0\n");
    // What is left are the last lines, whole and each once.
    let text: Vec<u8> = names.iter().flat_map(|name| fs::read(name).unwrap()).collect();
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let number = |line: &[u8]| -> (u64, usize) {
        let text = std::str::from_utf8(line).unwrap();
        let mut words = text.split(' ').skip(3);
        assert!(text.contains(" stdout F "), "{}", &text[..text.len().min(60)]);
        (words.next().unwrap().parse().unwrap(), words.next().unwrap().len())
    };
    let (last, whole) = lines.split_last().unwrap();
    assert!(last.ends_with(b" last") && whole.len() > 4000, "{} lines", whole.len());
    for pair in whole.windows(2) {
        let (one, next) = (number(pair[0]), number(pair[1]));
        assert!(next.0 == one.0 + 1 && one.1 == 4000 && next.1 == 4000, "{} is followed by {}", one.0, next.0);
    }
    // More than the list asks for: a gigabyte a minute.
    let written = number(last).0 * 4000;
    assert!(written > LONG.as_secs() * (1 << 30) / 60, "only {written} bytes in {LONG:?}");
    world.rk("rm c").ok();
}

/// R19: a million files in its writable layer.
#[test]
fn a_million_files_are_removed_in_bounds() {
    const EACH: u32 = 1000;
    let world = with_busybox_only();
    let before = world.observe();
    world.rk("create --net none --name c busybox true").ok();
    let upper = PathBuf::from(inspect(&world)["record"]["bundle"].as_str().unwrap()).join("upper");
    // Names of a few inodes: what costs is each name.
    for dir in 0..1_000_000 / EACH {
        let dir = upper.join(format!("d{dir}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("0"), "").unwrap();
        (1..EACH).for_each(|file| fs::hard_link(dir.join("0"), dir.join(file.to_string())).unwrap());
    }
    // All that only reads of it does not count them.
    let began = Instant::now();
    world.rk("ps -a").ok().prints("created");
    world.rk("start c").ok();
    assert_eq!(world.rk("wait c").ok().stdout, "0\n");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // One that is killed half-way is finished by the next.
    let program = world.program.display();
    let told = world.sh(&format!(
        "{program} rm c >/dev/null & rm=$!; sleep 0.5; most=$(awk '/VmHWM/ {{ print $2 }}' /proc/$rm/status); kill -9 $rm; wait $rm || true; echo $most"
    ));
    let most: u64 = told.ok().stdout.trim().parse().unwrap();
    assert!(most < MOST_RSS, "{most} KiB");
    let began = Instant::now();
    world.rk("gc").ok();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    before.assert_again(&world, "a million files");
}

/// R20: the pause process is what the kernel kills for lack of memory.
#[test]
fn a_pause_process_killed_for_lack_of_memory_leaves_a_sandbox_that_goes() {
    let world = with_busybox_only();
    let before = world.observe();
    world.rk("sandbox create --net none pod").ok();
    world.rk("run -d --sandbox pod --name c busybox sleep 1000").ok();
    let seen = world.rk("sandbox inspect pod").ok().json()[0].clone();
    let (pause, group) = (seen["pid"].to_string(), seen["record"]["runtime"]["cgroups_path"].as_str().unwrap().to_owned());
    // Others in its group want more together than there is; none of them is worth as much to the kernel as the pause process is made to be.
    let script = format!(
        "echo 1000 >/proc/{pause}/oom_score_adj
        for dir in /sys/fs/cgroup/memory{group} /sys/fs/cgroup{group}; do
            for limit in memory.limit_in_bytes memory.max; do [ ! -e $dir/$limit ] || {{ echo 16M >$dir/$limit; at=$dir; }}; done
        done
        hogs=
        for n in 1 2 3; do
            sh -c 'echo $$ >'$at'/cgroup.procs; exec dd if=/dev/zero of=/dev/null bs=6M count=1000000' 2>/dev/null & hogs=\"$hogs $!\"
        done
        n=0; while kill -0 {pause} 2>/dev/null && [ $n -lt 200 ]; do sleep 0.05; n=$((n+1)); done
        kill -9 $hogs 2>/dev/null || true; wait
        kill -0 {pause} 2>/dev/null || echo gone
        cat $at/memory.oom_control $at/memory.events 2>/dev/null | grep 'oom_kill [1-9]'"
    );
    let told = world.sh(&script).ok().stdout;
    assert!(told.starts_with("gone\noom_kill "), "{told}");
    wait_for("the end of its namespaces' holder", || world.rk("sandbox ls").ok().stdout.contains("notready"));
    // Its container has namespaces of its own for processes, and lives until it is told.
    assert_eq!(inspect(&world)["state"], "running");
    world.rk("run --rm --sandbox pod busybox true").fails(125).says("its pause process does not run");
    world.rk("sandbox rm pod").fails(5).says("--force");
    world.rk("sandbox rm -f pod").ok();
    world.rk("gc").ok();
    before.assert_again(&world, "a sandbox whose pause process was killed");
}
