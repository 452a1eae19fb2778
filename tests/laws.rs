//! The laws of the steps on files, names and control groups; the other kinds have theirs beside their rooms.
//!
//! `look` changes nothing; an undo puts back what stood there, twice as well as once, and before its apply too (a crash between
//! the journal's line and the act); the script in one world leaves what apply leaves in another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{Observation, World};
use rkbox::idmap::IdMap;
use rkbox::ids::Id;
use rkbox::script::Script;
use rkbox::step::namespaces::NewUser;
use rkbox::step::volume_use::{Release, VolumeUse};
use rkbox::step::{
    CgroupParent, CopyUp, Directory, File, Home, HostsName, IdClaim, LogPlace, Namespaces, NetnsFiles, Ownership, Pin, Reservation,
    SharedDir, ShiftedCopy, SourceDir, Step, Undone, Volume, VolumeRemoval,
};
use rkbox::sys::Host;

/// A host of this world whose files are below its directory.
fn host(world: &World) -> Host {
    let mut host = Host::below(&world.path("host"));
    host.cgroup_parent = world.cgroup_parent.clone();
    host
}

fn script(step: &Step, before: Option<&serde_json::Value>) -> String {
    let mut script = Script::new();
    step.script(before, &mut script).unwrap();
    script.into_string()
}

/// Holds all laws of the step that `make` makes, in worlds made ready by `prepare`.
#[track_caller]
fn assert_laws(prepare: &str, make: impl Fn(&Host) -> Step) {
    let ready = || {
        let mut world = World::new();
        world.allow_leaks();
        world.sh(&format!("mkdir -p $HOME/host; cd $HOME/host; {prepare}")).ok();
        world
    };
    let world = ready();
    let (host, empty) = (host(&world), world.observe());
    let step = make(&host);
    let before = step.look(&host).unwrap();
    Observation::assert_same(&empty, &world.observe());
    step.undo(&before, &host).unwrap();
    Observation::assert_same(&empty, &world.observe());
    step.apply(&before, &host).unwrap();
    let applied = world.observe();
    assert_ne!(applied, empty, "{step} does nothing");
    step.undo(&before, &host).unwrap();
    Observation::assert_same(&empty, &world.observe());
    step.undo(&before, &host).unwrap();
    Observation::assert_same(&empty, &world.observe());
    step.apply(&before, &host).unwrap();
    world.sh(&script(&step, Some(&before))).ok();
    Observation::assert_same(&empty, &world.observe());
    drop(world);

    let other = ready();
    let step = make(&self::host(&other));
    other.sh(&script(&step, None)).ok();
    Observation::assert_same(&applied.normalise_ids(), &other.observe().normalise_ids());
    other.sh(&format!("find /sys/fs/cgroup -depth -type d -path '*{}*' -exec rmdir {{}} + ", other.cgroup_parent)).ok();
}

fn id() -> Id {
    Id::from_bytes([7; 32])
}

#[test]
fn home() {
    assert_laws("true", |host| Home { dirs: vec![host.root.clone(), host.root.join("names"), host.run.join("a")] }.into());
}

#[test]
fn directory() {
    assert_laws("true", |host| Directory::new(host.root.parent().unwrap().join("it's"), 0o711).into());
}

#[test]
fn file() {
    let content = "a'b%c\\d\n\t\u{e9}\n".to_owned();
    assert_laws("true", |host| {
        File { path: host.root.parent().unwrap().join("a file"), mode: 0o640, content: content.clone(), durable: true, owner: (0, 0) }
            .into()
    });
}

#[test]
fn log_place() {
    assert_laws("true", |host| LogPlace { path: host.root.parent().unwrap().join("pods/a b/c/0.log") }.into());
    assert_laws("mkdir -p pods", |host| LogPlace { path: host.root.parent().unwrap().join("pods/0.log") }.into());
    // What was written stays, and so does what was there before.
    let world = World::new();
    let host = host(&world);
    for path in [world.path("new/0.log"), world.path("old.log")] {
        let step: Step = LogPlace { path: path.clone() }.into();
        if path.ends_with("old.log") {
            std::fs::write(&path, "").unwrap();
        }
        let before = step.look(&host).unwrap();
        if step.already(&before).unwrap() {
            assert!(path.ends_with("old.log"));
        } else {
            step.apply(&before, &host).unwrap();
            std::fs::write(&path, "a line\n").unwrap();
        }
        step.undo(&before, &host).unwrap();
        assert!(path.exists(), "{}", path.display());
    }
}

#[test]
fn reservation() {
    assert_laws("mkdir names", |host| Reservation { path: host.root.parent().unwrap().join("names/web"), id: id() }.into());
}

#[test]
fn cgroup_parent() {
    assert_laws("true", |host| CgroupParent { parent: format!("{}/below", host.cgroup_parent) }.into());
}

fn volume_at(host: &Host) -> std::path::PathBuf {
    host.root.parent().unwrap().join("volumes/cache")
}

#[test]
fn volume() {
    assert_laws("mkdir -m 0700 volumes", |host| Volume { path: volume_at(host), record: "{\"v\":1}\n".to_owned(), durable: true }.into());
}

#[test]
fn volume_use() {
    assert_laws("mkdir -p volumes/cache/users", |host| {
        VolumeUse { volume: volume_at(host), container: id(), release: Release::Keep }.into()
    });
}

/// What stood there before it is the volume; its undo takes the volume too, so the laws are held one by one.
#[test]
fn volume_use_that_takes_the_volume_along() {
    let mut world = World::new();
    world.allow_leaks();
    let host = host(&world);
    for (other, stays) in [("true", false), ("echo keep >volumes/cache/users/other", true)] {
        world.sh(&format!("mkdir -p $HOME/host/volumes/cache/users; cd $HOME/host; {other}")).ok();
        let step: Step = VolumeUse { volume: volume_at(&host), container: id(), release: Release::Remove }.into();
        let before = step.look(&host).unwrap();
        step.apply(&before, &host).unwrap();
        for _ in 0..2 {
            assert_eq!(step.undo(&before, &host).unwrap(), Undone::Done);
            assert_eq!(volume_at(&host).exists(), stays);
        }
        world.sh(&format!("mkdir -p $HOME/host/volumes/cache/users; {}", script(&step, None).replace("#!/bin/sh", ""))).ok();
        world.sh(&script(&step, Some(&before))).ok();
        assert_eq!(volume_at(&host).exists(), stays);
    }
}

#[test]
fn volume_removal() {
    let mut world = World::new();
    world.allow_leaks();
    let host = host(&world);
    world.sh("mkdir -p $HOME/host/volumes/cache/users; echo x >$HOME/host/volumes/cache/file").ok();
    let full = world.observe();
    let step: Step = VolumeRemoval { path: volume_at(&host) }.into();
    let before = step.look(&host).unwrap();
    step.undo(&before, &host).unwrap();
    Observation::assert_same(&full, &world.observe());
    step.apply(&before, &host).unwrap();
    assert!(!volume_at(&host).exists());
    step.undo(&before, &host).unwrap();
    step.undo(&before, &host).unwrap();
    Observation::assert_same(&full, &world.observe());
    world.sh("echo keep >$HOME/host/volumes/cache/users/x").ok();
    assert!(step.look(&host).is_err() && step.apply(&before, &host).is_err());
    world.sh("rm $HOME/host/volumes/cache/users/x").ok();
    step.apply(&before, &host).unwrap();
    step.forget(&before, &host).unwrap();
    step.forget(&before, &host).unwrap();
    let gone = world.observe();
    world.sh("mkdir -p $HOME/host/volumes/cache/users; echo x >$HOME/host/volumes/cache/file").ok();
    world.sh(&script(&step, None)).ok();
    Observation::assert_same(&gone, &world.observe());
}

#[test]
fn copy_up() {
    let prepare = "mkdir -p rootfs/in/dir volumes/cache/users; mkdir -m 0755 volumes/cache/data; touch volumes/cache/fresh; chmod 600 volumes/cache/fresh
        chown 7:8 rootfs/in; chmod 2770 rootfs/in; echo x >rootfs/in/file; ln rootfs/in/file rootfs/in/dir/again; ln -s /etc/passwd rootfs/in/out
        mkfifo rootfs/in/fifo; mknod rootfs/in/null c 1 3; truncate -s 1M rootfs/in/hole";
    assert_laws(prepare, |host| {
        let base = host.root.parent().unwrap();
        CopyUp { rootfs: base.join("rootfs"), inside: "/in".to_owned(), volume: volume_at(host), container: id(), ids: None }.into()
    });
}

#[test]
fn source_dir() {
    assert_laws("mkdir there", |host| SourceDir { path: host.root.parent().unwrap().join("there/deep/it's") }.into());
}

#[test]
fn ownership() {
    let prepare = "mkdir -p tree/dir; touch tree/dir/file; ln -s /etc/passwd tree/out; chown -h 5:6 tree/dir";
    assert_laws(prepare, |host| Ownership { path: host.root.parent().unwrap().join("tree"), owner: (7, 8) }.into());
}

#[test]
fn pin() {
    for (source, shared) in [("dir", false), ("file", false), ("dir", true)] {
        let prepare = "mkdir -p dir/below; echo x >file; mount -t tmpfs mine dir/below; mkdir mounts";
        assert_laws(prepare, |host| {
            let base = host.root.parent().unwrap();
            Pin { source: base.join(source), below: None, target: base.join("mounts/0"), shared, ids: None }.into()
        });
    }
    assert_laws(
        "mkdir -p dir/below mounts; ln -s below dir/link; touch dir/below/file; mount -t tmpfs mine mounts; umount mounts",
        |host| {
            let base = host.root.parent().unwrap();
            Pin { source: base.join("dir"), below: Some("below/file".to_owned()), target: base.join("mounts/0"), shared: false, ids: None }
                .into()
        },
    );
}

/// Made of an image's layers for a user namespace; set-uid bits and links stay.
#[test]
fn shifted_copy() {
    let prepare = "mkdir -p low/bin top/etc; mount -t tmpfs mine top; umount top; echo x >low/bin/su; chmod 4755 low/bin/su; ln low/bin/su low/bin/sg; ln -s su low/bin/sh
        chown -h 5:6 low/bin/sh; chown 7:70000 top/etc; chmod 1777 top/etc; mknod top/null c 1 3; mkfifo top/fifo; touch -d @99 low/bin low top/etc top";
    assert_laws(prepare, |host| {
        let base = host.root.parent().unwrap();
        ShiftedCopy { lowers: vec![base.join("top"), base.join("low")], path: base.join("copy"), map: IdMap::contiguous(100_000, 65_536) }
            .into()
    });
}

#[test]
fn id_claim() {
    assert_laws("mkdir userns", |host| IdClaim { path: host.root.parent().unwrap().join("userns/5-10"), id: id() }.into());
}

/// Namespaces that belong to a user namespace.
#[test]
fn owned_namespaces() {
    assert_laws("mkdir pins; mount -t tmpfs mine pins; umount pins", |host| {
        let pin = |name: &str| host.root.parent().unwrap().join("pins").join(name);
        let user = Some(NewUser { path: pin("user"), map: IdMap::contiguous(100_000, 65_536) });
        Namespaces { net: Some(pin("net")), ipc: Some(pin("ipc")), uts: Some(pin("uts")), hostname: Some("web".to_owned()), user }.into()
    });
}

#[test]
fn shared_dir() {
    assert_laws("true", |host| SharedDir { path: host.root.parent().unwrap().join("it's"), mode: 0o755 }.into());
}

#[test]
fn netns_files() {
    for prepare in ["true", "mkdir web", "mkdir web; touch web/hosts"] {
        assert_laws(prepare, |host| {
            NetnsFiles { dir: host.root.parent().unwrap().join("web"), resolv_conf: "nameserver 192.0.2.1\n".to_owned() }.into()
        });
    }
}

#[test]
fn hosts_name() {
    let prepare = "mkdir names; for n in 1 2; do printf '127.0.0.1\\tlocalhost\\n' >hosts$n; done; printf '127.0.0.1\\tlocalhost\\n' >own
        for n in 1 2; do printf '%s\\n10.0.0.%s\\tn%s\\t# rkbox:%s\\n' $PWD/hosts$n $n $n $n >names/$n; chmod 600 names/$n; done";
    assert_laws(prepare, |host| {
        let base = host.root.parent().unwrap();
        let lines = vec!["10.0.0.9\tweb".to_owned(), "2001:db8::9\tweb".to_owned()];
        HostsName { network: base.join("names"), id: id(), hosts: base.join("own"), lines }.into()
    });
}

#[test]
fn what_others_use_is_kept() {
    let mut world = World::new();
    world.allow_leaks();
    let host = host(&world);
    let step: Step = CgroupParent { parent: host.cgroup_parent.clone() }.into();
    let before = step.look(&host).unwrap();
    step.apply(&before, &host).unwrap();
    world.sh(&format!("mkdir /sys/fs/cgroup/pids{0}/user 2>/dev/null || mkdir /sys/fs/cgroup{0}/user", host.cgroup_parent)).ok();
    assert_eq!(step.undo(&before, &host).unwrap(), rkbox::step::Undone::Kept);
    world.sh(&format!("rmdir /sys/fs/cgroup/pids{0}/user 2>/dev/null || rmdir /sys/fs/cgroup{0}/user", host.cgroup_parent)).ok();
    assert_eq!(step.undo(&before, &host).unwrap(), rkbox::step::Undone::Done);
}
