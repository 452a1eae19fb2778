//! Chains of plugins: chained ones beside upstream's, other programs and built-in ones mixed, roll back, delegation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod plugins;

use common::World;
use plugins::{Maker, call, conf, ready};
use serde_json::{Value, json};

/// Runs a chained plugin after upstream's bridge, by each maker; `look` must print the same after ADD and after the other's DEL.
fn assert_same_after_bridge(body: &Value, look: &str) {
    let mut seen = Vec::new();
    for (maker, other) in [(Maker::Upstream, Maker::Rkbox), (Maker::Rkbox, Maker::Upstream)] {
        let world = ready();
        let ipam = json!({"type": "host-local", "dataDir": "/tmp/rkbox-world/cni/networks", "subnet": "10.77.0.0/24"});
        let bridge = json!({"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam});
        let made = call(&world, Maker::Upstream, "ADD", &conf("1.0.0", &bridge)).ok().json();
        let host = made["interfaces"][1]["name"].as_str().unwrap().to_owned();
        let look = || world.sh(&look.replace("HOST", &host)).ok().stdout.replace(&host, "HOST");
        let before = look();
        let mut conf = conf("1.0.0", body);
        conf["prevResult"] = made;
        let mut result = call(&world, maker, "ADD", &conf).ok().json();
        let after = look();
        assert_ne!(before, after, "{body} changes nothing");
        conf["prevResult"] = result.clone();
        call(&world, maker, "CHECK", &conf).ok();
        call(&world, other, "DEL", &conf).ok();
        let restored = look();
        call(&world, maker, "DEL", &conf).ok();
        for interface in result["interfaces"].as_array_mut().unwrap() {
            if !interface["mac"].as_str().unwrap().starts_with("02:00:00") {
                interface["mac"] = "MAC".into();
            }
            if interface["name"] == host.as_str() {
                interface["name"] = "HOST".into();
            }
        }
        seen.push((result, after, restored));
    }
    assert_eq!(seen[0], seen[1], "{body}");
}

#[test]
fn tuning_does_and_undoes_what_upstream_does() {
    let body = json!({
        "type": "tuning", "mac": "02:00:00:00:00:42", "mtu": 1333, "promisc": true, "allmulti": true, "dataDir": "/run/tuning",
        "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1", "net.core.somaxconn": "500"},
    });
    let look = "ip -n web -o link show eth0 | grep -oE '(mtu [0-9]+|PROMISC|ALLMULTI|02:00:00:00:00:42)'; \
                nsenter --net=/run/netns/web sh -c 'cat /proc/sys/net/ipv4/conf/eth0/arp_filter /proc/sys/net/core/somaxconn'; \
                cat /run/tuning/*.json 2>/dev/null | jq -S 'del(.mac)' || true; ls /run/tuning 2>/dev/null || true";
    assert_same_after_bridge(&body, look);
}

#[test]
fn bandwidth_makes_the_same_buckets() {
    let body =
        json!({"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 4_000_000, "egressBurst": 400_000});
    let look = "tc qdisc show | grep -E 'HOST|bwp' | sed -E 's/refcnt [0-9]+ //; s/^qdisc tbf [0-9a-f]+:/qdisc tbf/'; \
                tc filter show dev HOST ingress | grep -oE 'mirred.*|match .*' | grep -v ' pass$' || true; ip -o link show type ifb | grep -oE 'bwp[0-9a-f]+|mtu [0-9]+' || true";
    assert_same_after_bridge(&body, look);
}

#[test]
fn firewall_adds_the_same_rules() {
    let body = json!({"type": "firewall", "backend": "iptables"});
    let look = "iptables -S | grep -v '^-P' | sort; true";
    assert_same_after_bridge(&body, look);
    let body = json!({"type": "firewall", "backend": "iptables", "ingressPolicy": "same-bridge"});
    assert_same_after_bridge(&body, look);
}

#[test]
fn a_chained_plugin_alone_is_refused_as_upstream_refuses_it() {
    for kind in ["tuning", "bandwidth", "firewall"] {
        let world = ready();
        let body = json!({"type": kind, "mtu": 1300, "ingressRate": 8000, "ingressBurst": 8000});
        for maker in [Maker::Upstream, Maker::Rkbox] {
            let output = call(&world, maker, "ADD", &conf("1.0.0", &body)).fails(1);
            assert_eq!(output.json()["code"], 999, "{output}");
        }
    }
}

/// A plugin of another program that leaves a file, and hands on the result that it is told.
const MARK: &str = r#"#!/bin/sh
conf=$(cat)
printf '%s\n' "$CNI_COMMAND" >>/tmp/rkbox-world/calls
printf '%s' "$conf" >/tmp/rkbox-world/conf-$CNI_COMMAND
case $CNI_COMMAND in
ADD) if [ -e /tmp/rkbox-world/refuse ]; then echo 'cannot reach the controller' >&2; echo '{"code":11,"msg":"not now"}'; exit 1; fi
    touch /tmp/rkbox-world/mark; printf '%s' "$conf" | jq -c .prevResult ;;
DEL) rm -f /tmp/rkbox-world/mark ;;
CHECK) [ -e /tmp/rkbox-world/mark ] || { echo '{"code":100,"msg":"the mark is gone"}'; exit 1; } ;;
esac
"#;

/// A flannel in small: the subnet comes from a file, the bridge is delegated to.
const FLANNEL: &str = r#"#!/bin/sh
. /run/flannel/subnet.env
conf=$(cat | jq -c --arg subnet "$FLANNEL_SUBNET" --argjson mtu "$FLANNEL_MTU" \
  '.delegate + {name, cniVersion, type: "bridge", mtu: $mtu, ipMasq: false, ipam: {type: "host-local", subnet: $subnet, dataDir: "/tmp/rkbox-world/cni/networks"}}')
printf '%s' "$conf" | exec "${CNI_PATH%%:*}/bridge"
"#;

fn with_plugins() -> World {
    let world = ready();
    for (name, text) in [("mark", MARK), ("flannel", FLANNEL)] {
        std::fs::write(world.path("bin").join(name), text).unwrap();
    }
    world.sh("chmod +x $HOME/bin/mark $HOME/bin/flannel").ok();
    world
}

fn list(plugins: &Value) -> String {
    json!({"cniVersion": "1.0.0", "name": "n", "plugins": plugins}).to_string()
}

fn bridge() -> Value {
    json!({"type": "bridge", "bridge": "br0", "isDefaultGateway": true, "capabilities": {"mac": true, "ips": true},
        "ipam": {"type": "host-local", "dataDir": "/tmp/rkbox-world/cni/networks", "subnet": "10.77.0.0/24"}})
}

const PATHS: &str = "--cni-path /tmp/rkbox-world/bin:/usr/lib/cni";

#[test]
fn built_in_and_other_plugins_mix_in_one_chain() {
    let mixed = json!([bridge(), {"type": "tuning", "mtu": 1400}, {"type": "mark", "own": 7}, {"type": "tuning", "mtu": 1300, "dataDir": "/run/second"}]);
    for namespace_gone in [false, true] {
        let world = with_plugins();
        world.configure("n.conflist", &list(&mixed));
        let empty = world.observe();
        let result = world.rk(&format!("{PATHS} --format json net add n web --mac 02:00:00:00:00:99 --ip 10.77.0.44")).ok().json();
        assert_eq!(result["ips"][0]["address"], "10.77.0.44/24", "{result}");
        assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:99");
        world.sh("ip -n web link show eth0 | grep -q 'mtu 1300'; ls $HOME/mark /run/second").ok();
        let told: Value = serde_json::from_str(&std::fs::read_to_string(world.path("conf-ADD")).unwrap()).unwrap();
        assert_eq!((&told["own"], &told["prevResult"]["ips"], &told["name"]), (&json!(7), &result["ips"], &json!("n")));
        world.rk(&format!("{PATHS} net check n web")).ok();
        world.rk(&format!("{PATHS} net add n web")).fails(4).says("attached to n already");
        world.sh("rm $HOME/mark").ok();
        world.rk(&format!("{PATHS} net check n web")).fails(5).prints("the mark is gone");
        world.sh("touch $HOME/mark; rm -r $HOME/cni-conf").ok();
        if namespace_gone {
            world.sh("ip netns del web").ok();
        }
        world.rk(&format!("{PATHS} net del n web")).ok();
        let told: Value = serde_json::from_str(&std::fs::read_to_string(world.path("conf-DEL")).unwrap()).unwrap();
        assert_eq!(told["prevResult"]["ips"], result["ips"], "DEL is told the result");
        world.rk("gc").ok();
        world.sh("rm -rf $HOME/calls $HOME/conf-* /run/second").ok();
        world.configure("n.conflist", &list(&mixed));
        if namespace_gone {
            world.sh("ip netns add web").ok();
        }
        let left: Vec<String> =
            empty.difference(&world.observe()).into_iter().filter(|line| !line.contains("second") && !line.contains("/run/cni")).collect();
        assert!(left.is_empty(), "{left:#?}");
    }
}

#[test]
fn a_chain_that_fails_is_rolled_back_whole_and_says_why() {
    let world = with_plugins();
    world.configure("n.conflist", &list(&json!([bridge(), {"type": "mark"}])));
    world.sh("touch $HOME/refuse").ok();
    let before = world.observe();
    let output = world.rk(&format!("{PATHS} net add n web")).fails(8);
    assert!(output.stderr.contains("not now (code 11)") && output.stderr.contains("cannot reach the controller"), "{output}");
    world.sh("rm -f $HOME/calls $HOME/conf-*").ok();
    world.rk("gc").ok();
    before.assert_again(&world, "a chain that failed");
    // A plugin that cannot be found is refused before anything is made.
    world.configure("n.conflist", &list(&json!([bridge(), {"type": "nowhere"}])));
    world.rk(&format!("{PATHS} net add n web")).fails(8).says("failed to find plugin \"nowhere\"");
    world.sh("! ip link show br0 2>/dev/null").ok();
}

#[test]
fn a_killed_chain_is_taken_back_by_the_next_command() {
    let world = with_plugins();
    world.configure("n.conflist", &list(&json!([bridge(), {"type": "mark"}, {"type": "tuning", "mtu": 1300}])));
    let points = world.rkbox_traced(world.path("trace"), format!("{PATHS} net add n web").split_whitespace()).ok();
    drop(points);
    world.rk(&format!("{PATHS} net del n web")).ok();
    let trace = std::fs::read_to_string(world.path("trace")).unwrap();
    for point in trace.lines().filter(|line| line.starts_with("applied:")) {
        let output = world.rkbox_faulty(&format!("{point}:abort"), format!("{PATHS} net add n web").split_whitespace());
        assert_eq!(output.code, 134, "{point}: {output}");
        world.rk(&format!("{PATHS} net add n web")).ok();
        world.rk(&format!("{PATHS} net check n web")).ok();
        world.rk(&format!("{PATHS} net del n web")).ok();
        assert!(!world.path("mark").exists(), "{point}");
    }
}

#[test]
fn the_printed_script_of_a_mixed_chain_does_the_same() {
    let world = with_plugins();
    world.configure("n.conflist", &list(&json!([bridge(), {"type": "mark"}, {"type": "tuning", "mtu": 1300}])));
    let script = world.rk(&format!("{PATHS} net add n web --explain")).ok().stdout;
    std::fs::write(world.path("script"), script).unwrap();
    world.sh("sh $HOME/script; ip -n web link show eth0 | grep -q 'mtu 1300'; ls $HOME/mark").ok();
    world.rk(&format!("{PATHS} net check n web")).ok();
    world.rk(&format!("{PATHS} net del n web")).ok();
    world.sh("! ls $HOME/mark 2>/dev/null; ! ip -n web link show eth0 2>/dev/null").ok();
}

#[test]
fn with_nothing_built_in_upstream_does_all_and_rkbox_still_takes_it_back() {
    let world = with_plugins();
    world.configure("n.conflist", &list(&json!([bridge(), {"type": "tuning", "mtu": 1300}])));
    let never = "--cni-builtin never --cni-path /usr/lib/cni";
    let result = world.rk(&format!("{never} --format json net add n web")).ok().json();
    assert!(result["interfaces"][1]["name"].as_str().unwrap().starts_with("veth"), "{result}");
    world.rk(&format!("{never} net check n web")).ok();
    // Made by upstream's programs, taken back by what is built in.
    world.sh("rm -r $HOME/run/journals").ok();
    world.rk("net check n web").ok();
    world.rk("net del n web").ok();
    assert!(plugins::leases(&world).is_empty());
    world.sh("! ip -n web link show eth0 2>/dev/null; ! ip -o link | grep veth | grep -v up").ok();
}

#[test]
fn a_plugin_that_delegates_works_with_either_bridge() {
    for dirs in ["/tmp/rkbox-world/bin:/usr/lib/cni", "/usr/lib/cni:/tmp/rkbox-world/bin"] {
        let world = with_plugins();
        world.sh("mkdir /run/flannel; printf 'FLANNEL_SUBNET=10.55.1.0/24\\nFLANNEL_MTU=1450\\n' >/run/flannel/subnet.env").ok();
        world.configure("n.conflist", &list(&json!([{"type": "flannel", "delegate": {"isDefaultGateway": true, "bridge": "br0"}}])));
        world.rk(&format!("--cni-path {dirs} net add n web")).ok().prints("10.55.1.2/24  via 10.55.1.1");
        world.sh("ip -n web link show eth0 | grep -q 'mtu 1450'").ok();
        world.rk(&format!("--cni-path {dirs} net del n web")).ok();
        world.sh("! ip -n web link show eth0 2>/dev/null").ok();
        assert!(plugins::leases(&world).is_empty());
    }
}

#[test]
fn a_plugin_that_hangs_is_killed_in_time() {
    let world = with_plugins();
    world.sh("printf '#!/bin/sh\\n[ $CNI_COMMAND = DEL ] || sleep 60\\n' >$HOME/bin/slow; chmod +x $HOME/bin/slow").ok();
    world.configure("n.conflist", &list(&json!([bridge(), {"type": "slow"}])));
    let output = world.rk(&format!("{PATHS} --cni-timeout 1 net add n web")).fails(10).says("did not end within 1s");
    assert!(output.took.as_secs() < 20, "{output}");
    world.sh("! ip -n web link show eth0 2>/dev/null").ok();
}

#[test]
fn what_no_plugin_declares_is_refused() {
    let world = with_plugins();
    world.configure("n.conflist", &list(&json!([bridge()])));
    world.rkbox(["net", "add", "n", "web", "--cap-args", r#"{"bandwidth":{"ingressRate":8000}}"#]).fails(5).says("\"bandwidth\"");
    world.rkbox(["net", "add", "n", "web", "--cni-args", "A=1"]).fails(2).says("unknown args");
    world.rkbox(["net", "add", "n", "web", "--cni-args", "IgnoreUnknown=1;IP=10.77.0.9"]).ok().prints("10.77.0.9/24");
    let entry = world.sh("cat $HOME/cni/results/n-*").ok().json();
    assert_eq!(entry["cniArgs"], json!([["IgnoreUnknown", "1"], ["IP", "10.77.0.9"]]));
    world.rk("net del n web").ok();
}
