//! Keys and capabilities that matter to what a sandbox may do, beside upstream's plugins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod plugins;

use common::World;
use plugins::{Maker, call, conf, leases, ready};
use serde_json::{Value, json};

const MAKERS: [Maker; 2] = [Maker::Upstream, Maker::Rkbox];

fn bridge(more: Value, ranges: Value) -> Value {
    let ipam = json!({"type": "host-local", "dataDir": "/tmp/rkbox-world/cni/networks", "ranges": ranges});
    let mut body = json!({"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn v4() -> Value {
    json!([[{"subnet": "10.77.0.0/24"}]])
}

fn both() -> Value {
    json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]])
}

fn reaches_gateway(world: &World) -> bool {
    world
        .sh("ip -n web neigh flush all; ip netns exec web ping -c1 -W1 10.77.0.1 >/dev/null && echo yes || true")
        .ok()
        .stdout
        .contains("yes")
}

#[test]
fn macspoofchk_drops_what_bears_another_mac() {
    for (told, maker) in [true, false].into_iter().flat_map(|told| MAKERS.map(|maker| (told, maker))) {
        let world = ready();
        let conf = conf("1.0.0", &bridge(json!({"macspoofchk": told}), v4()));
        let made = call(&world, maker, "ADD", &conf).ok().json();
        let mac = made["interfaces"][2]["mac"].as_str().unwrap().to_owned();
        assert!(reaches_gateway(&world), "{maker:?}");
        world.sh("ip -n web link set eth0 address 02:00:00:00:00:99").ok();
        assert_eq!(reaches_gateway(&world), !told, "{maker:?}, macspoofchk {told}");
        world.sh(&format!("ip -n web link set eth0 address {mac}")).ok();
        assert!(reaches_gateway(&world), "{maker:?}");
        call(&world, maker, "DEL", &conf).ok();
        let left = world
            .sh("nft list ruleset | grep -i 'ether saddr' | grep -v @ || true; nft list ruleset | grep -i elements || true")
            .ok()
            .stdout;
        assert_eq!(left, "", "{maker:?}, macspoofchk {told}");
    }
}

#[test]
fn enabledad_asks_whether_somebody_has_the_address() {
    for (dad, maker) in [true, false].into_iter().flat_map(|dad| MAKERS.map(|maker| (dad, maker))) {
        for taken in [false, true] {
            let world = ready();
            // Somebody on the same link has it, or not.
            let address = if taken { "ip addr add fd77::2/128 dev br0 nodad" } else { "true" };
            world.sh(&format!("ip link add br0 type bridge; ip link set br0 up; {address}")).ok();
            let conf = conf("1.0.0", &bridge(json!({"enabledad": dad, "isGateway": false}), both()));
            let output = call(&world, maker, "ADD", &conf);
            if dad && taken && maker == Maker::Upstream {
                // It waits 10 s for the address to settle, and then answers with one that does not work.
                world.sh("ip -n web -6 -o addr show eth0 scope global | grep -q dadfailed").ok();
                continue;
            }
            assert_eq!(output.code != 0, dad && taken, "{maker:?}, enabledad {dad}, taken {taken}: {output}");
            if output.code == 0 {
                let flags = world.sh("ip -n web -6 -o addr show eth0 scope global").ok().stdout;
                assert!(flags.contains("fd77::2/64") && !flags.contains("tentative"), "{maker:?}, enabledad {dad}: {flags}");
            } else {
                assert!(output.stdout.contains("fd77::2") && leases(&world).is_empty(), "{output}");
                world.sh("! ip -n web link show eth0 2>/dev/null").ok();
            }
        }
    }
}

/// A plugin of another program that keeps what it is told.
fn with_listener() -> World {
    let world = ready();
    let text = "#!/bin/sh\nconf=$(cat)\nprintf '%s' \"$conf\" >/tmp/rkbox-world/told-$CNI_COMMAND\n[ $CNI_COMMAND = ADD ] && printf '%s' \"$conf\" | jq -c .prevResult\nexit 0\n";
    std::fs::write(world.path("bin/listener"), text).unwrap();
    world.sh("chmod +x $HOME/bin/listener").ok();
    world
}

const PATHS: &str = "--cni-path /tmp/rkbox-world/bin:/usr/lib/cni";

#[test]
fn capabilities_reach_the_plugins_that_declare_them_and_no_others() {
    let told = json!({
        "dns": {"servers": ["10.0.0.53"], "searches": ["x.test"]}, "aliases": {"n": ["web", "www"]},
        "ipRanges": [[{"subnet": "10.99.0.0/24"}]], "mac": "02:00:00:00:00:42",
    });
    let declared = json!({"dns": true, "aliases": true, "mac": false});
    let world = with_listener();
    let plugins = json!([bridge(json!({"isGateway": false, "capabilities": {"ipRanges": true, "mac": true}}), v4()), {"type": "listener", "capabilities": declared}]);
    world.configure("n.conflist", &json!({"cniVersion": "1.0.0", "name": "n", "plugins": plugins}).to_string());
    let args = told.to_string();
    let words: Vec<&str> = PATHS.split(' ').chain(["--format", "json", "net", "add", "n", "web", "--cap-args", &args]).collect();
    let result = world.rkbox(words).ok().json();
    // A range that is told goes before those of the configuration, and each set gives an address.
    let addresses: Vec<&str> = result["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["10.99.0.2/24", "10.77.0.2/24"]);
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:42");
    let heard = |command: &str| -> Value {
        let text = std::fs::read_to_string(world.path(format!("told-{command}"))).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["runtimeConfig"].clone()
    };
    let expected = json!({"dns": told["dns"], "aliases": told["aliases"]});
    assert_eq!(heard("ADD"), expected);
    world.rk(&format!("{PATHS} net check n web")).ok();
    assert_eq!(heard("CHECK"), expected);
    assert_eq!(leases(&world).len(), 2);
    // All that it needs is in the cache.
    world.sh("rm $HOME/cni-conf/n.conflist").ok();
    world.rk(&format!("{PATHS} net del n web")).ok();
    assert_eq!(heard("DEL"), expected);
    assert!(leases(&world).is_empty());
}

fn masquerades(world: &World) -> String {
    let text =
        "iptables -t nat -S | grep -E 'CNI-|MASQ' || true; nft list map inet rkbox masq 2>/dev/null | grep -o '10.77[0-9.]*' || true";
    world.sh(text).ok().stdout
}

#[test]
fn the_masquerade_of_the_other_program_goes() {
    let world = ready();
    let mut conf = conf("1.0.0", &bridge(json!({"ipMasq": true}), v4()));
    let made = call(&world, Maker::Upstream, "ADD", &conf).ok().json();
    assert!(masquerades(&world).contains("CNI-"));
    conf["prevResult"] = made;
    call(&world, Maker::Rkbox, "DEL", &conf).ok();
    assert_eq!((masquerades(&world).as_str(), leases(&world).len()), ("", 0));
    // Upstream knows nothing of our table, and its DEL stumbles once over the chain that it does not find; the interface and the lease go.
    conf["prevResult"] = call(&world, Maker::Rkbox, "ADD", &conf).ok().json();
    assert_eq!(masquerades(&world), "10.77.0.3\n");
    call(&world, Maker::Upstream, "DEL", &conf).fails(1).prints("does not exist");
    call(&world, Maker::Upstream, "DEL", &conf).ok();
    assert!(leases(&world).is_empty());
    world.sh("! ip -n web link show eth0 2>/dev/null").ok();
    assert_eq!(masquerades(&world), "10.77.0.3\n");
    conf["cniVersion"] = "1.1.0".into();
    conf["cni.dev/valid-attachments"] = json!([]);
    call(&world, Maker::Rkbox, "GC", &conf).ok();
    assert_eq!(masquerades(&world), "");
}

/// A value that asks for what is refused.
fn refused_value(plugin: &str, key: &str) -> Value {
    match (plugin, key) {
        ("bridge" | "ptp", "ipMasqBackend") => json!("iptables"),
        ("firewall", "backend") => json!("firewalld"),
        ("bridge", "vlan") | ("macvlan", "bcqueuelen") => json!(7),
        ("bridge", "vlanTrunk") => json!([{"id": 7}]),
        ("bridge", "macspoofchk") => json!(true),
        ("portmap", "backend") => json!("iptables"),
        ("portmap", "conditionsV4" | "conditionsV6") => json!(["!", "-d", "192.0.2.0/24"]),
        ("portmap", "externalSetMarkChain") => json!("KUBE-MARK-MASQ"),
        ("bandwidth", "shapedSubnets" | "unshapedSubnets") => json!(["10.0.0.0/8"]),
        other => panic!("docs/cni-keys.md says that {other:?} is refused: with which value?"),
    }
}

#[test]
fn every_key_that_the_documentation_calls_refused_is_refused_by_its_name() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cni-keys.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("refused"));
    let world = ready();
    let before = world.sh("ip -o link; ip -n web -o link").ok().stdout;
    let mut tried = 0;
    for row in rows {
        let [_, plugin, keys, _, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else { panic!("{row}") };
        let key = keys.trim_matches('`');
        let mut conf = json!({"type": plugin, key: refused_value(plugin, key)});
        if matches!(plugin, "ptp" | "macvlan") {
            conf["ipam"] = json!({"type": "host-local", "ranges": v4()});
        }
        let plugins = if matches!(plugin, "bridge" | "ptp" | "macvlan") { json!([conf]) } else { json!([bridge(json!({}), v4()), conf]) };
        world.configure("n.conflist", &json!({"cniVersion": "1.0.0", "name": "n", "plugins": plugins}).to_string());
        let output = world.rk("net add n web");
        assert_eq!(output.code, 9, "{row}: {output}");
        assert!(output.stderr.contains(&format!("\"{key}\"")) && output.stderr.contains("hint: "), "{row}: {output}");
        tried += 1;
    }
    assert!(tried >= 9, "{tried}");
    assert_eq!(world.sh("ip -o link; ip -n web -o link").ok().stdout, before, "nothing was made");
}
