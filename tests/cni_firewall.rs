//! firewall, where the rules are written without iptables: iptables and upstream's plugin must find their own in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod plugins;

use common::World;
use plugins::{Called, Maker, conf, ready};
use serde_json::{Value, json};

/// Counts the calls of iptables in `calls`; the name of the program behind tells whether it is a face of nf_tables.
fn with_counted_iptables(behind: &str) -> World {
    let world = ready();
    let wrapper = format!(
        "cd $HOME/bin; printf '#!/bin/sh\\necho \"$0 $*\" >>/tmp/rkbox-world/calls\\nexec /usr/sbin/\"${{0##*/}}\" \"$@\"\\n' >{behind}; \
         chmod +x {behind}; for name in iptables ip6tables iptables-restore ip6tables-restore; do ln -s {behind} $name; done"
    );
    world.sh(&wrapper).ok();
    world
}

fn calls(world: &World) -> usize {
    let count = std::fs::read_to_string(world.path("calls")).unwrap_or_default().lines().count();
    let _ = std::fs::remove_file(world.path("calls"));
    count
}

/// Runs firewall for the container that has `addresses`.
fn firewall(world: &World, maker: Maker, command: &str, addresses: &[&str]) {
    let ips: Vec<Value> = addresses.iter().map(|address| json!({"address": address, "interface": 1})).collect();
    let interfaces = json!([{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/web"}]);
    let mut conf = conf("1.0.0", &json!({"type": "firewall", "backend": "iptables"}));
    conf["prevResult"] = json!({"cniVersion": "1.0.0", "interfaces": interfaces, "ips": ips});
    let call = Called {
        owner: addresses.join("_").replace(['/', ':'], "."),
        programs: Some(world.path("bin")),
        ..Called::new(command, "/run/netns/web")
    };
    call.run(world, maker, &conf.to_string()).ok();
}

fn rules(world: &World) -> String {
    world.sh("for tables in iptables ip6tables; do /usr/sbin/$tables -S | grep -v '^-P' || true; done").ok().stdout
}

const ONE: [&str; 2] = ["10.77.0.2/24", "fd77::2/64"];
const TWO: [&str; 2] = ["10.77.0.3/24", "fd77::3/64"];

#[test]
fn where_the_chains_stand_rules_are_written_without_a_program() {
    let world = with_counted_iptables("xtables-nft-multi");
    assert!(world.sh("iptables --version").ok().stdout.contains("nf_tables"), "this test needs the iptables of nf_tables");
    firewall(&world, Maker::Rkbox, "ADD", &ONE);
    assert!(calls(&world) > 0, "the chains are made by iptables");
    let first = rules(&world);
    firewall(&world, Maker::Rkbox, "ADD", &TWO);
    let ours = rules(&world);
    firewall(&world, Maker::Rkbox, "CHECK", &TWO);
    firewall(&world, Maker::Rkbox, "ADD", &TWO);
    assert_eq!(rules(&world), ours, "twice is once");
    firewall(&world, Maker::Rkbox, "DEL", &TWO);
    assert_eq!(calls(&world), 0, "and all the rest without it");
    assert_eq!(rules(&world), first);
    // Upstream writes the same, and each takes back what the other wrote.
    firewall(&world, Maker::Upstream, "ADD", &TWO);
    assert_eq!(rules(&world), ours);
    calls(&world);
    firewall(&world, Maker::Rkbox, "DEL", &TWO);
    assert_eq!((calls(&world), rules(&world)), (0, first.clone()));
    firewall(&world, Maker::Rkbox, "ADD", &TWO);
    firewall(&world, Maker::Upstream, "CHECK", &TWO);
    firewall(&world, Maker::Upstream, "DEL", &TWO);
    assert_eq!(rules(&world), first);
}

#[test]
fn what_is_not_as_iptables_writes_it_is_left_to_iptables() {
    let sorted = |world: &World| {
        let mut lines: Vec<String> = rules(world).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // Another rule for the same address, one of the two that are ours, and no way from FORWARD.
    for change in ["-A CNI-FORWARD -s 10.77.0.3/32 -j DROP", "-A CNI-FORWARD -s 10.77.0.3/32 -j ACCEPT", "-D FORWARD 1"] {
        let seen = [Maker::Upstream, Maker::Rkbox].map(|maker| {
            let world = with_counted_iptables("xtables-nft-multi");
            firewall(&world, Maker::Upstream, "ADD", &ONE[..1]);
            world.sh(&format!("/usr/sbin/iptables {change}")).ok();
            firewall(&world, maker, "ADD", &TWO[..1]);
            let added = sorted(&world);
            firewall(&world, maker, "DEL", &TWO[..1]);
            (added, sorted(&world))
        });
        assert_eq!(seen[0], seen[1], "{change}");
    }
}

#[test]
fn another_iptables_than_that_of_nf_tables_does_all_itself() {
    let world = with_counted_iptables("xtables-other-multi");
    firewall(&world, Maker::Rkbox, "ADD", &ONE);
    let first = rules(&world);
    calls(&world);
    firewall(&world, Maker::Rkbox, "ADD", &TWO);
    assert!(calls(&world) > 0);
    firewall(&world, Maker::Rkbox, "DEL", &TWO);
    assert!(calls(&world) > 0);
    assert_eq!(rules(&world), first);
}
