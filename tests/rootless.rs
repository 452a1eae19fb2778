//! rkbox as an ordinary user: the same commands in a user namespace of his, and what cannot work refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use common::world::DIR;
use common::{User, World, images, user_with_images as with_images};

#[test]
fn a_container_runs_as_the_users_own() {
    let user = with_images();
    let said = user
        .rk("run --rm --net none busybox sh -c 'cat /proc/self/uid_map; id -u; ls /sys/class/net; stat -c %u /bin/busybox /etc/hosts'")
        .ok();
    assert_eq!(
        said.stdout.split_whitespace().collect::<Vec<_>>(),
        ["0", &user.uid.to_string(), "1", "1", "200000", "65536", "0", "lo", "0", "0"],
        "{said}"
    );
    said.says("not bounded");
    // The whole posture holds.
    let status = user.rk("run --rm --net host busybox grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status").ok().stdout;
    assert_eq!(status.split_whitespace().collect::<Vec<_>>(), ["CapBnd:", "00000000800405fb", "NoNewPrivs:", "1", "Seccomp:", "2"]);
    // An image with whiteouts, opaque directories and users: the attributes of overlayfs are those that a user may set.
    user.rk("run --rm --net none layers pwd").ok().prints("/home/alice");
    let look =
        "run --rm --net none --user 0 --entrypoint find layers / -xdev -not -path '/proc*' -not -path '/sys*' -not -path '/dev*' | sort";
    let seen = user.rk(look).ok().stdout;
    // On the disk his root's files are his own, and another user's are of his subordinate ids.
    user.rk("run --name c --net none busybox sh -c 'echo x >/of-root; echo x >/of-user; chown 33:33 /of-user'").ok();
    let state = format!("{DIR}/home/.local/share/rkbox");
    let upper = user.world.sh(&format!("echo {state}/containers/*/upper")).ok().stdout;
    let owner = |name: &str| fs::metadata(format!("{}/{name}", upper.trim())).unwrap().uid();
    assert_eq!((owner("of-root"), owner("of-user")), (user.uid, 200_032));
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o7777, 0o700);
    user.rk("rm c").ok();
    drop(user);
    // Root sees the same tree.
    let world = World::new();
    world.rkbox(["image", "load", &images().oci_archive("layers")]).ok();
    let by_root = world.sh(&format!("rkbox {look}")).ok().stdout;
    assert!(by_root.lines().count() > 20 && by_root == seen, "{by_root}\n---\n{seen}");
}

#[test]
fn what_runs_is_found_by_the_next_command() {
    let user = with_images();
    user.rk("run -d --net none --name c -v vol:/v busybox sh -c 'echo up; echo x >/v/f; exec sleep 1000'").ok();
    user.rk("ps").ok().prints("running");
    // One process keeps the namespaces, however many commands were the first.
    user.sh("for n in 1 2 3 4 5 6; do rkbox ps >/dev/null & done; wait; test $(pgrep -u $(id -u) -r S,R -c rkbox-holder) = 1").ok();
    user.rk("exec c id -u").ok().prints("0");
    user.rk("logs c").ok().prints("up");
    user.sh(&format!("echo hello >{DIR}/home/file; rkbox cp {DIR}/home/file c:/file")).ok();
    user.rk("exec c cat /file /v/f").ok().prints("hello");
    user.rk("stop -t 0 c").ok();
    user.rk("start c").ok();
    user.rk("exec c cat /file").ok().prints("hello");
    user.rk("rm --force c").ok();
    // A check of health, and a second process that is ended.
    user.rk("run -d --net none --name h --health-cmd 'test -e /bin/busybox' --health-interval 200ms busybox sleep 1000").ok();
    user.sh("for n in $(seq 50); do rkbox ps | grep -q '(healthy)' && exit 0; sleep 0.1; done; rkbox inspect h; exit 1").ok();
    user.rk("rm --force h").ok();
    user.rk("sandbox create --net none s").ok();
    user.rk("run -d --sandbox s --name one busybox sleep 1000").ok();
    user.rk("run --rm --sandbox s busybox ls -l /proc/self/ns/net").ok();
    user.rk("sandbox ls").ok().prints("ready");
    user.rk("sandbox rm --force s").ok();
    user.rk("volume rm vol").ok();
    // The namespaces are gone with a logout: all is as after a reboot.
    user.rk("run -d --net none --name c busybox sleep 1000").ok();
    user.sh("for pid in $(pgrep -u $(id -u) -f '^rkbox-monitor' || true); do kill -KILL $pid; done; kill -KILL $(cat $XDG_RUNTIME_DIR/rkbox/holder.pid)").ok();
    user.world.sh(&format!("for pid in $(pgrep -u {} '^sleep$' || true); do kill -KILL $pid; done", user.uid)).ok();
    user.rk("ps -a").ok();
    user.rk("rm --force c").ok();
    user.rk("gc").ok();
    user.sh("kill $(cat $XDG_RUNTIME_DIR/rkbox/holder.pid); sleep 0.2; for n in 1 2 3 4 5 6; do rkbox ps >/dev/null & done; wait; test $(pgrep -u $(id -u) -r S,R -c rkbox-holder) = 1").ok();
    assert_eq!(user.rk("ps -aq").ok().stdout, "");
}

#[test]
fn what_needs_root_is_refused_by_name_with_the_way_to_get_it() {
    let user = with_images();
    for (line, code, what) in [
        ("run --rm -p 80:80 busybox true", 125, "port 80 is root's"),
        ("run --rm --net none -m 64m busybox true", 125, "--memory cannot be held"),
        ("run --rm --net none --userns auto busybox true", 125, "--userns auto needs root"),
        ("sandbox create s -p 8080:80/sctp", 9, "publishing a port of SCTP needs root"),
        ("stats", 9, "control groups needs root"),
        ("pause c", 9, "freezing needs root"),
    ] {
        user.rk(line).fails(code).says(what).says("hint:");
    }
    assert_eq!(user.rk("ps -aq").ok().stdout, "");
    assert_eq!(user.rk("sandbox ls -q").ok().stdout, "");
    // Without subordinate ids he is told how to get them, and nothing is made.
    let bare = User::new("somebody:200000:65536\\n");
    bare.rk("run --rm --net none busybox true").fails(125).says("--add-subuids");
    assert_eq!(fs::read_dir(format!("{DIR}/home")).unwrap().count(), 0);
    drop(bare);
    let user = User::new("ordinary:200000:65536\\n");
    user.sh("unset XDG_RUNTIME_DIR; rkbox ps").fails(5).says("XDG_RUNTIME_DIR is not set");
}

/// What a container of one user does to another, and to root: nothing.
#[test]
fn root_of_a_user_is_no_more_than_the_user() {
    let user = with_images();
    fs::write(user.world.path("secret"), "of root").unwrap();
    fs::set_permissions(user.world.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let run = |script: &str| user.rk(&format!("run --rm --net none --privileged -v {DIR}/secret:/secret busybox sh -c '{script}'"));
    for script in
        ["cat /secret", "chown 0:0 /secret", "mknod /x b 7 0", "echo 1 >/proc/sys/kernel/panic_on_oops", "mount -t ext4 /dev/vda /mnt"]
    {
        let refused = run(script);
        assert_ne!(refused.code, 0, "{script}: {refused}");
    }
    assert_eq!(fs::read_to_string(user.world.path("secret")).unwrap(), "of root");
    run("id -u").ok().prints("0");
}
