//! A laboratory of networks: this host, a neighbour on its LAN, containers; services and questions between them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::common::World;

/// Where the peer's program lies.
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/peer.py");

/// A world with an uplink to a neighbour: `uplink` of the host has 192.0.2.1, 192.0.2.2 and 2001:db8::1, the neighbour in `lan`
/// 192.0.2.9 and 2001:db8::9, and routes through the host to all that containers have.
pub struct Lab {
    services: Vec<Child>,
    ready: usize,
    /// The world.
    pub world: World,
}

/// The networks of the laboratory; each has IPv4 and, where the word says so, IPv6.
pub fn network(name: &str, bridge: &str, subnets: &[&str]) -> String {
    let ranges: Vec<String> = subnets.iter().map(|subnet| format!(r#"[{{"subnet":"{subnet}"}}]"#)).collect();
    let mut routes = vec![r#"{"dst":"0.0.0.0/0"}"#];
    if subnets.iter().any(|subnet| subnet.contains(':')) {
        routes.push(r#"{"dst":"::/0"}"#);
    }
    format!(
        r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"bridge","bridge":"{bridge}","isGateway":true,"ipMasq":true,
        "hairpinMode":true,"ipam":{{"type":"host-local","ranges":[{}],"routes":[{}]}}}}]}}"#,
        ranges.join(","),
        routes.join(",")
    )
}

impl Lab {
    /// Makes the laboratory.
    pub fn new() -> Lab {
        let mut world = World::new();
        world.allow_leaks();
        world.configure("10-connet.conflist", &network("connet", "cni0", &["10.88.0.0/16"]));
        world
            .sh("ip netns add lan
                ip link add uplink address 02:00:00:00:01:01 type veth peer name eth0 address 02:00:00:00:01:09 netns lan
                ip address add 192.0.2.1/24 dev uplink; ip address add 192.0.2.2/24 dev uplink
                ip address add 2001:db8::1/64 dev uplink nodad; ip link set uplink up
                ip -n lan link set lo up; ip -n lan address add 192.0.2.9/24 dev eth0
                ip -n lan address add 2001:db8::9/64 dev eth0 nodad; ip -n lan link set eth0 up
                ip -n lan route add 10.0.0.0/8 via 192.0.2.1; ip -n lan route add fd00::/8 via 2001:db8::1
                ip -n lan route add 198.51.100.0/24 via 192.0.2.1")
            .ok();
        Lab { services: Vec::new(), ready: 0, world }
    }

    /// Whether bridges show their frames to IP, as hosts of Kubernetes have it.
    pub fn bridge_netfilter(&self, on: bool) {
        let value = u8::from(on);
        self.world
            .sh(&format!("for key in iptables ip6tables arptables; do f=/proc/sys/net/bridge/bridge-nf-call-$key; [ ! -e $f ] || echo {value} > $f; done"))
            .ok();
    }

    /// Waits until the link-local addresses of this host can be used: without one nobody is asked who has an IPv6 address.
    pub fn settle(&self) {
        self.world.sh("n=0; while ip -6 addr show tentative | grep -q inet6; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.1; done").ok();
    }

    fn command(&self, netns: &str) -> std::process::Command {
        let mut command = if netns == "host" {
            self.world.command("python3")
        } else {
            let mut command = self.world.command("nsenter");
            command.arg(format!("--net=/run/netns/{netns}")).arg("python3");
            command
        };
        command.arg(PEER);
        command
    }

    /// Starts a service in a namespace (`host` is this one) and waits until it is ready. Its log holds its clients.
    pub fn start(&mut self, netns: &str, verb: &str, words: &[&str]) -> PathBuf {
        self.ready += 1;
        let (ready, log) = (self.world.path(format!("ready{}", self.ready)), self.world.path(format!("log{}", self.ready)));
        let mut command = self.command(netns);
        command.arg(verb).arg(&ready);
        for word in words {
            command.arg(if *word == "LOG" { log.to_str().unwrap() } else { word });
        }
        self.services.push(command.stdin(Stdio::null()).spawn().unwrap());
        let there = super::common::until(Duration::from_secs(20), || ready.exists(), |there| *there);
        assert!(there.is_ok(), "{netns} {verb} {words:?} is not ready");
        log
    }

    /// Serves TCP and UDP on `ports` (`PORT`, `ADDRESS@PORT`); answers what a client is seen with, after `greeting`.
    pub fn serve(&mut self, netns: &str, greeting: &str, ports: &[&str]) -> PathBuf {
        let words: Vec<&str> = [if greeting.is_empty() { "-" } else { greeting }, "LOG"].into_iter().chain(ports.iter().copied()).collect();
        self.start(netns, "serve", &words)
    }

    /// Asks questions (`tcp 192.0.2.1 8080`) from a namespace, all at once; an answer each, `refused` or `silence`.
    pub fn ask(&self, netns: &str, questions: &[String]) -> Vec<String> {
        let mut child = self.command(netns).arg("ask").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(questions.join("\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let answers: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(answers.len(), questions.len());
        answers
    }

    /// Asserts what each question is answered; lists every one that is not.
    #[track_caller]
    pub fn expect(&self, netns: &str, cases: &[(&str, &str)]) {
        let questions: Vec<String> = cases.iter().map(|(question, _)| (*question).to_owned()).collect();
        let answers = self.ask(netns, &questions);
        let wrong: Vec<String> = cases
            .iter()
            .zip(&answers)
            .filter(|((_, wanted), answer)| wanted != answer && !(*wanted == "nothing" && matches!(answer.as_str(), "silence" | "refused")))
            .map(|((question, wanted), answer)| format!("{netns}: {question}: {answer}, not {wanted}"))
            .collect();
        assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), self.world.sh("nft list ruleset; ip addr").stdout);
    }

    /// Sends a forged frame or packet from a namespace.
    #[track_caller]
    pub fn forge(&self, netns: &str, line: &str) {
        let status = self.command(netns).arg("forge").args(line.split_whitespace()).status().unwrap();
        assert!(status.success(), "{netns}: forge {line}");
    }

    /// The MAC of a link.
    pub fn mac(&self, netns: &str, link: &str) -> String {
        let enter = if netns == "host" { String::new() } else { format!("-n {netns} ") };
        self.world.sh(&format!("ip {enter}-j link show {link} | jq -r '.[0].address'")).ok().stdout.trim().to_owned()
    }

    /// Ends all services.
    pub fn stop_services(&mut self) {
        for mut service in self.services.drain(..) {
            service.kill().unwrap();
            service.wait().unwrap();
        }
    }

    /// Links, addresses, routes, rules and parameters of the host.
    pub fn host_facts(&self) -> super::common::Observation {
        let rooms = ["link host", "address host", "route host", "nft host", "sysctl host"];
        let mut seen = self.world.observe().only(|key| rooms.iter().any(|start| key.starts_with(start)));
        // Rules are counted through all chains, and a chain that was made again is the last one.
        for (key, _) in seen.facts.iter_mut().filter(|(key, _)| key.starts_with("nft host rule")) {
            *key = key.rsplit_once(' ').map_or(key.clone(), |(chain, _)| chain.to_owned());
        }
        seen.facts.sort();
        seen
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for service in &mut self.services {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}
