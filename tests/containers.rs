//! The life of containers under their monitors, through the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{World, wait_for, with_busybox_only};

/// What `inspect` says of a container.
#[track_caller]
fn seen(world: &World, name: &str) -> serde_json::Value {
    world.rkbox(["inspect", name]).ok().json()[0].clone()
}

#[test]
fn a_container_is_created_started_stopped_and_started_again() {
    let world = with_busybox_only();
    let before = world.observe();
    let id = world
        .rkbox(["create", "--name", "c", "busybox", "sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"])
        .ok()
        .stdout;
    assert_eq!(id.trim().len(), 64, "{id}");
    assert_eq!(seen(&world, "c")["state"], "created");
    world.rk("ps").ok().prints("created");
    for life in 1..=2 {
        world.rk("start c").ok();
        world.rk("start c").ok();
        wait_for("the script", || world.rk("logs c").ok().stdout.matches("up").count() == life);
        let now = seen(&world, "c");
        assert_eq!((now["state"].as_str(), now["watched"].as_bool()), (Some("running"), Some(true)), "{now}");
        world.rk("rm c").fails(5).says("rkbox rm --force c");
        world.rk("stop c").ok();
        world.rk("stop c").ok();
        let now = seen(&world, "c");
        assert_eq!(
            (now["state"].as_str(), now["exit"]["exit_code"].as_u64(), now["exit"]["reason"].as_str()),
            (Some("exited"), Some(3), Some("exited")),
            "{now}"
        );
        assert_eq!(world.rk("wait c").ok().stdout.trim(), "3");
    }
    world.rk("rm c").ok();
    world.rk("gc").ok();
    before.assert_again(&world, "a whole life");
}

#[test]
fn whoever_starts_it_hears_all_of_it_in_every_life() {
    let world = with_busybox_only();
    for _ in 0..8 {
        // So short that only who is there before it hears it.
        world.rkbox(["create", "--net", "none", "--name", "c", "busybox", "sh", "-c", "echo out; echo err >&2; exit 4"]).ok();
        for _ in 0..2 {
            world.rk("start --attach c").fails(4).prints("out\n").says("err\n");
        }
        world.rk("rm c").ok();
    }
    world.rk("create --net none -i --name c busybox cat").ok();
    for text in ["one", "two"] {
        assert_eq!(world.sh(&format!("echo {text} | rkbox start --attach c")).ok().stdout, format!("{text}\n"));
    }
    world.rk("rm c").ok();
}

#[test]
fn restart_is_a_stop_and_a_start_with_the_same_files_and_address() {
    let world = with_busybox_only();
    let before = world.observe();
    let script =
        "trap 'exit 3' TERM; ip -4 -o addr show eth0; echo life >> /lives; echo lives $(wc -l < /lives); while :; do sleep 0.05; done";
    world.rkbox(["run", "-d", "--name", "c", "busybox", "sh", "-c", script]).ok();
    let lives = |count: usize| wait_for("the script", || world.rk("logs c").ok().stdout.contains(&format!("lives {count}\n")));
    lives(1);
    let first = seen(&world, "c");
    world.rk("restart c").ok().prints("c");
    lives(2);
    let second = seen(&world, "c");
    assert_eq!((second["state"].as_str(), second["watched"].as_bool()), (Some("running"), Some(true)), "{second}");
    assert_ne!(first["pid"], second["pid"]);
    let logs = world.rk("logs c").ok().stdout;
    let addresses: Vec<&str> = logs.lines().filter(|line| line.contains("inet ")).collect();
    assert!(addresses.len() == 2 && addresses[0] == addresses[1], "{logs}");
    // One that has ended is just started, and several at once are tried each.
    world.rk("stop c").ok();
    world.rk("restart nobody c").fails(3).says("nobody");
    lives(3);
    world.rk("rm --force c").ok();
    world.rkbox(["run", "-d", "--rm", "--name", "once", "busybox", "sleep", "1000"]).ok();
    world.rk("restart once").fails(5).says("--rm");
    assert_eq!(seen(&world, "once")["state"], "running");
    world.rk("stop once").ok();
    wait_for("its removal", || !world.rk("ps --all").ok().stdout.contains("once"));
    world.rk("gc").ok();
    before.assert_again(&world, "restarts");
}

#[test]
fn what_cannot_be_started_says_so_and_leaves_nothing() {
    let world = with_busybox_only();
    let before = world.observe();
    for (words, code) in [(&["no-such-program"][..], 127), (&["/no/such/program"], 127), (&["/etc"], 126), (&["/etc/hosts"], 126)] {
        let run: Vec<&str> = ["run", "-d", "busybox"].iter().chain(words).copied().collect();
        world.rkbox(run).fails(code).says("hint:");
        let create: Vec<&str> = ["create", "busybox"].iter().chain(words).copied().collect();
        assert_ne!(world.rkbox(create).code, 0);
    }
    world.rk("gc").ok();
    before.assert_again(&world, "starts that failed, gc");
}

#[test]
fn a_detached_container_with_rm_goes_by_itself() {
    let world = with_busybox_only();
    let before = world.observe();
    world.rk("run -d --rm --name quick busybox true").ok();
    let id = world.rk("run -d --rm --name slow busybox sleep 1000").ok().stdout;
    wait_for("the removal of quick", || world.rk("inspect quick").code == 3);
    world.rk("kill slow").ok().prints("slow");
    wait_for("the removal of slow", || world.rk("inspect slow").code == 3);
    let log = std::fs::read_dir(world.root().join("events")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(log).unwrap();
    let of_slow: Vec<&str> = text.lines().filter(|line| line.contains(id.trim())).collect();
    let kinds: Vec<String> =
        of_slow.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_owned()).collect();
    for kind in ["create", "start", "die", "remove"] {
        assert!(kinds.contains(&kind.to_owned()), "{kinds:?}");
    }
    wait_for("quiet", || world.leaks().is_empty());
    world.rk("gc").ok();
    before.assert_again(&world, "run -d --rm, twice");
}

#[test]
fn a_killed_monitor_is_noticed_and_the_container_lives() {
    let world = with_busybox_only();
    let before = world.observe();
    world.rkbox(["run", "-d", "--name", "c", "busybox", "sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.02; done"]).ok();
    wait_for("output", || world.rk("logs c").ok().stdout.lines().count() > 3);
    let monitor = seen(&world, "c")["monitor_pid"].as_i64().unwrap();
    world.sh(&format!("kill -9 {monitor}")).ok();
    wait_for("its absence", || seen(&world, "c")["monitor_pid"].is_null());
    let now = seen(&world, "c");
    assert_eq!((now["state"].as_str(), now["watched"].as_bool()), (Some("running"), Some(false)), "{now}");
    world.rk("ps").ok().prints("unwatched");
    world.rk("exec c true").ok();
    world.rk("stop -t 0 c").ok();
    let now = seen(&world, "c");
    assert_eq!(
        (now["state"].as_str(), now["exit"]["exit_code"].as_u64(), now["exit"]["reason"].as_str()),
        (Some("exited"), Some(255), Some("unknown"))
    );
    assert_eq!(world.rk("wait c").ok().stdout.trim(), "255");
    world.rk("start c").ok();
    wait_for("a new monitor", || seen(&world, "c")["watched"] == true);
    world.rk("rm --force c").ok();
    world.rk("gc").ok();
    before.assert_again(&world, "a killed monitor, rm --force, gc");
}

#[test]
fn exec_runs_in_the_container_with_its_streams_user_environment_and_status() {
    let world = with_busybox_only();
    world.rk("run -d --name c -e A=1 busybox sleep 1000").ok();
    world.rkbox(["exec", "c", "sh", "-c", "exit 7"]).fails(7);
    world.rkbox(["exec", "c", "sh", "-c", "kill -9 $$"]).fails(137);
    world.rk("exec c no-such-program").fails(127).says("hint:");
    world.rk("exec c /etc").fails(126);
    world.rk("exec nobody true").fails(125).says("nobody");
    let told = world
        .rkbox(["exec", "-e", "B=2", "-w", "/tmp", "-u", "33:44", "c", "sh", "-c", "echo $A $B $(pwd) $(id -u):$(id -g); echo oops >&2"])
        .ok();
    assert_eq!((told.stdout.trim(), told.stderr.trim()), ("1 2 /tmp 33:44", "oops"));
    assert_eq!(world.sh("echo hello | rkbox exec -i c cat").ok().stdout, "hello\n");
    assert_eq!(world.sh("echo hello | rkbox exec c cat").ok().stdout, "");
    let caps = |line: &str| {
        world.rk(&format!("exec {line} c grep CapEff /proc/self/status")).ok().stdout.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(caps("-u 33"), "0000000000000000");
    assert!(u64::from_str_radix(&caps("--privileged"), 16).unwrap() > u64::from_str_radix(&caps(""), 16).unwrap());
    // R17: the streams are held by a child of the process that has ended.
    let started = Instant::now();
    world.sh("rkbox exec c sh -c 'sleep 30 & echo gone' >$HOME/out 2>&1").ok();
    assert_eq!(std::fs::read_to_string(world.path("out")).unwrap(), "gone\n");
    assert!(started.elapsed() < Duration::from_secs(10), "waited for a child of the process");
    // A timeout ends the whole tree, whatever sessions it made.
    world.rkbox(["exec", "--timeout", "300ms", "c", "sh", "-c", "setsid sleep 555 & sleep 666"]).fails(124);
    world.rkbox(["exec", "-d", "c", "sleep", "444"]).ok();
    let all = world.rk("exec c ps").ok().stdout;
    assert!(all.contains("sleep 444") && !all.contains("sleep 555") && !all.contains("sleep 666"), "{all}");
    world.rk("pause c").ok();
    world.rk("exec c true").fails(125).says("rkbox unpause c");
    world.rk("ps").ok().prints("paused");
    world.rk("pause c").fails(5);
    world.rk("unpause c").ok();
    world.rk("exec c true").ok();
    world.rk("rm -f c").ok();
}

#[test]
fn logs_keep_lines_in_order_through_rotations_and_follow_to_the_end() {
    let world = with_busybox_only();
    let script = "i=0; while [ $i -lt 3000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; printf end";
    let told = world
        .sh(&format!(
            "rkbox run -d --name c --log-max-size 32k --log-max-files 20 busybox sh -c '{script}' >/dev/null; rkbox logs -f c 2>$HOME/err"
        ))
        .ok();
    let wanted: String = (0..3000).map(|n| format!("out {n}\n")).collect::<String>() + "end";
    assert!(told.stdout == wanted, "stdout differs: {} of {} bytes", told.stdout.len(), wanted.len());
    let wanted: String = (0..3000).map(|n| format!("err {n}\n")).collect();
    assert!(std::fs::read_to_string(world.path("err")).unwrap() == wanted, "stderr differs");
    let log = seen(&world, "c")["log_path"].as_str().unwrap().to_owned();
    let files = world.sh(&format!("stat -c '%a %s' {log}*")).ok().stdout;
    assert!(
        files.lines().count() > 3 && files.lines().all(|line| line.starts_with("600 ") && line[4..].parse::<u64>().unwrap() <= 32 << 10),
        "{files}"
    );
    // Again, from the files.
    let again = world.sh("rkbox logs c 2>/dev/null").ok().stdout;
    assert!(again.ends_with("out 2999\nend") && again.starts_with("out 0\n"));
    assert_eq!(world.sh("rkbox logs --tail 3 c 2>&1").ok().stdout.lines().count(), 4, "three lines and a part");
    let stamped = world.rk("logs -t -n 1 c").ok();
    let first = stamped.stdout.split(' ').next().unwrap();
    assert_eq!(first.len(), "2026-11-23T00:00:00.000000000Z".len(), "{}", stamped.stdout);
    assert!(world.rk("logs --until 2001-01-01T00:00:00Z c").ok().stdout.is_empty());
    assert!(world.rk("logs --since 1h c").ok().stdout.len() > 1000);
    world.rk("logs --reopen c").fails(5).says("does not run");
    world.rk("rm c").ok();
}

#[test]
fn a_log_is_reopened_after_it_was_moved_and_where_there_is_none_that_is_said() {
    let world = with_busybox_only();
    let script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.02; done";
    world.rkbox(["run", "-d", "--name", "c", "busybox", "sh", "-c", script]).ok();
    wait_for("output", || world.rk("logs c").ok().stdout.lines().count() > 3);
    let log = seen(&world, "c")["log_path"].as_str().unwrap().to_owned();
    let moved = world.path("moved.log");
    std::fs::rename(&log, &moved).unwrap();
    assert!(!std::path::Path::new(&log).exists());
    assert_eq!(world.rk("logs --reopen c").ok().stdout, "");
    wait_for("output in the new file", || std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() > 3));
    world.rk("stop -t 0 c").ok();
    let both = std::fs::read_to_string(&moved).unwrap() + &std::fs::read_to_string(&log).unwrap();
    let numbers: Vec<usize> = both.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    assert!(numbers.len() > 6 && numbers.iter().copied().eq(0..numbers.len()), "a line is lost or doubled: {both}");
    world.rk("rm c").ok();
    world.rkbox(["run", "--name", "front", "busybox", "echo", "hi"]).ok().prints("hi");
    world.rk("logs front").fails(5).says("keeps no log").says("run -d");
    world.rk("rm front").ok();
}

#[test]
fn a_failing_container_is_started_again_as_its_policy_says() {
    let world = with_busybox_only();
    let run = |line: &str| world.sh(&format!("export RKBOX_TEST_BACKOFF_MS=50; {line}")).ok();
    run(
        "rkbox run -d --name twice --restart on-failure:2 busybox sh -c 'echo life; exit 4' >/dev/null; rkbox run -d --name fine --restart on-failure busybox true >/dev/null",
    );
    run("rkbox run -d --name ever --restart always busybox sh -c 'echo life' >/dev/null");
    wait_for("the last life of twice", || seen(&world, "twice")["state"] == "exited");
    assert_eq!(world.rk("logs twice").ok().stdout, "life\n".repeat(3));
    assert_eq!((seen(&world, "fine")["state"].as_str(), world.rk("wait fine").ok().stdout.trim()), (Some("exited"), "0"));
    wait_for("many lives", || world.rk("logs ever").ok().stdout.lines().count() >= 3);
    assert!(seen(&world, "ever")["restarts"].as_u64().unwrap() >= 2);
    world.rk("stop ever").ok();
    let lives = world.rk("logs ever").ok().stdout.lines().count();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(world.rk("logs ever").ok().stdout.lines().count(), lives, "a stopped container stays stopped");
    assert_eq!(seen(&world, "ever")["state"], "exited");
    run("rkbox run -d --name killed --restart always busybox sleep 1000 >/dev/null");
    world.rk("kill killed").ok();
    wait_for("its end", || seen(&world, "killed")["state"] == "exited");
    world.rk("rm -f twice fine ever killed").ok();
}

#[test]
fn names_that_are_not_there_do_not_stop_the_others() {
    let world = with_busybox_only();
    world.rk("run -d --name a busybox sleep 1000").ok();
    world.rk("run -d --name b -l app=web busybox sleep 1000").ok();
    world.rk("stop nobody a").fails(3).prints("a").says("nobody");
    assert_eq!(seen(&world, "a")["state"], "exited");
    assert_eq!(world.rk("ps -q --no-trunc").ok().stdout.lines().count(), 1);
    let names = |filter: &str| {
        let rows = world.rk(&format!("--format json ps -a {filter}")).ok().json();
        rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("-f status=exited"), ["a"]);
    assert_eq!(names("-f label=app=web -f status=running"), ["b"]);
    assert_eq!(names("-f name=a -f name=b"), ["a", "b"]);
    assert_eq!(names("-f exited=137 -f label=app"), Vec::<String>::new());
    world.rk("ps -f nonsense=1").fails(2).says("hint:");
    world.rk("kill -s NOPE b").fails(2);
    world.rk("kill -s 0 b").fails(2);
    world.rk("rm -f a b").ok();
}

#[test]
fn the_id_and_the_pid_are_written_where_the_caller_wants_them() {
    let world = with_busybox_only();
    let id = world.rk("run -d --name c --cidfile /tmp/rkbox-world/cid --pidfile /tmp/rkbox-world/pid busybox sleep 1000").ok().stdout;
    assert_eq!(std::fs::read_to_string(world.path("cid")).unwrap(), id.trim());
    assert_eq!(std::fs::read_to_string(world.path("pid")).unwrap(), seen(&world, "c")["pid"].to_string());
    world.rk("run -d --cidfile /tmp/rkbox-world/cid busybox true").fails(125).says("is there already");
    world.sh("printf 'A=file\\n# no\\nB=file\\n' > $HOME/env").ok();
    let told = world.rkbox(["run", "--rm", "--env-file", "/tmp/rkbox-world/env", "-e", "B=own", "busybox", "sh", "-c", "echo $A $B"]).ok();
    assert_eq!(told.stdout, "file own\n");
    world.rk("rm -f c").ok();
}

#[test]
fn a_lost_container_is_adopted_and_its_log_goes_on_without_a_gap() {
    let world = with_busybox_only();
    let script = "n=0; while [ $n -lt 400 ]; do n=$((n+1)); echo line $n; sleep 0.01; done; exit 7";
    world.rkbox(["run", "-d", "--name", "c", "busybox", "sh", "-c", script]).ok();
    wait_for("output", || world.rk("logs c").ok().stdout.lines().count() > 3);
    world.sh(&format!("kill -9 {}", seen(&world, "c")["monitor_pid"])).ok();
    wait_for("its absence", || seen(&world, "c")["monitor_pid"].is_null());
    std::thread::sleep(Duration::from_millis(200));
    world.rk("repair").ok().prints("watched again: c");
    assert_eq!(world.rk("repair").ok().stdout, "");
    assert_eq!(seen(&world, "c")["watched"], true);
    let code = world.rk("wait c").ok().stdout;
    // Known since Linux 6.15, when its true parent reaps it; else honestly unknown.
    let exit = seen(&world, "c")["exit"].clone();
    assert!(code.trim() == "7" || (code.trim() == "255" && exit["reason"] == "unknown"), "{code} {exit}");
    let lines: Vec<String> = world.rk("logs c").ok().stdout.lines().map(str::to_owned).collect();
    let gaps: Vec<_> = lines.windows(2).filter(|pair| number(&pair[1]) != number(&pair[0]) + 1).collect();
    // At most what the killed monitor had read and not written.
    assert!(gaps.len() <= 1 && lines.last().unwrap() == "line 400", "{gaps:?} {:?}", lines.last());
    let told = world.rk("events --container c").ok().stdout;
    for kind in ["create", "start", "adopt", "die"] {
        assert!(told.lines().any(|line| line.split(' ').nth(1) == Some(kind)), "{kind}: {told}");
    }
    assert_eq!(world.rk("events --event die").ok().stdout.lines().count(), 1);
    world.rk("rm c").ok();
}

fn number(line: &str) -> u32 {
    line.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line:?}"))
}

#[test]
fn health_checks_of_the_caller_say_how_it_is() {
    let world = with_busybox_only();
    let options = "--health-interval 100ms --health-retries 2";
    world.sh(&format!("rkbox run -d --name c {options} --health-cmd 'test -e /well' busybox sleep 1000")).ok();
    wait_for("bad health", || seen(&world, "c")["health"]["state"] == "unhealthy");
    world.rk("exec c touch /well").ok();
    wait_for("good health", || seen(&world, "c")["health"]["state"] == "healthy");
    world.rk("ps").ok().prints("running (healthy)");
    world.sh(&format!("rkbox run -d --name slow {options} --health-timeout 200ms --health-cmd 'sleep 777' busybox sleep 1000")).ok();
    wait_for("bad health", || seen(&world, "slow")["health"]["state"] == "unhealthy");
    assert_eq!(seen(&world, "slow")["health"]["last"]["exit_code"], 124);
    let all = world.rk("exec slow ps").ok().stdout;
    assert!(all.matches("sleep 777").count() <= 1, "checks that took too long are ended: {all}");
    world.rk("rm -f c slow").ok();
}
