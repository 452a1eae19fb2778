//! The network as an attacker sees it: groups N1 to N9 of the bar for reliability, each against a host, a neighbour on its LAN and
//! containers that may do all that CAP_NET_RAW and CAP_NET_ADMIN in their own namespace allow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod lab;

use std::path::Path;

use lab::{Lab, network};

const WEB: &str = "10.88.0.2";
const DB: &str = "10.88.0.3";

fn log_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn n1_a_published_port_does_not_catch_what_goes_to_others() {
    let mut lab = Lab::new();
    lab.world
        .sh("ip netns add far; ip link add far type veth peer name eth0 netns far; ip address add 198.51.100.1/24 dev far; ip link set far up
             ip -n far address add 198.51.100.9/24 dev eth0; ip -n far link set eth0 up; ip -n far link set lo up
             ip -n far route add default via 198.51.100.1")
        .ok();
    lab.world.rk("sandbox create -p 8080:80 -p 8080:80/udp -p 192.0.2.1:8081:80 web").ok();
    lab.world.rk("sandbox create db").ok();
    lab.serve("web", "web ", &["80"]);
    lab.serve("far", "far ", &["8080", "8081"]);
    let far = [
        ("tcp 198.51.100.9 8080", "far 192.0.2.9"),
        ("udp 198.51.100.9 8080", "far 192.0.2.9"),
        ("tcp 198.51.100.9 8081", "far 192.0.2.9"),
    ];
    lab.expect("lan", &far);
    for inside in ["web", "db"] {
        lab.expect(inside, &far.map(|(question, _)| (question, "far 198.51.100.1")));
    }
    lab.expect("host", &far.map(|(question, _)| (question, "far 198.51.100.1")));
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "web 192.0.2.9"), ("udp 192.0.2.1 8080", "web 192.0.2.9")]);
}

#[test]
fn n2_the_rules_of_the_user_win() {
    let mut lab = Lab::new();
    lab.world.rk("sandbox create -p 8080:80 -p 8080:80/udp web").ok();
    lab.serve("web", "", &["80"]);
    let open = [("tcp 192.0.2.1 8080", "192.0.2.9"), ("udp 192.0.2.1 8080", "192.0.2.9")];
    let shut = open.map(|(question, _)| (question, "silence"));
    for rule in [
        "type filter hook forward priority filter; ip daddr 10.88.0.2 drop",
        "type filter hook forward priority filter; iifname \"uplink\" drop",
        "type filter hook forward priority filter; ct status dnat iifname \"uplink\" drop",
        "type filter hook prerouting priority mangle; iifname \"uplink\" th dport 8080 drop",
        "type filter hook prerouting priority raw; iifname \"uplink\" th dport 8080 drop",
        "type filter hook postrouting priority filter; ip daddr 10.88.0.2 drop",
    ] {
        let (hook, verdict) = rule.split_once("; ").unwrap();
        lab.expect("lan", &open);
        lab.world.sh(&format!("nft 'add table inet user; add chain inet user c {{ {hook}; }}; add rule inet user c {verdict}'")).ok();
        lab.expect("lan", &shut);
        lab.world.sh("nft delete table inet user").ok();
    }
    lab.expect("lan", &open);
}

#[test]
fn n3_no_container_reaches_what_listens_on_loopback() {
    for bridge_netfilter in [false, true] {
        for ports in ["", "-p 127.0.0.1:8082:80/udp", "-p 8080:80/udp -p 8080:80"] {
            let mut lab = Lab::new();
            lab.bridge_netfilter(bridge_netfilter);
            lab.world.rk(&format!("sandbox create {ports} web")).ok();
            lab.world.rk("sandbox create db").ok();
            let log = lab.serve("host", "", &["127.0.0.1@7777", "127.0.0.53@53", "10.88.0.1@7778"]);
            let published = lab.serve("web", "", &["80"]);
            let (bridge, own) = (lab.mac("host", "cni0"), lab.mac("db", "eth0"));
            // By forged frames, as the container and as loopback itself.
            for (source, destination, port) in [
                (DB, "127.0.0.1", 7777),
                (DB, "127.0.0.53", 53),
                (DB, "127.0.0.1", 8082),
                (DB, "127.0.0.1", 8080),
                ("127.0.0.1", "127.0.0.1", 7777),
                ("127.0.0.1", "10.88.0.1", 7778),
            ] {
                lab.forge("db", &format!("udp eth0 {bridge} {own} {source} {destination} {port}"));
            }
            // By routes.
            lab.world
                .sh("ip netns exec db sh -c 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet'
                     ip -n db address del 127.0.0.1/8 dev lo; ip -n db route add 127.0.0.0/8 via 10.88.0.1 src 10.88.0.3")
                .ok();
            lab.expect("db", &[("tcp 127.0.0.1 7777", "silence"), ("udp 127.0.0.53 53", "silence"), ("tcp 127.0.0.1 8080", "silence")]);
            assert_eq!(log_of(&log), "", "{ports:?} {bridge_netfilter}");
            assert_eq!(log_of(&published), "", "{ports:?} {bridge_netfilter}");
            // What is not loopback is answered, so the frames do arrive.
            lab.forge("db", &format!("udp eth0 {bridge} {own} {DB} 10.88.0.1 7778"));
            let seen = common::until(std::time::Duration::from_secs(5), || log_of(&log), |log| !log.is_empty());
            assert_eq!(seen.unwrap_or_default(), "10.88.0.3\n");
        }
    }
}

#[test]
fn n4_no_neighbour_reaches_what_listens_on_loopback() {
    let mut lab = Lab::new();
    lab.world.rk("sandbox create -p 127.0.0.1:8082:80 -p 127.0.0.1:8082:80/udp -p 8080:80/udp web").ok();
    let log = lab.serve("host", "", &["127.0.0.1@7777", "192.0.2.1@7778"]);
    let published = lab.serve("web", "", &["80"]);
    for route_localnet in [0, 1] {
        // Whatever somebody else has set on the uplink.
        lab.world.sh(&format!("echo {route_localnet} > /proc/sys/net/ipv4/conf/uplink/route_localnet")).ok();
        for (source, destination, port) in [
            ("192.0.2.9", "127.0.0.1", 7777),
            ("192.0.2.9", "127.0.0.1", 8082),
            ("192.0.2.9", "127.0.0.1", 8080),
            ("192.0.2.9", "127.1.2.3", 8080),
            ("127.0.0.1", "192.0.2.1", 7778),
            ("127.0.0.1", "127.0.0.1", 7777),
        ] {
            lab.forge("lan", &format!("udp eth0 02:00:00:00:01:01 02:00:00:00:01:09 {source} {destination} {port}"));
        }
        lab.expect("lan", &[("tcp 192.0.2.1 8082", "refused"), ("tcp 192.0.2.2 8082", "refused")]);
        assert_eq!((log_of(&log), log_of(&published)), (String::new(), String::new()), "route_localnet={route_localnet}");
    }
    lab.forge("lan", "udp eth0 02:00:00:00:01:01 02:00:00:00:01:09 192.0.2.9 192.0.2.1 7778");
    let seen = common::until(std::time::Duration::from_secs(5), || log_of(&log), |log| !log.is_empty());
    assert_eq!(seen.unwrap_or_default(), "192.0.2.9\n");
}

#[test]
fn n5_no_neighbour_reaches_a_container_but_by_its_published_ports() {
    let mut lab = Lab::new();
    lab.world.rk("sandbox create -p 8080:80 -p 8080:80/udp web").ok();
    lab.world.rk("sandbox create db").ok();
    lab.serve("web", "", &["80", "81"]);
    lab.serve("db", "", &["80"]);
    lab.serve("host", "", &["10.88.0.1@7777"]);
    let direct = [
        "tcp 10.88.0.2 80",
        "udp 10.88.0.2 80",
        "tcp 10.88.0.2 81",
        "udp 10.88.0.2 81",
        "tcp 10.88.0.3 80",
        "udp 10.88.0.3 80",
        "tcp 10.88.0.1 7777",
        "tcp 10.88.0.1 8080",
    ];
    lab.expect("lan", &direct.map(|question| (question, "silence")));
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9"), ("udp 192.0.2.1 8080", "192.0.2.9")]);
    lab.expect("host", &[("tcp 10.88.0.2 81", "10.88.0.1"), ("udp 10.88.0.3 80", "10.88.0.1")]);
    // Who wants its pods routed says so.
    let open = network("open", "cni1", &["10.90.0.0/24"]).replace("\"ipMasq\":true", "\"ipMasq\":true,\"guard\":false");
    lab.world.configure("20-open.conflist", &open);
    lab.world.rk("sandbox create --net open -p 9090:80 routed").ok();
    lab.serve("routed", "", &["80"]);
    lab.expect("lan", &[("tcp 10.90.0.2 80", "192.0.2.9"), ("tcp 192.0.2.1 9090", "192.0.2.9")]);
}

#[test]
fn n6_flushed_rules_come_back_whole_and_in_one_transaction() {
    let mut lab = Lab::new();
    lab.world.rk("sandbox create -p 8080:80 -p 127.0.0.1:8082:80 web").ok();
    lab.world.sh("ip netns add other").ok();
    lab.world.rk("net add connet other").ok();
    lab.serve("web", "", &["80", "81"]);
    let whole = lab.host_facts();
    let ways = [
        "nft flush ruleset",
        "nft delete table inet rkbox_ports",
        "nft delete table inet rkbox; nft delete table bridge rkbox",
        "nft flush chain inet rkbox_ports local; nft delete chain inet rkbox_ports local",
        "nft flush chain inet rkbox_ports publish",
        "nft flush map inet rkbox_ports ports",
        "nft flush chain inet rkbox_ports guard-connet",
        "nft flush set bridge rkbox macs",
        "nft flush map inet rkbox masq",
    ];
    for way in ways {
        lab.world.rk("net repair --dry-run").ok();
        lab.world.sh(way).ok();
        let dry = lab.world.rk("net repair --dry-run").fails(5).prints("missing: ");
        assert!(dry.stderr.contains("rkbox net repair"), "{dry}");
        let trace = lab.world.sh("(timeout 20 nft monitor > /run/monitor & echo $! > /run/monitor.pid); sleep 0.2; rkbox net repair; sleep 0.2; kill $(cat /run/monitor.pid) || true; grep -c 'new generation' /run/monitor; rm /run/monitor*").ok();
        assert!(trace.stdout.lines().last() == Some("1"), "{way}: {trace}");
        common::Observation::assert_same(&whole, &lab.host_facts());
        lab.world.rk("net repair").ok();
    }
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9"), ("tcp 10.88.0.2 81", "silence"), ("tcp 10.88.0.2 80", "silence")]);
    lab.expect("host", &[("tcp 127.0.0.1 8082", "10.88.0.1")]);
    // Without its rules a port leads nowhere; check notices, for the attachment of a namespace too.
    lab.world.rk("net check connet other").ok();
    lab.world.sh("nft flush ruleset").ok();
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "refused")]);
    lab.world.rk("net check connet other").fails(5).prints("not in nftables any more: ensure the fence of network connet");
    let script = lab.world.rk("net repair --explain").ok().stdout;
    std::fs::write("/run/repair", script).unwrap();
    lab.world.sh("sh -eu /run/repair; rm /run/repair").ok();
    common::Observation::assert_same(&whole, &lab.host_facts());
    lab.world.rk("net check connet other").ok();
}

#[test]
fn n7_a_container_is_no_router() {
    let mut lab = Lab::new();
    lab.world.rk("sandbox create web").ok();
    lab.world.rk("sandbox create db").ok();
    let own = lab.mac("web", "eth0");
    let before = lab
        .world
        .sh("ip -6 route; ip -6 address show dev cni0 scope global; ip -n db -6 route; ip -n db -6 address show scope global")
        .ok()
        .stdout;
    let log = lab.start("db", "sniff", &["eth0", "4", "LOG"]);
    let link_local = lab.world.sh("ip -n web -6 -j address show dev eth0 scope link | jq -r '.[0].addr_info[0].local'").ok().stdout;
    for (source, prefix) in [(link_local.trim(), "2001:db8:bad::"), ("fe80::1", "2001:db8:bad:1::"), ("2001:db8::1", "2001:db8:bad:2::")] {
        lab.forge("web", &format!("ra eth0 {own} {source} {prefix}"));
    }
    // From a container on a bridge whose guard somebody switched off, the host itself stays deaf.
    lab.world.sh("nft flush set bridge rkbox ports").ok();
    lab.forge("web", &format!("ra eth0 {own} {} 2001:db8:bad:3::", link_local.trim()));
    let arrived = common::until(std::time::Duration::from_secs(5), || log_of(&log), |log| log.contains("20010db80bad0003"));
    let arrived = arrived.unwrap_or_else(|log| log);
    assert!(arrived.contains("20010db80bad0003"), "the last one should arrive: {arrived}");
    for prefix in ["20010db80bad0000", "20010db80bad0001", "20010db80bad0002"] {
        assert!(!arrived.contains(prefix), "{prefix}: {arrived}");
    }
    lab.world
        .sh("for f in /proc/sys/net/ipv6/conf/cni0/accept_ra /proc/sys/net/ipv6/conf/rk*/accept_ra; do [ \"$(cat $f)\" = 0 ]; done")
        .ok();
    let routes = |text: &str| text.lines().filter(|line| line.contains("bad")).count();
    let after = lab.world.sh("ip -6 route; ip -6 address show dev cni0 scope global").ok().stdout;
    assert_eq!((routes(&before), routes(&after)), (0, 0), "{after}");
}

#[test]
fn n8_a_container_speaks_only_as_itself() {
    let mut lab = Lab::new();
    lab.world.rk("sandbox create web").ok();
    lab.world.rk("sandbox create db").ok();
    let (web, db, bridge) = (lab.mac("web", "eth0"), lab.mac("db", "eth0"), lab.mac("host", "cni0"));
    let at_db = lab.start("db", "sniff", &["eth0", "6", "LOG"]);
    let at_host = lab.start("host", "sniff", &["cni0", "6", "LOG"]);
    let local = |netns: &str| {
        lab.world.sh(&format!("ip -n {netns} -6 -j address show dev eth0 scope link | jq -r '.[0].addr_info[0].local'")).ok().stdout
    };
    let (own6, peer6) = (local("web"), local("db"));
    let (own6, peer6) = (own6.trim(), peer6.trim());
    // Each port number marks its frame.
    let forged = [
        format!("udp eth0 {db} {bridge} {WEB} {DB} 60001"),
        format!("udp eth0 {bridge} {db} {WEB} 10.88.0.1 60002"),
        format!("udp eth0 {db} {web} 10.88.0.1 {DB} 60003"),
        format!("udp eth0 {bridge} {web} {DB} 10.88.0.1 60004"),
        format!("udp eth0 {bridge} {web} 192.0.2.9 10.88.0.1 60005"),
        format!("udp eth0 ff:ff:ff:ff:ff:ff {web} 10.88.7.7 10.88.255.255 60006"),
        format!("vlan eth0 {db} {web} {WEB} {DB} 60007"),
        format!("dhcp eth0 {db} {web} {WEB} {DB}"),
        format!("arp eth0 {db} {web} {web} 10.88.0.1 {db} {DB}"),
        format!("arp eth0 ff:ff:ff:ff:ff:ff {web} {web} 10.88.0.1 {db} {DB}"),
        format!("arp eth0 {bridge} {web} {web} {DB} {bridge} 10.88.0.1"),
        format!("arp eth0 {db} {web} {bridge} {WEB} {db} {DB}"),
        format!("arp eth0 {db} {bridge} {bridge} 10.88.0.1 {db} {DB}"),
        format!("na eth0 {db} {web} {own6} {peer6} fe80::1"),
        format!("na eth0 {db} {web} fe80::1 {peer6} fe80::1"),
        format!("na eth0 {bridge} {web} {own6} ff02::1 {peer6}"),
    ];
    for line in &forged {
        lab.forge("web", line);
    }
    // What it says as itself arrives, and comes after all the forged ones.
    lab.forge("web", &format!("udp eth0 {db} {web} {WEB} {DB} 61001"));
    lab.forge("web", &format!("udp eth0 {bridge} {web} {WEB} 10.88.0.1 61002"));
    lab.forge("web", &format!("arp eth0 {db} {web} {web} {WEB} {db} {DB}"));
    lab.forge("web", &format!("na eth0 {db} {web} {own6} {peer6} {own6}"));
    let hex = |port: u16| format!("9c40{port:04x}");
    let until = |path: &Path, mark: String| {
        let seen = common::until(std::time::Duration::from_secs(5), || log_of(path), |log| log.contains(&mark));
        seen.unwrap_or_else(|log| panic!("{mark} did not arrive:\n{log}"))
    };
    let frames = until(&at_host, hex(61002)) + &until(&at_db, hex(61001));
    let heard = log_of(&at_db);
    for port in 60001..=60007 {
        assert!(!frames.contains(&hex(port)), "{port} got through");
    }
    let web_bytes = web.replace(':', "");
    let claims = |address: &str| format!("{web_bytes}{address}");
    for (what, mark) in
        [("the gateway's address", claims("0a580001")), ("the peer's address", claims("0a580003")), ("DHCP", "00430044".to_owned())]
    {
        assert!(!frames.contains(&mark) && !heard.contains(&mark), "{what}: {frames}");
    }
    let neighbours = lab.world.sh("ip -n db neigh show 10.88.0.1; ip -n db -6 neigh show fe80::1; ip neigh show 10.88.0.3").ok().stdout;
    assert!(!neighbours.contains(&web), "{neighbours}");
    // All of it with an administrator's own hands: another MAC, another address.
    lab.world.sh(&format!("ip -n web link set eth0 down; ip -n web link set eth0 address {db}; ip -n web link set eth0 up; ip -n web address add 10.88.0.9/16 dev eth0")).ok();
    lab.serve("host", "", &["10.88.0.1@7777"]);
    lab.expect("web", &[("tcp 10.88.0.1 7777", "silence")]);
}

#[test]
fn n9_sctp_is_led_with_the_address_of_its_client() {
    let mut lab = Lab::new();
    lab.world.rk("sandbox create -p 8083:80/sctp web").ok();
    // This kernel has no SCTP sockets: the association's first packet stands for it.
    let log = lab.start("web", "sniff", &["eth0", "5", "LOG"]);
    lab.forge("lan", "sctp eth0 192.0.2.1 8083");
    // Protocol 132, from 192.0.2.9 to 10.88.0.2, then ports 40001 and 80.
    let wanted = |log: &String| log.contains("c00002090a5800029c410050");
    let seen = common::until(std::time::Duration::from_secs(4), || log_of(&log), wanted);
    assert!(seen.is_ok(), "{seen:?}");
}
