//! Pods and containers from the files that `crictl runp` and `crictl create` take, judged from inside what they make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{Output, World};
use serde_json::{Value, json};

/// Writes a file; answers its path.
fn file(world: &World, name: &str, text: &str) -> String {
    let path = world.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A pod `web` of the namespace `default`, with more.
fn pod(more: Value) -> Value {
    let mut all = json!({"metadata": {"name": "web", "namespace": "default", "uid": "hdishd83", "attempt": 1}});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

const NAME: &str = "web_default_hdishd83_1";

/// Makes a pod; answers what rkbox says.
fn make_pod(world: &World, config: &Value) -> Output {
    let path = file(world, "pod.json", &config.to_string());
    let output = world.rkbox(["sandbox", "create", "--config", &path]);
    std::fs::remove_file(path).unwrap();
    output
}

/// What `sandbox inspect` says of the pod.
#[track_caller]
fn sandbox(world: &World, key: &str) -> Value {
    world.rkbox(["sandbox", "inspect", key]).ok().json()[0].clone()
}

/// A line of `/proc/<pid>/status`, its words joined by one space.
#[track_caller]
fn status(pid: &Value, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
    line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Which namespace of a kind a process is in.
#[track_caller]
fn namespace(pid: &Value, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_str().unwrap().to_owned()
}

/// This test's own namespace: rkbox runs in it.
fn own(kind: &str) -> String {
    std::fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_pod_is_what_its_file_says() {
    let world = World::new();
    let before = world.observe();
    let annotations = json!({"a/b": "  \u{e9}\u{1f600} \"'\\\n\t{}", "empty": ""});
    let labels = json!({"app": "web", "io.kubernetes.pod.name": "web"});
    let config = pod(json!({
        "hostname": "front", "log_directory": "/tmp/rkbox-world/logs", "labels": labels, "annotations": annotations,
        "dns_config": {"servers": ["192.0.2.53", "2001:db8::53"], "searches": ["svc.example", "example"], "options": ["ndots:5"]},
        "port_mappings": [{"protocol": "TCP", "container_port": 80, "host_port": 8080}, {"container_port": 81},
            {"protocol": 1, "container_port": 53, "host_port": 5353, "host_ip": "127.0.0.1"}],
        "linux": {"cgroup_parent": format!("{}/kubepods/pod1", world.cgroup_parent),
            "sysctls": {"net.core.somaxconn": "77", "net.ipv4.ip_local_port_range": "2000 3000", "kernel.shmmni": "99", "fs.mqueue.msg_max": "20"},
            "overhead": {"memory_limit_in_bytes": "8388608"}, "resources": {"cpu_shares": 102, "cpu_period": 100_000},
            "security_context": {"namespace_options": {"network": 0, "pid": 1, "ipc": 0}, "run_as_user": {"value": 65_535},
                "run_as_group": {"value": "65534"}, "supplemental_groups": [7, "9"], "seccomp": {"profile_type": 0}, "readonly_rootfs": true}}
    }));
    let id = make_pod(&world, &config).ok().stdout;
    assert_eq!(id.trim().len(), 64, "{id}");
    let seen = sandbox(&world, NAME);
    let (record, pid) = (&seen["record"], &seen["pid"]);
    assert_eq!((record["id"].as_str(), seen["state"].as_str()), (Some(id.trim()), Some("ready")));
    assert_eq!(record["metadata"], json!({"name": "web", "namespace": "default", "uid": "hdishd83", "attempt": 1}));
    assert_eq!((&record["labels"], &record["annotations"]), (&labels, &annotations));
    assert_eq!((&record["config"]["kind"], &record["config"]["raw"]), (&json!("cri.v1"), &config));
    let listed = world.rk("--format json sandbox ls").ok().json()[0].clone();
    assert_eq!((&listed["metadata"], listed["name"].as_str()), (&record["metadata"], Some(NAME)));
    assert_eq!(listed["ports"].as_array().unwrap().len(), 2, "{listed}");

    // The pause process.
    assert_eq!((status(pid, "Uid"), status(pid, "Gid")), ("65535 65535 65535 65535".to_owned(), "65534 65534 65534 65534".to_owned()));
    assert_eq!((status(pid, "Groups"), status(pid, "Seccomp")), ("7 9 65534".to_owned(), "2".to_owned()));
    let group = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(group.lines().any(|line| line.ends_with(&format!("{}/kubepods/pod1/{}", world.cgroup_parent, id.trim()))), "{group}");
    for kind in ["net", "ipc", "uts", "pid"] {
        assert_ne!(namespace(pid, kind), own(kind));
    }

    // Its namespaces.
    let inside = |command: &str| world.sh(&format!("nsenter -t {pid} -n -i -u -- {command}")).ok().stdout.trim().replace('\t', " ");
    assert_eq!(inside("cat /proc/sys/net/core/somaxconn"), "77");
    assert_eq!(inside("cat /proc/sys/net/ipv4/ip_local_port_range"), "2000 3000");
    assert_eq!((inside("cat /proc/sys/kernel/shmmni"), inside("cat /proc/sys/fs/mqueue/msg_max")), ("99".to_owned(), "20".to_owned()));
    assert_ne!(std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap().trim(), "99");
    assert_eq!(inside("hostname"), "front");
    let resolv = std::fs::read_to_string(format!("{}/resolv.conf", record["files"].as_str().unwrap())).unwrap();
    assert_eq!(resolv, "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch svc.example example\noptions ndots:5\n");

    make_pod(&world, &config).fails(4).says(NAME);
    world.rkbox(["sandbox", "rm", id.trim()]).ok();
    world.rk("gc").ok();
    before.assert_again(&world, "a pod from a file, removed");
}

#[test]
fn a_pod_on_the_node_has_the_namespaces_of_the_node() {
    let world = World::new();
    let before = world.observe();
    let node = json!({"network": "NODE", "pid": "NODE", "ipc": "NODE", "userns_options": {"mode": "NODE"}});
    let config = pod(
        json!({"port_mappings": [{"container_port": 80, "host_port": 80}], "linux": {"security_context": {"namespace_options": node}}}),
    );
    make_pod(&world, &config).ok();
    let seen = sandbox(&world, NAME);
    for kind in ["net", "pid", "ipc", "user"] {
        assert_eq!(namespace(&seen["pid"], kind), own(kind), "{kind}");
    }
    assert!(seen["record"]["netns"].is_null() && seen["record"]["ipcns"].is_null(), "{seen}");
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(seen["record"]["hostname"].as_str(), Some(hostname.trim()));
    world.rkbox(["sandbox", "stop", NAME]).ok();
    assert_eq!(sandbox(&world, NAME)["state"], "notready");
    world.rkbox(["sandbox", "rm", NAME]).ok();
    world.rk("gc").ok();
    before.assert_again(&world, "a pod of the node, stopped and removed");
}

#[test]
fn yaml_and_json_make_the_same_pod() {
    let world = World::new();
    let json = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "hostname": "web", "labels": {"port": "8080", "on": "yes"},
        "dns_config": {"servers": ["192.0.2.1"]}, "linux": {"sysctls": {"net.core.somaxconn": "8"}, "security_context": {
            "namespace_options": {"pid": 1}, "run_as_user": {"value": 7}}}});
    let yaml = "# the same\nmetadata:\n  name: web\n  namespace: default\n  uid: u\nhostname: web\nlabels: {port: 8080, 'on': 'yes'}\n\
                dns_config:\n  servers:\n  - 192.0.2.1\nlinux:\n  sysctls:\n    net.core.somaxconn: 8\n  security_context:\n    \
                namespace_options:\n      pid: CONTAINER\n    run_as_user:\n      value: \"7\"\n";
    let of = |name: &str, text: &str| {
        let path = file(&world, name, text);
        let id = world.rkbox(["sandbox", "create", "--config", &path]).ok().stdout.trim().to_owned();
        let mut record = sandbox(&world, &id)["record"].clone();
        let config = std::fs::read_to_string(format!("{}/config.json", record["files"].as_str().unwrap())).unwrap().replace(&id, "ID");
        world.rkbox(["sandbox", "rm", &id]).ok();
        for gone in ["config", "created_at", "attachments"] {
            record.as_object_mut().unwrap().remove(gone);
        }
        (record.to_string().replace(&id, "ID"), config)
    };
    assert_eq!(of("pod.json", &json.to_string()), of("pod.yaml", yaml));
}

#[test]
fn what_a_pod_cannot_be_is_refused_by_its_path_and_leaves_nothing() {
    let world = World::new();
    let before = world.observe();
    let security = |more: Value| pod(json!({"linux": {"security_context": more}}));
    for (config, code, says) in [
        (json!({"metadata": {"name": "web"}}), 2, "metadata.namespace: "),
        (pod(json!({"logDirectory": "/x"})), 2, "did you mean log_directory?"),
        (pod(json!({"linux": {"sysctls": {"vm.swappiness": "1"}}})), 2, "linux.sysctls[\"vm.swappiness\"]: "),
        (pod(json!({"linux": {"sysctls": {"kernel.hostname": "x"}}})), 2, "linux.sysctls[\"kernel.hostname\"]: "),
        (
            pod(json!({"linux": {"sysctls": {"net.core.somaxconn": "8"}, "security_context": {"namespace_options": {"network": 2}}}})),
            2,
            "linux.sysctls",
        ),
        (pod(json!({"linux": {"cgroup_parent": "kubepods.slice"}})), 2, "linux.cgroup_parent: "),
        (pod(json!({"dns_config": {"servers": ["dns.example"]}})), 2, "dns_config: "),
        (pod(json!({"hostname": "a b"})), 2, "hostname: "),
        (pod(json!({"windows": {"security_context": {"host_process": true}}})), 9, "windows: "),
        (security(json!({"selinux_options": {"type": "spc_t"}})), 5, "linux.security_context.selinux_options: this host has no SELinux"),
        (
            security(json!({"apparmor": {"profile_type": 2, "localhost_ref": "x"}})),
            5,
            "linux.security_context.apparmor: this host has no AppArmor",
        ),
        (security(json!({"seccomp": {"profile_type": 2, "localhost_ref": "/no/such.json"}})), 3, "/no/such.json"),
        (security(json!({"namespace_options": {"userns_options": {"mode": 0, "uids": [{"length": 9}]}}})), 9, "userns_options.uids: "),
    ] {
        make_pod(&world, &config).fails(code).says(says).says("pod.json");
    }
    let path = file(&world, "pod.yaml", "metadata: {name: web, namespace: a}\n---\nmetadata: {}\n");
    world.rkbox(["sandbox", "create", "--config", &path]).fails(2).says("2 documents");
    world.rkbox(["sandbox", "create", "--config", "/no/such"]).fails(3).says("/no/such");
    world.rkbox(["sandbox", "create"]).fails(2);
    for more in [&["web"][..], &["--hostname", "x"], &["-p", "80"], &["--dns", "1.1.1.1"], &["--label", "a=b"]] {
        world.rkbox([&["sandbox", "create", "--config", &path], more].concat()).fails(2).says("cannot be used with");
    }
    std::fs::remove_file(path).unwrap();
    before.assert_again(&world, "pods that were refused");
}
