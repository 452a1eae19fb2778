//! Names: resolv.conf, hosts and hostname of sandboxes and containers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{World, with_busybox};

fn file(world: &World, sandbox: &str, path: &str) -> String {
    world.rk(&format!("run --rm --sandbox {sandbox} busybox cat {path}")).ok().stdout
}

#[test]
fn sandboxes_of_a_network_know_each_other_while_they_live() {
    let world = with_busybox();
    world.rk("sandbox create web").ok();
    // A container that runs sees what comes later: its file is written in place.
    world.rkbox(["sandbox", "create", "--hostname", "data", "db"]).ok();
    let web = file(&world, "web", "/etc/hosts");
    assert!(web.lines().any(|line| line.starts_with("10.88.0.3\tdb data\t# rkbox:")), "{web}");
    assert!(file(&world, "db", "/etc/hosts").lines().any(|line| line.starts_with("10.88.0.2\tweb\t# rkbox:")));
    let script = "rkbox run --rm --sandbox web busybox sh -c 'until ! grep -q db /etc/hosts; do sleep 0.05; done; echo gone' & c=$!
        sleep 0.3; rkbox sandbox rm --force db >&2; wait $c";
    assert_eq!(world.sh(script).ok().stdout, "gone\n");
    // What a user writes into it stays.
    world.sh("echo 192.0.2.1 mine >> $(ls $RKBOX_ROOT/sandboxes/*/hosts)").ok();
    world.rk("sandbox create other").ok();
    world.rk("sandbox stop other").ok();
    let web = file(&world, "web", "/etc/hosts");
    assert!(web.contains("192.0.2.1 mine\n") && !web.contains("# rkbox:"), "{web}");
    world.rk("sandbox rm web other").ok();
}

#[test]
fn the_resolver_of_a_sandbox_is_that_of_ip_netns_exec_too() {
    let world = with_busybox();
    world.rk("sandbox create --dns 192.0.2.53 --dns 2001:db8::53 --dns-search pod.example --dns-option ndots:2 --add-host gate:host-gateway --add-host db:192.0.2.9 web").ok();
    let text = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch pod.example\noptions ndots:2\n";
    assert_eq!(file(&world, "web", "/etc/resolv.conf"), text);
    assert_eq!(world.sh("ip netns exec web cat /etc/resolv.conf").ok().stdout, text);
    let hosts = file(&world, "web", "/etc/hosts");
    assert!(hosts.contains("10.88.0.1\tgate\n192.0.2.9\tdb\n"), "{hosts}");
    world.rk("run --rm --sandbox web --dns 192.0.2.1 busybox true").fails(125).says("the sandbox's");
    world.rk("sandbox stop web").ok();
    assert!(!std::path::Path::new("/etc/netns/web").exists());
    world.rk("sandbox rm web").ok();
    // What a user keeps there is the user's.
    world.sh("mkdir /etc/netns/own; echo 'nameserver 192.0.2.7' > /etc/netns/own/resolv.conf").ok();
    world.rk("sandbox create own").ok();
    world.rk("sandbox rm own").ok();
    assert_eq!(world.sh("cat /etc/netns/own/resolv.conf").ok().stdout, "nameserver 192.0.2.7\n");
}

#[test]
fn the_name_servers_of_a_network_come_before_the_hosts() {
    let world = with_busybox();
    std::fs::write(world.path("resolv"), "nameserver 192.0.2.77\nsearch net.example\n").unwrap();
    let resolv = world.path("resolv").display().to_string();
    let conf = format!(
        r#"{{"cniVersion":"1.0.0","name":"named","type":"bridge","bridge":"nm0","isGateway":true,"ipam":{{"type":"host-local","resolvConf":"{resolv}","ranges":[[{{"subnet":"10.66.0.0/24"}}]]}}}}"#
    );
    world.configure("10-named.conf", &conf);
    let run = |options: &[&str]| world.rkbox([&["run", "--rm"], options, &["busybox", "cat", "/etc/resolv.conf"]].concat()).ok().stdout;
    let text = run(&[]);
    assert!(text.starts_with("nameserver 192.0.2.77\nsearch net.example\n"), "{text}");
    let text = run(&["--dns", "192.0.2.1"]);
    assert!(text.starts_with("nameserver 192.0.2.1\nsearch net.example\n"), "{text}");
    // The host's own network: its file, as it is.
    let own = world.sh("cat /etc/resolv.conf").ok().stdout;
    assert_eq!(run(&["--net", "host"]), own);
}

/// R8: nothing that is said can add a line.
#[test]
fn hostile_names_add_no_lines() {
    let world = with_busybox();
    let long = format!("{}:192.0.2.1", "a".repeat(65_536));
    for (option, value) in [
        ("--add-host", "evil:192.0.2.1\n192.0.2.2 other"),
        ("--add-host", "ev il:192.0.2.1"),
        ("--add-host", "evil:192.0.2.1 other"),
        ("--add-host", "evil:"),
        ("--add-host", &long),
        ("--dns", "192.0.2.1\nsearch x"),
        ("--dns-search", "a\nnameserver 192.0.2.1"),
        ("--dns-option", "ndots:1\nnameserver 192.0.2.1"),
        ("--hostname", "a\nb"),
        ("--hostname", "a b"),
    ] {
        let output = world.rkbox(["run", "--rm", "--net", "none", option, value, "busybox", "true"]);
        assert!(output.code == 125 && output.stderr.contains("hint:"), "{option}: {output}");
    }
    let plain = world.rk("run --rm --net none busybox wc -l /etc/hosts /etc/hostname").ok().stdout;
    let env = [
        "run",
        "--rm",
        "--net",
        "none",
        "-e",
        "HOME=/x\nevil",
        "-e",
        "HOSTNAME=a\nb",
        "busybox",
        "wc",
        "-l",
        "/etc/hosts",
        "/etc/hostname",
    ];
    assert_eq!(world.rkbox(env).ok().stdout, plain);
    let passwd = ["run", "--rm", "--net", "none", "-e", "HOME=/x\nevil:x:0:0::/:/bin/sh", "busybox", "grep", "-c", "evil", "/etc/passwd"];
    assert_eq!(world.rkbox(passwd).stdout, "0\n");
}
