//! rkbox as CNI plugins beside the reference plugins: the same results, wiring, leases and error codes; each deletes what the other made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod dice;
mod plugins;

use common::World;
use plugins::{Called, Maker, call, comparable, conf, leases, ready, wiring};
use serde_json::{Value, json};

const VERSIONS: [&str; 6] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// Configurations whose result, wiring and leases are those of upstream, with the versions that they are tried in.
fn matrix() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let local = |more: Value| {
        let mut ipam = json!({"type": "host-local", "dataDir": "/tmp/rkbox-world/cni/networks", "ranges": [[{"subnet": "10.77.0.0/24"}]]});
        ipam.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ipam
    };
    let dual = json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]]);
    let routes = json!([{"dst": "10.99.0.0/16"}, {"dst": "10.98.0.0/16", "gw": "10.77.0.9"}]);
    let fixed = json!({
        "type": "static", "addresses": [{"address": "10.77.0.5/24", "gateway": "10.77.0.1"}, {"address": "fd77::5/64", "gateway": "fd77::1"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    });
    // No name servers of IPAM: bridge 1.1.1 drops them, later ones and rkbox do not.
    vec![
        (
            "gateway",
            json!({"type": "bridge", "bridge": "br0", "isDefaultGateway": true, "hairpinMode": true, "ipam": local(json!({}))}),
            &VERSIONS,
        ),
        ("plain", json!({"type": "bridge", "bridge": "br0", "ipam": local(json!({"routes": routes}))}), &VERSIONS[2..]),
        ("dual", json!({"type": "bridge", "bridge": "br0", "isDefaultGateway": true, "ipam": local(json!({"ranges": dual}))}), &VERSIONS),
        ("fixed", json!({"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": fixed}), &VERSIONS[3..]),
        ("mtu", json!({"type": "bridge", "bridge": "br0", "mtu": 1400, "promiscMode": true, "ipam": local(json!({}))}), &["1.0.0"]),
        (
            "mac",
            json!({"type": "bridge", "bridge": "br0", "runtimeConfig": {"mac": "02:00:00:00:00:77"}, "ipam": local(json!({}))}),
            &["1.0.0"],
        ),
        ("layer2", json!({"type": "bridge", "bridge": "br0", "ipam": {}}), &["1.0.0"]),
        ("point", json!({"type": "ptp", "mtu": 1300, "ipam": local(json!({"routes": [{"dst": "0.0.0.0/0"}]}))}), &VERSIONS),
        (
            "point6",
            json!({"type": "ptp", "ipam": local(json!({"ranges": dual, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}))}),
            &["1.0.0"],
        ),
        ("macvlan", json!({"type": "macvlan", "master": "up0", "ipam": local(json!({"routes": [{"dst": "0.0.0.0/0"}]}))}), &VERSIONS),
        ("private", json!({"type": "macvlan", "master": "up0", "mode": "private", "mtu": 1200, "ipam": local(json!({}))}), &["1.0.0"]),
        // Below 1.0.0 upstream leaves out the version of each address, which the specification demands.
        ("lo", json!({"type": "loopback"}), &["1.0.0"]),
    ]
}

/// The result, the wiring and the leases are those of upstream in every version, and each deletes what the other made.
fn assert_same_as_upstream(names: &[&str]) {
    for (name, body, versions) in matrix().into_iter().filter(|(name, ..)| names.contains(name)) {
        for version in versions {
            let conf = conf(version, &body);
            let mut seen = Vec::new();
            for (maker, other) in [(Maker::Upstream, Maker::Rkbox), (Maker::Rkbox, Maker::Upstream)] {
                let world = ready();
                let made = call(&world, maker, "ADD", &conf).ok().json();
                let (wires, held) = (wiring(&world), leases(&world));
                let mut with_result = conf.clone();
                if *version >= "0.4.0" {
                    with_result["prevResult"] = made.clone();
                    // Upstream's CHECK does not find a route that was made with the gateway of the address, not even its own.
                    let routes = made["routes"].as_array().into_iter().flatten();
                    // And none of a network without IPAM.
                    let theirs = !matches!(name, "lo" | "layer2") && routes.into_iter().all(|route| route.get("gw").is_some());
                    for checker in [Maker::Rkbox, Maker::Upstream].into_iter().filter(|by| *by == Maker::Rkbox || theirs) {
                        call(&world, checker, "CHECK", &with_result).ok();
                    }
                }
                call(&world, other, "DEL", &with_result).ok();
                assert!(leases(&world).is_empty(), "{name} {version} {maker:?}: {:?}", leases(&world));
                world.sh("! ip -n web link show eth0 2>/dev/null").ok();
                assert_eq!(world.sh("ip -o link | grep -cE 'veth|: rk' || true").ok().stdout.trim(), "0", "{name} {version} {maker:?}");
                call(&world, other, "DEL", &with_result).ok();
                call(&world, maker, "DEL", &with_result).ok();
                seen.push((comparable(made), wires, held));
            }
            let ours = seen.pop().unwrap();
            let theirs = seen.pop().unwrap();
            assert_eq!(theirs.0, ours.0, "result of {name} {version}");
            assert_eq!(theirs.1, ours.1, "wiring of {name} {version}");
            assert_eq!(theirs.2, ours.2, "leases of {name} {version}");
        }
    }
}

#[test]
fn a_bridge_with_a_gateway() {
    assert_same_as_upstream(&["gateway", "plain"]);
}

#[test]
fn a_bridge_of_both_families() {
    assert_same_as_upstream(&["dual", "fixed"]);
}

#[test]
fn a_bridge_with_mtu_mac_or_without_addresses() {
    assert_same_as_upstream(&["mtu", "mac", "layer2"]);
}

#[test]
fn point_to_point() {
    assert_same_as_upstream(&["point", "point6"]);
}

#[test]
fn macvlan_and_loopback() {
    assert_same_as_upstream(&["macvlan", "private", "lo"]);
}

/// Calls that both refuse, with the same code.
#[test]
fn bad_calls_are_refused_with_the_codes_of_upstream() {
    let good = conf("1.0.0", &matrix()[0].1);
    let with = |key: &str, value: Value| {
        let mut conf = good.clone();
        conf[key] = value;
        conf.to_string()
    };
    let of = |change: fn(&mut Called)| {
        let mut called = Called::new("ADD", "/run/netns/web");
        change(&mut called);
        called
    };
    let plain = || of(|_| {});
    let cases: Vec<(&str, Called, String)> = vec![
        ("empty id", of(|c| c.owner = String::new()), good.to_string()),
        ("..", of(|c| c.owner = "..".into()), good.to_string()),
        ("a/b", of(|c| c.owner = "a/b".into()), good.to_string()),
        ("newline", of(|c| c.owner = "a\nb".into()), good.to_string()),
        ("dash first", of(|c| c.owner = "-a".into()), good.to_string()),
        ("utf-8", of(|c| c.owner = "é".into()), good.to_string()),
        ("long interface", of(|c| c.ifname = "a234567890123456".into()), good.to_string()),
        ("interface with a colon", of(|c| c.ifname = "a:b".into()), good.to_string()),
        ("interface with a slash", of(|c| c.ifname = "a/b".into()), good.to_string()),
        ("interface ..", of(|c| c.ifname = "..".into()), good.to_string()),
        ("interface with a space", of(|c| c.ifname = "a b".into()), good.to_string()),
        ("no namespace", of(|c| c.netns = String::new()), good.to_string()),
        ("no path", of(|c| c.path = String::new()), good.to_string()),
        ("unknown command", of(|c| c.command = "ADDD".into()), good.to_string()),
        ("no input", plain(), String::new()),
        ("not json", plain(), "{".into()),
        ("an array", plain(), "[]".into()),
        ("no name", plain(), with("name", json!(""))),
        ("bad name", plain(), with("name", json!("a/b"))),
        ("name ..", plain(), with("name", json!(".."))),
        ("future version", plain(), with("cniVersion", json!("9.9.9"))),
        ("hairpin and promiscuous", plain(), with("promiscMode", json!(true))),
        ("bad range", plain(), with("ipam", json!({"type": "host-local", "ranges": [[{"subnet": "10.0.0.1/24"}]]}))),
        ("no range", plain(), with("ipam", json!({"type": "host-local"}))),
        ("ipam that is not there", plain(), with("ipam", json!({"type": "no-such-ipam"}))),
        ("ipam with a slash", plain(), with("ipam", json!({"type": "../host-local"}))),
        ("unknown args", of(|c| c.args = "X=1".into()), good.to_string()),
        ("args without =", of(|c| c.args = ";;".into()), good.to_string()),
        ("address twice", of(|c| c.args = "IgnoreUnknown=1;IP=10.77.0.9;IP=10.9.9.9".into()), good.to_string()),
        ("CHECK of an old version", of(|c| c.command = "CHECK".into()), with("cniVersion", json!("0.3.1"))),
        ("CHECK without a result", of(|c| c.command = "CHECK".into()), good.to_string()),
    ];
    for (why, called, text) in cases {
        let world = ready();
        let ours = called.run(&world, Maker::Rkbox, &text);
        assert!(leases(&world).is_empty(), "{why}");
        assert_eq!(world.sh("ip -o link | grep -cE ': (rk|br0)' || true").ok().stdout.trim(), "0", "{why}");
        let theirs = called.run(&world, Maker::Upstream, &text);
        assert_eq!((theirs.code, ours.code), (1, 1), "{why}: {theirs}\n{ours}");
        assert_eq!(theirs.json()["code"], ours.json()["code"], "{why}: {theirs}\n{ours}");
    }
}

#[test]
fn namespaces_that_are_none_are_refused_and_the_host_stays_untouched() {
    let conf = conf("1.0.0", &matrix()[0].1).to_string();
    let world = ready();
    world.sh("touch /run/plain; ln -s /run/netns/web /run/link; ip netns add dead; umount /run/netns/dead").ok();
    for netns in ["/run/plain", "/run/link", "/run/netns/dead", "/proc/self/ns/net", "/proc/self/ns/uts", "/run/netns/none", "/run"] {
        let before = world.sh("ip -o link; ip route").ok().stdout;
        let output = Called::new("ADD", netns).run(&world, Maker::Rkbox, &conf).fails(1);
        let code = output.json()["code"].as_u64().unwrap();
        assert!(matches!(code, 4 | 8), "{netns}: {output}");
        assert_eq!(before, world.sh("ip -o link; ip route").ok().stdout, "{netns}");
        assert!(leases(&world).is_empty(), "{netns}");
    }
}

#[test]
fn a_full_pool_is_refused_in_upstream_words_and_status_has_the_numbers() {
    let ipam = json!({"type": "host-local", "dataDir": "/tmp/rkbox-world/cni/networks", "ranges": [[{"subnet": "10.77.0.0/30"}]]});
    let body = json!({"type": "bridge", "bridge": "br0", "ipam": ipam});
    let world = ready();
    let new = conf("1.1.0", &body);
    let status = || Called::new("STATUS", "").run(&world, Maker::Rkbox, &new.to_string());
    status().ok();
    call(&world, Maker::Rkbox, "ADD", &conf("1.0.0", &body)).ok();
    world.sh("ip netns add two").ok();
    let mut second = Called::new("ADD", "/run/netns/two");
    second.owner = "two".into();
    let messages = [Maker::Upstream, Maker::Rkbox].map(|maker| {
        let output = second.run(&world, maker, &conf("1.0.0", &body).to_string()).fails(1);
        assert_eq!(output.json()["code"], 999, "{output}");
        output.json()["msg"].as_str().unwrap().to_owned()
    });
    assert!(messages[1].contains(&messages[0]), "{messages:?}");
    let refused = status().fails(1).json();
    assert_eq!(refused["code"], 50);
    assert!(refused["msg"].as_str().unwrap().contains("1 of 1 addresses are held"), "{refused}");
    // GC keeps what is valid and frees the rest.
    let gc = |valid: Value| {
        let mut conf = new.clone();
        conf["cni.dev/valid-attachments"] = valid;
        Called::new("GC", "").run(&world, Maker::Rkbox, &conf.to_string()).ok();
    };
    gc(json!([{"containerID": plugins::OWNER, "ifname": "eth0"}]));
    assert_eq!(leases(&world).len(), 1);
    gc(json!([{"containerID": plugins::OWNER, "ifname": "eth1"}]));
    assert!(leases(&world).is_empty());
    status().ok();
}

#[test]
fn an_ipam_plugin_that_is_another_program_is_called_by_exec_and_taken_back_on_failure() {
    let world = ready();
    let body = json!({"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": {"type": "my-ipam"}});
    let script = r#"#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >>/tmp/rkbox-world/ipam-calls
cat >/dev/null
case $CNI_COMMAND in
ADD) echo '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.66.0.7/24","gateway":"10.66.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}' ;;
esac
"#;
    world.sh(&format!("cat >$HOME/bin/my-ipam <<'EOF'\n{script}EOF\nchmod +x $HOME/bin/my-ipam")).ok();
    let called = |command: &str| Called { path: "/tmp/rkbox-world/bin".into(), ..Called::new(command, "/run/netns/web") };
    let result = called("ADD").run(&world, Maker::Rkbox, &conf("1.0.0", &body).to_string()).ok().json();
    assert_eq!(result["ips"], json!([{"interface": 2, "address": "10.66.0.7/24", "gateway": "10.66.0.1"}]));
    world.sh("ip -n web route | grep -q 'default via 10.66.0.1 dev eth0'").ok();
    let again = called("ADD").run(&world, Maker::Rkbox, &conf("1.0.0", &body).to_string()).fails(1);
    assert!(again.json()["msg"].as_str().unwrap().contains("already"), "{again}");
    called("DEL").run(&world, Maker::Rkbox, &conf("1.0.0", &body).to_string()).ok();
    let calls = world.sh("cut -d' ' -f1 $HOME/ipam-calls").ok().stdout;
    assert_eq!(calls.lines().collect::<Vec<_>>(), ["ADD", "ADD", "DEL", "DEL"]);
}

#[test]
fn version_and_calls_by_hand() {
    let world = ready();
    for name in ["bridge", "host-local", "static", "loopback", "ptp", "macvlan"] {
        let version = Called { kind: Some(name.into()), ..Called::new("VERSION", "") }.run(&world, Maker::Rkbox, "").ok().json();
        assert_eq!(version["supportedVersions"].as_array().unwrap().len(), 7, "{name}");
        let hand = world.sh(&format!("$HOME/bin/{name} </dev/null")).ok();
        assert!(hand.stdout.is_empty() && hand.stderr.contains("CNI protocol versions supported"), "{hand}");
    }
}

#[test]
fn generated_input_is_answered_with_json_and_nothing_else() {
    let world = ready();
    let good = conf("1.0.0", &matrix()[0].1).to_string();
    let mut dice = dice::Dice(0x5eed);
    let deep = format!("{{\"name\":\"n\",\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let mut inputs = vec![deep, "{\"name\":\"n\",\"name\":7}".into(), "\u{feff}{}".into(), "x".repeat(20 << 20)];
    for _ in 0..100 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(bytes.len());
            match dice.roll(3) {
                0 => bytes[at] = b"{}[]\",:0-9\0"[dice.roll(11)],
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        inputs.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    for (nth, input) in inputs.iter().enumerate() {
        let command = ["ADD", "DEL", "CHECK", "GC", "STATUS"][nth % 5];
        let kind = ["bridge", "host-local", "ptp", "static", "macvlan", "loopback"][nth % 6];
        // No namespace is there, so that an ADD that parses goes no further.
        let called = Called { kind: Some(kind.into()), ..Called::new(command, "/run/netns/none") };
        let output = called.run(&world, Maker::Rkbox, input);
        let why = format!("{kind} {command} {}", &input.chars().take(300).collect::<String>());
        assert!(matches!(output.code, 0 | 1), "{why}: {output}");
        if output.code == 1 {
            assert!(output.json()["code"].is_u64() && output.json()["msg"].is_string(), "{why}: {output}");
        } else if !output.stdout.is_empty() {
            output.json();
        }
        assert!(output.stderr.is_empty(), "{why}: {output}");
    }
}

#[test]
fn installing_makes_links_and_never_replaces_what_is_there_unasked() {
    let world = World::new();
    world.sh("mkdir $HOME/plugins; echo theirs >$HOME/plugins/bridge").ok();
    world.rk("cni install /tmp/rkbox-world/plugins").fails(4).says("bridge is there already");
    assert_eq!(world.sh("ls $HOME/plugins").ok().stdout, "bridge\n");
    world.rk("cni install --force /tmp/rkbox-world/plugins").ok();
    world.rk("cni install /tmp/rkbox-world/plugins").ok().prints("/tmp/rkbox-world/plugins/host-local");
    world.sh("CNI_COMMAND=VERSION $HOME/plugins/bridge | grep -q 1.1.0").ok();
    world.rk("cni uninstall /tmp/rkbox-world/plugins").ok();
    assert_eq!(world.sh("ls $HOME/plugins").ok().stdout, "");
    world.rk("cni exec nothing").fails(3).says("no plugin \"nothing\"");
}
