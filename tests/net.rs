//! `rkbox net` beside the reference plugins: the same result, and each takes the other's attachments for its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use common::World;
use rkbox::cni::attachment_id::attachment_id;
use rkbox::cni::cache::Attachment;
use serde_json::{Value, json};

const NETNS: &str = "/run/netns/web";

/// A network like the built-in one, without its masquerade (upstream's goes to iptables) unless `more` asks for it.
fn list(world: &World, version: &str, more: Value) -> Value {
    let data_dir = world.cni_state().join("networks");
    let ipam = json!({"type": "host-local", "dataDir": data_dir, "ranges": [[{"subnet": "10.77.0.0/24"}]]});
    let mut plugin = json!({"type": "bridge", "bridge": "br0", "isDefaultGateway": true, "hairpinMode": true, "ipam": ipam});
    for (key, value) in more.as_object().unwrap() {
        plugin[key] = value.clone();
    }
    json!({"cniVersion": version, "name": "n", "plugins": [plugin]})
}

fn routes(world: &World) -> Value {
    let data_dir = world.cni_state().join("networks");
    let routes = json!([{"dst": "10.99.0.0/16"}, {"dst": "10.98.0.0/16", "gw": "10.77.0.9"}]);
    json!({"ipam": {"type": "host-local", "dataDir": data_dir, "subnet": "10.77.0.0/24", "routes": routes}, "dns": {"nameservers": ["1.1.1.1"]}})
}

/// Runs the reference plugin as libcni does.
fn upstream(world: &World, command: &str, list: &Value, previous: Option<&Value>) -> Result<Value, String> {
    let mut conf = list["plugins"][0].clone();
    conf["name"] = list["name"].clone();
    conf["cniVersion"] = list["cniVersion"].clone();
    if let Some(previous) = previous {
        conf["prevResult"] = previous.clone();
    }
    let owner = attachment_id(Path::new(NETNS));
    let mut child = world
        .command("/usr/lib/cni/bridge")
        .envs([("CNI_COMMAND", command), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", NETNS), ("CNI_PATH", "/usr/lib/cni")])
        .env("CNI_CONTAINERID", owner)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() { Ok(serde_json::from_str(&text).unwrap_or(Value::Null)) } else { Err(text) }
}

/// What `cnitool add` leaves in libcni's cache.
fn write_cache(world: &World, list: &Value, result: &Value) {
    let owner = attachment_id(Path::new(NETNS));
    let (network, ifname) = ("n".parse().unwrap(), "eth0".parse().unwrap());
    let mut attachment = Attachment::new(&network, &owner, &ifname, &list.to_string());
    attachment.netns = NETNS.into();
    attachment.result = result.clone();
    let dir = world.cni_state().join("results");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(Attachment::file_name(&network, &owner, &ifname)), attachment.to_text().unwrap()).unwrap();
}

fn ready() -> World {
    let mut world = World::new();
    world.allow_leaks();
    world.sh("ip netns add web").ok();
    world
}

/// Names of host links and MACs differ by design.
fn comparable(mut result: Value) -> Value {
    for (nth, interface) in result["interfaces"].as_array_mut().into_iter().flatten().enumerate() {
        assert!(interface["mac"].as_str().is_some_and(|mac| mac.len() == 17), "{interface}");
        interface["mac"] = "MAC".into();
        if nth == 1 {
            interface["name"] = "HOST".into();
        }
    }
    result
}

/// Addresses, routes and flags in the namespace and on the bridge.
fn wiring(world: &World) -> String {
    let inside = world
        .sh("ip -n web -4 -o addr show eth0 | tr -s ' ' | cut -d' ' -f4; ip -n web route | sed 's/ proto [a-z]*//; s/ src .*//' | sort")
        .ok()
        .stdout;
    let outside = world.sh("ip -4 -o addr show br0 | tr -s ' ' | cut -d' ' -f4; cat /proc/sys/net/ipv4/ip_forward").ok().stdout;
    (inside + &outside).lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn results_and_wiring_are_those_of_the_reference_plugin() {
    for version in ["0.2.0", "0.3.1", "0.4.0", "1.0.0"] {
        for with_routes in [false, true] {
            let more = |world: &World| if with_routes { routes(world) } else { json!({}) };
            let world = ready();
            let theirs = upstream(&world, "ADD", &list(&world, version, more(&world)), None).unwrap();
            let their_wiring = wiring(&world);
            drop(world);
            let world = ready();
            world.configure("n.conflist", &list(&world, version, more(&world)).to_string());
            let ours = world.rk("--format json net add n web").ok().json();
            assert_eq!(comparable(theirs), comparable(ours), "{version} {with_routes}");
            assert_eq!(their_wiring, wiring(&world), "{version}");
        }
    }
}

#[test]
fn upstream_checks_and_deletes_what_rkbox_made() {
    let world = ready();
    let list = list(&world, "1.0.0", json!({}));
    world.configure("n.conflist", &list.to_string());
    let result = world.rk("--format json net add n web").ok().json();
    upstream(&world, "CHECK", &list, Some(&result)).unwrap();
    world.rk("net check n web").ok();
    upstream(&world, "DEL", &list, Some(&result)).unwrap();
    assert!(!world.cni_state().join("networks/n/10.77.0.2").exists());
    world.rk("net check n web").fails(5).prints("interface eth0 is gone").prints("address 10.77.0.2 is not leased");
    world.rk("net del n web").ok();
    world.rk("net del n web").ok();
    assert_eq!(std::fs::read_dir(world.cni_state().join("results")).unwrap().count(), 0);
}

#[test]
fn rkbox_checks_and_deletes_what_cnitool_made() {
    for namespace_gone in [false, true] {
        let world = ready();
        let list = list(&world, "0.4.0", json!({"ipMasq": true}));
        let result = upstream(&world, "ADD", &list, None).unwrap();
        write_cache(&world, &list, &result);
        world.rk("net check n web").ok();
        world.rk("net add n web").fails(3).says("no network n");
        world.configure("n.conflist", &list.to_string());
        world.rk("net add n web").fails(4).says("attached to n already");
        if namespace_gone {
            world.sh("ip netns del web").ok();
        }
        world.rk("net del n web").ok();
        assert!(!world.cni_state().join("networks/n/10.77.0.2").exists());
        assert_eq!(std::fs::read_dir(world.cni_state().join("results")).unwrap().count(), 0);
        if !namespace_gone {
            world.sh("! ip -n web link show eth0 2>/dev/null; [ -z \"$(ip -o link show master br0)\" ]").ok();
            world.rk("net add n web").ok().prints("10.77.0.3/24");
        }
    }
}

#[test]
fn every_difference_is_reported() {
    let world = ready();
    world.configure("n.conflist", &list(&world, "1.0.0", json!({"ipMasq": true})).to_string());
    world.rk("net add n web").ok();
    world.rk("net check n web").ok();
    world
        .sh("ip -n web route del default; ip -n web link set lo down; ip addr del 10.77.0.1/24 dev br0; nft flush map inet rkbox masq")
        .ok();
    world.sh("rm \"$RKBOX_CNI_STATE_DIR\"/networks/n/10.77.0.2 2>/dev/null || rm /tmp/rkbox-world/cni/networks/n/10.77.0.2").ok();
    let output = world.rk("net check n web").fails(5);
    for expected in ["10.77.0.2 is not leased", "lo is not up", "gateway 10.77.0.1 is not on br0", "not masqueraded", "route 0.0.0.0/0 via"]
    {
        assert!(output.stdout.contains(expected), "{expected}: {}", output.stdout);
    }
    world.rk("net del n web").ok();
}

#[test]
fn a_network_that_is_not_understood_is_refused_by_name() {
    let world = ready();
    let cases = [(json!({"vlan": 7}), "\"vlan\""), (json!({"vlanTrunk": [{"id": 5}]}), "\"vlanTrunk\"")];
    for (more, expected) in cases {
        world.configure("n.conflist", &list(&world, "1.0.0", more).to_string());
        world.rk("net add n web").fails(9).says(expected);
        world.rk("net ls").ok().prints(expected);
    }
    world.configure("n.conflist", &list(&world, "1.0.0", json!({"type": "no-such-plugin"})).to_string());
    world.rk("net add n web").fails(8).says("failed to find plugin \"no-such-plugin\" in path [/opt/cni/bin /usr/lib/cni]");
    world.rk("--cni-builtin always net add n web").fails(9).says("\"no-such-plugin\" is not built in");
    world.configure("a.conflist", "{");
    world.rk("net add n web").fails(2).says("a.conflist");
}

#[test]
fn an_attachment_to_a_network_without_ipam_is_layer_2_only() {
    let world = ready();
    world.configure("n.conf", r#"{"cniVersion":"1.0.0","name":"n","type":"bridge","bridge":"br0"}"#);
    world.rk("net add n web").ok().prints("n  eth0");
    world.rk("net check n web").ok();
    world.rk("net del n web").ok();
}

#[test]
fn a_killed_add_is_taken_back_by_the_next_one() {
    let world = ready();
    for step in [2, 3, 9, 13] {
        let output = world.rkbox_faulty(&format!("applied:{step}:abort"), ["net", "add", "connet", "web"]);
        assert!(output.stdout.is_empty(), "step {step} is never reached");
        world.rk("net add connet web").ok();
        world.rk("net check connet web").ok();
        world.rkbox_faulty("undone:9:abort", ["net", "del", "connet", "web"]);
        world.rk("net add connet web").ok();
        world.rk("net del connet web").ok();
    }
}
