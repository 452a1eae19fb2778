//! A new network: its configuration list, and a subnet that nobody uses.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ranges::parse_cidr;
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, NetworkName};

/// The key by which rkbox knows a list that it has written.
pub const MARK: &str = "rkbox";

/// What a new network is to be.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its name.
    pub name: NetworkName,
    /// Its bridge.
    pub bridge: IfName,
    /// Its subnets, one of each family at most.
    pub subnets: Vec<Subnet>,
    /// No way out: no gateway, no default route, no masquerade.
    pub internal: bool,
    /// Ports do not reach each other.
    pub isolated: bool,
    /// MTU in bytes.
    pub mtu: Option<u32>,
}

/// A subnet of a new network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The subnet.
    pub subnet: IpNetwork,
    /// The gateway, when not the first address.
    pub gateway: Option<IpAddr>,
    /// The first and the last address to give out, when not all.
    pub range: Option<(IpAddr, IpAddr)>,
}

impl Draft {
    /// The configuration list.
    pub fn list(&self) -> Value {
        let range = |subnet: &Subnet| {
            let mut range = json!({ "subnet": subnet.subnet.to_string() });
            if let Some(gateway) = subnet.gateway {
                range["gateway"] = gateway.to_string().into();
            }
            if let Some((start, end)) = subnet.range {
                range["rangeStart"] = start.to_string().into();
                range["rangeEnd"] = end.to_string().into();
            }
            Value::from(vec![range])
        };
        let ranges: Vec<Value> = self.subnets.iter().map(range).collect();
        let mut bridge = json!({
            "type": "bridge", "bridge": self.bridge.as_ref(), "isDefaultGateway": !self.internal, "ipMasq": !self.internal,
            "hairpinMode": true, "capabilities": {"ips": true, "mac": true}, "ipam": {"type": "host-local", "ranges": ranges},
        });
        if let Some(mtu) = self.mtu {
            bridge["mtu"] = mtu.into();
        }
        if self.isolated {
            bridge["portIsolation"] = true.into();
        }
        json!({ "cniVersion": "1.0.0", "name": self.name.as_ref(), MARK: {"created": true}, "plugins": [bridge] })
    }
}

/// Whether two networks have an address in common.
pub fn overlap(one: &IpNetwork, other: &IpNetwork) -> bool {
    one.is_ipv4() == other.is_ipv4() && (one.contains(other.network()) || other.contains(one.network()))
}

/// The first subnet that overlaps none of `used`, and which were passed over on the way.
///
/// *Shape:* 10.89.0.0/24, 10.89.1.0/24 and so on to 10.255.255.0/24.
pub fn choose_v4(used: &[IpNetwork]) -> Result<(IpNetwork, Vec<IpNetwork>)> {
    let candidates = (89..=255_u8).flat_map(|second| (0..=255_u8).map(move |third| IpAddr::from([10, second, third, 0])));
    let mut avoided: Vec<IpNetwork> = Vec::new();
    for address in candidates {
        let candidate = IpNetwork::new(address, 24).map_err(|error| Fault::internal(error.to_string()))?;
        match used.iter().find(|known| known.prefix() > 0 && overlap(known, &candidate)) {
            None => return Ok((candidate, avoided)),
            Some(known) if !avoided.contains(known) => avoided.push(*known),
            Some(_) => {}
        }
    }
    Err(Fault::new(Kind::ResourceExhausted, "no /24 of 10.89.0.0 to 10.255.255.0 is free").hint("name one: --subnet CIDR"))
}

/// A unique local subnet that overlaps none of `used`, a function of the name of the network.
///
/// *Source:* RFC 4193: `fd` and 40 bits that nobody else is likely to have.
pub fn choose_v6(name: &NetworkName, used: &[IpNetwork]) -> Result<IpNetwork> {
    for nth in 0..64_u8 {
        let digest = Sha256::digest(format!("rkbox network\0{name}\0{nth}").as_bytes());
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..6].copy_from_slice(&digest[..5]);
        let candidate = IpNetwork::new(Ipv6Addr::from(octets).into(), 64).map_err(|error| Fault::internal(error.to_string()))?;
        if !used.iter().any(|known| known.prefix() > 0 && overlap(known, &candidate)) {
            return Ok(candidate);
        }
    }
    Err(Fault::new(Kind::ResourceExhausted, "no unique local subnet is free").hint("name one: --subnet CIDR"))
}

/// Reads `--ip-range`: a CIDR, or the first and the last address with a dash between them.
pub fn read_range(text: &str) -> Result<(IpAddr, IpAddr)> {
    let bad = || Fault::invalid(format!("{text:?} is no range of addresses")).hint("use 10.89.0.128/25 or 10.89.0.10-10.89.0.20");
    if let Some((start, end)) = text.split_once('-') {
        return Ok((start.parse().map_err(|_| bad())?, end.parse().map_err(|_| bad())?));
    }
    let cidr = parse_cidr(text).map_err(|_| bad())?;
    Ok((cidr.network(), cidr.broadcast()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn a_subnet_avoids_all_that_is_used_but_the_default_route() {
        let used = [net("0.0.0.0/0"), net("10.89.0.0/23"), net("10.89.2.128/25"), net("192.168.0.0/16"), net("fd00::/8")];
        let (chosen, avoided) = choose_v4(&used).unwrap();
        assert_eq!((chosen, avoided), (net("10.89.3.0/24"), vec![net("10.89.0.0/23"), net("10.89.2.128/25")]));
        assert_eq!(choose_v4(&[net("10.0.0.0/8")]).unwrap_err().kind(), Kind::ResourceExhausted);
        let six = choose_v6(&"n".parse().unwrap(), &[]).unwrap();
        assert_ne!(six, choose_v6(&"n".parse().unwrap(), &[six]).unwrap());
        assert_eq!(read_range("10.0.0.128/25").unwrap(), ("10.0.0.128".parse().unwrap(), "10.0.0.255".parse().unwrap()));
        assert!(read_range("x").is_err() && read_range("10.0.0.1").is_err());
    }
}
