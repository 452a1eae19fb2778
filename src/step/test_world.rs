//! A world for the tests of the network steps: a network and a mount namespace of the test's own thread, and its observation.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use super::{Action, Undone, Way};
use crate::script::Script;
use crate::sys::{CgroupDriver, Host};

/// Leaves the host: the calling thread gets a network and a mount namespace, lo up, an empty /run and /var/lib/cni.
pub fn leave() -> Host {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    // sysfs shows the links of the namespace in which it was mounted; scripts read /sys/class/net.
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).unwrap();
    sh("ip link set lo up");
    host_at(Path::new("/run/world"))
}

/// A host whose roots all are below `root`, but for `/run/netns`.
pub fn host_at(root: &Path) -> Host {
    Host {
        root: root.join("lib"),
        run: root.join("run"),
        netns: PathBuf::from("/run/netns"),
        cni_conf: root.join("net.d"),
        cni_state: root.join("cni"),
        plugins: crate::sys::Plugins::default(),
        runtime: "runc".into(),
        cgroup_driver: CgroupDriver::Cgroupfs,
        cgroup_parent: "/rkbox".into(),
        ..Host::below(root)
    }
}

/// Runs shell text, which must succeed; answers its output.
pub fn sh(text: &str) -> String {
    let out = Command::new("sh").args(["-euc", text]).output().unwrap();
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// All that the steps can change, in this namespace and in every pinned one, without what is random or numbered.
pub fn observe() -> Value {
    let mut world = serde_json::Map::new();
    world.insert("here".into(), observe_netns(&[]));
    let names = std::fs::read_dir("/run/netns").map(|dir| dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>());
    for name in names.unwrap_or_default() {
        let path = format!("/run/netns/{name}");
        let seen = if crate::sys::ns::is_namespace(Path::new(&path), crate::sys::ns::NsKind::Net).unwrap() {
            observe_netns(&["nsenter", &format!("--net={path}")])
        } else {
            Value::from("no namespace")
        };
        world.insert(name, seen);
    }
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let mut mounts: Vec<_> =
        mounts.lines().filter_map(|l| l.split(' ').nth(4)).filter(|m| m.starts_with("/run")).map(str::to_owned).collect();
    mounts.sort();
    world.insert("mounts".into(), mounts.into());
    Value::Object(world)
}

fn observe_netns(enter: &[&str]) -> Value {
    let mut seen = serde_json::Map::new();
    for words in ["ip -d -j link", "ip -j addr", "ip -j route", "ip -6 -j route", "nft -j list ruleset"] {
        let mut all: Vec<&str> = enter.to_vec();
        all.extend(words.split(' '));
        let out = Command::new(all[0]).args(&all[1..]).output().unwrap();
        assert!(out.status.success(), "{all:?} {}", String::from_utf8_lossy(&out.stderr));
        let text = if out.stdout.is_empty() { b"[]".to_vec() } else { out.stdout };
        let mut value: Value = serde_json::from_slice(&text).unwrap();
        normalise(&mut value);
        seen.insert(words.into(), value);
    }
    let conf = "grep -H . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/arp_notify /proc/sys/net/ipv6/conf/*/accept_ra || true";
    let mut all: Vec<&str> = enter.to_vec();
    all.extend(["sh", "-c", conf]);
    let out = Command::new(all[0]).args(&all[1..]).output().unwrap();
    seen.insert("sysctl".into(), String::from_utf8(out.stdout).unwrap().into());
    Value::Object(seen)
}

/// Takes out numbers that the kernel gives, random MACs of bridges, timers, and what depends on the moment (operational state).
fn normalise(value: &mut Value) {
    const NOISE: [&str; 33] = [
        "ifindex",
        "link_index",
        "link_netnsid",
        "handle",
        "metainfo",
        "bridge_id",
        "root_id",
        "designated_root",
        "designated_bridge",
        "root_port",
        "id",
        "operstate",
        "flags",
        "gc_timer",
        "hello_timer",
        "hold_timer",
        "message_age_timer",
        "forward_delay_timer",
        "no",
        "port_id",
        "designated_port",
        "state",
        "valid_life_time",
        "preferred_life_time",
        "dynamic",
        "mngtmpaddr",
        "link_netns",
        "tcn_timer",
        "topology_change_timer",
        "topology_change",
        "topology_change_detected",
        "qdisc",
        "tso_max_size",
    ];
    match value {
        Value::Array(all) => {
            all.retain(|item| item.get("metainfo").is_none() && item.get("type").is_none_or(|t| t != "multicast"));
            // Link-local addresses come after their duplicate detection, and their routes with the carrier.
            all.retain(|item| item.get("scope").is_none_or(|scope| scope != "link" || item.get("family").is_none()));
            all.retain(|item| item.get("dst").is_none_or(|dst| !dst.as_str().is_some_and(|dst| dst.starts_with("fe80:"))));
            all.iter_mut().for_each(normalise);
        }
        Value::Object(map) => {
            if map.contains_key("ifname") {
                let up = map.get("flags").is_some_and(|flags| flags.to_string().contains("\"UP\""));
                map.insert("up".into(), up.into());
            }
            if map.get("linkinfo").is_some_and(|info| info["info_kind"] == "bridge")
                || map.get("ifname").is_some_and(|n| n.as_str().is_some_and(|n| n.starts_with("cni")))
            {
                map.remove("address");
            }
            for noise in NOISE {
                map.remove(noise);
            }
            map.values_mut().for_each(normalise);
        }
        _ => {}
    }
}

/// The laws of one step in the world that is: `look` changes nothing, undo before apply changes nothing, undo after it puts all
/// back, twice as well as once. The step is applied at the end.
pub fn assert_laws<S: Action>(step: &S, host: &Host) -> S::Before
where
    S::Before: Clone,
{
    let start = observe();
    let before = step.look(host).unwrap();
    assert_seen(&start, &format!("look of {step} changed the world"));
    assert!(!step.already(&before), "{step} is already");
    step.undo(&before, host).unwrap();
    assert_seen(&start, &format!("undo of {step} before its apply changed the world"));
    step.apply(&before, host).unwrap();
    assert_ne!(observe(), start, "apply of {step} changed nothing");
    assert_eq!(step.undo(&before, host).unwrap(), Undone::Done);
    assert_seen(&start, &format!("undo of {step} did not put all back"));
    step.undo(&before, host).unwrap();
    assert_seen(&start, &format!("a second undo of {step} changed the world"));
    let before = step.look(host).unwrap();
    step.apply(&before, host).unwrap();
    before
}

/// The script of a step makes what its apply makes, and the script of its undo what its undo makes. The step is applied before and after.
pub fn assert_script<S: Action>(step: &S, before: &S::Before, host: &Host) {
    let applied = observe();
    step.undo(before, host).unwrap();
    let start = observe();
    run(|out| step.script(Way::Apply, out));
    assert_seen(&applied, &format!("the script of {step} makes something else"));
    run(|out| step.script(Way::Undo(before), out));
    assert_seen(&start, &format!("the undo script of {step} leaves something else"));
    step.apply(before, host).unwrap();
}

/// Runs what `write` prints.
pub fn run(write: impl FnOnce(&mut Script)) {
    let mut script = Script::new();
    write(&mut script);
    sh(script.as_str());
}

/// The path of a namespace called `name`, made by `ip netns add`.
pub fn netns(name: &str) -> PathBuf {
    sh(&format!("ip netns add {name}"));
    Path::new("/run/netns").join(name)
}

/// Asserts that the world is as `expected`; says which lines differ.
pub fn assert_seen(expected: &Value, why: &str) {
    let now = observe();
    if now == *expected {
        return;
    }
    let lines = |value: &Value| serde_json::to_string_pretty(value).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let (now, then) = (lines(&now), lines(expected));
    let from = now.iter().zip(&then).position(|(a, b)| a != b).unwrap_or(now.len().min(then.len()));
    let part = |all: &[String]| all[from.saturating_sub(3)..(from + 25).min(all.len())].join("\n");
    panic!("{why}\n--- expected\n{}\n--- found\n{}", part(&then), part(&now));
}
