//! Names, parsed once and valid ever after, and the names of host things that are derived from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fault::{Fault, Result};

/// The id of a sandbox or container: 64 lowercase hex digits made from 32 random bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// Writes 32 random bytes as an id.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Id(hex(&bytes))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

macro_rules! string_newtype {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Fault;
            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}
string_newtype!(Id);
string_newtype!(Name);
string_newtype!(NetworkName);
string_newtype!(IfName);

impl FromStr for Id {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Id(text.to_owned()));
        }
        Err(Fault::invalid(format!("id {text:?} is not 64 lowercase hex digits")))
    }
}

/// Who writes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// runc writes the cgroup file system.
    Cgroupfs,
    /// runc asks systemd for a scope.
    Systemd,
}

impl CgroupDriver {
    /// As `--cgroup-driver` spells it.
    pub fn word(self) -> &'static str {
        match self {
            CgroupDriver::Cgroupfs => "cgroupfs",
            CgroupDriver::Systemd => "systemd",
        }
    }

    /// The parent of boxes unless another is named.
    pub fn default_parent(self) -> &'static str {
        match self {
            CgroupDriver::Cgroupfs => "/rkbox",
            CgroupDriver::Systemd => "system.slice",
        }
    }
}

/// The name of a sandbox or container; also the name of its network namespace under `/run/netns`.
///
/// *Shape:* `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The name of a CNI network.
///
/// *Shape:* `[a-zA-Z0-9][a-zA-Z0-9_.-]*`. *Source:* CNI specification, "Network configuration format"; libcni `ValidateNetworkName`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

/// The name of a network interface.
///
/// *Shape:* 1 to 15 bytes, no `/`, `:` or white space, not `.` or `..`. *Source:* libcni `ValidateInterfaceName`, kernel `dev_valid_name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric()) && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl FromStr for Name {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        if is_word(text) && text.len() <= 128 {
            return Ok(Name(text.to_owned()));
        }
        Err(Fault::invalid(format!("name {text:?} is not valid"))
            .hint("use letters, digits, _ . -, a letter or digit first, at most 128 in all"))
    }
}

impl FromStr for NetworkName {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        if is_word(text) && text.len() <= 128 {
            return Ok(NetworkName(text.to_owned()));
        }
        Err(Fault::invalid(format!("network name {text:?} is not valid")).hint("use letters, digits, _ . -, a letter or digit first"))
    }
}

impl FromStr for IfName {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        let bad = |b: u8| b == b'/' || b == b':' || b.is_ascii_whitespace() || b.is_ascii_control();
        if text.is_empty() || text.len() > 15 || matches!(text, "." | "..") || text.bytes().any(bad) {
            return Err(Fault::invalid(format!("interface name {text:?} is not valid")).hint("use 1 to 15 bytes without /, : or spaces"));
        }
        Ok(IfName(text.to_owned()))
    }
}

/// A link-layer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Fault::invalid(format!("{text:?} is not a MAC address"));
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Mac(mac)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

/// The host-side names of one attachment, a function of the owner and the interface: our mark on a veth pair.
///
/// *Shape:* host link `rk` + 11 hex digits; MACs locally administered unicast. *Units:* `owner` is the CNI container id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethNames {
    /// The link on the host.
    pub host: IfName,
    /// The MAC of the link on the host.
    pub host_mac: Mac,
    /// The MAC of the link in the sandbox.
    pub inner_mac: Mac,
}

/// Derives the [`VethNames`] of interface `ifname` of `owner` on `network`.
pub fn veth_names(network: &NetworkName, owner: &str, ifname: &IfName) -> VethNames {
    let digest = Sha256::digest(format!("{network}\0{owner}\0{ifname}").as_bytes());
    let mac = |from: usize| {
        let mut bytes = [0; 6];
        bytes.copy_from_slice(&digest[from..from + 6]);
        bytes[0] = (bytes[0] & 0xfe) | 0x02;
        Mac(bytes)
    };
    VethNames { host: IfName(format!("rk{}", &hex(&digest)[..11])), host_mac: mac(8), inner_mac: mac(16) }
}

/// Cuts every whole id in a text to its first 12 digits, for people: `…/sandboxes/41f346cf9e70…/rootfs`.
pub fn shorten(text: &str) -> String {
    let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.bytes().position(|b| is_digit(&b)) {
        let run = rest.as_bytes()[start..].iter().take_while(|b| is_digit(b)).count();
        let end = start + run;
        out.push_str(&rest[..if run == 64 { start + 12 } else { end }]);
        if run == 64 {
            out.push('…');
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// Lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [char::from(DIGITS[usize::from(b >> 4)]), char::from(DIGITS[usize::from(b & 15)])]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        for name in ["", ".", "..", "a/b", "-a", "a b", "a\n", "é", &"a".repeat(129)] {
            assert!(name.parse::<Name>().is_err(), "{name:?}");
            assert!(name.parse::<NetworkName>().is_err(), "{name:?}");
        }
        for name in ["", ".", "..", "a/b", "a:b", "a b", "0123456789abcdef", "a\0"] {
            assert!(name.parse::<IfName>().is_err(), "{name:?}");
        }
        assert!("web.1_x-y".parse::<Name>().is_ok());
    }

    #[test]
    fn macs_are_unicast_and_local_and_differ_by_owner() {
        let network: NetworkName = "connet".parse().unwrap();
        let eth0: IfName = "eth0".parse().unwrap();
        let one = veth_names(&network, "a", &eth0);
        let two = veth_names(&network, "b", &eth0);
        assert_ne!(one, two);
        assert_eq!(one.host_mac.0[0] & 3, 2);
        assert_eq!(one.inner_mac.0[0] & 3, 2);
        assert_eq!(one.host.as_ref().len(), 13);
        assert_eq!(one.host_mac.to_string().parse::<Mac>().unwrap(), one.host_mac);
    }

    #[test]
    fn only_whole_ids_are_cut() {
        let id = Id::from_bytes([0xab; 32]);
        assert_eq!(shorten(&format!("make /x/{id}/rootfs of {id}")), "make /x/abababababab…/rootfs of abababababab…");
        assert_eq!(shorten(&format!("{id}0 é deadbeef")), format!("{id}0 é deadbeef"));
    }

    #[test]
    fn ids_round_trip() {
        let id = Id::from_bytes([0xab; 32]);
        assert_eq!(id.as_str().parse::<Id>().unwrap(), id);
        assert!("AB".parse::<Id>().is_err());
    }
}
