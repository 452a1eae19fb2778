//! The life of images, namespaces, sandboxes and containers, as a person at a console sees it; and what other tools say of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::time::Instant;

use common::{Output, World, images, with_busybox};

/// A world with the busybox image.
/// Runs a line of the console; answers what it prints.
#[track_caller]
fn told(world: &World, line: &str) -> String {
    world.sh(line).ok().stdout
}

/// The one address of a sandbox.
#[track_caller]
fn address(world: &World, sandbox: &str) -> String {
    let seen = world.rkbox(["sandbox", "inspect", sandbox]).ok().json();
    let network = seen[0]["record"]["attachments"][0]["addresses"][0].as_str().unwrap().to_owned();
    network.split('/').next().unwrap().to_owned()
}

/// Asks until the server answers. (`wget` of Debian's static busybox cannot run without the libraries of a host: it dies of SIGSEGV.)
const FETCH: &str = "get() { printf 'GET / HTTP/1.0\\r\\n\\r\\n' | rkbox run --rm -i --sandbox $1 busybox nc -w 2 $2 80 | grep hello; }
        fetch() { for _ in $(seq 100); do if \"$@\" 2>/dev/null; then return 0; fi; sleep 0.05; done; return 1; }";

#[test]
fn images_are_loaded_listed_inspected_and_removed() {
    let world = World::new();
    for source in [images().oci_archive("busybox"), format!("docker-archive:{}", images().docker_archive("layers"))] {
        world.rkbox(["image", "load", &source]).ok();
    }
    world.rk("image ls").ok().prints("busybox").prints("layers");
    assert_eq!(world.rk("--format json image ls").ok().json().as_array().unwrap().len(), 2);
    let seen = world.rk("image inspect busybox").ok().json();
    assert!(seen.to_string().contains("sha256:"), "{seen}");
    world.rk("image rm busybox").ok();
    world.rk("image rm busybox").fails(3).says("busybox");
    let name = world.rk("--format json image ls").ok().json();
    world.rkbox(["image", "rm", name[0]["repository"].as_str().unwrap_or_else(|| panic!("{name}"))]).ok();
    world.rk("gc").ok();
    assert_eq!(world.rk("--format json image ls").ok().json().as_array().unwrap().len(), 0);
    // An empty store stays a valid OCI layout.
    let left: Vec<String> =
        world.observe().facts.into_iter().map(|(key, _)| key).filter(|key| key.starts_with("file") && key.contains("/lib/")).collect();
    let kept = ["index.json", "oci-layout", "/lib/images"];
    assert!(left.iter().all(|key| kept.iter().any(|kept| key.ends_with(kept))), "{left:#?}");
}

#[test]
fn a_namespace_of_somebody_else_is_attached_joined_and_left_alone() {
    let world = with_busybox();
    told(&world, "ip netns add connet; rkbox net add connet connet");
    let out = told(&world, "ip -n connet -4 -o addr show eth0; ip -n connet route; rkbox net check connet connet");
    assert!(out.contains("10.88.0.2/16") && out.contains("default via 10.88.0.1"), "{out}");
    world.rk("run --rm --netns connet busybox ip addr").ok().prints("10.88.0.2/16");
    let before = world.observe();
    world.rk("run --rm --netns connet busybox true").ok();
    let links = told(&world, "readlink /proc/self/ns/net; ip netns exec connet readlink /proc/self/ns/net");
    let of_container = world.rk("run --rm --netns connet busybox readlink /proc/self/ns/net").ok().stdout;
    assert!(links.ends_with(&of_container) && !links.starts_with(&of_container), "{links}{of_container}");
    let gone = before.difference(&world.observe());
    assert!(!gone.iter().any(|line| line.starts_with('-')), "{gone:?}");
    world.rk("net check connet connet").ok();
    told(&world, "ping -c1 -W2 10.88.0.2; rkbox net del connet connet; ip netns delete connet");
}

#[test]
fn two_sandboxes_reach_each_other_and_the_host_reaches_both() {
    let world = with_busybox();
    told(&world, "rkbox sandbox create web; rkbox sandbox create db");
    let (web, db) = (address(&world, "web"), address(&world, "db"));
    assert!(web != db, "{web} {db}");
    let seen = told(&world, "ip -n web -4 -o addr show eth0; ip -n web link show lo");
    assert!(seen.contains(&format!("{web}/16")) && seen.contains("LOOPBACK,UP"), "{seen}");
    told(&world, &format!("ping -c1 -W2 {web}; ping -c1 -W2 {db}; ip netns exec db ping -c1 -W2 {web}"));
    let script = format!(
        "{FETCH}
        rkbox run --rm --sandbox web --entrypoint '[\"sh\",\"-c\",\"mkdir /www; echo hello from web > /www/index.html; exec httpd -f -p 80 -h /www\"]' busybox &
        fetch get db {web}
        fetch get web 127.0.0.1
        fetch wget -t 1 -T 2 -qO- http://{web}/
        rkbox sandbox rm --force web db"
    );
    assert_eq!(told(&world, &script).matches("hello from web").count(), 3);
}

#[test]
fn containers_of_a_sandbox_share_net_ipc_uts_and_its_files() {
    let world = with_busybox();
    told(&world, "rkbox sandbox create --hostname pod web");
    let run = |line: &str| world.rk(&format!("run --rm --sandbox web busybox {line}")).ok().stdout;
    let links = ["net", "ipc", "uts", "mnt", "pid"].map(|kind| {
        let link = |_| run(&format!("readlink /proc/self/ns/{kind}"));
        (kind, [0, 1].map(link))
    });
    for (kind, [one, two]) in links {
        // The kernel gives the number of a dead namespace to the next one: mnt and pid can be told only from the host's.
        assert!(one == two || matches!(kind, "mnt" | "pid"), "{kind}: {one} {two}");
        assert_ne!(one.trim(), std::fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap().to_str().unwrap());
    }
    assert_eq!(run("hostname").trim(), "pod");
    assert_eq!(run("cat /etc/hostname").trim(), "pod");
    let address = address(&world, "web");
    let hosts = run("cat /etc/hosts");
    assert!(hosts.contains("127.0.0.1") && hosts.lines().any(|line| line.contains(&address) && line.contains("pod")), "{hosts}");
    assert!(!run("cat /etc/resolv.conf").is_empty());
    world.rkbox(["run", "--rm", "--sandbox", "web", "busybox", "sh", "-c", "echo shared > /dev/shm/note"]).ok();
    assert_eq!(run("cat /dev/shm/note").trim(), "shared");
    // A System V queue made in the pod is seen by its containers, and by nobody else.
    told(&world, "pid=$(rkbox --format json sandbox ls | jq '.[0].pid'); nsenter -t $pid -i ipcmk -Q; [ -z \"$(ipcs -q | grep 0x)\" ]");
    assert!(run("cat /proc/sysvipc/msg").lines().count() == 2);
    world.rk("sandbox rm web").ok();
}

#[test]
fn what_leaves_the_pod_network_is_masqueraded_and_what_stays_is_not() {
    let world = World::new();
    told(
        &world,
        "ip netns add outside; ip link add uplink type veth peer name eth0 netns outside; ip addr add 192.0.2.1/24 dev uplink; ip link set uplink up
        ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside link set eth0 up; ip -n outside route add default via 192.0.2.1
        rkbox sandbox create web; rkbox sandbox create db",
    );
    let (web, db) = (address(&world, "web"), address(&world, "db"));
    let script = |netns: &str, server: &str| {
        format!(
            "cd $HOME; mkdir -p www/cgi-bin
            ip netns exec {netns} busybox httpd -f -p 8000 -h $HOME/www & server=$!
            printf '#!/bin/sh\\nprintf \"\\\\r\\\\n\"; echo $REMOTE_ADDR\\n' > www/cgi-bin/who; chmod +x www/cgi-bin/who
            {FETCH}
            fetch ip netns exec web wget -t 1 -T 2 -qO- http://{server}:8000/cgi-bin/who
            kill $server"
        )
    };
    assert_eq!(told(&world, &script("outside", "192.0.2.2")).trim().trim_matches(['[', ']']).trim_start_matches("::ffff:"), "192.0.2.1");
    assert_eq!(told(&world, &script("db", &db)).trim().trim_matches(['[', ']']).trim_start_matches("::ffff:"), web);
    told(&world, "rkbox sandbox rm web db; ip netns delete outside");
}

#[test]
fn run_rm_leaves_nothing_and_answers_the_status_of_the_process() {
    let world = with_busybox();
    world.rk("gc").ok();
    let before = world.observe();
    assert_eq!(world.rk("run --rm busybox echo hi").ok().stdout, "hi\n");
    let status = |script: &str| world.rkbox(["run", "--rm", "busybox", "sh", "-c", script]).code;
    assert_eq!((status("exit 7"), status("sh -c 'kill -9 $$'; exit $?"), status("exit 255")), (7, 137, 255));
    world.rk("run --rm busybox no-such-program").fails(127);
    world.rk("run --rm busybox /etc").fails(126);
    world.rk("run --rm no-such-image true").fails(125);
    world.rk("run --rm --sandbox none busybox true").fails(125);
    world.rk("gc").ok();
    before.assert_again(&world, "run --rm");
}

#[test]
fn the_options_of_run_reach_the_process() {
    let world = with_busybox();
    let run = |words: &[&str]| world.rkbox([&["run", "--rm"], words].concat());
    std::fs::create_dir(world.path("data")).unwrap();
    std::fs::write(world.path("data/in"), "from the host").unwrap();
    let data = world.path("data").display().to_string();
    let rw = run(&["-v", &format!("{data}:/data"), "busybox", "sh", "-c", "cat /data/in; echo back > /data/out"]).ok();
    assert_eq!((rw.stdout.as_str(), std::fs::read_to_string(world.path("data/out")).unwrap().as_str()), ("from the host", "back\n"));
    let ro = run(&["-v", &format!("{data}:/data:ro"), "busybox", "touch", "/data/no"]);
    assert!(ro.code == 1 && ro.stderr.contains("Read-only"), "{ro}");
    let env = run(&["-e", "A=b c", "-e", "HOME", "-w", "/tmp", "-u", "7:8", "busybox", "sh", "-c", "echo $A; pwd; id -u; id -g"]).ok();
    assert_eq!(env.stdout, "b c\n/tmp\n7\n8\n");
    assert_eq!(run(&["--entrypoint", "echo", "busybox", "one"]).ok().stdout, "one\n");
    assert_eq!(run(&["--hostname", "named", "busybox", "hostname"]).ok().stdout, "named\n");
    let fixed = run(&["--read-only", "busybox", "touch", "/no"]);
    assert!(fixed.code == 1 && fixed.stderr.contains("Read-only"), "{fixed}");
    assert_eq!(told(&world, "printf given | rkbox run --rm -i busybox cat; printf lost | rkbox run --rm busybox cat"), "given");
    assert_eq!(run(&["--net", "none", "busybox", "ls", "/sys/class/net"]).ok().stdout.trim(), "lo");
    let host = run(&["--net", "host", "busybox", "readlink", "/proc/self/ns/net"]).ok().stdout;
    assert_eq!(host.trim(), world.namespaces()[0].to_str().unwrap());
}

#[test]
fn sixty_four_megabytes_pass_through_both_streams_intact() {
    let world = with_busybox();
    let sums = told(
        &world,
        "head -c 67108864 /dev/urandom > $HOME/blob; sha256sum < $HOME/blob
        cat $HOME/blob | rkbox run --rm -i busybox cat | sha256sum",
    );
    let sums: Vec<&str> = sums.lines().collect();
    assert_eq!(sums[0], sums[1]);
}

#[test]
fn stop_frees_the_address_and_keeps_the_record_and_rm_takes_both() {
    let world = World::new();
    let empty = world.observe().only(|key| !key.contains(common::world::DIR));
    let id = told(&world, "rkbox sandbox create web").trim().to_owned();
    assert_eq!(id.len(), 64, "{id}");
    let leases = || world.sh("ls $RKBOX_CNI_STATE_DIR/networks/connet | grep -c '^10' || true").ok().stdout.trim().to_owned();
    assert_eq!(leases(), "1");
    world.rk("sandbox create web").fails(4).says("web");
    world.rk("sandbox stop web").ok();
    assert_eq!(leases(), "0");
    world.rk("sandbox stop web").ok();
    let seen = world.rkbox(["--format", "json", "sandbox", "ls"]).ok().json();
    assert_eq!((seen[0]["state"].as_str(), seen[0]["name"].as_str()), (Some("notready"), Some("web")));
    world.rkbox(["sandbox", "inspect", &id[..8]]).ok().prints(&id);
    world.rkbox(["sandbox", "rm", &id[..3]]).fails(3).says("no sandbox is named");
    world.rk("sandbox create web").fails(4);
    world.rkbox(["sandbox", "rm", &id[..5]]).ok();
    world.rk("sandbox rm web").fails(3).says("no sandbox is named web");
    world.rk("sandbox stop web").fails(3);
    world.rk("sandbox rm --force web").ok();
    world.rk("gc").ok();
    let now = world.observe().only(|key| !key.contains(common::world::DIR));
    assert_eq!(empty.difference(&now), Vec::<String>::new());
}

#[test]
fn timings_add_up_to_the_total_and_the_total_to_the_wall_clock() {
    let world = with_busybox();
    for line in ["sandbox create --timings web", "run --rm --timings busybox true", "sandbox rm --timings web"] {
        let started = Instant::now();
        let output: Output = world.rk(&format!("--format json {line}")).ok();
        let wall = started.elapsed().as_secs_f64() * 1e6;
        let said: serde_json::Value = serde_json::from_str(output.stderr.trim()).unwrap();
        let sum: f64 =
            said["rows"].as_array().unwrap().iter().filter(|row| row["beside"] == false).map(|row| row["micros"].as_f64().unwrap()).sum();
        let total = said["total_micros"].as_f64().unwrap();
        assert!((sum - total).abs() < total * 0.05 + 500.0, "{line}: rows {sum}, total {total}");
        assert!(total < wall && total > wall * 0.5 - 20e3, "{line}: total {total}, wall clock {wall}");
        world.rk("image ls").ok();
    }
}

#[test]
fn json_parses_everywhere() {
    let world = with_busybox();
    told(&world, "ip netns add one; rkbox net add connet one");
    for line in [
        "sandbox create web",
        "sandbox ls",
        "sandbox inspect web",
        "image ls",
        "image inspect busybox",
        "net ls",
        "net check connet one",
        "ps -a",
        "gc",
    ] {
        let output = world.rk(&format!("--format json {line}")).ok();
        serde_json::from_str::<serde_json::Value>(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    }
    told(&world, "rkbox sandbox rm web; rkbox net del connet one; ip netns delete one");
}

#[test]
fn the_pool_and_the_bridge_are_shared_with_the_reference_plugins() {
    let world = World::new();
    let script = r#"
    conf=$HOME/conf; mkdir -p $RKBOX_CNI_CONF_DIR
    cat > $conf <<EOF
{"cniVersion":"1.0.0","name":"shared","type":"bridge","bridge":"sh0","isDefaultGateway":true,"hairpinMode":true,
 "ipam":{"type":"host-local","dataDir":"$RKBOX_CNI_STATE_DIR/networks","ranges":[[{"subnet":"10.77.0.0/16"}]]}}
EOF
    cp $conf $RKBOX_CNI_CONF_DIR/10-shared.conf
    plugin() { CNI_COMMAND=$1 CNI_CONTAINERID=ref-$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni /usr/lib/cni/bridge < $conf >> $HOME/plugin.log 2>&1; }
    ip netns add theirs; ip netns add ours
    plugin ADD theirs; rkbox net add shared ours
    ip netns exec theirs ping -c1 -W3 10.77.0.3 >&2; ip netns exec ours ping -c1 -W3 10.77.0.2 >&2
    one() { n=$1
        ip netns add n$n
        if [ $((n % 2)) = 0 ]; then plugin ADD n$n; else rkbox net add shared n$n >/dev/null; fi
        if [ $((n % 3)) = 0 ]; then if [ $((n % 2)) = 0 ]; then plugin DEL n$n; else rkbox net del shared n$n >/dev/null; fi; fi; }
    jobs=''
    for w in 0 1 2 3 4 5 6 7; do (for i in $(seq 1 19); do one $((w * 19 + i)); done) & jobs="$jobs $!"; done
    for job in $jobs; do wait $job; done
    for n in $(seq 1 152); do [ $((n % 3)) = 0 ] || ip -n n$n -4 -o addr show eth0 | awk '{print $4}'; done
    "#;
    let out = told(&world, script);
    let addresses: Vec<&str> = out.lines().filter(|line| line.starts_with("10.77.")).collect();
    let distinct: BTreeSet<&str> = addresses.iter().copied().collect();
    assert_eq!((addresses.len(), distinct.len()), (102, 102), "an address was given twice, or none");
    let held = told(&world, "ls $RKBOX_CNI_STATE_DIR/networks/shared | grep -c '^10[.]'; ip -o link show master sh0 | wc -l");
    assert_eq!(held.split_whitespace().collect::<Vec<_>>(), ["104", "104"]);
}

#[test]
fn a_runtime_that_refuses_this_host_says_so_itself_and_nothing_stays() {
    let world = World::new();
    let before = world.observe();
    // crun wants one cgroup hierarchy; where it works there is nothing to see here.
    let output = world.rk("--runtime crun sandbox create web");
    if output.code == 0 {
        world.rk("sandbox rm web").ok();
    } else {
        assert!(output.stderr.contains("cgroup"), "{output}");
        world.rk("sandbox inspect web").fails(3);
    }
    world.rk("gc").ok();
    before.assert_again(&world, "a refused runtime, then gc");
}
