//! containerd and podman of Debian with rkbox as their CNI plugins, for real: a container that reaches its gateway, and nothing left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::World;

const LIST: &str = r#"{"cniVersion":"VERSION","name":"n","plugins":[{"type":"bridge","bridge":"brn","isGateway":true,"ipMasq":true,
"hairpinMode":true,"ipam":{"type":"host-local","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.98.0.0/24","gateway":"10.98.0.1"}]]}},
{"type":"firewall"},{"type":"tuning","mtu":1400},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;

/// The container's command: its address, and an answer of the gateway.
const INSIDE: &str = "export PATH=/bin; ip -4 addr show eth0; ip route; ping -c1 -W5 10.98.0.1";

fn ready(version: &str) -> World {
    let mut world = World::new();
    world.allow_leaks();
    world.limit = std::time::Duration::from_secs(120);
    world.rk("cni install /tmp/rkbox-world/bin").ok();
    world.configure("10-n.conflist", &LIST.replace("VERSION", version));
    world
        .sh("R=$HOME/rootfs; mkdir -p $R/bin $R/etc $R/proc $R/dev $R/sys $R/tmp $R/run; cp /bin/busybox $R/bin/busybox
             for c in sh ip ping; do ln -s busybox $R/bin/$c; done; mkdir -p /run/lock /run/netns")
        .ok();
    world
}

fn assert_attached_and_gone(world: &World, output: &common::Output) {
    for expected in ["10.98.0.2/24", "mtu 1400", "default via 10.98.0.1", "1 packets received"] {
        assert!(output.stdout.contains(expected), "{expected}: {output}");
    }
    world.sh("[ -z \"$(ip -o link show master brn)\" ]").ok();
    world.sh("! iptables -S CNI-FORWARD | grep 10.98.0.2").ok();
    world.sh("[ -z \"$(find /var/lib/cni $HOME/cni -name '10.98.*' 2>/dev/null)\" ]").ok();
}

/// Where podman looks for all it needs, in this world.
const PODMAN: &str = r#"
cat >$HOME/containers.conf <<X
[network]
network_backend = "cni"
cni_plugin_dirs = ["$HOME/bin"]
network_config_dir = "$HOME/cni-conf"
default_network = "n"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
X
cat >$HOME/storage.conf <<X
[storage]
driver = "vfs"
graphroot = "$HOME/graph"
runroot = "$HOME/runroot"
X
unset RKBOX_CNI_STATE_DIR
export CONTAINERS_CONF=$HOME/containers.conf CONTAINERS_STORAGE_CONF=$HOME/storage.conf
"#;

/// `podman run` with the words that this world needs.
const PODMAN_RUN: &str = "podman run --network n --cgroup-parent $RKBOX_CGROUP_PARENT --ulimit nofile=1024:1024 --ulimit nproc=1024:1024";

#[test]
fn podman_with_the_cni_backend() {
    let world = ready("0.4.0");
    // Podman asks libcni for its default directory: it is this world's own.
    world.sh("mkdir -p /var/lib/cni").ok();
    let output = world.sh(&format!("{PODMAN}\n{PODMAN_RUN} --rm --rootfs $HOME/rootfs /bin/sh -c '{INSIDE}'")).ok();
    assert_attached_and_gone(&world, &output);
}

/// Podman holds the port itself (conmon has the socket), lets portmap publish it, and takes it back and publishes it again on `network reload`.
#[test]
fn podman_publishes_by_our_portmap() {
    let world = ready("0.4.0");
    let script = r#"
mkdir -p /var/lib/cni; ip link set lo up; echo inside >$HOME/rootfs/bin/page
id=$(RUN -d -p 8080:80 -p 127.0.0.1:5353:53/udp --name c --rootfs $HOME/rootfs /bin/busybox httpd -f -p 80 -h /bin)
published() { nft list table inet rkbox_ports | grep -c "comment .n/eth0/$id" || true; }
answer() { n=0; until [ "$(python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8080/page", timeout=2).read().decode())' 2>/dev/null)" = inside ]; do n=$((n + 1)); [ $n -lt 50 ]; sleep 0.1; done; }
[ "$(published)" = 2 ]; answer
podman network reload c
[ "$(published)" = 2 ]; answer
podman rm -f -t 0 c
[ "$(published)" = 0 ]
"#;
    world.sh(&format!("{PODMAN}\n{}", script.replace("RUN", PODMAN_RUN))).ok();
}

#[test]
fn containerd_with_ctr_run_cni() {
    let world = ready("1.0.0");
    // `ctr --cni` knows only the default directories.
    let script = r#"
mkdir -p /etc/cni /opt; mount -t tmpfs tmpfs /etc/cni; mount -t tmpfs tmpfs /opt
mkdir -p /etc/cni/net.d /opt/cni; cp $HOME/cni-conf/10-n.conflist /etc/cni/net.d; ln -s $HOME/bin /opt/cni/bin
cat >$HOME/config.toml <<X
version = 2
root = "$HOME/containerd"
state = "/run/cd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.tracing"]
[grpc]
address = "/run/cd.sock"
[ttrpc]
address = "/run/cd.ttrpc"
X
containerd -c $HOME/config.toml >$HOME/log 2>&1 & pid=$!
n=0; until [ -S /run/cd.sock ] || [ $n = 100 ]; do n=$((n + 1)); sleep 0.2; done
status=0
ctr -a /run/cd.sock -n t run --rm --cni --cgroup $RKBOX_CGROUP_PARENT/box --rootfs $HOME/rootfs box /bin/sh -c 'INSIDE' || status=$?
kill $pid; wait $pid || true
[ $status = 0 ] || tail $HOME/log >&2
exit $status
"#;
    let output = world.sh(&script.replace("INSIDE", INSIDE)).ok();
    assert_attached_and_gone(&world, &output);
}
