//! The laws of the network steps, each test in a world of its own thread.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::interface::Route;
use super::test_world::{assert_laws, assert_script, assert_seen, leave, netns, observe, run, sh};
use super::*;
use crate::fault::Kind;
use crate::ids::{Mac, VethNames, veth_names};
use crate::sys::netlink::Netlink;
use crate::sys::nft::{Family, Nft};
use crate::sys::ns;

fn bridge() -> Bridge {
    Bridge { name: "cni0".parse().unwrap(), mtu: Some(1400), promisc: false }
}

fn gateway(force: bool) -> Gateway {
    Gateway { bridge: "cni0".parse().unwrap(), address: "10.88.0.1/16".parse().unwrap(), force }
}

fn names() -> VethNames {
    veth_names(&"connet".parse().unwrap(), "owner", &"eth0".parse().unwrap())
}

fn veth(netns: &Path) -> Veth {
    let VethNames { host, host_mac, inner_mac } = names();
    let (inner, bridge) = ("eth0".parse().unwrap(), "cni0".parse().unwrap());
    Veth {
        host,
        host_mac,
        inner,
        inner_mac,
        netns: netns.into(),
        bridge: Some(bridge),
        mtu: Some(1400),
        hairpin: true,
        isolated: false,
        own_netns: false,
    }
}

fn interface(netns: &Path) -> Interface {
    Interface {
        netns: netns.into(),
        ifname: "eth0".parse().unwrap(),
        addresses: vec!["10.88.0.7/16".parse().unwrap(), "fd00:88::7/64".parse().unwrap()],
        routes: vec![
            Route::new("0.0.0.0/0".parse().unwrap(), Some("10.88.0.1".parse().unwrap())),
            Route::new("192.0.2.0/24".parse().unwrap(), None),
            Route::new("::/0".parse().unwrap(), Some("fd00:88::1".parse().unwrap())),
        ],
        dad: false,
        bare: false,
        loopback: false,
    }
}

fn nat_network() -> NatNetwork {
    NatNetwork { network: "connet".parse().unwrap(), subnets: vec!["10.88.0.0/16".parse().unwrap(), "fd00:88::/64".parse().unwrap()] }
}

fn masquerade(address: &str) -> Masquerade {
    Masquerade { network: "connet".parse().unwrap(), address: address.parse().unwrap(), owner: "owner-1".into() }
}

fn apply<S: Action>(step: &S, host: &Host) -> S::Before {
    let before = step.look(host).unwrap();
    step.apply(&before, host).unwrap();
    before
}

#[test]
fn netns_root() {
    let host = leave();
    let step = NetnsRoot { path: "/run/netns".into() };
    let before = assert_laws(&step, &host);
    assert_script(&step, &before, &host);
    assert!(step.already(&step.look(&host).unwrap()));
    sh("ip netns add other");
    assert_eq!(step.undo(&before, &host).unwrap(), Undone::Kept);
}

#[test]
fn namespaces() {
    let host = leave();
    apply(&NetnsRoot { path: "/run/netns".into() }, &host);
    let pin = |name: &str| Some(PathBuf::from("/run").join(name));
    let step = Namespaces { net: pin("netns/web"), ipc: pin("web.ipc"), uts: pin("web.uts"), hostname: Some("web".into()), user: None };
    assert_laws(&step, &host);
    assert_script(&step, &(), &host);
    assert_eq!(sh("nsenter --uts=/run/web.uts hostname"), "web\n");
    assert_eq!(step.look(&host).unwrap_err().kind(), Kind::AlreadyExists);
    assert_eq!(step.apply(&(), &host).unwrap_err().kind(), Kind::Conflict);
    assert!(ns::is_namespace(Path::new("/run/netns/web"), ns::NsKind::Net).unwrap());
    step.undo(&(), &host).unwrap();
    let elsewhere = Namespaces { net: pin("elsewhere"), ipc: None, uts: None, hostname: None, user: None };
    assert_laws(&elsewhere, &host);
    elsewhere.undo(&(), &host).unwrap();
    run(|out| elsewhere.script(Way::Apply, out));
    assert!(ns::is_namespace(Path::new("/run/elsewhere"), ns::NsKind::Net).unwrap());
}

#[test]
fn an_undo_never_takes_what_another_pinned() {
    let host = leave();
    let path = netns("web");
    let step = Namespaces { net: Some(path.clone()), ipc: None, uts: None, hostname: None, user: None };
    step.undo(&(), &host).unwrap();
    assert!(ns::is_namespace(&path, ns::NsKind::Net).unwrap());
    // The same at a crash between a pin's file and its mount: that one is ours.
    let crashed = Namespaces { net: Some("/run/netns/half".into()), ..step };
    fs::write("/run/netns/half", "rkbox\n").unwrap();
    crashed.undo(&(), &host).unwrap();
    assert!(!Path::new("/run/netns/half").exists());
}

#[test]
fn bridge_and_gateway() {
    let host = leave();
    let step = bridge();
    let before = assert_laws(&step, &host);
    assert_script(&step, &before, &host);
    assert!(step.already(&step.look(&host).unwrap()));
    let gate = gateway(false);
    let gate_before = assert_laws(&gate, &host);
    assert_script(&gate, &gate_before, &host);
    assert!(gate.already(&gate.look(&host).unwrap()));
    sh("ip link add p0 master cni0 type veth peer name p1");
    assert_eq!(gate.undo(&gate_before, &host).unwrap(), Undone::Kept);
    assert_eq!(step.undo(&before, &host).unwrap(), Undone::Kept);
    sh("ip link del p0");
    assert_eq!(gate.undo(&gate_before, &host).unwrap(), Undone::Done);
    // A bridge that somebody else made stays, whatever a journal says.
    sh("ip link del cni0; ip link add cni0 type bridge");
    assert_eq!(step.undo(&before, &host).unwrap(), Undone::Kept);
}

#[test]
fn a_bridge_name_that_is_taken_is_refused() {
    let host = leave();
    sh("ip link add cni0 type veth peer name p1");
    let fault = bridge().look(&host).unwrap_err();
    assert_eq!(fault.kind(), Kind::FailedPrecondition);
    assert!(fault.to_string().contains("not a bridge (veth)"), "{fault}");
}

#[test]
fn another_gateway_address_is_named_or_replaced() {
    let host = leave();
    apply(&bridge(), &host);
    sh("ip addr add 10.99.0.1/24 broadcast + dev cni0");
    let fault = gateway(false).look(&host).unwrap_err();
    assert_eq!(fault.kind(), Kind::FailedPrecondition);
    assert!(fault.to_string().contains("10.99.0.1/24"), "{fault}");
    assert!(fault.hints().iter().any(|hint| hint.contains("forceAddress")));
    let before = assert_laws(&gateway(true), &host);
    assert_script(&gateway(true), &before, &host);
}

#[test]
fn sysctl() {
    let host = leave();
    let step = Sysctl { key: "net/ipv4/ip_forward".into(), value: "1".into(), bridge: None };
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    let before = assert_laws(&step, &host);
    assert_script(&step, &before, &host);
    apply(&bridge(), &host);
    assert_eq!(step.undo(&before, &host).unwrap(), Undone::Kept);
    let beside = Sysctl { bridge: Some(bridge().name), ..step };
    beside.apply(&before, &host).unwrap();
    assert_script(&beside, &before, &host);
    beside.apply(&before, &host).unwrap();
    assert_eq!(beside.undo(&before, &host).unwrap(), Undone::Done, "an empty bridge of the same plan needs nothing");
    assert!(Sysctl { key: "../etc/passwd".into(), value: String::new(), bridge: None }.look(&host).is_err());
}

#[test]
fn nat() {
    let host = leave();
    let (table, network) = (NatTable {}, nat_network());
    let table_before = assert_laws(&table, &host);
    assert_script(&table, &table_before, &host);
    assert!(table.already(&table.look(&host).unwrap()));
    let network_before = assert_laws(&network, &host);
    assert_script(&network, &network_before, &host);
    assert!(network.already(&network.look(&host).unwrap()));
    let edited = NatNetwork { subnets: vec!["10.89.0.0/16".parse().unwrap()], ..network.clone() };
    assert!(!edited.already(&edited.look(&host).unwrap()));
    for address in ["10.88.0.7", "fd00:88::7"] {
        let pod = masquerade(address);
        assert_laws(&pod, &host);
        assert_script(&pod, &(), &host);
        assert_eq!(pod.look(&host).unwrap_err().kind(), Kind::AlreadyExists);
        assert_eq!(pod.apply(&(), &host).unwrap_err().kind(), Kind::Conflict);
        // Another owner's undo takes nothing away.
        Masquerade { owner: "owner-2".into(), ..pod.clone() }.undo(&(), &host).unwrap();
        assert!(Nft::open().unwrap().find_element(pod.address).unwrap().is_some());
    }
    let text = sh("nft list table inet rkbox");
    for line in [
        "ip saddr vmap @masq",
        "ip daddr 10.88.0.0/16 return",
        "ip daddr 224.0.0.0/4 return",
        "ip6 daddr fd00:88::/64 return",
        "10.88.0.7 comment \"owner-1\" : jump masq-connet",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(network.undo(&network_before, &host).unwrap(), Undone::Kept);
    assert_eq!(table.undo(&table_before, &host).unwrap(), Undone::Kept);
    assert_eq!(Nft::open().unwrap().elements(Family::V4).unwrap().len(), 1);
    sh("nft flush ruleset");
    masquerade("10.88.0.7").undo(&(), &host).unwrap();
    assert_eq!(network.undo(&network_before, &host).unwrap(), Undone::Done);
    assert_eq!(table.undo(&table_before, &host).unwrap(), Undone::Done);
}

#[test]
fn an_attachment() {
    let host = leave();
    let path = netns("web");
    apply(&bridge(), &host);
    let start = observe();
    let (lo, pair, inner) = (Loopback { netns: path.clone(), own_netns: false }, veth(&path), interface(&path));
    let lo_before = assert_laws(&lo, &host);
    assert_script(&lo, &lo_before, &host);
    assert_laws(&pair, &host);
    assert_script(&pair, &(), &host);
    apply(&inner, &host);
    let applied = observe();
    let fault = pair.look(&host).unwrap_err();
    assert_eq!(fault.kind(), Kind::AlreadyExists);
    // The same, with another owner: now it is the interface that is in the way.
    let other = veth_names(&"connet".parse().unwrap(), "other", &"eth0".parse().unwrap());
    let second = Veth { host: other.host, host_mac: other.host_mac, ..pair.clone() };
    let fault = second.look(&host).unwrap_err();
    assert!(fault.to_string().contains("namespace already attached") && fault.to_string().contains("10.88.0.7/16"), "{fault}");
    assert_eq!(second.apply(&(), &host).unwrap_err().kind(), Kind::Conflict);
    assert_seen(&applied, "not as applied");
    // A link of that name with another MAC is not ours.
    Veth { host_mac: Mac([2, 0, 0, 0, 0, 9]), ..pair.clone() }.undo(&(), &host).unwrap();
    assert_seen(&applied, "not as applied");
    inner.undo(&(), &host).unwrap();
    pair.undo(&(), &host).unwrap();
    assert_eq!(lo.undo(&lo_before, &host).unwrap(), Undone::Done);
    assert_seen(&start, "not as before");
    run(|out| lo.script(Way::Apply, out));
    run(|out| pair.script(Way::Apply, out));
    run(|out| inner.script(Way::Apply, out));
    assert_seen(&applied, "the scripts of an attachment make something else");
}

#[test]
fn a_whole_plan_goes_back_to_where_it_began() {
    let host = leave();
    let start = observe();
    let path = PathBuf::from("/run/netns/web");
    let own = Namespaces { net: Some(path.clone()), ipc: None, uts: None, hostname: None, user: None };
    let pair = Veth { own_netns: true, ..veth(&path) };
    let steps: Vec<Step> = vec![
        NetnsRoot { path: "/run/netns".into() }.into(),
        bridge().into(),
        gateway(false).into(),
        NatTable {}.into(),
        nat_network().into(),
        own.into(),
        masquerade("10.88.0.7").into(),
        pair.into(),
        Interface { loopback: true, ..interface(&path) }.into(),
    ];
    let mut befores = Vec::new();
    for step in &steps {
        let before = step.look(&host).unwrap();
        step.apply(&before, &host).unwrap();
        befores.push(before);
    }
    assert!(sh("ip -n web -4 route").contains("default via 10.88.0.1 dev eth0"));
    sh("ip netns exec web ping -c1 -W1 10.88.0.1 || ! command -v ping");
    for (step, before) in steps.iter().zip(&befores).rev() {
        // A namespace dies in the kernel's own time, and its port with it: what is shared is kept until then, and `gc` asks again.
        let limit = Instant::now() + Duration::from_secs(30);
        while step.undo(before, &host).unwrap() == Undone::Kept {
            assert!(Instant::now() < limit, "{step} is kept");
        }
    }
    assert_seen(&start, "not as before");
}

#[test]
fn hostile_namespace_paths_are_refused_and_the_host_stays_untouched() {
    let host = leave();
    let good = netns("web");
    apply(&bridge(), &host);
    fs::write("/run/plain", "").unwrap();
    std::os::unix::fs::symlink(&good, "/run/link").unwrap();
    netns("dead");
    sh("umount /run/netns/dead; mkfifo /run/fifo");
    let start = observe();
    let cases = [
        ("/run/link", Kind::InvalidArgument),
        ("/run/plain", Kind::InvalidArgument),
        ("/run/netns", Kind::InvalidArgument),
        ("/run/fifo", Kind::InvalidArgument),
        ("/run/netns/dead", Kind::InvalidArgument),
        ("/proc/thread-self/ns/net", Kind::InvalidArgument),
        ("/proc/self/ns/uts", Kind::InvalidArgument),
        ("/run/netns/none", Kind::NotFound),
    ];
    for (path, kind) in cases {
        let path = Path::new(path);
        for fault in [
            veth(path).look(&host).unwrap_err(),
            veth(path).apply(&(), &host).unwrap_err(),
            interface(path).look(&host).unwrap_err(),
            Loopback { netns: path.into(), own_netns: false }.look(&host).unwrap_err(),
        ] {
            assert_eq!(fault.kind(), kind, "{}: {fault}", path.display());
        }
    }
    let fault = veth(Path::new("/run/netns/none")).look(&host).unwrap_err();
    assert_eq!(fault.hints(), ["make it first: ip netns add none"]);
    assert_seen(&start, "not as before");
}

#[test]
fn a_full_bridge_says_so() {
    let host = leave();
    let path = netns("web");
    apply(&Bridge { mtu: None, ..bridge() }, &host);
    let mut batch = String::from("link add one master cni0 type veth peer name other\n");
    for nth in 0..511 {
        batch.push_str(&format!("link add d{nth} master cni0 type veth peer name e{nth}\nlink set e{nth} master cni0\n"));
    }
    fs::write("/run/batch", batch).unwrap();
    sh("ip -batch /run/batch");
    let fault = veth(&path).apply(&(), &host).unwrap_err();
    assert_eq!(fault.kind(), Kind::ResourceExhausted, "{fault}");
    assert!(fault.to_string().contains("1023 ports"), "{fault}");
    assert!(Netlink::open().unwrap().find_link(names().host.as_ref()).unwrap().is_none());
}

#[test]
fn a_change_behind_our_back_makes_a_checked_delete_look_again() {
    let host = leave();
    apply(&NatTable {}, &host);
    apply(&nat_network(), &host);
    apply(&masquerade("10.88.0.7"), &host);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut nft = Nft::open().unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let other = masquerade("10.88.9.9");
                nft.add_element(other.address, &other.network, "x").unwrap();
                nft.delete_element(other.address, &other.network, "x").ok();
                nft.find_element(other.address).unwrap().map(|_| nft.delete_element(other.address, &other.network, "x"));
                std::thread::yield_now();
            }
        });
        for _ in 0..50 {
            match masquerade("10.88.0.7").undo(&(), &host) {
                Ok(_) => {}
                Err(fault) => assert_eq!(fault.kind(), Kind::Conflict),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
