//! Containers from the files that `crictl create` takes, judged from inside: namespaces, ids, rights, mounts, bounds, streams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod cri;

use cri::*;
use serde_json::{Value, json};

#[test]
fn namespaces_are_those_of_the_pod_the_container_the_node_or_a_target() {
    let world = with_pod(json!({}));
    let pause = sandbox(&world, NAME)["pid"].clone();
    // Nothing said is POD, for processes too.
    let shared = start(&world, &container(json!({"metadata": {"name": "shared"}})));
    let pid = seen(&world, &shared)["pid"].clone();
    for kind in ["net", "ipc", "uts", "pid"] {
        assert_eq!(namespace(&pid, kind), namespace(&pause, kind), "{kind}");
    }
    assert!(inside(&world, &shared, "cat /proc/1/cmdline | tr '\\0' ' '").starts_with("/pause"));
    let modes = |name: &str, options: Value| {
        let mut config = in_security(json!({"namespace_options": options}));
        config["metadata"]["name"] = json!(name);
        config
    };
    let own = start(&world, &modes("own", json!({"pid": "CONTAINER", "ipc": "CONTAINER"})));
    let own_pid = seen(&world, &own)["pid"].clone();
    for (kind, same) in [("net", true), ("uts", true), ("ipc", false), ("pid", false)] {
        assert_eq!(namespace(&own_pid, kind) == namespace(&pause, kind), same, "{kind}");
    }
    inside(&world, &shared, "echo shared > /dev/shm/x");
    assert_eq!(inside(&world, &own, "cat /dev/shm/x 2>/dev/null || echo none"), "none");
    let target = start(&world, &modes("debug", json!({"pid": "TARGET", "target_id": &own[..13]})));
    let target_pid = seen(&world, &target)["pid"].clone();
    assert_eq!(namespace(&target_pid, "pid"), namespace(&own_pid, "pid"));
    assert_eq!(namespace(&target_pid, "ipc"), namespace(&pause, "ipc"));
    assert!(inside(&world, &target, "cat /proc/1/cmdline | tr '\\0' ' '").starts_with("sleep 1000"));

    // The pause process reaps; with its first process a container ends whole, and starts again in the same namespace.
    inside(&world, &shared, "(setsid sleep 777 & ) ; (true &) ; sleep 0.2");
    world.rkbox(["stop", "-t", "0", &shared]).ok();
    let processes = || world.sh("ps -eo stat,args").ok().stdout;
    assert!(common::until(std::time::Duration::from_secs(10), processes, |all| !all.contains("sleep 777")).is_ok());
    let children = std::fs::read_to_string(format!("/proc/{pause}/task/{pause}/children")).unwrap();
    assert!(children.split_whitespace().all(|pid| status(&json!(pid.parse::<i32>().unwrap()), "State").starts_with('S')), "{children}");
    world.rkbox(["start", &shared]).ok();
    assert_eq!(namespace(&seen(&world, &shared)["pid"], "pid"), namespace(&pause, "pid"));
    world.rkbox(["rm", "-f", &target, &own, &shared]).ok();
    for (options, code, says) in [
        (json!({"network": "NODE"}), 5, "namespace_options.network: NODE"),
        (json!({"pid": 2}), 5, "namespace_options.pid: NODE"),
        (json!({"pid": 3, "target_id": "nobody"}), 3, "namespace_options.target_id: "),
        (json!({"pid": 3}), 2, "namespace_options.target_id: "),
    ] {
        create(&world, &modes("x", options)).fails(code).says(says);
    }
    world.rkbox(["sandbox", "rm", NAME]).ok();
}

#[test]
fn on_the_node_a_container_has_what_its_sandbox_has() {
    let world = with_pod(json!({"linux": {"security_context": {"namespace_options": {"network": 2, "pid": 2, "ipc": 2}}}}));
    for options in [json!({}), json!({"network": "NODE", "pid": "NODE", "ipc": "NODE"})] {
        let id = start(&world, &in_security(json!({"namespace_options": options})));
        let pid = seen(&world, &id)["pid"].clone();
        for kind in ["net", "pid", "ipc"] {
            assert_eq!(namespace(&pid, kind), own(kind), "{kind}");
        }
        world.rkbox(["rm", "-f", &id]).ok();
    }
    world.rkbox(["sandbox", "rm", NAME]).ok();
}

#[test]
fn ids_capabilities_and_filters_are_those_of_the_security_context() {
    let world = with_pod(json!({}));
    let judge = |security: Value| {
        log_of(&world, &{
            let mut config = in_security(security);
            config["command"] =
                json!(["sh", "-c", "id -u; id -g; id -G; grep -E '^(CapBnd|CapEff|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status"]);
            config
        })
    };
    let read = |text: &str| -> Vec<String> {
        let rows = text.lines().map(|line| line.split_whitespace().last().unwrap_or_default().to_owned());
        let mut rows: Vec<String> = rows.collect();
        rows[2] = text.lines().nth(2).unwrap().to_owned();
        rows
    };
    let caps = |text: &str| u64::from_str_radix(text, 16).unwrap();
    // uid, gid, groups, CapEff, CapBnd, CapAmb, NoNewPrivs, Seccomp
    let plain = read(&judge(json!({"namespace_options": {"pid": 1}})));
    assert_eq!((plain[0].as_str(), plain[6].as_str(), plain[7].as_str()), ("0", "0", "2"), "{plain:?}");
    assert_eq!((plain[3].as_str(), caps(&plain[5])), (plain[4].as_str(), 0));

    let user = read(&judge(
        json!({"run_as_user": {"value": 1234}, "run_as_group": {"value": "99"}, "supplemental_groups": [5, "7"], "no_new_privs": true,
        "capabilities": {"add_capabilities": ["NET_RAW"], "add_ambient_capabilities": ["CAP_NET_BIND_SERVICE"]}, "seccomp": {"profile_type": 1}}),
    ));
    assert_eq!((user[0].as_str(), user[1].as_str(), user[2].as_str()), ("1234", "99", "99 5 7"));
    assert_eq!((caps(&user[3]), caps(&user[5])), (1 << 10, 1 << 10), "only what is ambient is held by a user: {user:?}");
    assert!(caps(&user[4]) & (1 << 13) != 0, "NET_RAW is in the bounding set");
    assert_eq!((user[6].as_str(), user[7].as_str()), ("1", "0"));

    let dropped = read(&judge(
        json!({"capabilities": {"drop_capabilities": ["ALL"], "add_capabilities": ["CAP_CHOWN"], "add_ambient_capabilities": ["KILL"]}}),
    ));
    assert_eq!((caps(&dropped[3]), caps(&dropped[4]), caps(&dropped[5])), (0b10_0001, 0b10_0001, 0b10_0000), "{dropped:?}");

    let named = read(&judge(json!({"run_as_username": "root", "run_as_group": {"value": 7}})));
    assert_eq!((named[0].as_str(), named[1].as_str()), ("0", "7"));
    let strict = read(&judge(json!({"supplemental_groups": [7], "supplemental_groups_policy": "Strict"})));
    assert_eq!(strict[2], "0 7");
    create(&world, &in_security(json!({"run_as_username": "nobody-such"}))).fails(3).says("linux.security_context: ").says("nobody-such");

    let profile = file(
        &world,
        "profile.json",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#,
    );
    let mut denied = in_security(json!({"seccomp": {"profile_type": "Localhost", "localhost_ref": profile}}));
    denied["command"] = json!(["sh", "-c", "mkdir /x && echo made"]);
    assert!(log_of(&world, &denied).contains("not permitted"), "the profile of the file");
    denied["linux"]["security_context"] = json!({"seccomp_profile_path": "unconfined"});
    assert_eq!(log_of(&world, &denied), "made\n");
    world.rkbox(["sandbox", "rm", NAME]).ok();
}

#[test]
fn paths_of_the_kernel_are_masked_as_the_file_says_and_the_root_can_be_read_only() {
    let world = with_pod(json!({}));
    let mut config =
        in_security(json!({"readonly_rootfs": true, "masked_paths": ["/proc/uptime"], "readonly_paths": ["/proc/sys/kernel"]}));
    config["command"] = json!([
        "sh",
        "-c",
        "echo \"[$(cat /proc/uptime)]\"; grep -q . /proc/version && echo seen; touch /x 2>&1; \
        grep -c ' /proc/sys/kernel proc ro' /proc/mounts; grep -c ' /proc/sys proc ro' /proc/mounts"
    ]);
    let said = log_of(&world, &config);
    assert_eq!(said.lines().collect::<Vec<_>>(), ["[]", "seen", "touch: /x: Read-only file system", "1", "0"]);
    // Nothing said is the runtime's own.
    config["linux"]["security_context"] = json!({});
    config["command"] = json!([
        "sh",
        "-c",
        "cat /proc/uptime >/dev/null && echo open; touch /x && echo written; grep -c ' /proc/sys proc ro' /proc/mounts"
    ]);
    assert_eq!(log_of(&world, &config), "open\nwritten\n1\n");
    // A privileged one needs a sandbox that is made for it.
    create(&world, &in_security(json!({"privileged": true}))).fails(5).says("linux.security_context.privileged: ");
    world.rkbox(["sandbox", "rm", NAME]).ok();
    make_pod(&world, &pod(json!({"linux": {"security_context": {"privileged": true}}}))).ok();
    let mut all = in_security(json!({"privileged": true, "seccomp": {"profile_type": 0}, "masked_paths": ["/proc/uptime"]}));
    all["command"] = json!(["sh", "-c", "grep -q . /proc/uptime && echo open; grep Seccomp: /proc/self/status; ls /dev | grep -c ."]);
    let said = log_of(&world, &all);
    assert!(said.starts_with("open\nSeccomp:\t0\n") && said.lines().last().unwrap().parse::<u32>().unwrap() > 10, "{said}");
    world.rkbox(["sandbox", "rm", NAME]).ok();
}

#[test]
fn mounts_and_devices_are_those_of_the_file() {
    let world = with_pod(json!({}));
    world.sh("cd $HOME; mkdir -p data/below shared; echo hello > data/f; mount -t tmpfs below data/below; ln -s data link; mount --bind shared shared; mount --make-shared shared").ok();
    let at = |name: &str| world.path(name).to_str().unwrap().to_owned();
    let mut config = container(json!({
        "mounts": [
            {"container_path": "/rw", "host_path": at("link")},
            {"container_path": "/ro", "host_path": at("data"), "readonly": true},
            {"container_path": "/rro", "host_path": at("data"), "readonly": true, "recursive_read_only": true},
            {"container_path": "/both", "host_path": at("shared"), "propagation": "PROPAGATION_BIDIRECTIONAL"},
            {"container_path": "/from", "host_path": at("shared"), "propagation": 1},
            {"container_path": "/new", "host_path": at("made/here"), "selinux_relabel": true},
            {"container_path": "/image", "image": {"image": "busybox"}},
            {"container_path": "/part", "image": {"image": "busybox"}, "image_sub_path": "bin"}],
        "devices": [{"host_path": "/dev/loop-control", "container_path": "/dev/mine", "permissions": "rw"}]
    }));
    if !std::path::Path::new("/dev/loop-control").exists() {
        config["devices"] = json!([{"host_path": "/dev/zero", "container_path": "/dev/mine", "permissions": "r"}]);
    }
    let output = create(&world, &config).ok().says("is made, an empty directory").says("this host has no SELinux");
    let id = output.stdout.trim().to_owned();
    world.rkbox(["start", &id]).ok();
    assert_eq!(inside(&world, &id, "cat /rw/f; echo more >> /rw/f; cat /ro/f"), "hello\nhello\nmore");
    assert_eq!(
        inside(&world, &id, "touch /ro/x 2>/dev/null || echo no; touch /ro/below/x && echo yes; touch /rro/below/y 2>/dev/null || echo no"),
        "no\nyes\nno"
    );
    assert_eq!(
        inside(&world, &id, "test -x /image/bin/busybox && test -x /part/busybox && echo both; touch /image/x 2>/dev/null || echo no"),
        "both\nno"
    );
    assert!(world.path("made/here").is_dir());
    world.sh("mkdir $HOME/shared/m; mount -t tmpfs late $HOME/shared/m; touch $HOME/shared/m/late").ok();
    assert_eq!(inside(&world, &id, "ls /both/m /from/m"), "/both/m:\nlate\n\n/from/m:\nlate");
    assert!(inside(&world, &id, "stat -c %F /dev/mine").starts_with("character"));
    world.rkbox(["rm", "-f", &id]).ok();
    for (mount, code, says) in [
        (json!({"container_path": "/proc/x", "host_path": "/tmp"}), 2, "mounts[0].container_path: "),
        (json!({"container_path": "/a", "host_path": at("data"), "propagation": 2}), 5, "is not on a shared mount"),
        (
            json!({"container_path": "/a", "host_path": at("data"), "readonly": true, "recursive_read_only": true, "propagation": 1}),
            2,
            "mounts[0].recursive_read_only: ",
        ),
        (json!({"container_path": "/a", "host_path": at("data"), "uidMappings": [{"length": 1}]}), 9, "mounts[0].uidMappings: "),
        (json!({"container_path": "/a", "image": {"image": "no-such"}}), 3, "no-such"),
    ] {
        create(&world, &container(json!({"mounts": [mount]}))).fails(code).says(says);
    }
    create(&world, &container(json!({"CDI_devices": [{"name": "vendor.com/gpu=1"}]}))).fails(9).says("CDI_devices: ");
    create(&world, &container(json!({"devices": [{"host_path": "/etc/hosts"}]}))).fails(3).says("devices[0].host_path: ");
    world.sh("umount -l $HOME/shared/m $HOME/shared $HOME/data/below").ok();
    world.rkbox(["sandbox", "rm", NAME]).ok();
}

#[test]
fn resources_are_those_of_the_file() {
    let world = with_pod(json!({}));
    let limits = |more: Value| container(json!({"linux": {"resources": more}}));
    let id = start(
        &world,
        &limits(json!({"memory_limit_in_bytes": "67108864", "cpu_quota": 50_000, "cpu_period": 100_000, "cpu_shares": 512,
        "cpuset_cpus": "0", "oom_score_adj": 500})),
    );
    let pid = seen(&world, &id)["pid"].clone();
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "500");
    let oci: Value = serde_json::from_slice(&std::fs::read(world.root().join(format!("containers/{id}/config.json"))).unwrap()).unwrap();
    let resources = &oci["linux"]["resources"];
    assert_eq!(
        (&resources["memory"]["limit"], &resources["cpu"]["quota"], &resources["cpu"]["shares"]),
        (&json!(64 << 20), &json!(50_000), &json!(512))
    );
    let groups = world.sh(&format!("find /sys/fs/cgroup -path '*{id}' | while read dir; do cat $dir/memory.limit_in_bytes $dir/memory.max $dir/cpu.shares 2>/dev/null || :; done")).ok().stdout;
    assert!(groups.lines().any(|line| line == "67108864"), "{groups}");
    assert!(status(&pid, "Cpus_allowed_list") == "0");
    world.rkbox(["rm", "-f", &id]).ok();
    let v1 = !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if v1 {
        create(&world, &limits(json!({"unified": {"memory.high": "1"}}))).fails(5).says("linux.resources.unified: ");
    }
    create(&world, &limits(json!({"hugepage_limits": [{"page_size": "7MB", "limit": 0}]})))
        .fails(5)
        .says("linux.resources.hugepage_limits[0]: ");
    create(&world, &limits(json!({"cpu_shares": 1}))).fails(2).says("linux.resources.cpu_shares: ");
    world.rkbox(["sandbox", "rm", NAME]).ok();
}

#[test]
fn streams_and_terminals_are_those_of_the_file() {
    let world = with_pod(json!({}));
    let mut config = container(json!({"stdin": true, "stdin_once": true, "command": ["cat"]}));
    let id = create(&world, &config).ok().stdout.trim().to_owned();
    assert_eq!(world.sh(&format!("printf 'one\ntwo\n' | rkbox start --attach {id}")).ok().stdout, "one\ntwo\n");
    assert_eq!(world.rkbox(["wait", &id]).ok().stdout.trim(), "0", "with its first client its input ends");
    world.rkbox(["rm", &id]).ok();
    config = container(json!({"tty": true, "command": ["sh", "-c", "test -t 0 && test -t 1 && echo \"tty $TERM\""]}));
    assert_eq!(log_of(&world, &config).trim(), "tty xterm");
    world.rkbox(["sandbox", "rm", NAME]).ok();
}

#[test]
fn a_pod_with_ids_of_its_own_has_those_that_its_file_says() {
    let range = json!([{"host_id": 100_000, "container_id": 0, "length": 65_536}]);
    let users = |uids: &serde_json::Value| json!({"namespace_options": {"userns_options": {"mode": "POD", "uids": uids, "gids": uids}}});
    let world = with_pod(json!({"linux": {"security_context": users(&range), "sysctls": {"net.ipv4.ip_default_ttl": "17"}}}));
    let pause = sandbox(&world, NAME)["pid"].clone();
    std::fs::create_dir(world.path("data")).unwrap();
    std::fs::write(world.path("data/of-host"), "").unwrap();
    let mounts = json!([{"container_path": "/data", "host_path": world.path("data")}]);
    for more in [json!({}), users(&range)] {
        let mut config = in_security(more);
        config["mounts"] = mounts.clone();
        let id = start(&world, &config);
        let pid = seen(&world, &id)["pid"].clone();
        assert_eq!((namespace(&pid, "user"), namespace(&pid, "pid")), (namespace(&pause, "user"), namespace(&pause, "pid")));
        assert_ne!(namespace(&pid, "user"), own("user"));
        assert_eq!(status(&pid, "Uid"), "100000 100000 100000 100000");
        let told = inside(
            &world,
            &id,
            "tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; stat -c %u:%g /bin/busybox /etc/hosts /proc/1 /data/of-host; cat /proc/sys/net/ipv4/ip_default_ttl; touch /w; chown 7:8 /w; stat -c %u:%g /w",
        );
        assert_eq!(told, "0 100000 65536\n 0 100000 65536\n0:0\n0:0\n0:0\n65534:65534\n17\n7:8", "{told}");
        world.rkbox(["rm", "-f", &id]).ok();
    }
    let other = json!([{"host_id": 300_000, "container_id": 0, "length": 65_536}]);
    for bad in [users(&other), json!({"namespace_options": {"userns_options": {"mode": 2}}})] {
        create(&world, &in_security(bad)).fails(5).says("userns_options: the ids of the sandbox are others: 0:100000:65536");
    }
    std::fs::remove_dir_all(world.path("data")).unwrap();
    world.rkbox(["sandbox", "rm", NAME]).ok();
    // One on the host's ids has no other container.
    make_pod(&world, &pod(json!({"linux": {"security_context": {"namespace_options": {"userns_options": {"mode": "NODE"}}}}}))).ok();
    create(&world, &in_security(users(&range))).fails(5).says("those of the host");
    world.rkbox(["sandbox", "rm", NAME]).ok();
}
