//! The network of an ordinary user: bridges in a network namespace of his own, and pasta as the way out of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::process::Child;
use std::time::Duration;

use common::world::DIR;
use common::{User, until};

/// A user whose machine has one neighbour, 192.0.2.9, that leads to 198.51.100.1, where a server answers on port 8000.
struct Outside {
    user: User,
    servers: Vec<Child>,
}

impl std::ops::Deref for Outside {
    type Target = User;
    fn deref(&self) -> &User {
        &self.user
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Outside {
    fn new() -> Self {
        let user = User::new("ordinary:200000:65536\\n");
        user.world
            .sh(&format!(
                "ip netns add outside
                 ip link add uplink type veth peer name eth0 netns outside
                 ip address add 192.0.2.1/24 dev uplink; ip link set uplink up
                 ip -n outside link set lo up; ip -n outside address add 192.0.2.9/24 dev eth0; ip -n outside link set eth0 up
                 ip -n outside address add 198.51.100.1/32 dev lo; ip route add default via 192.0.2.9
                 mkdir -p {DIR}/www; echo from outside >{DIR}/www/index.html
                 mknod -m 0666 {DIR}/tun c 10 200; mount --bind {DIR}/tun /dev/net/tun"
            ))
            .ok();
        let mut all = Outside { user: user.with_images(), servers: Vec::new() };
        all.serve("outside", "198.51.100.1:8000");
        all.world
            .sh("for n in $(seq 50); do busybox wget -qO- http://198.51.100.1:8000/ >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1")
            .ok();
        all
    }

    /// Starts a server in the namespace of that name, or on this host.
    fn serve(&mut self, netns: &str, at: &str) {
        let mut command = self.world.command(if netns.is_empty() { "busybox" } else { "nsenter" });
        if !netns.is_empty() {
            command.args([&format!("--net=/run/netns/{netns}"), "busybox"]);
        }
        self.servers.push(command.args(["httpd", "-f", "-p", at, "-h", &format!("{DIR}/www")]).spawn().unwrap());
    }
}

/// What is left of his network; a process that is on its way out may take a moment.
fn left(user: &User) -> String {
    let look = "ls $XDG_RUNTIME_DIR/netns 2>/dev/null || true; pgrep -a -u $(id -u) -r S,R,D 'pas[ts]' || true";
    let look = || user.sh(look).ok().stdout;
    until(Duration::from_secs(1), look, String::is_empty).err().unwrap_or_default()
}

const NETNS: &str =
    "nsenter -t $(cat $XDG_RUNTIME_DIR/rkbox/holder.pid) -U -m --preserve-credentials nsenter --net=$XDG_RUNTIME_DIR/netns/rkbox";

#[test]
fn a_container_has_an_address_neighbours_and_a_way_out() {
    let mut user = Outside::new();
    user.rk("run -d --name web busybox sh -c 'mkdir /w; echo of the neighbour >/w/index.html; exec httpd -f -p 80 -h /w'").ok();
    let address = user.rk("exec web sh -c 'ip -4 -o address show dev eth0'").ok().stdout;
    assert!(address.contains("10.88.0."), "{address}");
    let address = address.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
    user.rk(&format!("run --rm busybox wget -qO- http://{address}/")).ok().prints("of the neighbour");
    user.rk("run --rm busybox wget -qO- http://198.51.100.1:8000/").ok().prints("from outside");
    // The rest of the posture of a network: nobody takes another's address, and this host is not reached by its loopback.
    user.serve("", "127.0.0.1:8001");
    for place in ["10.88.0.1:8001", "127.0.0.1:8001", "192.0.2.1:8001"] {
        assert_ne!(user.rk(&format!("run --rm busybox sh -c 'timeout 3 wget -qO- http://{place}/; exit $?'")).code, 0, "{place}");
    }
    // A sandbox, a network of his, and what other commands say of it.
    user.rk("net create lab --subnet 10.91.0.0/24").ok();
    user.rk("sandbox create --net lab s").ok();
    user.rk("run --rm --sandbox s busybox ip -4 -o address show dev eth0").ok().prints("10.91.0.");
    user.rk("run --rm --sandbox s busybox wget -qO- http://198.51.100.1:8000/").ok().prints("from outside");
    user.rk("net connect connet s").ok();
    user.rk("run --rm --sandbox s busybox ip -4 -o address show dev eth1").ok().prints("10.88.0.");
    user.rk("net leases connet").ok().prints("10.88.0.");
    user.rk("net repair --dry-run").ok();
    user.sh(&format!("{NETNS} nft flush ruleset; rkbox net repair")).ok().prints("restored: ");
    user.rk("run --rm --sandbox s busybox wget -qO- http://198.51.100.1:8000/").ok().prints("from outside");
    // All of it goes with its users: the namespace, pasta, the bridges.
    user.rk("sandbox rm --force s").ok();
    user.rk("gc").ok();
    assert!(left(&user).contains("rkbox"), "web is still there");
    user.rk("exec web wget -qO- http://198.51.100.1:8000/").ok().prints("from outside");
    user.rk("rm --force web").ok();
    user.rk("net rm lab").ok();
    user.rk("gc").ok().prints("start pasta");
    assert_eq!(left(&user), "");
    // Nothing of it was in the network of this host.
    assert_eq!(user.world.sh("ip -o link show type bridge; nft list ruleset").ok().stdout, "");
}

/// Whatever dies, the next command finds it and puts it back.
#[test]
fn what_is_killed_is_mended_by_the_next_command() {
    let user = Outside::new();
    let outside = "sh -c 'timeout 5 wget -qO- http://198.51.100.1:8000/; exit $?'";
    user.rk("run -d --name c busybox sleep 1000").ok();
    user.rk(&format!("exec c {outside}")).ok().prints("from outside");
    // pasta.
    user.sh("kill -KILL $(pgrep -u $(id -u) -r S,R 'pas[ts]')").ok();
    assert_ne!(user.rk("top c").code, 255);
    user.rk(&format!("exec c {outside}")).ok().says("pasta had ended, and was started again").prints("from outside");
    // The process that keeps the namespaces: the monitor of a container is in them as well.
    user.sh("kill -KILL $(cat $XDG_RUNTIME_DIR/rkbox/holder.pid)").ok();
    user.rk(&format!("exec c {outside}")).ok().prints("from outside");
    user.rk("ps").ok().prints("running");
    user.sh("kill -0 $(cat $XDG_RUNTIME_DIR/rkbox/holder.pid); test $(pgrep -u $(id -u) -r S,R -c rkbox-holder) = 1").ok();
    // Both at once, and a new container.
    user.sh("kill -KILL $(cat $XDG_RUNTIME_DIR/rkbox/holder.pid) $(pgrep -u $(id -u) -r S,R 'pas[ts]')").ok();
    user.rk(&format!("run --rm busybox {outside}")).ok().prints("from outside");
    user.rk("rm --force c").ok();
    // All of it, as a logout does: nothing is left that the next login would stumble over.
    user.rk("run -d --name c busybox sleep 1000").ok();
    user.sh("kill -KILL $(pgrep -u $(id -u) -f '^rkbox-monitor') $(cat $XDG_RUNTIME_DIR/rkbox/holder.pid) $(pgrep -u $(id -u) -r S,R 'pas[ts]')").ok();
    user.world.sh(&format!("kill -KILL $(pgrep -u {} '^sleep$')", user.uid)).ok();
    user.rk("rm --force c").ok();
    user.rk(&format!("run --rm busybox {outside}")).ok().prints("from outside");
    user.rk("gc").ok();
    assert_eq!(left(&user), "");
}

#[test]
fn first_commands_at_once_make_one_namespace_and_one_pasta() {
    let user = Outside::new();
    user.sh("for n in 1 2 3 4 5; do rkbox run -d --name c$n busybox sleep 1000 >/dev/null & all=\"${all:-} $!\"; done; for one in $all; do wait $one; done").ok();
    user.sh("test $(pgrep -u $(id -u) -r S,R -c 'pas[ts]') = 1").ok();
    let addresses =
        user.sh("for n in 1 2 3 4 5; do rkbox exec c$n ip -4 -o address show dev eth0 | tr -s ' ' | cut -d' ' -f4; done").ok().stdout;
    let different: std::collections::BTreeSet<&str> = addresses.lines().collect();
    assert_eq!(different.len(), 5, "{addresses}");
    // Removals and `gc` beside new ones: the namespace goes and comes, and no container ends up in one that is gone.
    user.sh("(for n in 1 2 3 4 5; do rkbox rm --force c$n; rkbox gc; done) >/dev/null & removals=$!
         for n in 1 2 3 4 5 6; do rkbox run --rm busybox wget -qO- http://198.51.100.1:8000/; done
         wait $removals")
        .ok();
    user.rk("gc").ok();
    assert_eq!(left(&user), "");
}

#[test]
fn what_is_missing_is_named_with_the_way_to_get_it() {
    let user = Outside::new();
    let refused = |line: &str, what: &str, hint: &str| {
        user.rk(line).fails(125).says(what).says(hint);
        user.rk("gc").ok();
        assert_eq!(left(&user), "", "{line}");
    };
    // Gone for good: until then a command may find its namespaces.
    let holder = "pid=$(cat $XDG_RUNTIME_DIR/rkbox/holder.pid); kill -KILL $pid
        for _ in $(seq 100); do readlink /proc/$pid/ns/mnt >/dev/null 2>&1 || break; sleep 0.02; done";
    // Without the package.
    let pasta = user.world.sh("command -v pasta").ok().stdout.trim().to_owned();
    user.sh(holder).ok();
    user.world.sh(&format!("mount --bind /dev/null {pasta}")).ok();
    refused("run --rm busybox true", "program pasta is not in PATH", "apt install passt");
    user.rk("run --rm --net none busybox true").ok();
    // A network without a gateway needs no way out.
    user.rk("net create inner --internal").ok();
    user.rk("run --rm --net inner busybox ip -4 -o address show dev eth0").ok().prints("inet");
    user.rk("net rm inner").ok();
    user.world.sh(&format!("umount {pasta}")).ok();
    // Without the device.
    user.world.sh("umount /dev/net/tun").ok();
    user.sh(holder).ok();
    refused("run --rm busybox true", "starting pasta", "/dev/net/tun cannot be opened");
    user.world.sh(&format!("mount --bind {DIR}/tun /dev/net/tun; ip route del default")).ok();
    user.sh(holder).ok();
    // Without a way out of this host there is none out of the network, and all the rest works.
    user.rk("run -d --name web busybox sh -c 'echo inside >/index.html; exec httpd -f -p 80 -h /'").ok().says("no default route");
    let address = user.sh("rkbox exec web ip -4 -o address show dev eth0 | tr -s ' /' '  ' | cut -d' ' -f4").ok().stdout;
    user.rk(&format!("run --rm busybox wget -qO- http://{}/", address.trim())).ok().prints("inside");
    // And when the route comes, the next command leads out.
    user.world.sh("ip route add default via 192.0.2.9").ok();
    user.rk("ps").ok();
    user.rk("run --rm busybox wget -qO- http://198.51.100.1:8000/").ok().prints("from outside");
    user.rk("rm --force web").ok();
    user.rk("gc").ok();
    assert_eq!(left(&user), "");
}

/// The script of `--explain` makes the same, in the namespaces that it names; a forwarded port leads in.
#[test]
fn the_script_makes_the_same_and_ports_can_be_led_in() {
    let user = Outside::new();
    user.rk("run -d --name web busybox sh -c 'echo of web >/index.html; exec httpd -f -p 80 -h /'").ok();
    let script = "rkbox run --rm --explain busybox wget -qO- http://198.51.100.1:8000/ >script";
    user.sh(&format!("cd {DIR}/home; {script}; eval \"$(sed -n 's/^# in the namespaces of this user: //p' script) {DIR}/home/script\""))
        .ok()
        .prints("from outside");
    user.sh("rkbox rm --explain --force web").ok().prints("nsenter --net=").prints("# in the namespaces of this user");
    user.sh(&format!(
        "{} port-forward web 8080:80 >/dev/null & relay=$!
         for n in $(seq 50); do busybox wget -qO- http://127.0.0.1:8080/ 2>/dev/null && break; sleep 0.1; done
         kill $relay; wait $relay || true",
        user.world.program.display()
    ))
    .ok()
    .prints("of web");
    user.rk("rm --force web").ok();
    user.rk("gc").ok();
    assert_eq!(left(&user), "");
}

/// Killed at each of its points, a command leaves nothing that `gc` does not take: pasta and the namespace neither.
#[test]
fn a_killed_command_leaves_neither_pasta_nor_the_namespace() {
    let user = Outside::new();
    user.sh(&format!("RKBOX_FAULT_TRACE={DIR}/home/trace rkbox sandbox create s; rkbox sandbox rm --force s; rkbox gc")).ok();
    let trace = std::fs::read_to_string(format!("{DIR}/home/trace")).unwrap();
    let points: Vec<&str> = trace.lines().filter(|point| point.starts_with("started:") || point.starts_with("applied:")).collect();
    assert!(points.len() > 40, "{points:?}");
    for point in points {
        user.sh(&format!("RKBOX_FAULT={point}:abort rkbox sandbox create s")).fails(134);
        user.rk("gc").ok();
        assert_eq!(left(&user), "", "{point}");
        assert_eq!(user.rk("sandbox ls -q").ok().stdout, "", "{point}");
    }
    user.rk("sandbox create s").ok();
    user.rk("sandbox rm --force s").ok();
    user.rk("gc").ok();
    assert_eq!(left(&user), "");
}

/// `-p`: a process listens on this host and leads in, and goes with its box, however that ends.
#[test]
fn ports_are_published_by_a_process_that_goes_with_the_box() {
    let user = Outside::new();
    let relays = || user.sh("pgrep -u $(id -u) -f '^rkbox-port[s]' | wc -l").ok().stdout.trim().to_owned();
    let web = "busybox sh -c 'echo of web >/index.html; exec httpd -f -p 80 -h /'";
    user.rk(&format!("run -d --name web -p 8080:80 -p 127.0.0.1:5353:53/udp {web}")).ok();
    user.rk("ps").ok().prints("8080->80/tcp").prints("127.0.0.1:5353->53/udp");
    let fetch = |at: &str| {
        user.world
            .sh(&format!("for n in $(seq 50); do timeout 5 busybox wget -qO- http://{at}/ 2>/dev/null && exit 0; sleep 0.1; done; exit 1"))
    };
    fetch("127.0.0.1:8080").ok().prints("of web");
    fetch("192.0.2.1:8080").ok().prints("of web");
    user.world.sh("ip netns exec outside timeout 5 busybox wget -qO- http://192.0.2.1:8080/").ok().prints("of web");
    // Datagrams: a server beside the container's own, in its network.
    let server = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('0.0.0.0', 53)); d, a = s.recvfrom(99); s.sendto(d, a)";
    let pid = user.rk("inspect web").ok().json()[0]["pid"].to_string();
    let enter =
        format!("nsenter -t $(cat $XDG_RUNTIME_DIR/rkbox/holder.pid) -U -m --preserve-credentials nsenter --net=/proc/{pid}/ns/net");
    user.sh(&format!("{enter} python3 -c \"{server}\" >/dev/null 2>&1 & sleep 0.5")).ok();
    let client = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5); s.sendto(b'datagram', ('127.0.0.1', 5353)); print(s.recv(99).decode())";
    user.world.sh(&format!("python3 -c \"{client}\"")).ok().prints("datagram");
    assert_eq!(relays(), "1");
    // Taken, root's, and what no process leads.
    user.rk("run --rm -p 8080:80 busybox true").fails(125).says("port 8080/tcp is in use by").says("choose another port");
    user.rk("run --rm --force-publish -p 8080:80 busybox true").fails(125).says("port 8080/tcp is in use by");
    user.rk("run --rm -p 80 -p 80:80 busybox true").fails(125).says("port 80 is root's").says("ip_unprivileged_port_start=80");
    user.rk("run --rm -p 8081:80/sctp busybox true").fails(125).says("SCTP");
    user.rk("run --rm -p 198.51.100.7:8081:80 busybox true").fails(125).says("198.51.100.7:8081");
    assert_eq!(relays(), "1");
    // What listens on the loopback of the container stays there.
    user.rk("run -d --name shy -p 8082:80 busybox httpd -f -p 127.0.0.1:80 -h /").ok();
    user.world.sh("sleep 0.3; ! timeout 2 busybox wget -qO- http://127.0.0.1:8082/").ok();
    user.rk("rm --force shy").ok();
    assert_eq!(relays(), "1");
    // Any free port, in a sandbox; a script that makes and takes back the same.
    user.rk("sandbox create -p 8083:80 s").ok();
    user.rk("run -d --name in-s --sandbox s busybox sh -c 'echo of s >/index.html; exec httpd -f -p 80 -h /'").ok();
    fetch("127.0.0.1:8083").ok().prints("of s");
    user.rk("sandbox rm --force s").ok();
    assert_eq!(relays(), "1");
    let script = "rkbox run --rm --explain -p 8084:80 busybox sh -c 'sleep 0.5' >script; grep rkbox-ports script";
    user.sh(&format!("cd {DIR}/home; {script}; eval \"$(sed -n 's/^# in the namespaces of this user: //p' script) {DIR}/home/script\""))
        .ok();
    // A creation that is killed leaves none, wherever it was.
    user.sh(&format!("RKBOX_FAULT_TRACE={DIR}/home/trace rkbox sandbox create -p 8085:80 t; rkbox sandbox rm --force t")).ok();
    let trace = std::fs::read_to_string(format!("{DIR}/home/trace")).unwrap();
    let points: Vec<&str> = trace.lines().filter(|line| line.starts_with("started:") || line.starts_with("applied:")).collect();
    assert!(points.len() > 40, "{points:?}");
    for point in points.iter().step_by(9) {
        user.sh(&format!("RKBOX_FAULT={point}:abort rkbox sandbox create -p 8085:80 t")).fails(134);
        user.rk("gc").ok();
        assert_eq!(relays(), "1", "{point}");
    }
    user.rk("rm --force web").ok();
    user.rk("gc").ok();
    assert_eq!((relays(), left(&user)), ("0".to_owned(), String::new()));
}
