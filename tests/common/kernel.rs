//! Links, addresses, routes, rules, sysctls and mounts, as `ip`, `nft` and `/proc` tell them.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::observation::Fact;
use super::process;

/// Everything is read in one process per namespace; a line between the parts.
const LOOK: &str = "ip -j -d link; echo '--8<--'; ip -j address; echo '--8<--'; ip -j -d route show table all; echo '--8<--'; \
    ip -j -d -6 route show table all; echo '--8<--'; ip -j rule; echo '--8<--'; nft -j list ruleset; echo '--8<--'; cd /proc/sys/net; \
    grep -s . ipv4/ip_forward ipv6/conf/all/forwarding bridge/* ipv4/conf/*/forwarding ipv4/conf/*/route_localnet \
    ipv4/conf/*/rp_filter ipv4/conf/*/proxy_arp ipv4/conf/*/arp_notify ipv6/conf/*/disable_ipv6 ipv6/conf/*/accept_dad || true";

/// Network facts of the world's own namespace (`host`) and of each one pinned under `/run/netns`.
pub fn links_routes_rules() -> Vec<Fact> {
    let mut facts = Vec::new();
    network("host", Command::new("sh").args(["-c", LOOK]), &mut facts);
    for (name, _) in process::pinned() {
        network(&name, Command::new("nsenter").args([&format!("--net=/run/netns/{name}"), "sh", "-c", LOOK]), &mut facts);
        facts.push((format!("namespace {name}"), String::new()));
    }
    facts
}

fn network(namespace: &str, command: &mut Command, facts: &mut Vec<Fact>) {
    let output = command.env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let parts: Vec<&str> = text.split("--8<--\n").collect();
    let [links, addresses, routes4, routes6, rules, nft, sysctls] = parts[..] else {
        panic!("cannot look into {namespace}: {text}\n{}", String::from_utf8_lossy(&output.stderr))
    };
    for link in list(links) {
        facts.push((format!("link {namespace}/{}", word(&link["ifname"])), describe_link(&link)));
    }
    for link in list(addresses) {
        for address in link["addr_info"].as_array().into_iter().flatten() {
            let key = format!("address {namespace}/{} {}/{}", word(&link["ifname"]), word(&address["local"]), address["prefixlen"]);
            facts.push((key, pick(address, &["scope", "broadcast", "address", "label"])));
        }
    }
    for route in list(routes4).iter().chain(&list(routes6)) {
        // The kernel adds it when a link-local address, which is compared, has been found to be unique: a second or two later.
        if route["type"] == "local" && route["dst"].as_str().is_some_and(|dst| dst.starts_with("fe80:")) {
            continue;
        }
        let keys = ["type", "dst", "gateway", "dev", "table", "protocol", "scope", "prefsrc", "metric"];
        facts.push((format!("route {namespace}"), pick(route, &keys)));
    }
    for rule in list(rules) {
        facts.push((format!("rule {namespace}"), rule.to_string()));
    }
    nftables(namespace, nft, facts);
    for line in sysctls.lines() {
        let (path, value) = line.split_once(':').unwrap_or((line, ""));
        facts.push((format!("sysctl {namespace} {path}"), value.to_owned()));
    }
}

fn list(text: &str) -> Vec<Value> {
    match text.trim() {
        "" => Vec::new(),
        text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn pick(value: &Value, keys: &[&str]) -> String {
    let present = keys.iter().filter(|key| !value[**key].is_null());
    present.map(|key| format!("{key}={}", word(&value[*key]))).collect::<Vec<_>>().join(" ")
}

/// No index, no operational state (it follows behind), nothing that counts.
fn describe_link(link: &Value) -> String {
    let flags: Vec<String> = link["flags"].as_array().into_iter().flatten().map(word).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).filter(|flag| !matches!(*flag, "LOWER_UP" | "NO-CARRIER" | "M-DOWN")).collect();
    let info = &link["linkinfo"];
    let mut text = pick(link, &["address", "mtu", "master", "txqlen", "group", "ifalias"]);
    for kind in ["info_kind", "info_slave_kind"] {
        text.push_str(&format!(" {}", info[kind].as_str().unwrap_or("-")));
    }
    text.push_str(&format!(" [{}]", flags.join(",")));
    for data in ["info_data", "info_slave_data"] {
        let settings = info[data].as_object().into_iter().flatten().filter(|(key, _)| is_setting(key));
        let settings: Vec<String> = settings.map(|(key, value)| format!("{key}={}", word(value))).collect();
        text.push_str(&format!(" {{{}}}", settings.join(" ")));
    }
    text
}

/// Whether a bridge or bridge port key is a setting and not the state of the spanning tree.
fn is_setting(key: &str) -> bool {
    const STATE: [&str; 12] = [
        "state",
        "id",
        "no",
        "root_id",
        "bridge_id",
        "root_port",
        "root_path_cost",
        "topology_change",
        "topology_change_detected",
        "topology_change_ack",
        "config_pending",
        "vlan_default_pvid_used",
    ];
    !STATE.contains(&key) && !key.starts_with("designated_") && !key.ends_with("_timer")
}

/// Tables, chains, sets and rules without handles; rules in their order, elements of sets sorted.
fn nftables(namespace: &str, text: &str, facts: &mut Vec<Fact>) {
    let ruleset: Value = if text.trim().is_empty() { Value::Null } else { serde_json::from_str(text).unwrap() };
    let mut place = 0;
    for object in ruleset["nftables"].as_array().into_iter().flatten() {
        let Some((kind, mut body)) = object.as_object().and_then(|map| map.iter().next()).map(|(kind, body)| (kind.clone(), body.clone()))
        else {
            continue;
        };
        if kind == "metainfo" {
            continue;
        }
        strip(&mut body);
        place = if kind == "rule" { place + 1 } else { 0 };
        let name = if kind == "rule" { format!("{} {place}", word(&body["chain"])) } else { word(&body["name"]) };
        let table = if kind == "table" { String::new() } else { format!("{} ", word(&body["table"])) };
        facts.push((format!("nft {namespace} {kind} {} {table}{name}", word(&body["family"])), body.to_string()));
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in ["handle", "packets", "bytes", "expires"] {
                map.remove(key);
            }
            map.values_mut().for_each(strip);
            if let Some(Value::Array(elements)) = map.get_mut("elem") {
                // By what is in them beside random ids, so that two worlds have one order.
                let masked = |element: &Value| {
                    let text = element.to_string();
                    super::normal::shapes(&text.split('"').filter(|word| word.len() != 64).collect::<Vec<_>>().join("\""))
                };
                elements.sort_by_cached_key(masked);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The mounts of this thread: target, root, type, source, options. Inode numbers and peer group numbers left out.
pub fn mounts() -> Vec<Fact> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Fact> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let root = left[3].split_once(":[").map_or(left[3], |(kind, _)| kind);
    let groups: Vec<&str> = left[6..].iter().map(|group| group.split(':').next().unwrap_or_default()).collect();
    Some((format!("mount {}", left[4]), format!("root={root} {} [{}] {right}", left[5], groups.join(","))))
}
