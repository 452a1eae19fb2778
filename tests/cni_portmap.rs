//! portmap, as a plugin of other runtimes: results and errors beside upstream's, who reaches the ports, what is taken back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod lab;
mod plugins;

use common::{Output, World};
use lab::Lab;
use plugins::{Called, Maker, call, conf, ready};
use serde_json::{Value, json};

const WEB: &str = "/run/netns/web";

fn bridge(version: &str) -> Value {
    let ranges = json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]]);
    let ipam = json!({"type": "host-local", "dataDir": "/tmp/rkbox-world/cni/networks", "ranges": ranges});
    let body = json!({"type": "bridge", "bridge": "br0", "isDefaultGateway": true, "hairpinMode": true, "ipam": ipam});
    conf(version, &body)
}

fn portmap(version: &str, previous: &Value, mappings: Value, more: Value) -> Value {
    let mut body = json!({"type": "portmap", "capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings": mappings}});
    if !previous.is_null() {
        body["prevResult"] = previous.clone();
    }
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    conf(version, &body)
}

fn one() -> Value {
    json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"}])
}

/// What is published, a line for each, sorted.
fn published(world: &World) -> Vec<String> {
    let text = "for m in ports ports6 bound bound6; do nft list map inet rkbox_ports $m 2>/dev/null | grep -oE '[^{,]* comment [^,}]*' || true; done";
    let mut lines: Vec<String> = world.sh(text).ok().stdout.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort();
    lines
}

fn upstream_chains(world: &World) -> String {
    world
        .sh("iptables-save -t nat 2>/dev/null | grep -E 'CNI-DN-' || true; ip6tables-save -t nat 2>/dev/null | grep -E 'CNI-DN-' || true")
        .ok()
        .stdout
}

#[test]
fn the_result_is_handed_on_in_every_version_as_upstream_does() {
    let world = ready();
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        let made = call(&world, Maker::Upstream, "ADD", &bridge(version)).ok().json();
        let conf = portmap(version, &made, one(), json!({}));
        let theirs = call(&world, Maker::Upstream, "ADD", &conf).ok().json();
        call(&world, Maker::Upstream, "DEL", &conf).ok();
        let ours = call(&world, Maker::Rkbox, "ADD", &conf).ok().json();
        assert_eq!(theirs, ours, "{version}");
        let expected = [
            "127.0.0.1 . udp . 5353 comment \"n/eth0/c0ffee\" : 10.77.0",
            "tcp . 8080 comment \"n/eth0/c0ffee\" : 10.77.0",
            "tcp . 8080 comment \"n/eth0/c0ffee\" : fd77::",
        ];
        let seen = published(&world);
        assert!(seen.len() == 3 && expected.iter().zip(&seen).all(|(wanted, line)| line.starts_with(wanted)), "{version}: {seen:?}");
        assert_eq!(world.sh("cat /proc/sys/net/ipv4/conf/br0/route_localnet").ok().stdout.trim(), "1");
        if version >= "0.4.0" {
            call(&world, Maker::Rkbox, "CHECK", &conf).ok();
        }
        call(&world, Maker::Rkbox, "DEL", &conf).ok();
        assert_eq!(published(&world), [""; 0], "{version}");
        call(&world, Maker::Upstream, "DEL", &bridge(version)).ok();
    }
    // Nothing asked, nothing done.
    let made = call(&world, Maker::Upstream, "ADD", &bridge("1.0.0")).ok().json();
    let conf = portmap("1.0.0", &made, json!([]), json!({}));
    assert_eq!(call(&world, Maker::Rkbox, "ADD", &conf).ok().json(), call(&world, Maker::Upstream, "ADD", &conf).ok().json());
    world.sh("! nft list table inet rkbox_ports 2>/dev/null | grep -q elements").ok();
    let version = call(&world, Maker::Rkbox, "VERSION", &json!({"type": "portmap", "cniVersion": "1.0.0"})).ok().json();
    assert_eq!(version["supportedVersions"].as_array().unwrap().last().unwrap(), "1.1.0");
}

#[test]
fn what_upstream_refuses_is_refused_with_its_code() {
    let world = ready();
    let made = call(&world, Maker::Upstream, "ADD", &bridge("1.0.0")).ok().json();
    let with = |mappings: Value| portmap("1.0.0", &made, mappings, json!({}));
    let more = |more: Value| portmap("1.0.0", &made, one(), more);
    for (name, command, conf, words) in [
        ("first of its list", "ADD", portmap("1.0.0", &Value::Null, one(), json!({})), "must be called as chained plugin"),
        ("host port 0", "ADD", with(json!([{"hostPort": 0, "containerPort": 1}])), "Invalid host port number: 0"),
        ("no container port", "ADD", with(json!([{"hostPort": 1}])), "Invalid container port number: 0"),
        ("negative port", "ADD", with(json!([{"hostPort": -1, "containerPort": 1}])), "hostPort"),
        ("text as port", "ADD", with(json!([{"hostPort": "1", "containerPort": 1}])), "hostPort"),
        ("an object", "ADD", with(json!({"hostPort": 1})), "portMappings"),
        ("mark bit", "ADD", more(json!({"markMasqBit": 32})), "between 0 and 31"),
        ("mark bit of DEL", "DEL", more(json!({"markMasqBit": 32})), "between 0 and 31"),
        ("two marks", "ADD", more(json!({"markMasqBit": 1, "externalSetMarkChain": "X"})), "externalSetMarkChain"),
        ("no result to check", "CHECK", portmap("1.0.0", &Value::Null, one(), json!({})), "Required prevResult missing"),
        ("nothing to check", "CHECK", with(one()), ""),
    ] {
        let outputs = [Maker::Upstream, Maker::Rkbox].map(|maker| call(&world, maker, command, &conf).fails(1));
        let codes = outputs.each_ref().map(|output| output.json()["code"].clone());
        assert_eq!(codes[0], codes[1], "{name}: {outputs:?}");
        assert!(outputs[1].stdout.contains(words), "{name}: {}", outputs[1]);
        assert!(published(&world).is_empty(), "{name}");
    }
    // Refused by rkbox alone: upstream would add rules that lead nowhere, or take a port from whoever has it.
    for (mappings, words) in [
        (json!([{"hostPort": 70000, "containerPort": 1}]), "Invalid host port number: 70000"),
        (json!([{"hostPort": 1, "containerPort": 1, "hostIP": "::1"}]), "[::1]"),
        (json!([{"hostPort": 1, "containerPort": 1}, {"hostPort": 1, "containerPort": 2}]), "published twice"),
        (json!([{"hostPort": 1, "containerPort": 1, "hostIP": "here"}]), "invalid hostIP"),
        (json!([{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]), "icmp"),
    ] {
        call(&world, Maker::Rkbox, "ADD", &with(mappings)).fails(1).prints(words);
        assert!(published(&world).is_empty());
    }
    // A container without IPv6 has no port on an address of that family.
    let mut only = made.clone();
    only["ips"].as_array_mut().unwrap().truncate(1);
    let six = json!([{"hostPort": 1, "containerPort": 1, "hostIP": "2001:db8::1"}]);
    call(&world, Maker::Rkbox, "ADD", &portmap("1.0.0", &only, six, json!({}))).fails(1).prints("no IPv6 address");
}

#[test]
fn each_key_of_upstream_is_honoured_or_refused_by_its_name() {
    let world = ready();
    let made = call(&world, Maker::Upstream, "ADD", &bridge("1.0.0")).ok().json();
    for (key, value) in [
        ("conditionsV4", json!(["!", "-d", "192.0.2.0/24"])),
        ("conditionsV6", json!(["ip6", "daddr", "fd00::/8"])),
        ("backend", json!("iptables")),
        ("externalSetMarkChain", json!("KUBE-MARK-MASQ")),
    ] {
        let output = call(&world, Maker::Rkbox, "ADD", &portmap("1.0.0", &made, one(), json!({key: value}))).fails(1);
        assert!(output.stdout.contains(&format!("\\\"{key}\\\" of portmap is not honoured")), "{output}");
    }
    // Without SNAT neither 127.0.0.1 nor the neighbours are let in, and nothing of the host is set for them.
    let quiet = portmap("1.0.0", &made, one(), json!({"snat": false, "markMasqBit": 3, "backend": "nftables", "conditionsV4": null}));
    call(&world, Maker::Rkbox, "ADD", &quiet).ok();
    call(&world, Maker::Rkbox, "CHECK", &quiet).ok();
    assert_eq!(world.sh("cat /proc/sys/net/ipv4/conf/br0/route_localnet").ok().stdout.trim(), "0");
    world.sh("! nft list table inet rkbox_ports | grep -E 'back-|all-'").ok();
    call(&world, Maker::Rkbox, "DEL", &quiet).ok();
    // The port of a process is not taken from it, unless that is asked for.
    world.sh("python3 -c 'import socket,time; s=socket.socket(); s.bind((\"0.0.0.0\",8080)); s.listen(); print(1,flush=True); time.sleep(100)' >$HOME/bound & echo $! >$HOME/pid; until [ -s $HOME/bound ]; do sleep 0.05; done").ok();
    let plain = portmap("1.0.0", &made, one(), json!({}));
    call(&world, Maker::Rkbox, "ADD", &plain).fails(1).prints("port 8080/tcp is in use by python3 (pid ");
    assert!(published(&world).is_empty());
    call(&world, Maker::Rkbox, "ADD", &portmap("1.0.0", &made, one(), json!({"force": true}))).ok();
    world.sh("kill $(cat $HOME/pid)").ok();
    // That of another container neither, and it is named.
    let second = Called { owner: "d00d".into(), ..Called::new("ADD", WEB) };
    second.run(&world, Maker::Rkbox, &plain.to_string()).fails(1).prints("port 8080/tcp is published already, on all addresses for c0ffee");
    call(&world, Maker::Rkbox, "DEL", &plain).ok();
    // A process that holds the port for the very container is no conflict: podman's conmon does so.
    world.sh("python3 -c 'import socket,time; s=socket.socket(); s.bind((\"0.0.0.0\",8080)); s.listen(); print(1,flush=True); time.sleep(100)' -c c0ffee >$HOME/held & echo $! >$HOME/pid; until [ -s $HOME/held ]; do sleep 0.05; done").ok();
    call(&world, Maker::Rkbox, "ADD", &plain).ok();
    second.run(&world, Maker::Rkbox, &plain.to_string()).fails(1).prints("published already");
    world.sh("kill $(cat $HOME/pid)").ok();
}

#[test]
fn del_takes_back_what_either_made_and_gc_what_nobody_wants() {
    let world = ready();
    let made = call(&world, Maker::Upstream, "ADD", &bridge("1.0.0")).ok().json();
    let conf = portmap("1.0.0", &made, one(), json!({}));
    // Upstream's, with and without the namespace; twice is once.
    call(&world, Maker::Upstream, "ADD", &conf).ok();
    assert!(upstream_chains(&world).contains("CNI-DN-"));
    let without = Called { netns: String::new(), ..Called::new("DEL", "") };
    for _ in 0..2 {
        without.run(&world, Maker::Rkbox, &conf.to_string()).ok();
        assert_eq!(upstream_chains(&world), "");
    }
    // Ours: without result, without namespace, without being told which ports, and no other's.
    let other = Called { owner: "d00d".into(), ..Called::new("ADD", WEB) };
    other.run(&world, Maker::Rkbox, &portmap("1.0.0", &made, json!([{"hostPort": 9090, "containerPort": 80}]), json!({})).to_string()).ok();
    for told in [one(), json!([])] {
        call(&world, Maker::Rkbox, "ADD", &conf).ok();
        assert_eq!(published(&world).len(), 5);
        for _ in 0..2 {
            without.run(&world, Maker::Rkbox, &portmap("1.0.0", &Value::Null, told.clone(), json!({})).to_string()).ok();
            assert_eq!(published(&world).len(), 2, "{:?}", published(&world));
        }
    }
    // The other interface of the same container keeps its own.
    call(&world, Maker::Rkbox, "ADD", &conf).ok();
    let eth1 = Called { ifname: "eth1".into(), ..Called::new("DEL", WEB) };
    eth1.run(&world, Maker::Rkbox, &conf.to_string()).ok();
    assert_eq!(published(&world).len(), 5);
    // GC: valid attachments stay, and those of other networks.
    let gc = |name: &str, valid: Value| {
        let mut conf = portmap("1.1.0", &Value::Null, json!([]), json!({"cni.dev/valid-attachments": valid}));
        conf["name"] = name.into();
        Called::new("GC", "").run(&world, Maker::Rkbox, &conf.to_string())
    };
    gc("m", json!([])).ok();
    assert_eq!(published(&world).len(), 5);
    gc("n", json!([{"containerID": "d00d", "ifname": "eth0"}])).ok();
    assert_eq!(published(&world).len(), 2);
    gc("n", json!([])).ok();
    assert_eq!(published(&world).len(), 0);
    gc("n", json!([])).ok();
    Called::new("STATUS", "").run(&world, Maker::Rkbox, &portmap("1.1.0", &Value::Null, json!([]), json!({})).to_string()).ok();
}

#[test]
fn check_notices_what_is_gone() {
    let world = ready();
    let made = call(&world, Maker::Rkbox, "ADD", &bridge("1.0.0")).ok().json();
    let conf = portmap("1.0.0", &made, one(), json!({}));
    for (broken, words) in [
        ("nft delete element inet rkbox_ports ports '{ tcp . 8080 }'", "publish"),
        ("nft flush map inet rkbox_ports bound", "publish"),
        ("nft flush chain inet rkbox_ports back-10.77.0.0-24", "way back"),
        ("nft flush chain inet rkbox_ports publish", "table"),
        ("nft flush ruleset", "table"),
        ("echo 0 >/proc/sys/net/ipv4/conf/br0/route_localnet", "route_localnet"),
    ] {
        call(&world, Maker::Rkbox, "ADD", &conf).ok();
        call(&world, Maker::Rkbox, "CHECK", &conf).ok();
        world.sh(broken).ok();
        let output: Output = call(&world, Maker::Rkbox, "CHECK", &conf).fails(1).prints(words);
        assert_eq!(output.json()["code"], 999, "{broken}");
        call(&world, Maker::Rkbox, "DEL", &conf).ok();
    }
}

/// Attaches `name` to the network by our plugins, bridge or ptp and then portmap.
fn attach(lab: &Lab, name: &str, maker: &Value, mappings: Value, more: Value) {
    lab.world.sh(&format!("ip netns add {name}; ip -n {name} link set lo up")).ok();
    let called = Called { owner: name.into(), ..Called::new("ADD", &format!("/run/netns/{name}")) };
    let made = called.run(&lab.world, Maker::Rkbox, &maker.to_string()).ok().json();
    called.run(&lab.world, Maker::Rkbox, &portmap("1.0.0", &made, mappings, more).to_string()).ok();
}

fn plugged() -> Lab {
    let lab = Lab::new();
    lab.world.rk("cni install /tmp/rkbox-world/bin").ok();
    lab
}

#[test]
fn ports_are_reached_from_everywhere_and_the_client_is_seen() {
    let mut lab = plugged();
    let both = json!([{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
        {"hostPort": 8081, "containerPort": 80, "hostIP": "192.0.2.1"}, {"hostPort": 8082, "containerPort": 80, "hostIP": "127.0.0.1"}]);
    attach(&lab, "web", &bridge("1.0.0"), both, json!({}));
    attach(&lab, "db", &bridge("1.0.0"), json!([]), json!({}));
    lab.serve("web", "", &["80", "81"]);
    lab.settle();
    let gateway = "10.77.0.1";
    lab.expect(
        "lan",
        &[
            ("tcp 192.0.2.1 8080", "192.0.2.9"),
            ("udp 192.0.2.2 8080", "192.0.2.9"),
            ("tcp 2001:db8::1 8080", "2001:db8::9"),
            ("tcp 192.0.2.1 8081", "192.0.2.9"),
            ("tcp 192.0.2.2 8081", "refused"),
            ("tcp 192.0.2.1 8082", "refused"),
        ],
    );
    lab.expect(
        "host",
        &[
            ("tcp 127.0.0.1 8080", gateway),
            ("udp 127.0.0.1 8080", gateway),
            ("tcp 127.0.0.1 8082", gateway),
            ("tcp 127.0.0.1 8081", "refused"),
        ],
    );
    for inside in ["web", "db"] {
        lab.expect(inside, &[("tcp 192.0.2.1 8080", gateway), ("udp 192.0.2.1 8080", gateway), ("tcp 192.0.2.1 8082", "refused")]);
    }
}

#[test]
fn masq_all_hides_the_client_and_without_snat_the_host_is_left_out() {
    let mut lab = plugged();
    attach(&lab, "web", &bridge("1.0.0"), json!([{"hostPort": 8080, "containerPort": 80}]), json!({"masqAll": true}));
    lab.serve("web", "", &["80"]);
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "10.77.0.1"), ("tcp 2001:db8::1 8080", "fd77::1")]);
    lab.expect("host", &[("tcp 127.0.0.1 8080", "10.77.0.1")]);
    let mut lab = plugged();
    attach(&lab, "web", &bridge("1.0.0"), json!([{"hostPort": 8080, "containerPort": 80}]), json!({"snat": false}));
    lab.serve("web", "", &["80"]);
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9")]);
    assert_ne!(lab.ask("host", &["tcp 127.0.0.1 8080".to_owned()]), ["10.77.0.1"]);
}

#[test]
fn a_point_to_point_network_publishes_and_a_macvlan_says_why_not() {
    let mut lab = plugged();
    let ranges = json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]]);
    let ipam = json!({"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]});
    let ptp = conf("1.0.0", &json!({"type": "ptp", "ipam": ipam}));
    attach(&lab, "web", &ptp, json!([{"hostPort": 8080, "containerPort": 80}]), json!({}));
    attach(&lab, "db", &ptp, json!([]), json!({}));
    lab.serve("web", "", &["80"]);
    lab.settle();
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9"), ("tcp 2001:db8::1 8080", "2001:db8::9")]);
    lab.expect("host", &[("tcp 127.0.0.1 8080", "10.77.0.1"), ("tcp 192.0.2.1 8080", "192.0.2.1")]);
    for inside in ["web", "db"] {
        lab.expect(inside, &[("tcp 192.0.2.1 8080", "10.77.0.1")]);
    }
    let mut macvlan = conf(
        "1.0.0",
        &json!({"type": "macvlan", "master": "uplink", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.66.0.0/24"}]]}}),
    );
    macvlan["name"] = "wide".into();
    lab.world.sh("ip netns add far").ok();
    let called = Called { owner: "far".into(), ..Called::new("ADD", "/run/netns/far") };
    let made = called.run(&lab.world, Maker::Rkbox, &macvlan.to_string()).ok().json();
    let output = called.run(&lab.world, Maker::Rkbox, &portmap("1.0.0", &made, one(), json!({})).to_string()).fails(1);
    output.prints("no interface of this host leads to the containers");
    assert_eq!(lab.world.sh("cat /proc/sys/net/ipv4/conf/uplink/route_localnet").ok().stdout.trim(), "0");
}

/// A list of bridge and portmap for the chains that rkbox runs itself.
fn list(version: &str, more: Value) -> String {
    let mut plugins = vec![bridge(version), json!({"type": "portmap", "capabilities": {"portMappings": true}})];
    plugins[1].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"cniVersion": version, "name": "n", "plugins": plugins}).to_string()
}

#[test]
fn a_chain_of_rkbox_publishes_and_takes_back() {
    let mut world = ready();
    world.configure("n.conflist", &list("1.0.0", json!({})));
    let told = one();
    let args = json!({"portMappings": told}).to_string();
    let add = ["--format", "json", "net", "add", "n", "web", "--cap-args", &args];
    let result = world.rkbox(add).ok().json();
    assert_eq!(result["ips"].as_array().unwrap().len(), 2);
    let id = world.sh("cat $HOME/cni/results/n-*").ok().json()["containerId"].as_str().unwrap().to_owned();
    let seen = published(&world);
    assert!(seen.len() == 3 && seen.iter().all(|line| line.contains(&format!("\"n/eth0/{id}\""))), "{seen:?}");
    world.rk("net check n web").ok();
    // What is flushed is noticed once, and comes back.
    world.sh("nft flush map inet rkbox_ports ports; nft flush chain inet rkbox_ports back-10.77.0.0-24").ok();
    let output = world.rk("net check n web").fails(5);
    assert_eq!(output.stdout.matches("not in nftables any more").count(), 2, "{output}");
    world.rk("net repair").ok().prints("restored: publish").prints("restored: ensure the way back");
    world.rk("net check n web").ok();
    assert_eq!(published(&world), seen);
    // Another attachment cannot have the port.
    world.sh("ip netns add db").ok();
    let mut second = add;
    second[5] = "db";
    world.rkbox(second).fails(4).says("port 8080/tcp is published already");
    world.rk("net del n web").ok();
    assert_eq!(published(&world), [""; 0]);
    // By the cache alone, with the namespace and the configuration gone.
    world.rkbox(add).ok();
    world.sh("rm -r $HOME/run/journals $HOME/cni-conf/n.conflist; ip netns del web").ok();
    world.rk("net del n web").ok();
    assert_eq!(published(&world), [""; 0]);
    // With another program before it, portmap is a program too: the plugin that rkbox is.
    world.sh("ip netns add web; printf '#!/bin/sh\\n[ $CNI_COMMAND = ADD ] && jq -c .prevResult\\nexit 0\\n' >$HOME/bin/other; chmod +x $HOME/bin/other").ok();
    let mut three: Value = serde_json::from_str(&list("1.0.0", json!({}))).unwrap();
    three["plugins"].as_array_mut().unwrap().insert(1, json!({"type": "other"}));
    world.configure("n.conflist", &three.to_string());
    let paths = ["--cni-path", "/tmp/rkbox-world/bin"];
    world.rkbox(paths.into_iter().chain(add)).ok();
    assert_eq!(published(&world).len(), 3);
    world.rkbox(paths.into_iter().chain(["net", "check", "n", "web"])).ok();
    world.sh("nft flush map inet rkbox_ports ports").ok();
    world.rkbox(paths.into_iter().chain(["net", "check", "n", "web"])).fails(5).prints("not in nftables any more: publish");
    world.rkbox(paths.into_iter().chain(["net", "del", "n", "web"])).ok();
    assert_eq!(published(&world), [""; 0]);
    // Nothing declares it: refused, and nothing is made.
    world.configure("n.conflist", &list("1.0.0", json!({"capabilities": {}})));
    world.rkbox(add).fails(5).says("\"portMappings\"");
    // With nothing built in, upstream's program has its way.
    world.configure("n.conflist", &list("1.0.0", json!({"backend": "iptables"})));
    world.rkbox(add).fails(9).says("\"backend\" of portmap is not honoured");
    let never = ["--cni-builtin", "never", "--cni-path", "/usr/lib/cni"];
    world.rkbox(never.into_iter().chain(add)).ok();
    assert!(upstream_chains(&world).contains("CNI-DN-"));
    world.rkbox(never.into_iter().chain(["net", "del", "n", "web"])).ok();
    assert_eq!(upstream_chains(&world), "");
    world.allow_leaks();
}
