//! Pods and containers from the files that `crictl runp` and `crictl create` take: what is made, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod cri;

use common::{World, images};
use cri::*;
use serde_json::{Value, json};

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
        (security(json!({"namespace_options": {"userns_options": {"mode": 0, "uids": [{"length": 9}]}}})), 9, "userns_options: groups"),
        (security(json!({"namespace_options": {"userns_options": {"mode": 0}}})), 2, "userns_options: POD needs uids and gids"),
        (
            security(json!({"namespace_options": {"pid": 2, "userns_options": {"uids": [{"length": 9}], "gids": [{"length": 9}]}}})),
            2,
            "NODE",
        ),
        (security(json!({"namespace_options": {"userns_options": {"uids": [{"lenght": 9}]}}})), 2, "did you mean length?"),
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

#[test]
fn a_container_is_what_its_file_says() {
    let world = with_pod(json!({"hostname": "front", "log_directory": "/tmp/rkbox-world/logs/pod"}));
    let before = world.observe();
    let annotations = json!({"run.oci.handler": "wasm", "b": " \u{e9}\t"});
    let config = container(json!({
        "metadata": {"name": "app", "attempt": 3}, "image": {"image": "docker.io/library/busybox:latest", "annotations": {"x": "y"}},
        "command": ["/bin/sh", "-c"], "args": ["trap 'exit 3' USR1; echo \"$A|$HOSTNAME|$(pwd)\"; echo oops >&2; while :; do sleep 0.05; done"],
        "working_dir": "/tmp", "envs": [{"key": "A", "value": "1=2 \u{e9}"}, {"key": "EMPTY"}], "labels": {"app": "x"}, "annotations": annotations,
        "log_path": "app/3.log", "stop_signal": "SIGUSR1"
    }));
    let id = create(&world, &config).ok().stdout.trim().to_owned();
    assert_eq!((id.len(), seen(&world, &id)["state"].as_str()), (64, Some("created")));
    let log = world.path("logs/pod/app/3.log");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "");
    create(&world, &config).fails(4).says("app_web_default_hdishd83_3");
    world.rkbox(["start", &id]).ok();
    let lines = || std::fs::read_to_string(&log).unwrap().lines().count();
    assert!(common::until(std::time::Duration::from_secs(20), lines, |lines| *lines == 2).is_ok());
    let text = std::fs::read_to_string(&log).unwrap();
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    let find = |stream: &str| words.iter().find(|words| words[1] == stream).unwrap_or_else(|| panic!("{text}"));
    assert_eq!((find("stdout")[2], find("stdout")[3], find("stderr")[3]), ("F", "1=2 \u{e9}|front|/tmp", "oops"));
    assert_eq!((words[0][0].len(), words[0][0].ends_with('Z')), ("2026-11-23T00:00:00.000000000Z".len(), true));

    let record = &seen(&world, &id)["record"];
    assert_eq!(record["metadata"], json!({"name": "app", "namespace": "default", "uid": "hdishd83", "attempt": 3}));
    assert_eq!((&record["annotations"], &record["labels"], &record["config"]["raw"]), (&annotations, &json!({"app": "x"}), &config));
    let oci: Value =
        serde_json::from_slice(&std::fs::read(format!("{}/config.json", record["bundle"].as_str().unwrap())).unwrap()).unwrap();
    assert_eq!(oci["annotations"].as_object().unwrap().keys().collect::<Vec<_>>(), ["org.rkbox.id"], "runtimes act on annotations");
    assert_eq!(record["stop_signal"], "SIGUSR1");
    world.rkbox(["stop", &id]).ok();
    assert_eq!(seen(&world, &id)["exit"]["exit_code"], 3);
    world.rkbox(["rm", &id]).ok();
    assert_eq!(lines(), 2, "the log is its caller's");
    std::fs::remove_dir_all(world.path("logs")).unwrap();

    // One that was never started leaves no trace.
    let id = create(&world, &config).ok().stdout.trim().to_owned();
    world.rkbox(["rm", &id]).ok();
    world.rk("gc").ok();
    before.assert_again(&world, "a container from a file, removed");
    world.rkbox(["sandbox", "rm", NAME]).ok();
}

#[test]
fn command_replaces_entrypoint_and_cmd_and_args_only_cmd() {
    let world = with_pod(json!({}));
    let said = |more: Value| {
        let mut config = container(more);
        config.as_object_mut().unwrap().entry("image").or_insert(json!({"image": "busybox"}));
        let path = file(&world, "c.json", &config.to_string());
        let id = world.rkbox(["create", "--sandbox", NAME, "--config", &path]).ok().stdout.trim().to_owned();
        let args = seen(&world, &id)["record"]["args"].clone();
        world.rkbox(["rm", &id]).ok();
        args
    };
    assert_eq!(said(json!({"command": ["echo"]})), json!(["echo"]));
    assert_eq!(said(json!({"command": ["echo"], "args": ["a b", "$HOME"]})), json!(["echo", "a b", "$HOME"]));
    assert_eq!(said(json!({"command": [], "args": ["true"]})), json!(["true"]));
    assert_eq!(said(json!({"command": null})), json!(["sh"]), "the image's");
    world.rkbox(["sandbox", "rm", NAME]).ok();
}

#[test]
fn a_container_runs_from_its_file_in_one_command_and_in_a_sandbox_of_words() {
    let world = World::new();
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    world.rk("sandbox create plain").ok();
    let yaml = "metadata:\n  name: hello\nimage:\n  image: busybox\ncommand: [sh, -c]\nargs: ['echo hello; exit 5']\nlinux: {}\n";
    let path = file(&world, "container.yaml", yaml);
    world.rkbox(["run", "--rm", "--sandbox", "plain", "--config", &path]).fails(5).prints("hello");
    let id = world.rkbox(["run", "-d", "--sandbox", "plain", "--config", &path]).ok().stdout.trim().to_owned();
    assert_eq!(world.rkbox(["wait", &id]).ok().stdout.trim(), "5");
    assert_eq!(seen(&world, "hello_plain_0")["record"]["id"].as_str(), Some(id.as_str()));
    world.rkbox(["rm", &id]).ok();
    for words in [
        &["--config", &path][..],
        &["--sandbox", "plain", "--config", &path, "busybox"],
        &["--sandbox", "plain", "--config", &path, "-e", "A=1"],
        &["--sandbox", "plain", "--config", &path, "--memory", "64m"],
        &["--sandbox", "plain", "--config", &path, "--privileged"],
    ] {
        world.rkbox([&["create"], words].concat()).fails(2);
    }
    let escape = file(&world, "escape.json", &container(json!({"log_path": "../x.log"})).to_string());
    world.rkbox(["create", "--sandbox", "plain", "--config", &escape]).fails(2).says("log_path: the sandbox has no log_directory");
    world.rk("sandbox rm plain").ok();
    make_pod(&world, &pod(json!({"log_directory": "/tmp/rkbox-world/logs"}))).ok();
    for bad in ["../x.log", "/x.log", "a/../../x.log"] {
        create(&world, &container(json!({"log_path": bad}))).fails(2).says("log_path: ");
    }
    assert!(!world.path("x.log").exists() && !world.path("logs").exists());
    world.rkbox(["sandbox", "rm", NAME]).ok();
}

#[test]
fn the_script_of_a_container_makes_the_same() {
    let world = with_pod(json!({"log_directory": "/tmp/rkbox-world/logs"}));
    let config = container(json!({"log_path": "c/0.log"}));
    let path = file(&world, "container.json", &config.to_string());
    let before = world.observe();
    let script = world.rkbox(["create", "--explain", "--sandbox", NAME, "--config", &path]).ok().stdout;
    before.assert_again(&world, "create --explain");
    let id = create(&world, &config).ok().stdout.trim().to_owned();
    let made = std::fs::read_to_string(world.root().join(format!("containers/{id}/config.json"))).unwrap();
    world.rkbox(["rm", &id]).ok();
    std::fs::write("/run/explained", &script).unwrap();
    world.sh("exec sh -eu /run/explained").ok();
    std::fs::remove_file("/run/explained").unwrap();
    let other = world.rk("ps -aq --no-trunc").ok().stdout.trim().to_owned();
    let by_script = std::fs::read_to_string(world.root().join(format!("containers/{other}/config.json"))).unwrap();
    assert_eq!(by_script.replace(&other, "ID"), made.replace(&id, "ID"));
    let pause = sandbox(&world, NAME)["pid"].clone();
    assert_eq!(namespace(&seen(&world, &other)["pid"], "pid"), namespace(&pause, "pid"));
    assert!(world.path("logs/c/0.log").exists());
    world.rkbox(["rm", "-f", &other]).ok();
    world.rkbox(["sandbox", "rm", NAME]).ok();
}
