//! CHECK of chained plugins: what was changed since is found, by rkbox's plugins, by upstream's where they look, and by `net check`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod plugins;

use common::World;
use plugins::{Maker, call, conf, ready};
use serde_json::{Value, json};

/// What can be done to a plugin's work: a change, what undoes it, a word of the message, whether upstream looks there.
struct Damage {
    change: &'static str,
    back: &'static str,
    word: &'static str,
    upstream: bool,
}

const fn damage(change: &'static str, back: &'static str, word: &'static str, upstream: bool) -> Damage {
    Damage { change, back, word, upstream }
}

fn bridge() -> Value {
    let ipam = json!({"type": "host-local", "dataDir": "/tmp/rkbox-world/cni/networks", "subnet": "10.77.0.0/24"});
    json!({"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam})
}

/// Damages what each maker made, one thing at a time, and asks both.
fn assert_found(body: &Value, damages: &[Damage]) {
    for maker in [Maker::Upstream, Maker::Rkbox] {
        let world = ready();
        let made = call(&world, maker, "ADD", &conf("1.0.0", &bridge())).ok().json();
        let host = made["interfaces"][1]["name"].as_str().unwrap().to_owned();
        let mut conf = conf("1.0.0", body);
        conf["prevResult"] = made;
        conf["prevResult"] = call(&world, maker, "ADD", &conf).ok().json();
        let both = |why: &str| {
            for asked in [Maker::Upstream, Maker::Rkbox] {
                let output = call(&world, asked, "CHECK", &conf);
                assert_eq!(output.code, 0, "{asked:?} of what {maker:?} made, {why}: {output}");
            }
        };
        both("as it was made");
        for damage in damages {
            world.sh(&damage.change.replace("HOST", &host)).ok();
            let output = call(&world, Maker::Rkbox, "CHECK", &conf).fails(1);
            assert!(output.json()["msg"].as_str().unwrap().contains(damage.word), "{}: {output}", damage.change);
            let theirs = call(&world, Maker::Upstream, "CHECK", &conf);
            assert_eq!(theirs.code != 0, damage.upstream, "upstream, {}: {theirs}", damage.change);
            world.sh(&damage.back.replace("HOST", &host)).ok();
            both(damage.back);
        }
    }
}

#[test]
fn tuning_is_checked() {
    let body = json!({
        "type": "tuning", "mac": "02:00:00:00:00:42", "mtu": 1333, "promisc": true, "allmulti": true, "dataDir": "/run/tuning",
        "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"},
    });
    assert_found(
        &body,
        &[
            damage("ip -n web link set eth0 mtu 1300", "ip -n web link set eth0 mtu 1333", "MTU of eth0 is 1300, not 1333", true),
            damage("ip -n web link set eth0 promisc off", "ip -n web link set eth0 promisc on", "promiscuous mode of eth0 is off", true),
            damage("ip -n web link set eth0 allmulticast off", "ip -n web link set eth0 allmulticast on", "allmulticast", true),
            damage("ip -n web link set eth0 address 02:00:00:00:00:43", "ip -n web link set eth0 address 02:00:00:00:00:42", "MAC", true),
            damage(
                "nsenter --net=/run/netns/web sysctl -qw net.ipv4.conf.eth0.arp_filter=0",
                "nsenter --net=/run/netns/web sysctl -qw net.ipv4.conf.eth0.arp_filter=1",
                "arp_filter is \"0\", not \"1\"",
                true,
            ),
        ],
    );
}

#[test]
fn bandwidth_is_checked() {
    let body =
        json!({"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 4_000_000, "egressBurst": 400_000});
    let detour = "tc qdisc add dev HOST ingress; tc filter add dev HOST parent ffff: protocol all prio 1 u32 match u32 0 0 \
                  action mirred egress redirect dev $(ip -o link show type ifb | grep -oE 'bwp[0-9a-f]+')";
    let again = "tc qdisc replace dev HOST root handle 1: tbf rate 8mbit burst 100000b latency 25ms";
    assert_found(
        &body,
        &[
            damage("tc qdisc del dev HOST root", again, "has no token bucket", false),
            damage(
                "tc qdisc replace dev HOST root handle 1: tbf rate 4mbit burst 100000b latency 25ms",
                again,
                "is another: 4000000",
                true,
            ),
            damage("tc qdisc del dev HOST ingress", detour, "is not led through", false),
        ],
    );
}

#[test]
fn firewall_is_checked() {
    let body = json!({"type": "firewall", "backend": "iptables"});
    assert_found(
        &body,
        &[
            damage(
                "iptables -D CNI-FORWARD -s 10.77.0.2/32 -j ACCEPT",
                "iptables -A CNI-FORWARD -s 10.77.0.2/32 -j ACCEPT",
                "-s 10.77.0.2/32",
                true,
            ),
            damage(
                "iptables -D FORWARD 1",
                "iptables -I FORWARD -m comment --comment 'CNI firewall plugin rules' -j CNI-FORWARD",
                "FORWARD",
                true,
            ),
        ],
    );
}

fn chained(plugins: &Value) -> World {
    let world = ready();
    world.configure("n.conflist", &json!({"cniVersion": "1.0.0", "name": "n", "plugins": plugins}).to_string());
    world.rk("net add n web").ok();
    world.rk("net check n web").ok();
    world
}

#[test]
fn net_check_tells_all_that_differs_in_a_chain() {
    // The kernel shows it with a tab, at which upstream's CHECK stumbles.
    let sysctl = json!({"net.ipv4.ip_local_port_range": "20000 30000"});
    let bandwidth =
        json!({"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 4_000_000, "egressBurst": 400_000});
    let world = chained(
        &json!([bridge(), {"type": "firewall"}, {"type": "tuning", "mtu": 1400, "allmulti": true, "sysctl": sysctl}, {"type": "tuning", "mtu": 1300}, bandwidth]),
    );
    world.sh("ip -n web link set eth0 mtu 1200; ip -n web link set eth0 allmulticast off; iptables -F CNI-FORWARD").ok();
    world.sh("ip link del $(ip -o link show type ifb | grep -oE 'bwp[0-9a-f]+')").ok();
    let output = world.rk("net check n web").fails(5);
    for word in ["MTU of eth0 is 1200, not 1300", "allmulticast mode of eth0 is off", "iptables has no", "link bwp"] {
        assert!(output.stdout.contains(word), "{word}: {output}");
    }
    assert!(!output.stdout.contains("not 1400"), "a later plugin decides: {output}");
    // A namespace that is gone is told once by each, and nothing else is.
    world.sh("ip netns del web; ip netns add web").ok();
    world.rk("net check n web").fails(5).prints("interface eth0 is gone");
    world.rk("net del n web").ok();
}
