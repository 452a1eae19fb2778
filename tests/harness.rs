//! Tests of the tests: whatever a command could leave behind is seen, and nothing is seen when nothing was done.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Observation, World, images, shapes};

/// The keys (`link host/x`, `process`) of what `script` adds to a world, after it was seen that nothing else changed.
#[track_caller]
fn added_by(script: &str) -> Vec<String> {
    let mut world = World::new();
    world.allow_leaks();
    let before = world.observe();
    world.sh(script).ok();
    before.difference(&world.observe())
}

#[track_caller]
fn assert_seen(script: &str, wanted: &str) {
    let lines = added_by(script);
    assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted:?} is not seen after {script:?}:\n{}", lines.join("\n"));
}

#[test]
fn nothing_done_is_nothing_seen() {
    let world = World::new();
    let before = world.observe();
    world.sh("ip link; nft list ruleset; true").ok();
    Observation::assert_same(&before, &world.observe());
}

#[test]
fn two_fresh_worlds_are_the_same() {
    let first = World::new().observe();
    Observation::assert_same(&first, &World::new().observe());
}

#[test]
fn a_world_is_not_the_machine() {
    let world = World::new();
    let seen = world.observe();
    let links: Vec<_> = seen.facts.iter().filter(|(key, _)| key.starts_with("link ")).map(|(key, _)| key.as_str()).collect();
    assert_eq!(links, ["link host/lo"]);
    world.sh("touch /run/mine; ip link add rkmine type bridge").ok();
    std::thread::spawn(|| assert!(std::fs::exists("/run/mine").unwrap(), "threads inherit the world")).join().unwrap();
    drop(world);
    assert!(!std::fs::exists("/run/mine").unwrap(), "the thread is not back");
}

#[test]
fn links_addresses_routes_and_rules_are_seen() {
    assert_seen("ip link add left type veth peer name right", "+ link host/left");
    assert_seen(
        "ip link add b0 type bridge; ip link add p0 type veth peer name p1; ip link set p0 master b0; bridge link set dev p0 hairpin on",
        "hairpin=true",
    );
    assert_seen("ip address add 10.1.2.3/24 dev lo", "+ address host/lo 10.1.2.3/24");
    assert_seen("ip route add blackhole 10.9.0.0/16", "dst=10.9.0.0/16");
    assert_seen("ip rule add from 10.9.0.1 table 7", "+ rule host");
    assert_seen("ip link set lo mtu 1400", "mtu=1400");
    assert_seen("nft add table inet t; nft add chain inet t c; nft add rule inet t c ip saddr 1.2.3.4 drop", "nft host rule inet t c 1");
    assert_seen("nft add table ip t; nft 'add set ip t s { type ipv4_addr; }'; nft 'add element ip t s { 1.2.3.4 }'", "1.2.3.4");
    assert_seen("echo 1 >/proc/sys/net/ipv4/ip_forward", "+ sysctl host ipv4/ip_forward: 1");
}

#[test]
fn namespaces_are_seen_with_what_is_in_them() {
    let script = "ip netns add web; ip -n web link add eth0 type bridge; ip -n web address add 10.0.0.1/8 dev eth0; ip netns exec web nft add table ip t";
    let lines = added_by(script).join("\n");
    for wanted in [
        "namespace web",
        "link web/eth0",
        "address web/eth0 10.0.0.1/8",
        "nft web table ip t",
        "mount /run/netns/web",
        "file /run/netns/web",
    ] {
        assert!(lines.contains(wanted), "{wanted:?} is not among\n{lines}");
    }
}

#[test]
fn mounts_and_files_are_seen() {
    assert_seen("mkdir $HOME/m; mount -t tmpfs none $HOME/m", "+ mount /tmp/rkbox-world/m: root=/ rw,relatime [] tmpfs");
    assert_seen("mkdir $HOME/l $HOME/u $HOME/w $HOME/m; cd $HOME; mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m", "overlay o");
    assert_seen("echo hi >/run/f", "+ file /run/f: 0644 0:0 \"hi\\n\"");
    assert_seen("echo hi >$HOME/f; chmod 4711 $HOME/f; chown 5:6 $HOME/f", "4755 5:6".replace("4755", "0711").as_str());
    assert_seen("echo hi >$HOME/f; ln $HOME/f $HOME/g", "same file as /tmp/rkbox-world/f");
    assert_seen("mknod $HOME/wh c 0 0", "char device 0:0");
    assert_seen(
        "mkdir $HOME/d; python3 -c 'import os; os.setxattr(\"/tmp/rkbox-world/d\", \"trusted.overlay.opaque\", b\"y\")'",
        "trusted.overlay.opaque=y",
    );
    assert_seen("head -c 100000 /dev/zero >$HOME/big", "100000 bytes, sha256");
}

#[test]
fn a_change_of_content_alone_is_seen() {
    let world = World::new();
    world.sh("echo aaaa >$HOME/f").ok();
    let before = world.observe();
    world.sh("echo bbbb >$HOME/f").ok();
    assert_eq!(before.difference(&world.observe()).len(), 2);
}

#[test]
fn the_journal_alone_is_left_out() {
    let world = World::new();
    world.sh("mkdir -p $RKBOX_RUN/journals").ok();
    let before = world.observe();
    world.sh("echo x >$RKBOX_RUN/journals/a").ok();
    Observation::assert_same(&before, &world.observe());
}

#[test]
fn processes_and_cgroups_are_seen() {
    assert_seen("sleep 1001 & ", "+ process: sleep 1001");
    assert_seen("setsid unshare -m sleep 1002 &", "+ process: sleep 1002");
    assert_seen("ip netns add x; nsenter --net=/run/netns/x setsid unshare -m sleep 1003 & sleep 0.2", "+ process: sleep 1003");
    let cgroup = "for h in /sys/fs/cgroup/*/; do [ -e $h/cgroup.procs ] && c=$h$RKBOX_CGROUP_PARENT/box && mkdir -p $c; done";
    assert_seen(cgroup, ":box");
    let joined = format!("{cgroup}; unshare -nm sh -c 'echo $$ >'$c'/cgroup.procs; exec sleep 1004' & sleep 0.2");
    assert_seen(&joined, "+ process: sleep 1004");
}

#[test]
fn what_is_left_fails_the_test_and_is_removed() {
    let message = catch_unwind(AssertUnwindSafe(|| {
        let world = World::new();
        world.sh("sleep 1005 & setsid unshare -m sleep 1006 &").ok();
    }));
    let message = *message.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("sleep 1005") && message.contains("sleep 1006"), "{message}");
    let listed = std::process::Command::new("pgrep").args(["-f", "^sleep 100[56]$"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "");
}

#[test]
fn a_slow_command_is_stopped() {
    let mut world = World::new();
    world.limit = std::time::Duration::from_millis(100);
    let message = *catch_unwind(AssertUnwindSafe(|| world.sh("exec sleep 1007"))).unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("still running"), "{message}");
}

#[test]
fn random_things_are_normalised_and_no_others() {
    let text = "rk0123456789a 02:aa:bb:cc:dd:ee fe80::1ff:fe23:4567/64 2026-11-23T14:26:23.1Z {\"pid\":12,\"n\":3} {\\\"start_time\\\": 9}";
    assert_eq!(shapes(text), "<veth> <mac> <link-local>/64 <time> {\"pid\":<pid>,\"n\":3} {\\\"start_time\\\": <pid>}");
    for kept in ["00:00:00:00:00:00", "fe80::/64", "10.88.0.2/16", "rkbox", "sha256:0123", "ff:ff:ff:ff:ff:ff", "2026-11-23", "é 12"] {
        assert_eq!(shapes(kept), kept);
    }
}

#[test]
fn worlds_with_other_ids_are_the_same_once_normalised() {
    let seen = |digit: &str| {
        let world = World::new();
        let id = digit.repeat(64);
        world.sh(&format!("mkdir -p $RKBOX_ROOT/sandboxes/{id}; echo '{id} {}' >$RKBOX_ROOT/sandboxes/{id}/f", &id[..12])).ok();
        world.observe()
    };
    let (one, two) = (seen("1"), seen("2"));
    assert_ne!(one, two);
    Observation::assert_same(&one.normalise_ids(), &two.normalise_ids());
}

#[test]
fn the_images_are_real() {
    let world = World::new();
    let oci = images().oci_archive("layers");
    let shown = world.sh(&format!("skopeo inspect --config oci-archive:{oci}")).ok().json();
    assert_eq!(shown["config"]["User"], "alice:audio");
    assert_eq!(shown["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
    let layout = images().layout("layers");
    world
        .sh(&format!("umoci unpack --image {layout}:latest $HOME/b; cd $HOME/b/rootfs; ! test -e data/removed; test -f was-dir; ls tree"))
        .ok()
        .prints("fresh\n");
    let bundle = "cd $HOME; mkdir c; umoci raw unpack --image LAYOUT:latest c/rootfs; cd c; runc spec; \
        sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"echo\", \"hello\"/' config.json; \
        runc --root $HOME/runc run rkbox-harness-$$";
    world.sh(&bundle.replace("LAYOUT", &images().layout("busybox"))).ok().prints("hello\n");
}
