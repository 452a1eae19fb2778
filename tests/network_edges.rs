//! The network at its edges: groups N10 to N17 of the bar for reliability, and rounds that leave no residue.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod lab;

use std::path::Path;

use lab::{Lab, network};

#[test]
fn n10_a_port_is_published_once_and_what_holds_it_is_named() {
    let mut lab = Lab::new();
    lab.world.rk("sandbox create -p 8080:80 -p 192.0.2.1:9090:80 -p 5353:53/udp web").ok();
    lab.serve("web", "", &["80"]);
    lab.start("host", "hold", &["tcp", "0.0.0.0", "7001"]);
    lab.start("host", "hold", &["tcp", "127.0.0.1", "7002"]);
    lab.start("host", "hold", &["udp", "0.0.0.0", "7003"]);
    lab.start("host", "hold", &["tcp", "::1", "7004"]);
    let before = lab.world.observe();
    for (ports, said) in [
        ("-p 8080:80", "port 8080/tcp is published already, on all addresses for sandbox web"),
        ("-p 192.0.2.2:8080:80", "on all addresses for sandbox web"),
        ("-p 8079-8080:79-80", "port 8080/tcp is published already"),
        ("-p 9090:80", "on 192.0.2.1 for sandbox web"),
        ("-p 192.0.2.1:9090:81", "on 192.0.2.1 for sandbox web"),
        ("-p 5353:53/udp", "port 5353/udp is published already"),
        ("-p 7001:80", "port 7001/tcp is in use by python3 (pid "),
        ("-p 192.0.2.1:7001:80", "port 7001/tcp is in use by python3"),
        ("-p 7002:80", "on 127.0.0.1"),
        ("-p 7003:80/udp", "port 7003/udp is in use by python3"),
    ] {
        lab.world.rk(&format!("sandbox create {ports} db")).fails(4).says(said);
        common::Observation::assert_same(&before, &lab.world.observe());
    }
    for (ports, code, said) in [
        ("-p 80:80:80:80", 2, "too many colons"),
        ("-p [::1]:80:80", 9, "back to [::1]"),
        ("-p [2001:db8::1]:80:80", 2, "no IPv6 address"),
        ("-p 8081:80 -p 8081:81", 2, "published twice"),
        ("-p 8080-8080:80", 4, "published already"),
        ("--net none -p 1:1", 2, "--net none"),
        ("--net host -p 1:1", 2, "--net host"),
    ] {
        lab.world.rk(&format!("sandbox create {ports} db")).fails(code).says(said);
    }
    common::Observation::assert_same(&before, &lab.world.observe());
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9"), ("tcp 192.0.2.1 9090", "192.0.2.9")]);
    // Other protocols, addresses and ports are free; --force takes what a process holds; a range gives what is left.
    lab.world
        .rk("sandbox create -p 8080:80/udp -p 192.0.2.2:9090:80 -p 192.0.2.1:7002:80 -p 7003:80 -p 7004:80 -p 8079-8081:80 -p 80 db")
        .ok();
    lab.serve("db", "db ", &["80"]);
    lab.expect(
        "lan",
        &[("tcp 192.0.2.2 9090", "db 192.0.2.9"), ("tcp 192.0.2.1 9090", "192.0.2.9"), ("tcp 192.0.2.1 8079", "db 192.0.2.9")],
    );
    let listed = lab.world.rk("port db 80").ok().stdout;
    let free: u16 = listed.lines().filter_map(|line| line.strip_prefix("0.0.0.0:")?.parse().ok()).find(|port| *port > 9999).unwrap();
    lab.expect("lan", &[(&format!("tcp 192.0.2.1 {free}"), "db 192.0.2.9")]);
    lab.world.rk("sandbox create -p 7001:80 --force-publish forced").ok();
    lab.serve("forced", "forced ", &["80"]);
    lab.expect("lan", &[("tcp 192.0.2.1 7001", "forced 192.0.2.9")]);
    lab.world.rk("port web").ok().prints("80/tcp -> 0.0.0.0:8080\n80/tcp -> 192.0.2.1:9090\n").prints("53/udp -> 0.0.0.0:5353");
    lab.world.rk("port web 443").fails(3);
    lab.world.rk("port nobody").fails(3);
    lab.world.rk("sandbox ls").ok().prints("8080->80/tcp, 192.0.2.1:9090->80/tcp, 5353->53/udp");
    assert_eq!(lab.world.rk("--format json port web").ok().json().as_array().unwrap().len(), 3);
}

#[test]
fn n11_a_udp_client_that_keeps_asking_reaches_the_new_container() {
    let mut lab = Lab::new();
    // Something of NAT must be there, else nothing is tracked before.
    lab.world.rk("sandbox create -p 1:1 other").ok();
    let question = [("udp 192.0.2.1 5353 5555", "nothing")];
    lab.expect("lan", &question);
    lab.world.rk("sandbox create -p 5353:80/udp one").ok();
    lab.serve("one", "one ", &["80"]);
    lab.expect("lan", &[("udp 192.0.2.1 5353 5555", "one 192.0.2.9"), ("udp 192.0.2.1 5353 5556", "one 192.0.2.9")]);
    lab.expect("host", &[("udp 127.0.0.1 5353 5557", "one 10.88.0.1")]);
    lab.world.rk("sandbox rm --force one").ok();
    lab.expect("lan", &question);
    lab.world.rk("sandbox create -p 5353:80/udp two").ok();
    lab.serve("two", "two ", &["80"]);
    lab.expect("lan", &[("udp 192.0.2.1 5353 5555", "two 192.0.2.9"), ("udp 192.0.2.1 5353 5556", "two 192.0.2.9")]);
    lab.expect("host", &[("udp 127.0.0.1 5353 5557", "two 10.88.0.1")]);
}

#[test]
fn n12_no_resolver_configuration_of_the_host_stops_a_sandbox() {
    let lab = Lab::new();
    let many: String = (1..=20).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
    let long = format!("search {}\nnameserver 10.0.0.1\n", "a.example ".repeat(100_000));
    for (nth, (text, wanted)) in [
        ("nameserver 127.0.0.53\noptions edns0\n".to_owned(), ""),
        (many, "nameserver 10.0.0.1\n"),
        ("nameserver 10.0.0.1\r\nsearch example.org\r\n".to_owned(), "nameserver 10.0.0.1"),
        (long, ""),
        ("\u{0}\u{1}nameserver\n\nnameserver 10.0.0.1".to_owned(), "nameserver 10.0.0.1"),
        (String::new(), ""),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write("/run/resolv.conf", text).unwrap();
        lab.world.sh("mount --bind /run/resolv.conf /etc/resolv.conf").ok();
        let record = lab.world.rk(&format!("--format json sandbox create s{nth}")).ok().json();
        lab.world.sh("umount /etc/resolv.conf").ok();
        let inside = std::fs::read_to_string(Path::new(record["files"].as_str().unwrap()).join("resolv.conf")).unwrap();
        assert!(inside.contains(wanted), "{nth}: {inside:?}");
        assert!(!inside.contains('\r') || nth != 2, "{inside:?}");
    }
}

#[test]
fn n13_networks_are_apart_but_for_published_ports() {
    let mut lab = Lab::new();
    lab.world.configure("20-blue.conflist", &network("blue", "cni1", &["10.99.0.0/24"]));
    lab.world.rk("sandbox create -p 8080:80 -p 8080:80/udp web").ok();
    lab.world.rk("sandbox create --net blue -p 8090:80 azure").ok();
    lab.serve("web", "web ", &["80", "81"]);
    lab.serve("azure", "azure ", &["80", "81"]);
    let silent = |questions: [&'static str; 4]| questions.map(|question| (question, "silence"));
    lab.expect("azure", &silent(["tcp 10.88.0.2 80", "udp 10.88.0.2 80", "tcp 10.88.0.2 81", "tcp 10.88.0.1 8080"]));
    lab.expect("web", &silent(["tcp 10.99.0.2 80", "udp 10.99.0.2 80", "tcp 10.99.0.2 81", "tcp 10.99.0.1 8090"]));
    // Through the host, as anybody does; what leaves a network is masqueraded, wherever it goes.
    lab.expect(
        "azure",
        &[("tcp 192.0.2.1 8080", "web 10.88.0.1"), ("udp 192.0.2.1 8080", "web 10.88.0.1"), ("tcp 10.99.0.1 8080", "web 10.88.0.1")],
    );
    lab.expect("web", &[("tcp 192.0.2.1 8090", "azure 10.99.0.1"), ("tcp 10.88.0.1 8090", "azure 10.99.0.1")]);
    lab.expect("host", &[("tcp 10.88.0.2 81", "web 10.88.0.1"), ("tcp 10.99.0.2 81", "azure 10.99.0.1")]);
}

#[test]
fn n14_a_bridge_of_somebody_else_is_used_as_it_is_or_refused() {
    let mut lab = Lab::new();
    lab.world.sh("ip link add cni0 address 02:00:00:00:07:07 mtu 1400 type bridge; ip address add 172.31.0.1/24 dev cni0").ok();
    lab.world.rk("sandbox create -p 8080:80 web").fails(5).says("172.31.0.1/24").says("forceAddress");
    lab.world.sh("ip address flush dev cni0").ok();
    lab.world.rk("sandbox create -p 8080:80 web").ok();
    lab.serve("web", "", &["80"]);
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9")]);
    assert_eq!(lab.mac("host", "cni0"), "02:00:00:00:07:07");
    lab.world.rk("sandbox rm --force web").ok();
    lab.world.rk("gc").ok();
    assert_eq!(lab.mac("host", "cni0"), "02:00:00:00:07:07", "a bridge of somebody else stays");
    lab.world.sh("ip link delete cni0; ip link add cni0 type veth peer name cni0peer").ok();
    lab.world.rk("sandbox create -p 8080:80 web").fails(5).says("not a bridge");
}

#[test]
fn n14_a_link_of_somebody_else_under_our_name_is_refused_and_stays() {
    let lab = Lab::new();
    lab.world.sh("ip netns add other").ok();
    lab.world.rk("net add connet other").ok();
    let ours = lab.world.sh("ip -o link show master cni0 | sed -n 's/^[0-9]*: \\([^@]*\\)@.*/\\1/p'").ok().stdout.trim().to_owned();
    lab.world.rk("net del connet other").ok();
    // The name of a veth is made of its attachment, so the next one wants it again.
    lab.world.sh(&format!("ip link add {ours} address 02:00:00:00:07:08 type bridge")).ok();
    let before = lab.world.observe();
    let refused = lab.world.rk("net add connet other").fails(4);
    refused.says(&format!("link {ours} is there already, of somebody else")).says(&format!("ip link delete dev {ours}"));
    let cursor = |key: &str| !key.contains("last_reserved_ip");
    common::Observation::assert_same(&before.only(cursor), &lab.world.observe().only(cursor));
    assert_eq!(lab.mac("host", &ours), "02:00:00:00:07:08");
    lab.world.sh(&format!("ip link delete dev {ours}")).ok();
    lab.world.rk("net add connet other").ok();
    assert_ne!(lab.mac("host", &ours), "02:00:00:00:07:08");
}

#[test]
fn n15_no_parameter_of_the_host_changes_but_forwarding() {
    let lab = Lab::new();
    // Parameters of links that are there before, and of the whole host.
    let look =
        "cd /proc/sys/net; grep -rsH . . | grep -v -e /cni0/ -e /rk -e nf_conntrack_count -e nf_conntrack_buckets -e /route/flush | sort";
    let before = lab.world.sh(look).ok().stdout;
    lab.world.rk("sandbox create -p 8080:80 -p 127.0.0.1:8082:80/udp web").ok();
    let during = lab.world.sh(look).ok().stdout;
    let changed: Vec<&str> = during.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
    // The kernel itself stops to listen to redirects where it forwards.
    let is_forwarding = |line: &&&str| {
        line.contains("/forwarding:1") || line.starts_with("./ipv4/ip_forward:1") || line.contains("/all/accept_redirects:0")
    };
    assert!(changed.iter().all(|line| is_forwarding(&line)) && !changed.is_empty(), "{changed:#?}");
    lab.world.rk("sandbox rm --force web").ok();
    lab.world.rk("gc").ok();
    // A veth dies up to 60 ms after its namespace, and its bridge may have to wait for it.
    let again = common::until(
        std::time::Duration::from_secs(5),
        || {
            lab.world.rk("gc").ok();
            lab.world.sh(look).ok().stdout
        },
        |now| *now == before,
    );
    assert!(
        again.is_ok(),
        "{:?}",
        again.map_err(|now| now.lines().filter(|line| !before.lines().any(|old| old == *line)).map(str::to_owned).collect::<Vec<_>>())
    );
}

#[test]
fn n16_a_host_without_ipv6_or_with_parameters_that_cannot_be_set() {
    let mut lab = Lab::new();
    lab.world.sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6").ok();
    lab.world.rk("sandbox create -p 8080:80 -p 127.0.0.1:8082:80 web").ok();
    lab.serve("web", "", &["80"]);
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9")]);
    lab.expect("host", &[("tcp 127.0.0.1 8082", "10.88.0.1")]);
    lab.world.rk("sandbox rm --force web").ok();
    drop(lab);
    let lab = Lab::new();
    let before = lab.world.observe();
    lab.world.sh("mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys").ok();
    let refused = lab.world.rk("sandbox create -p 8080:80 web");
    assert!(refused.code != 0 && refused.stderr.contains("ip_forward"), "{refused}");
    lab.world.sh("umount /proc/sys; rm -rf /run/mount").ok();
    lab.world.rk("gc").ok();
    before.assert_again(&lab.world, "a host whose parameters are read-only");
}

#[test]
fn n17_what_is_no_namespace_is_refused_and_the_host_untouched() {
    let lab = Lab::new();
    lab.world
        .sh("ip netns add good; ln -s /run/netns/good /run/link; touch /run/plain; mkdir /run/dir; mkfifo /run/fifo
             ip netns add dead; umount /run/netns/dead; ln -s /proc/self/ns/net /run/own")
        .ok();
    let before = lab.world.observe();
    for (path, code) in [
        ("/run/link", 2),
        ("/run/own", 2),
        ("/run/plain", 2),
        ("/run/dir", 2),
        ("/run/fifo", 2),
        ("/run/netns/dead", 2),
        ("/proc/self/ns/net", 2),
        ("/proc/self/ns/mnt", 2),
        ("/run/netns/none", 3),
        ("../../proc/self/ns/net", 2),
    ] {
        let output = lab.world.rkbox(["net", "add", "connet", path]);
        assert_eq!(output.code, code, "{output}");
        common::Observation::assert_same(&before, &lab.world.observe());
    }
}

#[test]
fn rounds_of_publishing_leave_no_residue() {
    let lab = Lab::new();
    lab.world.rk("sandbox create -p 1:1 -p 1:1/udp keep").ok();
    lab.world.sh("ip netns add other").ok();
    let before = lab.world.observe();
    let tracked = || lab.world.sh("grep -c 'dport=8080 ' /proc/net/nf_conntrack || true").stdout.trim().to_owned();
    for round in 0..25 {
        lab.world.rk("sandbox create -p 8080:80 -p 8080:80/udp -p 127.0.0.1:8082:80 web").ok();
        lab.world.rk("net add connet other").ok();
        if round == 0 {
            lab.expect("lan", &[("udp 192.0.2.1 8080", "nothing")]);
        }
        lab.world.rk("net del connet other").ok();
        lab.world.rk("sandbox rm --force web").ok();
    }
    assert_eq!(tracked(), "0");
    let cursor = |key: &str| !key.contains("last_reserved_ip");
    let without = |seen: &common::Observation| seen.only(cursor);
    let again = common::until(std::time::Duration::from_secs(5), || without(&lab.world.observe()), |now| *now == without(&before));
    assert!(again.is_ok(), "{:#?}", without(&before).difference(&again.unwrap_err()));
}
