//! The guard of bridge ports: a container speaks with its own MAC and addresses only, and is neither a router nor a DHCP server.
//!
//! *Source:* CVE-2020-10749 (router advertisements), ARP and ND spoofing with CAP_NET_RAW. The bridge family sees a frame before
//! the bridge learns from it or `br_netfilter` shows it to IP.

use std::net::{IpAddr, Ipv6Addr};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::error::NftError;
use super::expr::{Family, Rule, octets};
use super::rule::{Field, Frame, ifname_bytes};
use super::table::{self, Chain, Hook, Kind, Set, Table, TableFamily, TableName};
use super::{Batch, Gone, Nft};
use crate::ids::{IfName, Mac};

/// The table.
pub const SPOOF_TABLE: TableName = TableName { family: TableFamily::Bridge, name: "rkbox" };
const GUARD: &str = "guard";

const SETS: [Set; 5] = [
    Set { name: "ports", key: &[Kind::Ifname], data: &[] },
    Set { name: "macs", key: &[Kind::Ifname, Kind::Ether], data: &[] },
    Set { name: "addresses", key: &[Kind::Ifname, Kind::Ipv4], data: &[] },
    Set { name: "addresses6", key: &[Kind::Ifname, Kind::Ipv6], data: &[] },
    Set { name: "targets", key: &[Kind::Ifname, Kind::Target], data: &[] },
];

const ROUTER_ADVERTISEMENT: (u8, &str) = (134, "nd-router-advert");
const NEIGHBOUR_ADVERTISEMENT: (u8, &str) = (136, "nd-neighbor-advert");
const REDIRECT: (u8, &str) = (137, "nd-redirect");
const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;

/// A bridge port and what may come in by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoofPort {
    /// The port.
    pub port: IfName,
    /// The MAC of the interface behind it.
    pub mac: Mac,
    /// Its addresses; the IPv6 link-local address of its MAC goes without saying.
    pub addresses: Vec<IpAddr>,
}

/// The link-local address that the kernel gives an interface with `mac` (RFC 4291, modified EUI-64).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let part = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, part(a ^ 2, b), part(c, 0xff), part(0xfe, d), part(e, f))
}

impl SpoofPort {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |set, tail: &[u8], words: String| Entry {
            table: SPOOF_TABLE,
            set,
            key: [&ifname_bytes(self.port.as_ref())[..], tail].concat(),
            data: Vec::new(),
            words: format!("\"{}\"{words}", self.port),
            data_words: String::new(),
            owner: String::new(),
        };
        let mut mac = self.mac.0.to_vec();
        mac.extend([0, 0]);
        let mut all = vec![entry("ports", &[], String::new()), entry("macs", &mac, format!(" . {}", self.mac))];
        for address in self.addresses.iter().copied().chain([IpAddr::V6(link_local(self.mac))]) {
            let bytes = octets(address);
            match address {
                IpAddr::V4(_) => all.push(entry("addresses", &bytes, format!(" . {address}"))),
                IpAddr::V6(v6) => {
                    all.push(entry("addresses6", &bytes, format!(" . {address}")));
                    all.push(entry("targets", &bytes, format!(" . {:#034x}", u128::from(v6))));
                }
            }
        }
        all
    }
}

/// The table without its elements.
pub(super) fn spoof_table() -> Table {
    let ip = |family| Rule::default().of_frame(Frame::Ip(family));
    let arp = || Rule::default().of_frame(Frame::Arp).pair(Field::ArpEther, true, "macs");
    let rules = vec![
        Rule::default().pair(Field::EtherSource, false, "macs").drop(),
        ip(Family::V4).udp_from(DHCP_SERVER).drop(),
        ip(Family::V4).pair(Field::Source(Family::V4), true, "addresses").back(),
        arp().arp_probe().back(),
        arp().pair(Field::ArpAddress, true, "addresses").back(),
        ip(Family::V6).icmpv6(ROUTER_ADVERTISEMENT).drop(),
        ip(Family::V6).icmpv6(REDIRECT).drop(),
        ip(Family::V6).icmpv6(NEIGHBOUR_ADVERTISEMENT).pair(Field::Target, false, "targets").drop(),
        ip(Family::V6).udp_from(DHCPV6_SERVER).drop(),
        ip(Family::V6).pair(Field::Source(Family::V6), true, "addresses6").back(),
        ip(Family::V6).ipv6_unspecified().back(),
        Rule::default().drop(),
    ];
    let first = Hook { kind: "filter", hook: table::PREROUTING, priority: -300 };
    Table {
        name: SPOOF_TABLE,
        sets: &SETS,
        chains: vec![
            Chain { name: GUARD.to_owned(), hook: None, rules },
            Chain {
                name: "prerouting".to_owned(),
                hook: Some(first),
                rules: vec![Rule::default().entering_one_of("ports").jump_to(GUARD)],
            },
        ],
    }
}

impl Nft {
    /// Takes the guard from a port; what of it is gone already is no matter.
    pub fn unguard(&mut self, port: &SpoofPort) -> Result<Gone, NftError> {
        let entries = port.entries();
        let mut batch = Batch::default();
        entries.iter().for_each(|entry| entry.ask_delete(&mut batch));
        match self.commit(&batch) {
            Ok(()) => Ok(Gone::Deleted),
            Err(error) if error.errno() == Some(Errno::ENOENT) => self.delete_entries(&entries),
            Err(error) => Err(error),
        }
    }

    /// Deletes the table if it guards no port; looked at and deleted in one generation.
    pub fn delete_spoof_table_if_unused(&mut self) -> Result<Gone, NftError> {
        self.delete_if_unused(SPOOF_TABLE, |nft| Ok(!nft.entries(SPOOF_TABLE, SETS[0].name)?.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_local_address_is_that_of_the_kernel() {
        assert_eq!(link_local("86:8c:62:d9:9c:fe".parse().unwrap()).to_string(), "fe80::848c:62ff:fed9:9cfe");
    }
}
