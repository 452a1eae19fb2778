//! Bad input, bad hosts and bad runtimes: an exit status by kind, an error that names the thing and the way out, and a world
//! that is as it was, without `gc`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs::{remove_file, write};

use common::{Observation, Output, World, images};

/// A world with the busybox image, that may be left as the test leaves it.
fn with_image() -> World {
    let mut world = World::new();
    world.allow_leaks();
    world.rk(&format!("image load {}", images().oci_archive("busybox"))).ok();
    world
}

/// Asserts that a command fails with `code`, says each of `words` and a hint, and changes nothing.
#[track_caller]
fn refuses(world: &World, args: &[&str], code: i32, words: &[&str]) -> Output {
    let before = world.observe();
    let output = world.rkbox(args).fails(code);
    judge(world, &before, output, words)
}

/// As [`refuses`], for a shell line.
#[track_caller]
fn refuses_sh(world: &World, line: &str, code: i32, words: &[&str]) -> Output {
    let before = world.observe();
    let output = world.sh(line).fails(code);
    judge(world, &before, output, words)
}

#[track_caller]
fn judge(world: &World, before: &Observation, output: Output, words: &[&str]) -> Output {
    for word in words.iter().chain(&["hint: "]) {
        assert!(output.stderr.contains(word), "expected {word:?} on stderr of {output}");
    }
    let shown = output.to_string();
    let (before, after) = (lasting(before), lasting(&world.observe()));
    let difference = before.difference(&after);
    assert!(difference.is_empty(), "the world differs (- is missing, + is left over):\n{}\nafter {shown}", difference.join("\n"));
    output
}

/// Everything but the cursor of a pool, which says where the next search begins and says it on after a rollback, and what the
/// kernel does by itself, a second or two after a link is up.
fn lasting(seen: &Observation) -> Observation {
    // Its journals and locks, empty here, are not a change to the host either.
    let is_run = |key: &str| key == "file /tmp/rkbox-world/run";
    let by_itself = |text: &str| ["last_reserved_ip", "fe80::", "ff00::/8"].iter().any(|part| text.contains(part));
    Observation { facts: seen.facts.iter().filter(|(key, value)| !is_run(key) && !by_itself(key) && !by_itself(value)).cloned().collect() }
}

/// One line of words, split at spaces.
#[track_caller]
fn rk(world: &World, line: &str, code: i32, words: &[&str]) -> Output {
    refuses(world, &line.split_whitespace().collect::<Vec<_>>(), code, words)
}

fn bridge(world: &World, name: &str, bridge: &str) {
    let text = format!(
        r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"bridge","bridge":"{bridge}","isGateway":true,
           "ipam":{{"type":"host-local","ranges":[[{{"subnet":"10.9.9.0/29"}}]]}}}}]}}"#
    );
    world.configure(&format!("{name}.conflist"), &text);
}

/// A program that stands in for the runtime; answers its path.
fn runtime(world: &World, script: &str) -> String {
    world.sh(&format!("cat >$HOME/rt <<'EOS'\n#!/bin/sh\n{script}\nEOS\nchmod 755 $HOME/rt")).ok();
    world.path("rt").to_str().unwrap().to_owned()
}

#[test]
fn networks_and_namespaces_that_cannot_be_attached() {
    let mut world = World::new();
    world.allow_leaks();
    world
        .sh("ip netns add a; ip netns add b; ip -n b link add eth0 type veth peer name p0; echo >$HOME/f; ln -s /run/netns/a $HOME/l")
        .ok();
    rk(&world, "net add nope a", 3, &["no network nope", "there is: connet"]);
    rk(&world, "net add connet gone", 3, &["/run/netns/gone is not there", "ip netns add"]);
    rk(&world, "net add connet /tmp/rkbox-world/f", 2, &["/tmp/rkbox-world/f is not a network namespace"]);
    rk(&world, "net add connet /tmp/rkbox-world/l", 2, &["/tmp/rkbox-world/l is a symlink"]);
    rk(&world, "net add connet /proc/self/ns/net", 2, &["/proc/self/ns/net", "rkbox itself"]);
    rk(&world, "net add connet b", 4, &["interface eth0 is in /run/netns/b", "another interface"]);
    rk(&world, "net add connet a --ifname lo", 4, &["interface lo"]);
    world.rk("net add connet a").ok();
    rk(&world, "net add connet a", 4, &["eth0 of /run/netns/a is attached to connet already", "rkbox net del connet /run/netns/a"]);
    rk(&world, "net add connet a --ifname eth1", 4, &["eth1 in /run/netns/a", "ip -n a route"]);
    world.rk("net check connet a").ok();
    for (line, words) in [
        ("net add con/net a", ["\"con/net\"", "use letters"]),
        ("net add connet a --ifname far-too-long-for-it", ["interface name", "1 to 15 bytes"]),
        ("sandbox create a/b", ["\"a/b\"", "use letters"]),
        ("sandbox create ..", ["\"..\"", "use letters"]),
        ("sandbox create web --label =x", ["\"=x\"", "KEY=VALUE"]),
    ] {
        rk(&world, line, 2, &words);
    }
    refuses(&world, &["sandbox", "create", ""], 2, &["name \"\""]);
    refuses(&world, &["sandbox", "create", "web", "--hostname", "a\nb"], 2, &["a\\nb"]);
}

#[test]
fn a_full_pool_is_told_with_its_range_and_holders_and_one_removal_makes_room_for_one() {
    let mut world = World::new();
    world.allow_leaks();
    bridge(&world, "small", "br9");
    world.sh("for i in 1 2 3 4 5 6 7; do ip netns add s$i; done; for i in 1 2 3 4 5; do rkbox net add small s$i; done").ok();
    let words = ["network small", "10.9.9.1-10.9.9.6", "5 are held", "10.9.9.2 by eth0 of /run/netns/s1", "/run/netns/s5", "rkbox net del"];
    rk(&world, "net add small s6", 6, &words);
    rk(&world, "sandbox create web", 6, &words);
    world.rk("net del small s3").ok();
    world.rk("net add small s6").ok().prints("10.9.9.4/29");
    rk(&world, "net add small s7", 6, &["5 are held", "/run/netns/s6"]);
}

#[test]
fn bridges_that_belong_to_somebody_else() {
    let mut world = World::new();
    world.allow_leaks();
    world.sh("ip netns add a; ip link add br5 type bridge; ip addr add 10.1.1.1/24 dev br5; ip link set br5 up; ip link add v0 type veth peer name v1").ok();
    bridge(&world, "taken", "br5");
    bridge(&world, "wrong", "v0");
    rk(&world, "net add taken a", 5, &["bridge br5 has the address 10.1.1.1/24", "10.9.9.1/29", "administrator", "forceAddress"]);
    rk(&world, "net add wrong a", 5, &["link v0 is not a bridge (veth)"]);
    rk(&world, "sandbox create web --net taken", 5, &["10.1.1.1/24"]);
}

#[test]
fn configurations_that_are_not_understood() {
    let mut world = World::new();
    world.allow_leaks();
    world.sh("ip netns add a").ok();
    let list = |plugin: &str| format!(r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{plugin}]}}"#);
    for (text, code, word) in [
        ("{".to_owned(), 2, "n.conflist"),
        ("[]".to_owned(), 2, "n.conflist"),
        (list(""), 2, "no plugins"),
        (list(r#"{"type":"macvlan"}"#), 5, "no default route interface found"),
        (list(r#"{"type":"no-such-plugin"}"#), 8, "no-such-plugin"),
        (list(r#"{"type":"../../bin/sh"}"#), 2, "\"../../bin/sh\""),
        (list(r#"{"type":"bridge","vlan":7}"#), 9, "\"vlan\""),
        (list(r#"{"type":"bridge","mtu":"big"}"#), 2, "\"mtu\""),
        (list(r#"{"type":"bridge","bridge":7}"#), 2, "\"bridge\""),
        (list(r#"{"type":"bridge","ipam":{"type":"dhcp"}}"#), 1, "error dialing DHCP daemon"),
        (list(r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.9/x"}}"#), 2, "10.9/x"),
        (r#"{"cniVersion":"9.9","name":"n","plugins":[{"type":"bridge"}]}"#.to_owned(), 9, "\"9.9\""),
        (r#"{"cniVersion":"1.0.0","name":7,"plugins":[{"type":"bridge"}]}"#.to_owned(), 2, "\"name\""),
        (r#"{"cniVersion":"1.0.0","name":"../x","plugins":[{"type":"bridge"}]}"#.to_owned(), 2, "\"../x\""),
    ] {
        world.configure("n.conflist", &text);
        rk(&world, "net add n a", code, &[word]);
        world.rk("net ls").ok();
    }
}

#[test]
fn images_that_are_missing_or_none() {
    let world = with_image();
    let (oci, docker) = (images().oci_archive("busybox"), images().docker_archive("busybox"));
    world.sh(&format!("cd $HOME; echo hello >text; : >empty; mkdir dir; head -c 700000 {oci} >cut.tar; bzip2 -c {oci} >z.tbz; tar -C /etc -cf other.tar hostname")).ok();
    rk(&world, "image inspect nope", 3, &["\"nope\"", "rkbox image load"]);
    rk(&world, "image rm nope", 3, &["\"nope\""]);
    rk(&world, "run --rm --pull never nope true", 125, &["\"nope\"", "rkbox image load"]);
    rk(
        &world,
        "run --rm --mirror http://127.0.0.1:1 nope true",
        125,
        &["docker.io/library/nope:latest", "127.0.0.1:1/v2: connection refused"],
    );
    refuses(&world, &["run", "--rm", "Bad Name", "true"], 125, &["\"Bad Name\""]);
    for (source, code, word) in [
        ("text", 2, "is not an image"),
        ("empty", 2, "has no members"),
        ("dir", 2, "no oci-layout file"),
        ("cut.tar", 2, "cut off"),
        ("z.tbz", 9, "compressed with bzip2"),
        ("other.tar", 2, "manifest.json"),
        ("gone.tar", 3, "is not there"),
    ] {
        rk(&world, &format!("image load /tmp/rkbox-world/{source}"), code, &[source, word]);
    }
    let layout = images().layout("busybox");
    rk(&world, "bundle create oci:/tmp/rkbox-world/dir /tmp/rkbox-world/out", 2, &["no index.json"]);
    rk(&world, "bundle create nope /tmp/rkbox-world/out", 3, &["nope"]);
    rk(&world, &format!("bundle create oci:{layout} /tmp/rkbox-world/dir"), 4, &["/tmp/rkbox-world/dir"]);
    rk(&world, &format!("bundle create oci:{layout} /tmp/rkbox-world/no/such"), 3, &["/tmp/rkbox-world/no"]);
    rk(&world, "image load docker-daemon:busybox", 9, &["skopeo copy"]);
    rk(&world, "image load oci:", 2, &["oci:PATH"]);
    rk(&world, &format!("image load docker-archive:{oci}"), 13, &["manifest.json"]);
    rk(&world, &format!("image load oci-archive:{docker}"), 13, &["index.json"]);
    rk(&world, &format!("image load oci:{}:nope", images().layout("busybox")), 3, &["\"nope\"", "latest"]);
    rk(&world, &format!("image load --platform linux/riscv64 {oci}"), 3, &["linux/riscv64"]);
    rk(&world, &format!("image load --platform nonsense {oci}"), 2, &["nonsense"]);
}

#[test]
fn containers_that_cannot_be_made() {
    let world = with_image();
    world.rk("sandbox create web").ok();
    world.rk("sandbox create done").ok();
    world.rk("sandbox stop done").ok();
    world.rk("run --name c busybox true").ok();
    rk(&world, "sandbox create web", 4, &["name web is taken"]);
    for (line, words) in [
        ("run --name c busybox true", ["name c is taken", "rkbox rm c"]),
        ("run --rm --user nobodyhere busybox true", ["\"nobodyhere\" is not in /etc/passwd", "--user"]),
        ("run --rm --user a:b:c busybox true", ["\"a:b:c\"", "1000:1000"]),
        ("run --rm --sandbox nope busybox true", ["no sandbox is named nope", "sandbox ls"]),
        ("run --rm --sandbox done busybox true", ["sandbox done is not ready", "sandbox create done"]),
        ("run --rm -w /proc/x busybox true", ["\"/proc/x\"", "--workdir"]),
        ("run --rm --mount type=bind,source=/nosuch,target=/x busybox true", ["/nosuch is not there", "make it first"]),
        ("run --rm -v /etc:/proc busybox true", ["\"/proc\" is a kernel file system", "/data"]),
        ("run --rm -v /etc:rel busybox true", ["\"rel\" is not an absolute path", "/data"]),
        ("run --rm -v ./named:/x busybox true", ["relative path", "$PWD/./named"]),
        ("run --rm -v /etc:/x:what busybox true", ["unknown option \"what\"", "[SOURCE:]DESTINATION"]),
        ("run --rm -e =x busybox true", ["\"=x\"", "--env"]),
        ("run --rm --net nope busybox true", ["no network nope", "connet"]),
        ("run --rm --netns nope busybox true", ["/run/netns/nope", "ip netns add nope"]),
        ("run --rm --name ../x busybox true", ["\"../x\"", "use letters"]),
        ("run --rm --tty busybox true", ["not a terminal", "--tty"]),
        ("--cgroup-driver nonsense run --rm busybox true", ["\"nonsense\"", "systemd"]),
        ("--cgroup-driver systemd --cgroup-parent /x run --rm busybox true", ["\"/x\"", "--cgroup-driver cgroupfs"]),
        ("--cgroup-driver cgroupfs --cgroup-parent m.slice run --rm busybox true", ["m.slice", "--cgroup-driver systemd"]),
    ] {
        rk(&world, line, 125, &words);
    }
    refuses(&world, &["run", "--rm", "--hostname", "a\nb", "busybox", "true"], 125, &["a\\nb"]);
    for line in ["sandbox inspect nope", "sandbox stop nope", "sandbox rm nope", "rm nope"] {
        rk(&world, line, 3, &["nope"]);
    }
    world.rk("--cgroup-driver nonsense ps").fails(2).says("hint: ");
}

#[test]
fn runtimes_that_are_missing_or_fail() {
    let world = with_image();
    // What all sandboxes and containers share stays when one is removed.
    world.rk("run --rm busybox true").ok();
    world.sh("rkbox sandbox create x; rkbox sandbox rm x").ok();
    for (program, word) in
        [("/nonexistent", "/nonexistent is not there"), ("/etc/passwd", "/etc/passwd is not executable"), ("nosuch", "not in PATH")]
    {
        rk(&world, &format!("--runtime {program} run --rm busybox true"), 125, &[word, "--runtime"]);
        rk(&world, &format!("--runtime {program} sandbox create x"), 8, &[word, "--runtime"]);
    }
    for (script, words) in [
        ("echo 'level=error msg=boom' >&2; exit 1", ["exit status: 1", "boom"]),
        ("echo garbage >&2; exit 3", ["exit status: 3", "garbage"]),
        ("kill -9 $$", ["signal: 9", "started nothing"]),
        ("exit 0", ["exit status: 0", "started nothing"]),
    ] {
        let program = runtime(&world, script);
        rk(&world, &format!("--runtime {program} run --rm busybox true"), 125, &words);
        rk(&world, &format!("--runtime {program} sandbox create x"), 8, &words);
    }
}

#[test]
fn exit_statuses_of_containers() {
    let world = with_image();
    world.rkbox(["run", "--rm", "busybox", "sh", "-c", "exit 42"]).fails(42);
    let before = lasting(&world.observe());
    for (command, code) in [("/no/such", 127), ("no-such", 127), ("/etc", 126), ("/etc/passwd", 126)] {
        let output = world.rkbox(["run", "--rm", "busybox", command]).fails(code).says("hint: ");
        assert_eq!(output.stderr.matches(&format!("\"{command}\"")).count(), 1, "said once: {output}");
    }
    let killed = |signal: &str, whom: &str, script: &str| {
        format!(
            "{} run --rm --name k busybox sh -c '{script}' & shell=$!
            until pid=$(cat $HOME/run/containers/*/pid 2>/dev/null) && [ -n \"$pid\" ] && [ -e $HOME/lib/containers/*/upper/ready ]; do sleep 0.02; done
            kill -{signal} {whom}; status=0; wait $shell || status=$?; exit $status",
            world.program.display()
        )
    };
    world.sh(&killed("KILL", "$pid", "touch /ready; while :; do sleep 1; done")).fails(137);
    world.sh(&killed("TERM", "$shell", "trap \"exit 143\" TERM; touch /ready; while :; do sleep 0.1; done")).fails(143);
    Observation::assert_same(&before, &lasting(&world.observe()));
}

#[test]
fn privileges_that_are_missing() {
    let world = with_image();
    world.sh(&format!("cp {} $HOME/rkbox; chmod 755 $HOME $HOME/rkbox; ip netns add a", world.program.display())).ok();
    let commands =
        [("sandbox create x", 7), ("run --rm busybox true", 125), ("net add connet a", 7), ("net del connet a", 7), ("gc", 7), ("rm x", 7)];
    for (how, words) in [
        ("--reuid 65534 --regid 65534 --clear-groups", ["CAP_SYS_ADMIN", "as root"]),
        ("--bounding-set -sys_admin --inh-caps -sys_admin", ["lacks CAP_SYS_ADMIN", "grant them"]),
        ("--bounding-set -net_admin --inh-caps -net_admin", ["lacks CAP_NET_ADMIN", "grant them"]),
    ] {
        for (command, code) in commands {
            refuses_sh(&world, &format!("setpriv {how} $HOME/rkbox {command}"), code, &words);
        }
    }
    for command in ["image ls", "ps", "sandbox ls", "image load /etc/hostname"] {
        let line = format!("setpriv --reuid 65534 --regid 65534 --clear-groups $HOME/rkbox {command}");
        let before = world.observe();
        let output = world.sh(&line);
        assert!(output.code == 7 || output.code == 2 || output.code == 0, "{output}");
        assert!(output.code == 0 || output.stderr.contains("hint: "), "{output}");
        before.assert_again(&world, &line);
    }
}

#[test]
fn a_damaged_record_or_journal_is_shown_and_can_be_removed() {
    for damage in ["record", "journal", "both", "no record"] {
        let world = with_image();
        world.rk("gc").ok();
        let before = world.observe();
        world.rk("run --rm busybox true").ok();
        world.rk("sandbox create good").ok();
        let with_good = world.observe();
        world.rk("sandbox create bad").ok();
        let sandbox = world.rk("sandbox inspect bad").ok().json()[0]["record"]["id"].as_str().unwrap().to_owned();
        world.rk("run --name job busybox true").ok();
        let container = world.rk("ps -aq").ok().stdout.trim().to_owned();
        for (room, id) in [("sandboxes", &sandbox), ("containers", &container)] {
            let record = world.root().join(room).join(id).join("record.json");
            let journal = world.run_dir().join("journals").join(format!("{id}.jsonl"));
            match damage {
                "record" => write(record, "{").unwrap(),
                "journal" => write(journal, "garbage\n").unwrap(),
                "both" => write(record, "{").and_then(|()| write(journal, "garbage\n")).unwrap(),
                _ => remove_file(record).and_then(|()| remove_file(journal)).unwrap(),
            }
        }
        let shown = if damage == "journal" { "bad" } else { "damaged" };
        world.rk("sandbox ls").ok().prints(shown).prints("good");
        world.rk("--format json sandbox ls").ok().prints(&sandbox);
        world.rk("ps -a").ok().prints(if damage == "journal" { "job" } else { "damaged" });
        if damage != "record" {
            world.rk("sandbox rm bad").fails(13).says("--force");
            world.rk("rm job").fails(13).says("--force");
        }
        world.rk("sandbox create other").ok();
        world.rk("sandbox rm --force other").ok();
        world.rk("rm --force job").ok();
        world.rk("sandbox rm --force bad").ok();
        let now = world.observe();
        Observation::assert_same(&lasting(&with_good), &lasting(&now));
        world.rk("sandbox rm good").ok();
        world.rk("gc").ok();
        Observation::assert_same(&lasting(&before), &lasting(&world.observe()));
    }
}

#[test]
fn a_full_disk_is_said_and_nothing_is_half_made() {
    for (variable, below) in [("RKBOX_ROOT", "lib"), ("RKBOX_RUN", "run"), ("RKBOX_CNI_STATE_DIR", "cni")] {
        let world = with_image();
        world.sh("mkdir $HOME/small; mount -t tmpfs -o size=64k tmpfs $HOME/small; rkbox sandbox create warm; rkbox sandbox rm warm").ok();
        let on = format!("export {variable}=$HOME/small/{below}; ");
        if variable == "RKBOX_ROOT" {
            refuses_sh(&world, &format!("{on}rkbox image load {}", images().oci_archive("busybox")), 6, &["No space left", "make room"]);
            world.sh("rm -rf $HOME/small/*").ok();
        }
        world.sh(&format!("{on}rkbox sandbox create web; dd if=/dev/zero of=$HOME/small/fill bs=4k 2>/dev/null || true")).ok();
        let before = world.observe();
        let output = world.sh(&format!("{on}rkbox sandbox create late")).fails(6);
        assert!(output.stderr.contains("No space left") && output.stderr.contains("hint: make room"), "{output}");
        Observation::assert_same(&lasting(&before), &lasting(&world.observe()));
        world.sh(&format!("{on}rkbox gc; rkbox sandbox ls; rkbox sandbox rm --force web; rkbox gc; rkbox sandbox ls")).ok();
        world.sh("[ -z \"$(ls /run/netns)\" ]").ok();
    }
}

#[test]
fn streams_directories_and_environments_that_are_missing() {
    let world = with_image();
    world.rk("gc").ok();
    world.sh("rkbox image ls >&-; rkbox image ls | true; rkbox completion bash | head -n 1 >/dev/null").ok();
    world.sh("rkbox run --rm busybox true <&-; rkbox run --rm -i busybox cat <&-; rkbox run --rm busybox echo hi >&- || true").ok();
    world.sh("rkbox run --rm busybox true <&- >&- 2>&-; rkbox sandbox create yy <&- >&- 2>&-; rkbox sandbox rm --force yy").ok();
    world.sh("mkdir $HOME/gone; cd $HOME/gone; rmdir $HOME/gone; rkbox run --rm busybox echo hi; rkbox net ls").ok().prints("hi");
    world.sh("mkdir $HOME/gone; cd $HOME/gone; rmdir $HOME/gone; rkbox --root here image ls").fails(2).says("hint: give an absolute path");
    world.sh("unset HOME; rkbox run --rm busybox echo hi").ok().prints("hi");
    let dirs = "--root $HOME/lib --run $HOME/run --cni-conf-dir $HOME/conf --cni-state-dir $HOME/cni --cgroup-parent $RKBOX_CGROUP_PARENT";
    world.sh(&format!("env -i {} {dirs} run --rm busybox echo hi", world.program.display())).ok().prints("hi");
    world.sh("[ -z \"$(ls /run/netns)\" ] && [ -z \"$(rkbox ps -aq)\" ]").ok();
}

#[test]
fn completion_scripts_are_understood_by_their_shells() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script =
            format!("rkbox completion {shell} >$HOME/c; [ -s $HOME/c ]; if command -v {shell} >/dev/null; then {shell} -n $HOME/c; fi");
        world.sh(&script).ok();
    }
    world.rk("completion nosuch").fails(2);
}
