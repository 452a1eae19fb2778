//! Calls of CNI plugins, upstream's and rkbox's, and what they leave.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::common::{Output, World};

/// The container id of all calls but those that say another.
pub const OWNER: &str = "c0ffee";

/// Whose plugins are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Debian's.
    Upstream,
    /// Ours.
    Rkbox,
}

/// One call of a plugin.
#[derive(Clone, Debug)]
pub struct Called {
    pub kind: Option<String>,
    pub command: String,
    pub owner: String,
    pub ifname: String,
    pub netns: String,
    pub args: String,
    pub path: String,
    /// Where other programs are looked for first.
    pub programs: Option<std::path::PathBuf>,
}

impl Called {
    pub fn new(command: &str, netns: &str) -> Called {
        let text = str::to_owned;
        Called {
            kind: None,
            command: text(command),
            owner: text(OWNER),
            ifname: text("eth0"),
            netns: text(netns),
            args: String::new(),
            path: text("/usr/lib/cni"),
            programs: None,
        }
    }

    /// Runs the plugin that `input` names, with `input` on standard input.
    #[track_caller]
    pub fn run(&self, world: &World, maker: Maker, input: &str) -> Output {
        let named = serde_json::from_str::<Value>(input).ok().and_then(|conf| Some(conf.get("type")?.as_str()?.to_owned()));
        let kind = self.kind.clone().or(named).unwrap_or_else(|| "bridge".to_owned());
        let program = match maker {
            Maker::Upstream => format!("/usr/lib/cni/{kind}"),
            Maker::Rkbox => format!("/tmp/rkbox-world/bin/{kind}"),
        };
        let text = world.path("stdin");
        std::fs::write(&text, input).unwrap();
        let mut command = world.command("/bin/sh");
        command.args(["-c", "exec \"$0\" <\"$1\"", &program]).arg(&text).stdin(Stdio::null());
        let pairs = [
            ("CNI_COMMAND", &self.command),
            ("CNI_CONTAINERID", &self.owner),
            ("CNI_IFNAME", &self.ifname),
            ("CNI_NETNS", &self.netns),
            ("CNI_ARGS", &self.args),
            ("CNI_PATH", &self.path),
        ];
        if let Some(dir) = &self.programs {
            command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", dir.display()));
        }
        command.envs(pairs.into_iter().filter(|(_, value)| !value.is_empty()));
        Output::of(&mut command, Duration::from_secs(30))
    }
}

/// A call for eth0 of the namespace `web`.
#[track_caller]
pub fn call(world: &World, maker: Maker, command: &str, conf: &Value) -> Output {
    Called::new(command, "/run/netns/web").run(world, maker, &conf.to_string())
}

/// A configuration of the network `n`.
pub fn conf(version: &str, body: &Value) -> Value {
    let mut conf = body.clone();
    conf["name"] = "n".into();
    conf["cniVersion"] = version.into();
    conf
}

/// A world with our plugins in `bin`, the namespace `web`, and a link `up0` that can carry others.
pub fn ready() -> World {
    let mut world = World::new();
    world.allow_leaks();
    world.rk("cni install /tmp/rkbox-world/bin").ok();
    world.sh("ip netns add web; ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up").ok();
    world
}

/// Names and MACs of links differ by design.
pub fn comparable(mut result: Value) -> Value {
    for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
        if interface["name"].as_str().is_some_and(|name| name.starts_with("veth") || name.starts_with("rk")) {
            interface["name"] = "HOST".into();
        }
        if interface["mac"].as_str().is_some_and(|mac| !matches!(mac, "00:00:00:00:00:00" | "02:00:00:00:00:77")) {
            interface["mac"] = "MAC".into();
        }
    }
    result
}

/// Addresses, routes, flags and ports, in the namespace and on the host.
pub fn wiring(world: &World) -> Vec<String> {
    let text = world
        .sh(r#"
ip -n web -o addr | grep -v 'scope link' | tr -s ' ' | sed 's/@[^ ]*//; s/^[0-9]*: //; s/ *valid_lft.*//; s/noprefixroute //; s/ nodad//; s/\\//' | sort
ip -n web route | sed 's/ proto [a-z]*//; s/ *$//' | sort
ip -n web -6 route | grep -v fe80 | sed 's/ proto [a-z]*//; s/ pref medium//; s/ metric [0-9]*//; s/ *$//; s/ src [^ ]*//' | sort
ip -n web -d -o link show eth0 2>/dev/null | grep -oE 'mtu [0-9]+|macvlan mode [a-z]+|<[^>]*>' | sed 's/,M-DOWN//;s/,LOWER_UP//;s/NO-CARRIER,//' || true
ip -o addr | grep -v 'scope link' | tr -s ' ' | sed -E 's/^[0-9]+: //; s/(veth|rk)[0-9a-f]+/HOST/g; s/@[^ ]*//; s/ *valid_lft.*//; s/ nodad//; s/\\//; s/ tentative//' | grep -v '^up' | sort
ip route | sed -E 's/(veth|rk)[0-9a-f]+/HOST/g; s/ proto [a-z]*//; s/ *$//; s/ linkdown//' | sort
bridge -d link 2>/dev/null | grep -oE 'hairpin (on|off)|isolated (on|off)' | sort || true
ip -d -o link show br0 2>/dev/null | grep -oE 'mtu [0-9]+|PROMISC' || true
cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding
"#)
        .ok()
        .stdout;
    text.lines().map(str::trim_end).map(str::to_owned).collect()
}

/// Names and contents of the leases of network `n`.
pub fn leases(world: &World) -> Vec<(String, String)> {
    let Ok(dir) = std::fs::read_dir(world.cni_state().join("networks/n")) else { return Vec::new() };
    let mut all: Vec<(String, String)> = dir
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .filter(|(name, _)| name.parse::<std::net::IpAddr>().is_ok())
        .collect();
    all.sort();
    all
}
