//! A host whose kernel has no nf_tables, or on which it is denied: what needs it says so and how to do without, and the rest works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{Output, World};
use serde_json::json;

/// Runs a program whose sockets of the netfilter family are refused, as a kernel without nfnetlink refuses them.
const WITHOUT: &str = r#"
import ctypes, errno, os, struct, sys
SOCKET = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
NETLINK_NETFILTER, ALLOW, ERRNO = 12, 0x7fff0000, 0x00050000
lines = [(0x20, 0, 0, 0), (0x15, 0, 3, SOCKET), (0x20, 0, 0, 32), (0x15, 0, 1, NETLINK_NETFILTER),
         (0x06, 0, 0, ERRNO | errno.EPROTONOSUPPORT), (0x06, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
program = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
"#;

/// A world on whose host `rkbox` runs through `WITHOUT`.
struct Host(World);

impl Host {
    fn new() -> Host {
        let world = World::new();
        std::fs::write(world.path("without.py"), WITHOUT).unwrap();
        Host(world)
    }

    fn rk(&self, line: &str) -> Output {
        let without = self.0.path("without.py");
        self.0.sh(&format!("python3 {} {} {line}", without.display(), env!("CARGO_BIN_EXE_rkbox")))
    }
}

#[test]
fn what_needs_nf_tables_says_so_and_leaves_nothing() {
    let host = Host::new();
    host.0.sh("ip netns add other").ok();
    // The first attempt makes the directories of the journals.
    host.rk("net add connet other").fails(5);
    let before = host.0.observe();
    let why = "this kernel has no nf_tables (nf_tables: open a netlink socket: EPROTONOSUPPORT";
    // The default network masquerades; a network that does not may still be asked for a port.
    host.rk("net add connet other").fails(5).says("nft table inet rkbox").says(why).says("modprobe nf_tables").says("\"ipMasq\": false");
    host.rk("sandbox create -p 8080:80 web").fails(5).says(why).says("no -p");
    let report = host.rk("--format json doctor").fails(5).json();
    let finding = report.as_array().unwrap().iter().find(|finding| finding["topic"] == "nftables").unwrap();
    assert_eq!(finding["verdict"], "fail");
    assert!(finding["found"].as_str().unwrap().starts_with(why), "{finding}");
    assert!(finding["hint"].as_str().unwrap().contains("modprobe nf_tables"), "{finding}");
    before.assert_again(&host.0, "after refusals");
}

#[test]
fn a_network_without_masquerade_and_guard_needs_no_nf_tables() {
    let host = Host::new();
    let ipam = json!({"type": "host-local", "subnet": "10.77.0.0/24"});
    let bridge = json!({"type": "bridge", "bridge": "plain0", "isGateway": true, "ipMasq": false, "guard": false, "ipam": ipam});
    let list = json!({"cniVersion": "1.0.0", "name": "plain", "plugins": [bridge]});
    host.0.configure("10-plain.conflist", &list.to_string());
    host.0.sh("ip netns add other").ok();
    host.rk("net add plain other").ok().prints("10.77.0.2/24");
    host.0.sh("ping -c 1 -W 2 10.77.0.2").ok();
    host.rk("net check plain other").ok();
    host.rk("net del plain other").ok();
    host.rk("gc").ok();
    host.0.sh("ip netns delete other").ok();
}

/// Root without the capability, as in a container that has not been given it.
#[test]
fn what_is_denied_names_the_capability() {
    let world = World::new();
    world.sh("ip netns add other").ok();
    let before = world.observe();
    let rkbox = env!("CARGO_BIN_EXE_rkbox");
    let denied = world.sh(&format!("capsh --drop=cap_net_admin -- -c '{rkbox} doctor --quiet'"));
    denied.fails(5).prints("nf_tables is denied here").prints("CAP_NET_ADMIN");
    before.assert_again(&world, "after a refusal");
    world.sh("ip netns delete other").ok();
}
