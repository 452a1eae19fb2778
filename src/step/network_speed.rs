//! What a sandbox network costs, step by step: `cargo test --release --lib network_speed -- --ignored --nocapture`.

use std::path::PathBuf;
use std::time::Instant;

use super::interface::Route;
use super::test_world::leave;
use super::*;
use crate::ids::{NetworkName, VethNames, veth_names};
use crate::sys::ns;

const ROUNDS: usize = 200;

fn pod(nth: usize, network: &NetworkName) -> Vec<Step> {
    let path = PathBuf::from(format!("/run/netns/p{nth}"));
    let VethNames { host, host_mac, inner_mac } = veth_names(network, &nth.to_string(), &"eth0".parse().unwrap());
    let address = format!("10.88.{}.{}", nth / 200 + 1, nth % 200 + 2);
    let (inner, bridge) = (IfNameOf::eth0(), "cni0".parse().unwrap());
    let route = Route::new("0.0.0.0/0".parse().unwrap(), Some("10.88.0.1".parse().unwrap()));
    vec![
        Namespaces { net: Some(path.clone()), ipc: None, uts: None, hostname: None, user: None }.into(),
        Masquerade { network: network.clone(), address: address.parse().unwrap(), owner: format!("{nth:064}") }.into(),
        Veth {
            host,
            host_mac,
            inner,
            inner_mac,
            netns: path.clone(),
            bridge: Some(bridge),
            mtu: None,
            hairpin: true,
            isolated: false,
            own_netns: true,
        }
        .into(),
        Interface {
            netns: path,
            ifname: IfNameOf::eth0(),
            addresses: vec![format!("{address}/16").parse().unwrap()],
            routes: vec![route],
            dad: false,
            bare: false,
            loopback: true,
        }
        .into(),
    ]
}

struct IfNameOf;
impl IfNameOf {
    fn eth0() -> crate::ids::IfName {
        "eth0".parse().unwrap()
    }
}

fn median(mut all: Vec<u128>) -> (u128, u128, u128) {
    all.sort_unstable();
    (all[all.len() / 10], all[all.len() / 2], all[all.len() * 9 / 10])
}

#[test]
#[ignore = "a measurement"]
fn network_speed() {
    let host = leave();
    let network: NetworkName = "connet".parse().unwrap();
    let shared: Vec<Step> = vec![
        NetnsRoot { path: "/run/netns".into() }.into(),
        Bridge { name: "cni0".parse().unwrap(), mtu: None, promisc: false }.into(),
        Gateway { bridge: "cni0".parse().unwrap(), address: "10.88.0.1/16".parse().unwrap(), force: false }.into(),
        Sysctl { key: "net/ipv4/ip_forward".into(), value: "1".into(), bridge: None }.into(),
        NatTable {}.into(),
        NatNetwork { network: network.clone(), subnets: vec!["10.88.0.0/16".parse().unwrap()] }.into(),
    ];
    for step in &shared {
        let before = step.look(&host).unwrap();
        step.apply(&before, &host).unwrap();
    }
    let mut costs: Vec<(String, Vec<u128>)> = Vec::new();
    let mut note = |name: &str, micros: u128| match costs.iter_mut().find(|(known, _)| known == name) {
        Some((_, all)) => all.push(micros),
        None => costs.push((name.to_owned(), vec![micros])),
    };
    let mut undone = Vec::new();
    for nth in 0..ROUNDS {
        let whole = Instant::now();
        for step in &shared {
            let at = Instant::now();
            let before = step.look(&host).unwrap();
            assert!(step.already(&before).unwrap());
            note(&format!("look {}", kind(step)), at.elapsed().as_micros());
        }
        let own = Instant::now();
        let steps = pod(nth, &network);
        for step in &steps {
            let at = Instant::now();
            let before = step.look(&host).unwrap();
            note(&format!("look {}", kind(step)), at.elapsed().as_micros());
            let at = Instant::now();
            step.apply(&before, &host).unwrap();
            note(&format!("apply {}", kind(step)), at.elapsed().as_micros());
            undone.push((step.clone(), before));
        }
        note("pod", own.elapsed().as_micros());
        note("pod with shared looks", whole.elapsed().as_micros());
        let at = Instant::now();
        ns::inside(&PathBuf::from(format!("/run/netns/p{nth}")), || ()).unwrap();
        note("enter and leave", at.elapsed().as_micros());
    }
    for (step, before) in undone.iter().rev() {
        let at = Instant::now();
        step.undo(before, &host).unwrap();
        note(&format!("undo {}", kind(step)), at.elapsed().as_micros());
    }
    for (name, all) in costs {
        let (p10, p50, p90) = median(all);
        println!("{name:40} p10 {p10:6}  median {p50:6}  p90 {p90:6} us");
    }
}

fn kind(step: &Step) -> String {
    serde_json::to_value(step).unwrap()["step"].as_str().unwrap().to_owned()
}
