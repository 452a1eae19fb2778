//! `rkbox net create`, `rm`, `connect`, `disconnect`, `gc`, `leases`, `status`, and several networks of one sandbox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::World;
use serde_json::Value;

fn world() -> World {
    let mut world = World::new();
    world.allow_leaks();
    world
}

#[test]
fn a_new_network_avoids_what_is_used_and_says_so() {
    let world = world();
    world.sh("ip link add up0 type veth peer name up1; ip link set up0 up; ip addr add 10.89.0.9/23 dev up0").ok();
    let out = world.rk("net create a").ok().prints("a").says("avoided 10.89.0.0/23 (up0)").says("a is the default network now");
    assert!(out.stderr.contains("10.89.2.0/24 it is"), "{out}");
    world.rk("net create b").ok().says("network a");
    world.rk("net create a").fails(4).says("there is a network a already");
    world.rk("net create c --subnet 10.89.3.0/25").fails(5).says("overlaps 10.89.3.0/24 of network b").says("--allow-overlap");
    world.rk("net create c --subnet 10.89.3.0/25 --allow-overlap").ok();
    world.rk("net create d --subnet 10.0.0.1/24").fails(2).says("host bits");
    world.rk("net create d --subnet 10.7.0.0/24 --gateway 10.8.0.1").fails(2).says("is in no subnet");
    let list: Value = world.rk("net conf a").ok().json();
    assert_eq!(list["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.89.2.0/24");
    world.sh("ip netns add web").ok();
    world.rk("net add a web").ok().prints("10.89.2.2/24  via 10.89.2.1");
    world.rk("net rm a").fails(5).says("in use: 10.89.2.2");
    world.rk("net leases a").ok().prints("live");
    world.rk("net del a web").ok();
    world.rk("net rm a b c").ok();
    world.sh("! ip link show br-a 2>/dev/null; ls $HOME/cni-conf | wc -l | grep -qx 0").ok();
    world.configure("10-x.conflist", r#"{"name":"x","plugins":[{"type":"bridge"}]}"#);
    world.rk("net rm x").fails(5).says("was not made by rkbox net create");
    world.rk("net rm nothing").fails(3);
}

#[test]
fn options_of_a_new_network_do_what_they_say() {
    let world = world();
    world.rk("net create two --subnet 10.70.0.0/24 --gateway 10.70.0.254 --ip-range 10.70.0.128/26 --ipv6 --mtu 1400 --isolated").ok();
    world.sh("ip netns add web; ip netns add db").ok();
    let result = world.rk("--format json net add two web").ok().json();
    assert_eq!((&result["ips"][0]["address"], &result["ips"][0]["gateway"]), (&"10.70.0.128/24".into(), &"10.70.0.254".into()));
    assert!(result["ips"][1]["address"].as_str().unwrap().starts_with("fd"), "{result}");
    world.rk("net add two db").ok();
    world.sh("ip -n web -6 route | grep -q '^default via fd'; ip -n web link show eth0 | grep -q 'mtu 1400'").ok();
    world.sh("bridge -d link show | grep -c 'isolated on' | grep -qx 2; grep -qx 1 /proc/sys/net/ipv6/conf/all/forwarding").ok();
    world.rk("net check two web").ok();
    world.rk("net create dark --subnet 10.71.0.0/24 --internal").ok();
    world.rk("net add dark web --ifname eth1").ok().prints("10.71.0.2/24");
    assert_eq!(world.sh("ip -n web route | grep -c default || true").ok().stdout.trim(), "1");
    for (network, netns, ifname) in [("dark", "web", "eth1"), ("two", "web", "eth0"), ("two", "db", "eth0")] {
        world.rk(&format!("net del {network} {netns} --ifname {ifname}")).ok();
    }
    world.rk("net rm two dark").ok();
    world.rk("gc").ok();
    world.sh("[ -z \"$(ip -o link | grep -E 'br-|rk')\" ]").ok();
}

#[test]
fn a_sandbox_has_several_networks_and_gets_more_while_it_lives() {
    let world = world();
    world.rk("net create a --subnet 10.81.0.0/24").ok();
    world.rk("net create b --subnet 10.82.0.0/24").ok();
    world.rk("net create c --subnet 10.83.0.0/24").ok();
    world.rk("sandbox create web --net a --net a").fails(2).says("named twice");
    world.rk("sandbox create web --net a --net host").fails(2).says("stands alone");
    world.rk("sandbox create web --net a --net b:ip=10.82.0.77,mac=02:00:00:00:00:07,ifname=back").ok();
    world.sh("ip -n web -o -4 addr show eth0 | grep -q 10.81.0.2; ip -n web -o -4 addr show back | grep -q 10.82.0.77").ok();
    world.sh("ip -n web link show back | grep -q 02:00:00:00:00:07; ip -n web route | grep -q '^default via 10.81.0.1 dev eth0'").ok();
    world.sh("ip -n web route | grep -q '^default via 10.82.0.1 dev back .*metric'").ok();
    world.rk("net connect c web").ok().prints("c  eth1  10.83.0.2/24  via 10.83.0.1");
    world.rk("net connect c web --ifname eth7").ok();
    world.rk("net disconnect a web").fails(5).says("was made with network a");
    world.rk("net disconnect c web").ok().prints("c  eth1");
    world.sh("! ip -n web link show eth1 2>/dev/null; ! ip -n web link show eth7 2>/dev/null").ok();
    world.rk("net disconnect c web").fails(3).says("not connected to c");
    world.rk("net connect c web").ok();
    world.rk("sandbox rm --force web").ok();
    for network in ["a", "b", "c"] {
        world.rk(&format!("net leases {network} --format json")).ok().prints("[]");
    }
    world.sh("ls $HOME/cni/results | wc -l | grep -qx 0").ok();
}

#[test]
fn gc_takes_the_dead_and_never_the_living() {
    let world = world();
    world.rk("net create a --subnet 10.84.0.0/24").ok();
    world.sh("ip netns add live; ip netns add dead").ok();
    world.rk("net add a live").ok();
    world.rk("net add a dead").ok();
    world.rk("sandbox create web --net a").ok();
    world.sh("ip netns del dead").ok();
    // Left by others: of a former boot, of this one, and by a crash of upstream's host-local.
    let pool = "/tmp/rkbox-world/cni/networks/a";
    world
        .sh(&format!(
            "printf 'old\\r\\neth0' >{pool}/10.84.0.50; touch -d '2001-01-01' {pool}/10.84.0.50
         printf 'other\\r\\neth0' >{pool}/10.84.0.51
         : >{pool}/10.84.0.52; touch -d '2001-01-01' {pool}/10.84.0.52"
        ))
        .ok();
    let table = world.rk("net leases a").ok().stdout;
    for (address, state) in
        [("10.84.0.2 ", "live"), ("10.84.0.3 ", "dead"), ("10.84.0.50", "former-boot"), ("10.84.0.51", "unknown"), ("10.84.0.52", "empty")]
    {
        let line = table.lines().find(|line| line.contains(address)).unwrap_or_else(|| panic!("{address}: {table}"));
        assert!(line.contains(state), "{line}");
    }
    let dry = world.rk("net gc a --dry-run").ok().stdout;
    assert!(dry.contains("would take back") && world.sh(&format!("ls {pool}/10.84.0.50")).code == 0, "{dry}");
    let out = world.rk("net gc a").ok().prints("/run/netns/dead").prints("10.84.0.50").says("1 lease of a left alone");
    assert!(!out.stdout.contains("10.84.0.51"), "{out}");
    let held = world.sh(&format!("cd {pool}; ls | grep '^10' | xargs")).ok().stdout;
    assert_eq!(held.trim(), "10.84.0.2 10.84.0.4 10.84.0.51");
    world.rk("net check a live").ok();
    world.rk("net gc a --unknown").ok().prints("10.84.0.51");
    world.rk("net status a").ok().prints("2      251");
    world.rk("net inspect a").ok().prints("\"builtin\": true");
    world.rk("sandbox rm --force web").ok();
    world.rk("net del a live").ok();
}

#[test]
fn which_file_wins_is_told_and_where_containerd_differs() {
    let world = world();
    world.configure("00-a.conf", r#"{"name":"a","type":"bridge","cniVersion":"0.4.0"}"#);
    world.configure("10-b.conflist", r#"{"name":"b","cniVersion":"1.0.0","plugins":[{"type":"bridge"},{"type":"calico"}]}"#);
    world.configure("20-b.conflist", r#"{"name":"b","cniVersion":"1.0.0","plugins":[{"type":"ptp"}]}"#);
    let out = world.rk("net ls").ok();
    assert!(out.stderr.contains("default: b of 10-b.conflist: lists (.conflist) come before"), "{out}");
    assert!(out.stderr.contains("containerd takes a of 00-a.conf instead"), "{out}");
    assert!(out.stdout.contains("bridge,calico*") && out.stdout.contains("(shadowed by 10-b.conflist)"), "{out}");
    let rows = world.rk("--format json net ls").ok().json();
    assert_eq!((&rows[0]["default"], &rows[1]["shadowed_by"]), (&true.into(), &"10-b.conflist".into()));
    assert_eq!(world.rk("net ls -q").ok().stdout, "b\nb\na\n");
}

#[test]
fn many_operations_of_two_programs_leave_no_duplicate_and_no_leak() {
    let mut world = world();
    world.limit = std::time::Duration::from_secs(300);
    world.rk("cni install /tmp/rkbox-world/bin").ok();
    let conf = r#"{"name":"n","cniVersion":"1.0.0","type":"x","ipam":{"type":"host-local","dataDir":"/tmp/rkbox-world/cni/networks","subnet":"10.60.0.0/22"}}"#;
    std::fs::write(world.path("conf"), conf).unwrap();
    // Eight workers of ADDs and DELs, by either program at random; what is kept is written down.
    let script = r#"
worker() {
    n=0
    while [ $n -lt 50 ]; do
        n=$((n + 1)); id=w$1-$n
        pick() { if [ $((($1 * 7 + n * 13 + $2) % 3)) = 0 ]; then echo /usr/lib/cni/host-local; else echo $HOME/bin/host-local; fi; }
        export CNI_CONTAINERID=$id CNI_NETNS=/x CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni
        CNI_COMMAND=ADD $(pick $1 0) <$HOME/conf | jq -r '.ips[0].address' >>$HOME/given.$1
        [ $((n % 5)) = 0 ] || CNI_COMMAND=DEL $(pick $1 1) <$HOME/conf
        [ $((n % 5)) != 0 ] || echo $id >>$HOME/kept.$1
    done
}
for w in 1 2 3 4 5 6 7 8; do worker $w & done
wait
"#;
    world.sh(script).ok();
    let given = world.sh("cat $HOME/given.* | wc -l").ok().stdout;
    assert_eq!(given.trim(), "400");
    assert_eq!(world.sh("cat $HOME/given.* | grep -c null || true").ok().stdout.trim(), "0");
    let kept = world.sh("cat $HOME/kept.* | sort").ok().stdout;
    let held = world.sh("cd $HOME/cni/networks/n; for f in 10.*; do head -n1 $f | tr -d '\\r'; done | sort").ok().stdout;
    assert_eq!(kept, held, "what is kept is what is held, each once");
    assert!(world.sh("ls -A $HOME/cni/networks/n | grep '^[.]' || true").ok().stdout.is_empty());
}
