//! The laws of published ports, fences and the guard of bridge ports, each test in a world of its own thread.

use super::port_table::PieceBefore;
use super::test_world::{assert_laws, assert_script, assert_seen, leave, observe, sh};
use super::*;
use crate::fault::Kind;
use crate::ports::{Forward, Protocol};
use crate::sys::nft::{Nft, Novelty, Piece};

fn forward(protocol: Protocol, host_ip: Option<&str>, host_port: u16, target: &str) -> Forward {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    Forward { protocol, host_ip, host_port, target: target.parse().unwrap(), target_port: 80 }
}

fn publish(owner: &str) -> Publish {
    let forwards = vec![
        forward(Protocol::Tcp, None, 8080, "10.88.0.2"),
        forward(Protocol::Udp, None, 8080, "fd00:88::2"),
        forward(Protocol::Sctp, Some("127.0.0.1"), 9090, "10.88.0.2"),
        forward(Protocol::Tcp, Some("2001:db8::1"), 9090, "fd00:88::2"),
    ];
    Publish { forwards, owner: owner.into() }
}

fn fence() -> Fence {
    let subnets = ["10.88.0.0/16", "fd00:88::/64", "10.89.7.0/27"].map(|subnet| subnet.parse().unwrap()).to_vec();
    Fence { network: "connet".parse().unwrap(), bridge: "cni0".parse().unwrap(), subnets, guard: true }
}

fn guard() -> SpoofGuard {
    let addresses = ["10.88.0.2", "fd00:88::2"].map(|address| address.parse().unwrap()).to_vec();
    SpoofGuard { port: "rk1234567890".parse().unwrap(), mac: "02:00:00:00:00:01".parse().unwrap(), addresses }
}

fn apply<S: Action>(step: &S, host: &Host) -> S::Before {
    let before = step.look(host).unwrap();
    step.apply(&before, host).unwrap();
    before
}

#[test]
fn published_ports() {
    let host = leave();
    let table = PortTable {};
    let before = assert_laws(&table, &host);
    assert_script(&table, &before, &host);
    assert!(table.already(&table.look(&host).unwrap()));
    let step = publish("owner-1");
    assert_laws(&step, &host);
    assert_script(&step, &(), &host);
    let fault = step.look(&host).unwrap_err();
    assert_eq!(fault.kind(), Kind::AlreadyExists);
    assert!(fault.to_string().contains("8080/tcp") && fault.to_string().contains("owner-1"), "{fault}");
    assert_eq!(step.apply(&(), &host).unwrap_err().kind(), Kind::Conflict);
    // Another owner's undo takes nothing away.
    let seen = observe();
    publish("owner-2").undo(&(), &host).unwrap();
    assert_seen(&seen, "an undo took what another owner published");
    let text = sh("nft list table inet rkbox_ports");
    for line in [
        "tcp . 8080 comment \"owner-1\" : 10.88.0.2 . 80",
        "127.0.0.1 . sctp . 9090 comment \"owner-1\" : 10.88.0.2 . 80",
        "dnat ip to ip daddr . meta l4proto . th dport map @bound",
        "fib daddr type local jump publish",
        "iif != \"lo\" ip daddr 127.0.0.0/8 drop",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // What nft prints, nft reads.
    sh("nft list ruleset > /run/saved; nft flush ruleset; nft -f /run/saved");
    assert_seen(&seen, "nft does not read what it prints");
    assert!(table.already(&table.look(&host).unwrap()));
    assert_eq!(table.undo(&before, &host).unwrap(), Undone::Kept);
    step.undo(&(), &host).unwrap();
    assert_eq!(table.undo(&before, &host).unwrap(), Undone::Done);
}

#[test]
fn a_port_is_published_once() {
    let host = leave();
    apply(&PortTable {}, &host);
    apply(&publish("owner-1"), &host);
    let one = |forward| Publish { forwards: vec![forward], owner: "owner-2".into() };
    for (taken, why) in [
        (forward(Protocol::Tcp, None, 8080, "10.88.0.3"), "all addresses"),
        (forward(Protocol::Tcp, Some("192.0.2.1"), 8080, "10.88.0.3"), "all addresses"),
        (forward(Protocol::Sctp, Some("127.0.0.1"), 9090, "10.88.0.3"), "127.0.0.1"),
        (forward(Protocol::Sctp, None, 9090, "10.88.0.3"), "127.0.0.1"),
        (forward(Protocol::Tcp, None, 9090, "fd00:88::3"), "2001:db8::1"),
    ] {
        let fault = one(taken).look(&host).unwrap_err();
        assert!(fault.kind() == Kind::AlreadyExists && fault.to_string().contains(&format!("on {why} for owner-1")), "{fault}");
    }
    for free in [
        forward(Protocol::Udp, None, 8080, "10.88.0.3"),
        forward(Protocol::Tcp, None, 9090, "10.88.0.3"),
        forward(Protocol::Sctp, Some("127.0.0.2"), 9090, "10.88.0.3"),
    ] {
        apply(&one(free), &host);
    }
}

#[test]
fn the_fence_of_a_network() {
    let host = leave();
    apply(&PortTable {}, &host);
    let step = fence();
    let before = assert_laws(&step, &host);
    assert_script(&step, &before, &host);
    assert!(step.already(&step.look(&host).unwrap()));
    let edited = Fence { subnets: vec!["10.90.0.0/16".parse().unwrap()], ..step.clone() };
    assert!(!edited.already(&edited.look(&host).unwrap()));
    sh("ip link add cni0 type bridge; ip link add p0 master cni0 type veth peer name p1");
    assert_eq!(step.undo(&before, &host).unwrap(), Undone::Kept);
    sh("ip link del p0");
    // A network that somebody fences keeps the table.
    assert_eq!(PortTable {}.undo(&PieceBefore::default(), &host).unwrap(), Undone::Kept);
    assert_eq!(step.undo(&before, &host).unwrap(), Undone::Done);
    assert_eq!(PortTable {}.undo(&PieceBefore::default(), &host).unwrap(), Undone::Done);
}

#[test]
fn the_guard_of_a_bridge_port() {
    let host = leave();
    let table = SpoofTable {};
    let before = assert_laws(&table, &host);
    assert_script(&table, &before, &host);
    assert!(table.already(&table.look(&host).unwrap()));
    let step = guard();
    assert_laws(&step, &host);
    assert_script(&step, &(), &host);
    let seen = observe();
    sh("nft list ruleset > /run/saved; nft flush ruleset; nft -f /run/saved");
    assert_seen(&seen, "nft does not read what it prints");
    // Half of it gone, an undo takes the other half.
    sh("nft delete element bridge rkbox macs '{ \"rk1234567890\" . 02:00:00:00:00:01 }'");
    assert_eq!(table.undo(&before, &host).unwrap(), Undone::Kept);
    step.undo(&(), &host).unwrap();
    assert_eq!(table.undo(&before, &host).unwrap(), Undone::Done);
}

#[test]
fn all_pieces_come_back_in_one_transaction() {
    let host = leave();
    let (network, subnets) = ("connet".parse().unwrap(), vec!["10.88.0.0/16".parse().unwrap()]);
    let steps: Vec<Step> = vec![
        NatTable {}.into(),
        NatNetwork { network, subnets }.into(),
        Masquerade { network: "connet".parse().unwrap(), address: "10.88.0.2".parse().unwrap(), owner: "owner-1".into() }.into(),
        PortTable {}.into(),
        fence().into(),
        publish("owner-1").into(),
        SpoofTable {}.into(),
        guard().into(),
    ];
    for step in &steps {
        let before = step.look(&host).unwrap();
        step.apply(&before, &host).unwrap();
    }
    let (whole, pieces) = (observe(), steps.iter().filter_map(Step::piece).collect::<Vec<Piece>>());
    assert_eq!(pieces.len(), steps.len());
    let mut nft = Nft::open().unwrap();
    for broken in [
        "true",
        "nft flush ruleset",
        "nft flush chain inet rkbox_ports publish",
        "nft delete table bridge rkbox",
        "nft delete chain inet rkbox_ports local",
        "nft 'delete element inet rkbox_ports ports { tcp . 8080 }; add element inet rkbox_ports ports { tcp . 8080 : 10.88.0.9 . 80 }'",
        "nft flush map inet rkbox_ports ports; nft flush map inet rkbox masq; nft flush chain inet rkbox_ports guard-connet",
    ] {
        sh(broken);
        let generation = nft.generation().unwrap();
        let missing = nft.find_missing(&pieces).unwrap();
        assert_eq!(missing.is_empty(), broken == "true", "{broken}");
        assert_eq!(nft.restore(&pieces).unwrap(), missing, "{broken}");
        assert_eq!(nft.generation().unwrap(), generation + u32::from(broken != "true"));
        // A chain that was made again stands last.
        if broken.contains("delete chain") {
            sh("nft flush ruleset");
            nft.restore(&pieces).unwrap();
        }
        assert_seen(&whole, "not restored");
    }
    let text = pieces.iter().map(|piece| piece.text(Novelty::Again)).collect::<String>();
    std::fs::write("/run/text", text).unwrap();
    sh("nft flush ruleset; nft -f /run/text");
    assert_seen(&whole, "the text restores something else");
    sh("nft -f /run/text");
    assert_seen(&whole, "the text is not as good twice");
}

#[test]
fn ten_thousand_ports_are_one_transaction() {
    let host = leave();
    apply(&PortTable {}, &host);
    let all = |owner: &str| Publish {
        forwards: (1..=10_000).map(|port| forward(Protocol::Tcp, None, port, "10.88.0.2")).collect(),
        owner: owner.into(),
    };
    all("owner-1").apply(&(), &host).unwrap();
    assert_eq!(all("owner-2").apply(&(), &host).unwrap_err().kind(), Kind::Conflict);
    all("owner-1").undo(&(), &host).unwrap();
    assert_eq!(PortTable {}.undo(&PieceBefore::default(), &host).unwrap(), Undone::Done);
}

#[test]
fn the_way_back_into_a_subnet() {
    let host = leave();
    apply(&PortTable {}, &host);
    for (subnet, all, chain) in [("10.88.0.0/16", false, "back-10.88.0.0-16"), ("fd00:88::/64", true, "all-fd00_88__-64")] {
        let step = Hairpin { subnet: subnet.parse().unwrap(), all };
        let before = assert_laws(&step, &host);
        assert_script(&step, &before, &host);
        assert!(step.already(&step.look(&host).unwrap()));
        assert!(sh("nft list table inet rkbox_ports").contains(&format!("chain {chain} {{")));
        // A port that leads there keeps it, one that leads elsewhere does not.
        let elsewhere = Publish { forwards: vec![forward(Protocol::Tcp, None, 1, "10.99.0.1")], owner: "owner-3".into() };
        apply(&elsewhere, &host);
        apply(&publish("owner-1"), &host);
        assert_eq!(step.undo(&before, &host).unwrap(), Undone::Kept);
        publish("owner-1").undo(&(), &host).unwrap();
        assert_eq!(step.undo(&before, &host).unwrap(), Undone::Done);
        elsewhere.undo(&(), &host).unwrap();
    }
    assert_eq!(PortTable {}.undo(&PieceBefore::default(), &host).unwrap(), Undone::Done);
    // Every port is read back as it was published.
    apply(&PortTable {}, &host);
    apply(&publish("owner-1"), &host);
    let mut nft = Nft::open().unwrap();
    let mut found = nft.published().unwrap();
    let mut wanted: Vec<_> = publish("owner-1").forwards.into_iter().map(|forward| (forward, "owner-1".to_owned())).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    assert!(nft.is_publisher(&publish("").forwards, "owner-1").unwrap() && !nft.is_publisher(&publish("").forwards, "owner-2").unwrap());
}
