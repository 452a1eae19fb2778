//! The words of published ports: a protocol, and where a port of the host leads.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Result};

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// Its name, as `nft` and `-p` have it.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Protocol {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Protocol> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(Fault::invalid(format!("protocol {text:?} is not known")).hint("it is one of tcp, udp and sctp")),
        }
    }
}

/// Where a port of the host leads: one element of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Forward {
    /// The protocol.
    pub protocol: Protocol,
    /// The one address of the host that it is published on, of the target's family; `None` is all of that family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The port on the host.
    pub host_port: u16,
    /// The container.
    pub target: IpAddr,
    /// The port in the container.
    pub target_port: u16,
}

impl Forward {
    /// The address on the host, `0.0.0.0` or `::` for all.
    pub fn host_address(&self) -> IpAddr {
        self.host_ip.unwrap_or(if self.target.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u16; 8]) })
    }

    /// Whether the host itself may use it as 127.0.0.1.
    pub fn is_on_loopback(&self) -> bool {
        self.target.is_ipv4() && self.host_ip.is_none_or(|address| address.is_loopback())
    }

    /// Whether both cannot be published: one socket could not hold the one and another the other.
    pub fn collides_with(&self, other: &Forward) -> bool {
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && self.target.is_ipv4() == other.target.is_ipv4()
            && (self.host_ip.is_none() || other.host_ip.is_none() || self.host_ip == other.host_ip)
    }
}

/// How many ports are named in a phrase.
const NAMED: usize = 3;

/// Ports in a phrase, the first of them by name.
///
/// *Shape:* `0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp and 9 more`.
pub fn named(forwards: &[Forward]) -> String {
    let named = forwards.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = forwards.len().saturating_sub(NAMED);
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// *Shape:* `0.0.0.0:8080->80/tcp`, `[::]:8080->80/tcp`.
impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = std::net::SocketAddr::new(self.host_address(), self.host_port);
        write!(f, "{at}->{}/{}", self.target_port, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(host_ip: Option<&str>, host_port: u16, target: &str) -> Forward {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        Forward { protocol: Protocol::Tcp, host_ip, host_port, target: target.parse().unwrap(), target_port: 80 }
    }

    #[test]
    fn one_port_is_published_once() {
        let all = forward(None, 80, "10.88.0.2");
        assert!(all.collides_with(&forward(Some("127.0.0.1"), 80, "10.88.0.3")));
        assert!(all.collides_with(&all));
        assert!(!all.collides_with(&forward(None, 81, "10.88.0.2")));
        assert!(!all.collides_with(&forward(None, 80, "fd00::2")));
        assert!(!all.collides_with(&Forward { protocol: Protocol::Udp, ..all }));
        assert!(!forward(Some("192.0.2.1"), 80, "10.88.0.2").collides_with(&forward(Some("192.0.2.2"), 80, "10.88.0.2")));
    }

    #[test]
    fn a_forward_reads_as_docker_shows_it() {
        assert_eq!(forward(None, 8080, "10.88.0.2").to_string(), "0.0.0.0:8080->80/tcp");
        assert_eq!(forward(Some("::1"), 8080, "fd00::2").to_string(), "[::1]:8080->80/tcp");
        let text = serde_json::to_string(&forward(None, 1, "10.88.0.2")).unwrap();
        assert_eq!(text, r#"{"protocol":"tcp","host_port":1,"target":"10.88.0.2","target_port":80}"#);
    }
}
