//! What the tests of files of crictl share: pods and containers made from them, and looks inside.
#![allow(missing_docs, dead_code, reason = "each test file uses some of it")]

use serde_json::{Value, json};

use crate::common::{Output, World, images};

/// Writes a file; answers its path.
pub fn file(world: &World, name: &str, text: &str) -> String {
    let path = world.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A pod `web` of the namespace `default`, with more.
pub fn pod(more: Value) -> Value {
    let mut all = json!({"metadata": {"name": "web", "namespace": "default", "uid": "hdishd83", "attempt": 1}});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

pub const NAME: &str = "web_default_hdishd83_1";

/// Makes a pod; answers what rkbox says.
pub fn make_pod(world: &World, config: &Value) -> Output {
    let path = file(world, "pod.json", &config.to_string());
    let output = world.rkbox(["sandbox", "create", "--config", &path]);
    std::fs::remove_file(path).unwrap();
    output
}

/// What `sandbox inspect` says of the pod.
#[track_caller]
pub fn sandbox(world: &World, key: &str) -> Value {
    world.rkbox(["sandbox", "inspect", key]).ok().json()[0].clone()
}

/// A line of `/proc/<pid>/status`, its words joined by one space.
#[track_caller]
pub fn status(pid: &Value, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
    line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Which namespace of a kind a process is in.
#[track_caller]
pub fn namespace(pid: &Value, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_str().unwrap().to_owned()
}

/// This test's own namespace: rkbox runs in it.
pub fn own(kind: &str) -> String {
    std::fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap().to_str().unwrap().to_owned()
}

/// A world with busybox and the pod `web`, which has `more`.
pub fn with_pod(more: Value) -> World {
    let world = World::new();
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    make_pod(&world, &pod(more)).ok();
    world
}

/// A container `c` of busybox that sleeps, with more.
pub fn container(more: Value) -> Value {
    let mut all = json!({"metadata": {"name": "c"}, "image": {"image": "busybox"}, "command": ["sleep", "1000"]});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

pub fn in_security(more: Value) -> Value {
    container(json!({"linux": {"security_context": more}}))
}

/// Makes a container in the pod; answers what rkbox says.
pub fn create(world: &World, config: &Value) -> Output {
    let path = file(world, "container.json", &config.to_string());
    let output = world.rkbox(["create", "--sandbox", NAME, "--config", &path]);
    std::fs::remove_file(path).unwrap();
    output
}

/// Makes and starts a container; answers its id.
#[track_caller]
pub fn start(world: &World, config: &Value) -> String {
    let id = create(world, config).ok().stdout.trim().to_owned();
    world.rkbox(["start", &id]).ok();
    id
}

/// What a shell in a container prints.
#[track_caller]
pub fn inside(world: &World, id: &str, script: &str) -> String {
    world.rkbox(["exec", id, "sh", "-c", script]).ok().stdout.trim().to_owned()
}

#[track_caller]
pub fn seen(world: &World, id: &str) -> Value {
    world.rkbox(["inspect", id]).ok().json()[0].clone()
}

/// A container that ends at once, its log.
#[track_caller]
pub fn log_of(world: &World, config: &Value) -> String {
    let id = start(world, config);
    world.rkbox(["wait", &id]).ok();
    let said = world.sh(&format!("rkbox logs {id} 2>&1")).ok().stdout;
    world.rkbox(["rm", &id]).ok();
    said
}
