//! The laws of the steps on files, names and control groups; the other kinds have theirs beside their rooms.
//!
//! `look` changes nothing; an undo puts back what stood there, twice as well as once, and before its apply too (a crash between
//! the journal's line and the act); the script in one world leaves what apply leaves in another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{Observation, World};
use rkbox::ids::Id;
use rkbox::script::Script;
use rkbox::step::{CgroupParent, Directory, File, Home, Reservation, Step};
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
        File { path: host.root.parent().unwrap().join("a file"), mode: 0o640, content: content.clone(), durable: true }.into()
    });
}

#[test]
fn reservation() {
    assert_laws("mkdir names", |host| Reservation { path: host.root.parent().unwrap().join("names/web"), id: id() }.into());
}

#[test]
fn cgroup_parent() {
    assert_laws("true", |host| CgroupParent { parent: format!("{}/below", host.cgroup_parent) }.into());
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
