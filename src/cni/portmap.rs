//! The configuration of the `portmap` plugin, and the mark that its published ports bear.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::inject::runtime_config;
use super::keys::Keys;
use super::list::Plugin;
use super::ports::PortAsk;
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, NetworkName, hex};
use crate::ports::{Forward, Protocol};

/// The capability by which a runtime says which ports it wants.
pub const CAPABILITY: &str = "portMappings";
/// What nftables keeps of a comment.
const COMMENT: usize = 127;

/// What the `portmap` plugin is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortmapConf {
    /// The ports.
    pub asks: Vec<PortAsk>,
    /// Whether this host reaches them by 127.0.0.1, and the container's neighbours and itself by this host.
    pub snat: bool,
    /// Whether the container sees this host's address instead of the client's, always.
    pub masq_all: bool,
    /// Publish although a process of this host holds the port.
    pub force: bool,
}

impl PortmapConf {
    /// Reads a plugin of type `portmap`.
    ///
    /// *Errors:* `Unimplemented` for a key that asks for what rkbox does not do, by name. *Source:* reference `portmap` `parseConfig`.
    pub fn read(plugin: &Plugin) -> Result<PortmapConf> {
        let keys = plugin.keys();
        for key in ["conditionsV4", "conditionsV6"] {
            // As upstream has it, a first word that is empty is no condition.
            if keys.texts(key)?.first().is_some_and(|word| !word.is_empty()) {
                return Err(refused(key, "conditions are words of iptables or nft, which rkbox does not read"));
            }
        }
        match keys.text("backend")? {
            "" | "nftables" => {}
            "iptables" => return Err(refused("backend", "only \"nftables\" is built in")),
            other => return Err(Fault::invalid(format!("unrecognized backend {other:?}"))),
        }
        if keys.find("externalSetMarkChain").is_some() {
            return Err(refused("externalSetMarkChain", "it is a chain of iptables"));
        }
        if keys.number("markMasqBit")? > 31 {
            return Err(Fault::invalid("MasqMarkBit must be between 0 and 31"));
        }
        let (mut asks, mut force) = (Vec::new(), keys.flag("force")?);
        if let Some(told) = runtime_config(&keys)?.and_then(|told| told.find(CAPABILITY)) {
            asks = read_mappings(told)?;
            let is_forced =
                |entry: &Value| entry.as_object().is_some_and(|entry| Keys::new(entry, CAPABILITY).flag("force").unwrap_or(false));
            force = force || told.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_forced));
        }
        let snat = keys.find("snat").is_none() || keys.flag("snat")?;
        Ok(PortmapConf { asks, snat, masq_all: keys.flag("masqAll")?, force })
    }
}

fn refused(key: &str, why: &str) -> Fault {
    Fault::new(Kind::Unimplemented, format!("\"{key}\" of portmap is not honoured: {why}"))
        .hint(format!("leave {key:?} out of the configuration, or have another program do it: --cni-builtin never"))
}

/// Reads the capability argument `portMappings`.
///
/// *Shape:* `[{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}]`. *Source:* CNI
/// CONVENTIONS.md, reference `portmap`.
pub fn read_mappings(value: &Value) -> Result<Vec<PortAsk>> {
    let Value::Array(entries) = value else { return Err(Fault::invalid("\"portMappings\" must be an array")) };
    entries.iter().map(read_mapping).collect()
}

fn read_mapping(entry: &Value) -> Result<PortAsk> {
    let Value::Object(map) = entry else { return Err(Fault::invalid("an entry of \"portMappings\" must be an object")) };
    let keys = Keys::new(map, CAPABILITY);
    let port = |key, what: &str| match u16::try_from(keys.number(key)?) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Fault::invalid(format!("Invalid {what} port number: {}", keys.number(key)?)).hint("a port is from 1 to 65535")),
    };
    let (container, host) = (port("containerPort", "container")?, port("hostPort", "host")?);
    let protocol = keys.text("protocol")?;
    let host_ip = match keys.text("hostIP")? {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| Fault::invalid(format!("invalid hostIP {text:?}")))?.to_canonical()),
    };
    let protocol = if protocol.is_empty() { Protocol::Tcp } else { protocol.parse()? };
    let at = match host_ip {
        Some(IpAddr::V6(address)) => format!("[{address}]:"),
        Some(IpAddr::V4(address)) => format!("{address}:"),
        None => String::new(),
    };
    Ok(PortAsk {
        text: format!("{at}{host}:{container}/{protocol}"),
        host_ip,
        host: Some(host..=host),
        container: container..=container,
        protocol,
    })
}

/// Writes the capability argument `portMappings` that means `forwards`, whatever their targets are; `force` is rkbox's own key.
pub fn write_mappings(forwards: &[Forward], force: bool) -> Value {
    // A whole range may be published, so nothing is searched for each of its ports.
    let wanted = |forward: &Forward| (forward.protocol, forward.host_ip, forward.host_port, forward.target_port);
    let families: HashSet<_> = forwards.iter().map(|forward| (wanted(forward), forward.target.is_ipv4())).collect();
    let (mut all, mut told) = (Vec::new(), HashSet::new());
    for forward in forwards {
        // No address is those of both families.
        let is_of_both = forward.host_ip.is_none() && families.contains(&(wanted(forward), !forward.target.is_ipv4()));
        let host_ip = (!is_of_both).then(|| forward.host_address());
        if !told.insert((forward.protocol, forward.host_port, forward.target_port, host_ip)) {
            continue;
        }
        let mut entry = Map::new();
        entry.insert("hostPort".to_owned(), json!(forward.host_port));
        entry.insert("containerPort".to_owned(), json!(forward.target_port));
        entry.insert("protocol".to_owned(), json!(forward.protocol.word()));
        if let Some(address) = host_ip {
            entry.insert("hostIP".to_owned(), json!(address.to_string()));
        }
        if force {
            entry.insert("force".to_owned(), json!(true));
        }
        all.push(Value::Object(entry));
    }
    Value::Array(all)
}

fn short(network: &NetworkName) -> String {
    format!("#{}", &hex(&Sha256::digest(network.as_ref().as_bytes()))[..16])
}

/// The mark of the ports that an attachment publishes: network, interface and container id, so that two networks of one container
/// do not take each other's (upstream's marks bear the id alone).
///
/// *Shape:* `NETWORK/IFNAME/ID`; where that is longer than a comment, `#DIGEST/DIGEST/BEGINNING OF ID`.
pub fn mark(network: &NetworkName, owner: &str, ifname: &IfName) -> String {
    let plain = format!("{network}/{ifname}/{owner}");
    if plain.len() <= COMMENT {
        return plain;
    }
    let digest = hex(&Sha256::digest(format!("{ifname}/{owner}").as_bytes()));
    let mut long = format!("{}/{}/{owner}", short(network), &digest[..32]);
    long.truncate(COMMENT);
    long
}

/// Whether a mark is of a network.
pub fn is_mark_of(mark: &str, network: &NetworkName) -> bool {
    let head = mark.split_once('/').map(|(head, _)| head);
    head.is_some_and(|head| head == network.as_ref() || head == short(network))
}

/// The container id in a mark; all of what is no mark of a plugin.
pub fn owner_of(mark: &str) -> &str {
    mark.rsplit_once('/').map_or(mark, |(_, owner)| owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(json: &str) -> Plugin {
        Plugin::parse(format!("{{\"type\":\"portmap\"{json}}}").as_bytes()).unwrap()
    }

    #[test]
    fn portmap_is_honoured_or_refused_by_name() {
        let read = |json| PortmapConf::read(&plugin(json));
        assert_eq!(read("").unwrap(), PortmapConf { asks: Vec::new(), snat: true, masq_all: false, force: false });
        let conf = read(r#","SNAT":false,"masqAll":true,"backend":"nftables","markMasqBit":5,"force":true,"conditionsV4":[""]"#).unwrap();
        assert_eq!((conf.snat, conf.masq_all, conf.force), (false, true, true));
        for (bad, name) in [
            (r#","conditionsV4":["!","-d","192.0.2.0/24"]"#, "conditionsV4"),
            (r#","conditionsV6":["-x"]"#, "conditionsV6"),
            (r#","backend":"iptables""#, "backend"),
            (r#","externalSetMarkChain":"KUBE-MARK-MASQ""#, "externalSetMarkChain"),
        ] {
            let fault = read(bad).unwrap_err();
            assert!(fault.kind() == Kind::Unimplemented && fault.to_string().contains(&format!("{name:?}")), "{fault}");
        }
        for bad in [r#","backend":"ipvs""#, r#","markMasqBit":32"#, r#","snat":"yes""#] {
            assert_eq!(read(bad).unwrap_err().kind(), Kind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn port_mappings_are_read_as_portmap_does() {
        let asks = |json: &str| read_mappings(&serde_json::from_str(json).unwrap());
        let read =
            asks(r#"[{"hostPort":8080,"containerPort":80},{"hostPort":53,"containerPort":54,"protocol":"UDP","hostIP":"::2"}]"#).unwrap();
        assert_eq!((read[0].host.clone(), read[0].text.as_str()), (Some(8080..=8080), "8080:80/tcp"));
        assert_eq!((read[1].protocol, read[1].text.as_str()), (Protocol::Udp, "[::2]:53:54/udp"));
        for bad in [
            "{}",
            "[7]",
            r#"[{"hostPort":65536,"containerPort":1}]"#,
            r#"[{"hostPort":1,"containerPort":0}]"#,
            r#"[{"containerPort":1}]"#,
            r#"[{"hostPort":"1"}]"#,
            r#"[{"hostPort":1,"containerPort":1,"protocol":"icmp"}]"#,
            r#"[{"hostPort":1,"containerPort":1,"hostIP":"x"}]"#,
        ] {
            assert!(asks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mappings_that_are_written_are_read_again() {
        let told = json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
            {"hostPort": 81, "containerPort": 81, "protocol": "sctp", "hostIP": "0.0.0.0"},
            {"hostPort": 82, "containerPort": 81, "protocol": "tcp", "hostIP": "::"},
        ]);
        let any = [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])];
        let asks = read_mappings(&told).unwrap();
        let forwards = crate::cni::ports::wanted(&asks, &any, &mut |_, _| Err(Fault::internal("a choice"))).unwrap();
        assert_eq!((forwards.len(), write_mappings(&forwards, false)), (5, told));
        assert_eq!(write_mappings(&forwards[..1], true)[0]["force"], true);
        let forced = plugin(&format!(r#","runtimeConfig":{{"portMappings":{}}}"#, write_mappings(&forwards, true)));
        assert!(PortmapConf::read(&forced).unwrap().force);
    }

    #[test]
    fn a_mark_tells_its_network_and_fits_a_comment() {
        let (network, other, eth0): (NetworkName, NetworkName, IfName) =
            ("podman".parse().unwrap(), "podman2".parse().unwrap(), "eth0".parse().unwrap());
        let plain = mark(&network, "c0ffee", &eth0);
        assert_eq!((plain.as_str(), owner_of(&plain), owner_of("c0ffee")), ("podman/eth0/c0ffee", "c0ffee", "c0ffee"));
        assert!(is_mark_of(&plain, &network) && !is_mark_of(&plain, &other) && !is_mark_of("podman", &network));
        let long = mark(&network, &"a".repeat(200), &eth0);
        assert_eq!(long.len(), COMMENT);
        assert!(is_mark_of(&long, &network) && !is_mark_of(&long, &other) && long != mark(&network, &"a".repeat(201), &eth0));
    }
}
