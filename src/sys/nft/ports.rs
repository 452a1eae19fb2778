//! The table of published ports, and the fence around the containers of a network.
//!
//! A published port is one element of a map; a packet to an address of this host is looked up in it, whatever the number of ports.
//! What comes from elsewhere to 127.0.0.0/8 is dropped before all else, so that `route_localnet` on a bridge, which the way back to
//! a client on 127.0.0.1 needs, opens nothing (CVE-2020-8558).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, EntryFound, address_and_port, port_bytes};
use super::error::{NftError, NftRequest};
use super::expr::{Family, Rule, octets};
use super::table::{self, Chain, Hook, Kind, Set, Table, TableFamily, TableName};
use super::{Batch, Gone, Nft, msg};
use crate::ids::{IfName, NetworkName};
use crate::ports::{Forward, Protocol};

/// The table.
pub const PORT_TABLE: TableName = TableName { family: TableFamily::Inet, name: "rkbox_ports" };
/// Where every path to a published port meets; the last of the base chains.
const PUBLISH: &str = "publish";
const BASE: [&str; 5] = ["local", "postrouting", "prerouting", "output", PUBLISH];

const RAW: i32 = -300;
const DSTNAT: i32 = -100;
pub(super) const SRCNAT: i32 = 100;

const SETS: [Set; 4] = [
    Set { name: "ports", key: &[Kind::Protocol, Kind::Service], data: &[Kind::Ipv4, Kind::Service] },
    Set { name: "ports6", key: &[Kind::Protocol, Kind::Service], data: &[Kind::Ipv6, Kind::Service] },
    Set { name: "bound", key: &[Kind::Ipv4, Kind::Protocol, Kind::Service], data: &[Kind::Ipv4, Kind::Service] },
    Set { name: "bound6", key: &[Kind::Ipv6, Kind::Protocol, Kind::Service], data: &[Kind::Ipv6, Kind::Service] },
];

/// What keeps the containers of a network for those who may reach them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The network.
    pub network: NetworkName,
    /// Its bridge.
    pub bridge: IfName,
    /// Its subnets.
    pub subnets: Vec<IpNetwork>,
    /// Whether only the bridge and this host reach its containers directly.
    pub guard: bool,
}

impl Fence {
    fn names(&self) -> [String; 2] {
        [format!("guard-{}", self.network), format!("hairpin-{}", self.network)]
    }

    /// Only its own bridge and this host speak to a container (and to its gateway) directly; what comes back through a
    /// published port to the network that it came from must go through this host both times.
    pub(super) fn table(&self) -> Table {
        let [guard, hairpin] = self.names();
        let only = |subnet: &IpNetwork| {
            Rule::default().entering_from_elsewhere().not_from(&self.bridge).of_family(Family::of(subnet)).destination_in(subnet).drop()
        };
        let back = |subnet: &IpNetwork| {
            Rule::default().was_led_here().of_family(Family::of(subnet)).source_in(subnet).destination_in(subnet).masquerade()
        };
        let chains = vec![
            Chain {
                name: guard,
                hook: Some(Hook { kind: "filter", hook: table::PREROUTING, priority: RAW }),
                rules: self.subnets.iter().filter(|_| self.guard).map(only).collect(),
            },
            Chain {
                name: hairpin,
                hook: Some(Hook { kind: "nat", hook: table::POSTROUTING_HOOK, priority: SRCNAT }),
                rules: self.subnets.iter().map(back).collect(),
            },
        ];
        Table { name: PORT_TABLE, sets: &[], chains }
    }
}

/// The table without its elements and without the fences.
pub(super) fn port_table() -> Table {
    let loopback = Ipv4Network::new(Ipv4Addr::new(127, 0, 0, 0), 8).map(IpNetwork::V4).into_iter();
    let elsewhere = || Rule::default().entering_from_elsewhere().of_family(Family::V4);
    let local = loopback.clone().flat_map(|net| [elsewhere().destination_in(&net).drop(), elsewhere().source_in(&net).drop()]);
    let answered = loopback.map(|net| Rule::default().was_led_here().of_family(Family::V4).source_in(&net).masquerade());
    // ::1 has no way back through another link, whatever is set: a client tries 127.0.0.1 next, but only when ::1 refuses.
    let publish = vec![
        Rule::default().destined_to(IpAddr::V6(Ipv6Addr::LOCALHOST)).back(),
        Rule::default().lead(Family::V4, true, "bound"),
        Rule::default().lead(Family::V6, true, "bound6"),
        Rule::default().lead(Family::V4, false, "ports"),
        Rule::default().lead(Family::V6, false, "ports6"),
    ];
    let to_publish = || vec![Rule::default().destined_here().jump_to(PUBLISH)];
    let hook = |kind, hook, priority| Some(Hook { kind, hook, priority });
    let chain = |name: &str, hook, rules| Chain { name: name.to_owned(), hook, rules };
    Table {
        name: PORT_TABLE,
        sets: &SETS,
        chains: vec![
            chain("local", hook("filter", table::PREROUTING, RAW), local.collect()),
            chain("postrouting", hook("nat", table::POSTROUTING_HOOK, SRCNAT), answered.collect()),
            chain("prerouting", hook("nat", table::PREROUTING, DSTNAT), to_publish()),
            chain("output", hook("nat", table::OUTPUT, DSTNAT), to_publish()),
            chain(PUBLISH, None, publish),
        ],
    }
}

/// The element of a published port.
pub(super) fn entry_of(forward: &Forward, owner: &str) -> Entry {
    let (data, data_words) = address_and_port(forward.target, forward.target_port);
    let mut key = vec![forward.protocol.number(), 0, 0, 0];
    key.extend(port_bytes(forward.host_port));
    let mut words = format!("{} . {}", forward.protocol, forward.host_port);
    let set = match (forward.host_ip, forward.target.is_ipv4()) {
        (None, true) => "ports",
        (None, false) => "ports6",
        (Some(address), v4) => {
            key.splice(0..0, octets(address));
            words = format!("{address} . {words}");
            if v4 { "bound" } else { "bound6" }
        }
    };
    Entry { table: PORT_TABLE, set, key, data, words, data_words, owner: owner.to_owned() }
}

/// A port that somebody published, in the way of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Its owner, as the element says.
    pub owner: String,
    /// The address of the host, `None` for all.
    pub host_ip: Option<IpAddr>,
}

impl Nft {
    /// Who publishes a port that collides with `forward`.
    pub fn find_publisher(&mut self, forward: &Forward) -> Result<Option<Publisher>, NftError> {
        if let Some(found) = self.find_entry(&entry_of(forward, ""))? {
            return Ok(Some(Publisher { owner: found.comment.unwrap_or_default(), host_ip: forward.host_ip }));
        }
        if forward.host_ip.is_some() {
            let everywhere = entry_of(&Forward { host_ip: None, ..*forward }, "");
            let found = self.find_entry(&everywhere)?;
            return Ok(found.map(|found| Publisher { owner: found.comment.unwrap_or_default(), host_ip: None }));
        }
        // Ports of single addresses are few.
        let tail = entry_of(forward, "").key;
        let (set, length) = if forward.target.is_ipv4() { ("bound", 4) } else { ("bound6", 16) };
        for found in self.entries(PORT_TABLE, set)? {
            if found.key.get(length..) == Some(&tail[..]) {
                let host_ip = address_of(found.key.get(..length).unwrap_or_default());
                return Ok(Some(Publisher { owner: found.comment.unwrap_or_default(), host_ip }));
            }
        }
        Ok(None)
    }

    /// Takes back the ports that `owner` publishes; those of others stay.
    pub fn unpublish(&mut self, forwards: &[Forward], owner: &str) -> Result<Gone, NftError> {
        let entries: Vec<Entry> = forwards.iter().map(|forward| entry_of(forward, owner)).collect();
        self.delete_entries(&entries)
    }

    /// Every published port with its owner, in no order.
    pub fn published(&mut self) -> Result<Vec<(Forward, String)>, NftError> {
        let mut all = Vec::new();
        for set in SETS {
            let found = self.entries(PORT_TABLE, set.name)?;
            all.extend(found.into_iter().filter_map(|found| Some((forward_in(&found)?, found.comment.unwrap_or_default()))));
        }
        Ok(all)
    }

    /// Whether `owner` publishes any of `forwards`, wherever they lead.
    pub fn is_publisher(&mut self, forwards: &[Forward], owner: &str) -> Result<bool, NftError> {
        for entry in forwards.iter().map(|forward| entry_of(forward, owner)) {
            if self.find_entry(&entry)?.is_some_and(|found| entry.is_of(&found)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes the fence of a network.
    pub fn delete_fence(&mut self, fence: &Fence) -> Result<Gone, NftError> {
        let there = self.chains_of(PORT_TABLE)?;
        let mut batch = Batch::default();
        for name in fence.names().iter().filter(|name| there.contains(name)) {
            table::ask_delete_chain(PORT_TABLE, name, &mut batch);
        }
        if batch.is_empty() {
            return Ok(Gone::Absent);
        }
        match self.commit(&batch) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Gone::Absent),
            result => result.map(|()| Gone::Deleted),
        }
    }

    /// Deletes the table if it holds no port and no fence; looked at and deleted in one generation.
    pub fn delete_port_table_if_unused(&mut self) -> Result<Gone, NftError> {
        self.delete_if_unused(PORT_TABLE, |nft| {
            let mut used = nft.chains_of(PORT_TABLE)?.iter().any(|chain| !BASE.contains(&chain.as_str()));
            for set in SETS {
                used = used || !nft.entries(PORT_TABLE, set.name)?.is_empty();
            }
            Ok(used)
        })
    }

    /// Deletes a table unless `is_used`, both in one generation.
    pub(super) fn delete_if_unused(
        &mut self,
        table: TableName,
        is_used: impl Fn(&mut Nft) -> Result<bool, NftError>,
    ) -> Result<Gone, NftError> {
        for _ in 0..16 {
            let generation = self.generation()?;
            if !self.has_table_of(table)? {
                return Ok(Gone::Absent);
            }
            if is_used(self)? {
                return Ok(Gone::InUse);
            }
            let mut batch = Batch::at(generation);
            batch.ask_in(table.family, NftRequest::DeleteTable, (msg::DELTABLE, 0), |m| m.string(1, table.name));
            match self.commit(&batch) {
                Err(error) if error.errno() == Some(Errno::ERESTART) => {}
                result => return result.map(|()| Gone::Deleted),
            }
        }
        Err(NftError::Unsettled)
    }
}

/// Where an element leads: an address and a port.
pub(super) fn target_in(data: &[u8]) -> Option<(IpAddr, u16)> {
    let (address, port) = data.split_at_checked(data.len().checked_sub(4)?)?;
    Some((address_of(address)?, u16::from_be_bytes([*port.first()?, *port.get(1)?])))
}

/// The published port of an element; `None` for one that rkbox does not write.
fn forward_in(found: &EntryFound) -> Option<Forward> {
    let (target, target_port) = target_in(&found.data)?;
    let (address, tail) = found.key.split_at_checked(found.key.len().checked_sub(8)?)?;
    let protocol = Protocol::ALL.into_iter().find(|protocol| Some(&protocol.number()) == tail.first())?;
    let host_ip = if address.is_empty() { None } else { Some(address_of(address)?) };
    Some(Forward { protocol, host_ip, host_port: u16::from_be_bytes([*tail.get(4)?, *tail.get(5)?]), target, target_port })
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    v4.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

/// Prints the deletion of a fence.
pub fn fence_removal(fence: &Fence) -> Vec<Vec<String>> {
    let words = |name: &String| ["nft", "delete", "chain", "inet", PORT_TABLE.name, name].map(str::to_owned).to_vec();
    fence.names().iter().map(words).collect()
}
