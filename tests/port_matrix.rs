//! Published ports where they are asked for otherwise than of one IPv4 bridge: at `net add`, by portmap of a list, in IPv6, by `-P`, on
//! point-to-point and macvlan networks, with several networks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod lab;

use common::images;
use lab::{Lab, network};
use serde_json::{Value, json};

/// The elements of the maps of published ports, sorted.
fn published(lab: &Lab) -> Vec<String> {
    let text = "for m in ports ports6 bound bound6; do nft list map inet rkbox_ports $m 2>/dev/null | grep -oE '[^{,]* comment [^,}]*' || true; done";
    let mut lines: Vec<String> = lab.world.sh(text).ok().stdout.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort();
    lines
}

fn configure(lab: &Lab, name: &str, plugins: Value) {
    lab.world.configure(&format!("20-{name}.conflist"), &json!({"cniVersion": "1.0.0", "name": name, "plugins": plugins}).to_string());
}

fn bridge(subnets: &[&str]) -> Value {
    let list: Value = serde_json::from_str(&network("x", "br0", subnets)).unwrap();
    list["plugins"][0].clone()
}

/// A list of bridge and portmap.
fn with_portmap(lab: &Lab, more: Value) {
    let mut portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    portmap.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    configure(lab, "n", json!([bridge(&["10.77.0.0/24", "fd77::/64"]), portmap]));
}

#[test]
fn net_add_publishes_and_net_del_takes_back() {
    let mut lab = Lab::new();
    lab.world.sh("ip netns add web; ip netns add db").ok();
    let output = lab.world.rk("net add -p 8080:80 -p 127.0.0.1:8081:80 -p 80/udp connet web").ok();
    let free = output.stdout.split(", ").find_map(|word| word.trim().strip_suffix("->80/udp")?.parse::<u16>().ok()).unwrap();
    assert!(output.stdout.contains("connet  eth0  8080->80/tcp, 127.0.0.1:8081->80/tcp, ") && free >= 1024, "{output}");
    lab.serve("web", "", &["80"]);
    lab.expect(
        "lan",
        &[("tcp 192.0.2.1 8080", "192.0.2.9"), (&format!("udp 192.0.2.1 {free}"), "192.0.2.9"), ("tcp 192.0.2.1 8081", "refused")],
    );
    lab.expect("host", &[("tcp 127.0.0.1 8080", "10.88.0.1"), ("tcp 127.0.0.1 8081", "10.88.0.1")]);
    lab.world.rk("net check connet web").ok();
    // What is taken is refused, before anything is made.
    let before = lab.host_facts();
    lab.world.rk("net add -p 8080:81 connet db").fails(4).says("port 8080/tcp is published already");
    lab.world.rk("net add -p 8080:81 -p 8080:82 connet db").fails(2).says("published twice");
    lab.world.rkbox(["net", "add", "-p", "9:9", "--cap-args", r#"{"portMappings":[]}"#, "connet", "db"]).fails(2).says("asked for twice");
    common::Observation::assert_same(&before, &lab.host_facts());
    lab.serve("host", "", &["9090"]);
    lab.world.rk("net add -p 9090:80 connet db").fails(4).says("in use by python3");
    lab.world.rk("--format json net add --force-publish -p 9090:80 connet db").ok().says("published 9090->80/tcp");
    lab.world.rk("net del connet db").ok();
    assert_eq!(published(&lab).len(), 3);
    lab.world.rk("net del connet web").ok();
    assert_eq!(published(&lab), [""; 0]);
    // By the cache alone.
    lab.world.rk("net add -p 8080:80 -p 127.0.0.1:8081:80 connet web").ok();
    lab.world.sh("rm -r $HOME/run/journals; ip netns del web").ok();
    lab.world.rk("net del connet web").ok();
    assert_eq!(published(&lab), [""; 0]);
    // By the collector, when the namespace is gone.
    for (journals, gc) in [("true", "net gc"), ("rm -r $HOME/run/journals", "net gc"), ("rm -r $HOME/run/journals", "gc")] {
        lab.world.sh("ip netns add web").ok();
        lab.world.rk("net add -p 8080:80 connet web").ok();
        lab.world.sh(&format!("{journals}; ip netns del web")).ok();
        lab.world.rk(gc).ok();
        assert_eq!(published(&lab), [""; 0], "{journals}, {gc}");
    }
}

#[test]
fn a_list_with_portmap_gets_the_ports_of_the_command_line() {
    let mut lab = Lab::new();
    with_portmap(&lab, json!({}));
    lab.world.sh("ip netns add web").ok();
    lab.world.rk("net add -p 8080:80 -p 80 n web").ok().prints("n  eth0  8080->80/tcp, ");
    let entry = lab.world.sh("cat $HOME/cni/results/n-*").ok().json();
    let mappings = entry["capabilityArgs"]["portMappings"].as_array().unwrap().clone();
    assert_eq!((mappings.len(), &mappings[0]), (2, &json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"})));
    let mark = format!("comment \"n/eth0/{}\"", entry["containerId"].as_str().unwrap());
    assert!(published(&lab).len() == 4 && published(&lab).iter().all(|line| line.contains(&mark)), "{:?}", published(&lab));
    lab.serve("web", "", &["80"]);
    lab.settle();
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9"), ("tcp 2001:db8::1 8080", "2001:db8::9")]);
    lab.world.rk("net check n web").ok();
    lab.world.rk("sandbox create --net n -p 8080:80 box").fails(4).says("port 8080/tcp is published already");
    lab.world.rk("net del n web").ok();
    assert_eq!(published(&lab), [""; 0]);
    // A sandbox and a container.
    lab.world.rk("sandbox create --net n -p 8080:80 -p 0.0.0.0:8081:80 box").ok();
    let id = lab.world.sh("rkbox --format json sandbox ls | jq -r '.[0].id'").ok().stdout.trim().to_owned();
    assert!(
        published(&lab).len() == 3 && published(&lab).iter().all(|line| line.contains(&format!("n/eth0/{id}"))),
        "{:?}",
        published(&lab)
    );
    lab.world.rk("sandbox ls").ok().prints("8080->80/tcp");
    lab.serve("box", "", &["80"]);
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9"), ("tcp 192.0.2.1 8081", "192.0.2.9"), ("tcp 2001:db8::1 8081", "refused")]);
    lab.world.rk("sandbox create --net n -p 8080:80 other").fails(4).says(&format!("published already, on all addresses for {id}"));
    lab.world.rk("sandbox rm --force box").ok();
    assert_eq!(published(&lab), [""; 0]);
    lab.world.rk(&format!("image load {}", images().oci_archive("busybox"))).ok();
    lab.world.rk("run -d --net n -p 8080:80 --name c busybox sleep 1000").ok();
    assert_eq!(published(&lab).len(), 2);
    lab.world.sh("rm $HOME/run/journals/*").ok();
    lab.world.rk("rm --force c").ok();
    assert_eq!(published(&lab), [""; 0]);
    // What portmap is told beside the ports counts.
    with_portmap(&lab, json!({"masqAll": true}));
    lab.world.rk("sandbox create --net n -p 8080:80 box").ok();
    lab.serve("box", "", &["80"]);
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "10.77.0.1")]);
    lab.world.rk("sandbox rm --force box").ok();
    // Another program that declares the capability is handed them as well.
    lab.world.sh(r#"printf '#!/bin/sh\nconf=$(cat); printf %%s "$conf" >/tmp/rkbox-world/told\n[ $CNI_COMMAND = ADD ] && printf %%s "$conf" | jq -c .prevResult\nexit 0\n' >$HOME/mapper; chmod +x $HOME/mapper"#).ok();
    configure(&lab, "n", json!([bridge(&["10.77.0.0/24"]), {"type": "mapper", "capabilities": {"portMappings": true}}]));
    lab.world.rk("--cni-path /tmp/rkbox-world sandbox create --net n -p [::]:8080:80 -p 8081:80 box").ok();
    let told = lab.world.sh("cat $HOME/told").ok().json()["runtimeConfig"]["portMappings"].clone();
    assert_eq!((&told[0]["hostIP"], &told[1]), (&json!("::"), &json!({"hostPort": 8081, "containerPort": 80, "protocol": "tcp"})));
    assert_eq!(published(&lab), [""; 0]);
    lab.world.rk("sandbox ls").ok().prints("8081->80/tcp");
    lab.world.rk("--cni-path /tmp/rkbox-world sandbox rm --force box").ok();
}

#[test]
fn ipv6_addresses_are_published_on_like_those_of_ipv4() {
    let mut lab = Lab::new();
    configure(&lab, "n", json!([bridge(&["10.77.0.0/24", "fd77::/64"])]));
    lab.world.sh("ip address add 2001:db8::2/64 dev uplink nodad").ok();
    let ports =
        "-p 8080:80 -p [2001:db8::1]:8081:80 -p [::]:8082:80 -p 0.0.0.0:8083:80 -p [2001:db8::1]:8084:80/udp -p [::ffff:192.0.2.1]:8085:80";
    let made = lab.world.rk(&format!("sandbox create --net n {ports} web")).ok();
    assert!(made.stderr.is_empty(), "{made}");
    lab.world.rk("sandbox create --net n db").ok();
    lab.serve("web", "", &["80"]);
    lab.settle();
    lab.expect(
        "lan",
        &[
            ("tcp 2001:db8::1 8080", "2001:db8::9"),
            ("tcp 2001:db8::2 8080", "2001:db8::9"),
            ("tcp 192.0.2.1 8080", "192.0.2.9"),
            ("tcp 2001:db8::1 8081", "2001:db8::9"),
            ("tcp 2001:db8::2 8081", "refused"),
            ("tcp 192.0.2.1 8081", "refused"),
            ("tcp 2001:db8::2 8082", "2001:db8::9"),
            ("tcp 192.0.2.1 8082", "refused"),
            ("tcp 192.0.2.1 8083", "192.0.2.9"),
            ("tcp 2001:db8::1 8083", "refused"),
            ("udp 2001:db8::1 8084", "2001:db8::9"),
            ("tcp 192.0.2.1 8085", "192.0.2.9"),
            ("tcp 192.0.2.2 8085", "refused"),
        ],
    );
    // From this host by its own addresses, but not by ::1; from the container itself and its neighbour.
    lab.expect(
        "host",
        &[
            ("tcp 2001:db8::1 8080", "2001:db8::1"),
            ("tcp fd77::1 8080", "fd77::1"),
            ("tcp ::1 8080", "refused"),
            ("tcp 127.0.0.1 8080", "10.77.0.1"),
        ],
    );
    for inside in ["web", "db"] {
        lab.expect(
            inside,
            &[("tcp 2001:db8::1 8080", "fd77::1"), ("tcp 2001:db8::1 8081", "fd77::1"), ("tcp 2001:db8::2 8081", "refused")],
        );
    }
    lab.world.rk("sandbox create --net n -p [::1]:9090:80 other").fails(9).says("back to [::1]").says("hint: publish it on 127.0.0.1");
    lab.world
        .rk("sandbox create --net n -p [2001:db8::2]:8080:80 other")
        .fails(4)
        .says("published already, on all addresses for sandbox web");
    lab.world.rk("sandbox rm --force web").ok();
    lab.expect("lan", &[("tcp 2001:db8::1 8080", "refused"), ("tcp 2001:db8::1 8081", "refused")]);
}

#[test]
fn every_exposed_port_gets_a_free_one() {
    let lab = Lab::new();
    let program = r#"
import hashlib, json, os, sys
root = sys.argv[1]
def read(digest): return json.load(open(f"{root}/blobs/sha256/{digest[7:]}"))
def write(value):
    text = json.dumps(value).encode(); digest = hashlib.sha256(text).hexdigest()
    open(f"{root}/blobs/sha256/{digest}", "wb").write(text)
    return "sha256:" + digest, len(text)
index = json.load(open(f"{root}/index.json"))
manifest = read(index["manifests"][0]["digest"])
config = read(manifest["config"]["digest"])
config["config"]["ExposedPorts"] = {"80/tcp": {}, "53/udp": {}, "7000-7002": {}}
manifest["config"]["digest"], manifest["config"]["size"] = write(config)
index["manifests"][0]["digest"], index["manifests"][0]["size"] = write(manifest)
json.dump(index, open(f"{root}/index.json", "w"))
"#;
    std::fs::write(lab.world.path("expose.py"), program).unwrap();
    lab.world.rk(&format!("image load {}", images().oci_archive("busybox"))).ok();
    lab.world.sh("rkbox image save busybox --to oci:$HOME/out:latest; python3 $HOME/expose.py $HOME/out; rkbox image load oci:$HOME/out:latest --name exposed").ok();
    lab.world.rk("run -d -P -p 8080:80 --name c exposed sleep 1000").ok();
    let lines = published(&lab);
    let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!((lines.len(), count(" . 80 "), count("udp . ")), (6, 0, 1), "{lines:?}");
    let targets = lab.world.sh("nft list map inet rkbox_ports ports").ok().stdout;
    for (target, times) in [(". 80", 2), (". 53", 1), (". 7000", 1), (". 7001", 1), (". 7002", 1)] {
        let ends = |part: &&str| part.trim_end_matches([' ', '}', '\n', '\t']).ends_with(&format!("10.88.0.2 {target}"));
        assert_eq!(targets.split(',').flat_map(|part| part.split('\n')).filter(ends).count(), times, "{target}: {targets}");
    }
    lab.world.rk("port c").ok().prints("53/udp");
    lab.world.rk("run --rm -P --net none exposed true").fails(125).says("--net none");
    lab.world.rk("rm --force c").ok();
    assert_eq!(published(&lab), [""; 0]);
}

#[test]
fn a_point_to_point_network_publishes_and_a_macvlan_says_why_not() {
    let mut lab = Lab::new();
    let ranges = json!([[{"subnet": "10.66.0.0/24"}], [{"subnet": "fd66::/64"}]]);
    let ipam = json!({"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]});
    configure(&lab, "point", json!([{"type": "ptp", "ipam": ipam}]));
    configure(
        &lab,
        "wide",
        json!([{"type": "macvlan", "master": "uplink", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.67.0.0/24"}]]}}]),
    );
    lab.world.rk("sandbox create --net point -p 8080:80 -p 127.0.0.1:8081:80 web").ok();
    lab.world.rk("sandbox create --net point db").ok();
    lab.serve("web", "", &["80"]);
    lab.settle();
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9"), ("tcp 2001:db8::1 8080", "2001:db8::9"), ("tcp 192.0.2.1 8081", "refused")]);
    lab.expect("host", &[("tcp 127.0.0.1 8080", "10.66.0.1"), ("tcp 127.0.0.1 8081", "10.66.0.1")]);
    for inside in ["web", "db"] {
        lab.expect(inside, &[("tcp 192.0.2.1 8080", "10.66.0.1")]);
    }
    let before = lab.host_facts();
    lab.world.rk("sandbox create --net wide -p 9090:80 far").fails(9).says("network wide has no interface on this host").says("hint: ");
    lab.world.sh("ip netns add far").ok();
    lab.world.rk("net add -p 9090:80 wide far").fails(9).says("network wide has no interface on this host");
    common::Observation::assert_same(&before, &lab.host_facts());
    lab.world.rk("sandbox rm --force web").ok();
    assert_eq!(published(&lab), [""; 0]);
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "refused")]);
}

#[test]
fn of_several_networks_the_first_one_has_the_ports() {
    let mut lab = Lab::new();
    lab.world.configure("20-two.conflist", &network("two", "br2", &["10.79.0.0/24", "fd79::/64"]));
    for (nets, target, other) in [("--net connet --net two", "10.88.0.", "10.79.0."), ("--net two --net connet", "10.79.0.", "10.88.0.")] {
        lab.world.rk(&format!("sandbox create {nets} -p 0.0.0.0:8080:80 web")).ok();
        let map = lab.world.sh("nft list map inet rkbox_ports ports").ok().stdout;
        assert!(map.contains(&format!(": {target}")) && !map.contains(&format!(": {other}")), "{nets}: {map}");
        lab.serve("web", "", &["80"]);
        lab.expect("lan", &[("tcp 192.0.2.1 8080", "192.0.2.9")]);
        lab.expect("host", &[("tcp 127.0.0.1 8080", &format!("{target}1"))]);
        lab.world.rk("sandbox rm --force web").ok();
    }
    // The second network's family does not help, and the command's help says which one counts.
    lab.world.rk("sandbox create --net connet --net two -p [::]:8080:80 web").fails(2).says("no IPv6 address");
    lab.world.rk("sandbox create --help").ok().prints("-p leads to the first");
    assert_eq!(published(&lab), [""; 0]);
}

#[test]
fn a_container_of_a_former_boot_has_its_ports_again() {
    let lab = Lab::new();
    with_portmap(&lab, json!({}));
    lab.world.rk(&format!("image load {}", images().oci_archive("busybox"))).ok();
    for (net, ports) in [("n", 5), ("connet", 3)] {
        lab.world.rk(&format!("run -d --net {net} -p 8080:80 -p 127.0.0.1:8081:80 -p 53/udp --name c busybox sleep 1000")).ok();
        let before = published(&lab);
        assert_eq!(before.len(), ports, "{before:?}");
        let shown = lab.world.rk("port c").ok().stdout;
        common::reboot(&lab.world);
        assert_eq!(published(&lab), [""; 0]);
        lab.world.rk("start c").ok();
        assert_eq!(published(&lab), before, "{net}");
        assert_eq!(lab.world.rk("port c").ok().stdout, shown);
        lab.world.rk("rm --force c").ok();
        assert_eq!(published(&lab), [""; 0], "{net}");
    }
}
