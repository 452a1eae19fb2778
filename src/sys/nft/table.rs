//! Tables as values: one description makes the requests of a transaction and the same text for `nft -f -`.

use std::fmt::Write as _;

use super::Batch;
use super::error::NftRequest;
use super::expr::{Rule, comment};
use super::{NLM_F_CREATE, msg};
use crate::ids::hex;
use crate::sys::netlink::wire::Writer;

const NFT_SET_MAP: u32 = 8;
const NLM_F_APPEND: u16 = 0x800;
const NF_ACCEPT: u32 = 1;
/// `NFTNL_UDATA_SET_KEYBYTEORDER`: host order, for `nft` to read interface names.
const HOST_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];
/// The same for a concatenation, and that its types are those that the set names.
const CONCATENATED: [u8; 16] = [0, 4, 0, 0, 0, 0, 3, 8, 0, 4, 13, 0, 0, 0, 1, 0];
/// What `nft` keeps beside a set of `typeof iifname . @th,64,128`, so that it can print and read it back (nft 1.0.6 has no word for it).
const TYPEOF_TARGETS: [u8; 72] = [
    0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x03, 0x40, 0x00, 0x04, 0x0d, 0x00, 0x00, 0x00, 0x01, 0x38, 0x00, 0x0e, 0x00, 0x04, 0x09, 0x00,
    0x00, 0x00, 0x01, 0x06, 0x00, 0x04, 0x06, 0x00, 0x00, 0x00, 0x01, 0x26, 0x00, 0x04, 0x07, 0x00, 0x00, 0x00, 0x01, 0x1e, 0x00, 0x04,
    0x00, 0x00, 0x00, 0x00, 0x01, 0x04, 0x00, 0x00, 0x00, 0x00, 0x02, 0x04, 0x03, 0x00, 0x00, 0x00, 0x03, 0x04, 0x40, 0x00, 0x00, 0x00,
    0x04, 0x04, 0x80, 0x00, 0x00, 0x00,
];

/// The family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFamily {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4; tables that iptables has as well.
    Ip,
    /// IPv6; tables that ip6tables has as well.
    Ip6,
    /// What bridges forward.
    Bridge,
}

impl TableFamily {
    /// `nfgen_family`.
    pub(super) fn number(self) -> u8 {
        match self {
            TableFamily::Inet => 1,
            TableFamily::Ip => 2,
            TableFamily::Ip6 => 10,
            TableFamily::Bridge => 7,
        }
    }

    /// Its name for `nft`.
    pub(super) fn word(self) -> &'static str {
        match self {
            TableFamily::Inet => "inet",
            TableFamily::Ip => "ip",
            TableFamily::Ip6 => "ip6",
            TableFamily::Bridge => "bridge",
        }
    }
}

/// A table by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableName {
    /// Its family.
    pub family: TableFamily,
    /// Its name.
    pub name: &'static str,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.family.word(), self.name)
    }
}

/// What a key or a value consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ipv4,
    Ipv6,
    Ether,
    Protocol,
    Service,
    Ifname,
    /// The target of a neighbour advertisement.
    Target,
}

impl Kind {
    /// The number of the type for `nft`, its length in bytes and its name.
    fn facts(self) -> (u32, u32, &'static str) {
        match self {
            Kind::Target => (4, 16, "@th,64,128"),
            Kind::Ipv4 => (7, 4, "ipv4_addr"),
            Kind::Ipv6 => (8, 16, "ipv6_addr"),
            Kind::Ether => (9, 6, "ether_addr"),
            Kind::Protocol => (12, 1, "inet_proto"),
            Kind::Service => (13, 2, "inet_service"),
            Kind::Ifname => (41, 16, "ifname"),
        }
    }
}

/// Type number and length of a concatenation; its members are padded to four bytes.
fn concatenation(kinds: &[Kind]) -> (u32, u32) {
    kinds.iter().fold((0, 0), |(number, length), kind| {
        let (own, bytes, _) = kind.facts();
        (number << 6 | own, length + bytes.next_multiple_of(4))
    })
}

/// A set, or a map when it has `data`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    pub name: &'static str,
    pub key: &'static [Kind],
    pub data: &'static [Kind],
}

impl Set {
    fn ask(&self, table: TableName, id: u32, batch: &mut Batch) {
        let what = format!("add nft set {table} {}", self.name);
        batch.ask_in(table.family, NftRequest::Other { what }, (msg::NEWSET, NLM_F_CREATE), |m| {
            let ((key_type, key_length), (data_type, data_length)) = (concatenation(self.key), concatenation(self.data));
            m.string(1, table.name);
            m.string(2, self.name);
            m.be32(3, if self.data.is_empty() { 0 } else { NFT_SET_MAP });
            m.be32(4, key_type);
            m.be32(5, key_length);
            if !self.data.is_empty() {
                m.be32(6, data_type);
                m.be32(7, data_length);
            }
            m.be32(10, id);
            match self.key {
                [Kind::Ifname] => m.attribute(13, &HOST_ORDER),
                [.., Kind::Target] => m.attribute(13, &TYPEOF_TARGETS),
                [_, _] if self.data.is_empty() => m.attribute(13, &CONCATENATED),
                _ => {}
            }
        });
    }

    fn text(&self) -> String {
        let words = |kinds: &[Kind]| kinds.iter().map(|kind| kind.facts().2).collect::<Vec<_>>().join(" . ");
        match (self.key, self.data) {
            ([Kind::Ifname, Kind::Target], _) => format!("set {} {{\n\t\ttypeof iifname . @th,64,128\n\t}}", self.name),
            (key, []) => format!("set {} {{ type {}; }}", self.name, words(key)),
            (key, data) => format!("map {} {{ type {} : {}; }}", self.name, words(key), words(data)),
        }
    }
}

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// `prerouting`, `output`, `postrouting`, by the numbers of the inet and bridge families.
    pub hook: (&'static str, u32),
    pub priority: i32,
}

pub(super) const PREROUTING: (&str, u32) = ("prerouting", 0);
pub(super) const OUTPUT: (&str, u32) = ("output", 3);
pub(super) const POSTROUTING_HOOK: (&str, u32) = ("postrouting", 4);

/// A chain with all its rules.
#[derive(Debug)]
pub(super) struct Chain {
    pub name: String,
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

impl Chain {
    /// What the last rule says of all: so a chain that somebody changed can be told.
    pub fn mark(&self) -> String {
        use sha2::{Digest, Sha256};
        let text: Vec<&str> = self.rules.iter().map(Rule::text).collect();
        format!("rkbox {}", hex(&Sha256::digest(text.join("\n").as_bytes())[..4]))
    }

    fn ask_chain(&self, table: TableName, batch: &mut Batch) {
        batch.ask_in(table.family, NftRequest::AddChain { chain: self.name.clone() }, (msg::NEWCHAIN, NLM_F_CREATE), |m| {
            m.string(1, table.name);
            m.string(3, &self.name);
            if let Some(hook) = &self.hook {
                m.nest(4, |h| {
                    h.be32(1, hook.hook.1);
                    h.be32(2, hook.priority as u32);
                });
                m.be32(5, NF_ACCEPT);
                m.string(7, hook.kind);
            }
        });
    }

    fn ask_rules(&self, table: TableName, batch: &mut Batch) {
        batch.ask_in(table.family, NftRequest::FlushChain { chain: self.name.clone() }, (msg::DELRULE, 0), |m| {
            m.string(1, table.name);
            m.string(2, &self.name);
        });
        for (nth, rule) in self.rules.iter().enumerate() {
            let flags = NLM_F_CREATE | NLM_F_APPEND;
            batch.ask_in(table.family, NftRequest::AddRule { chain: self.name.clone() }, (msg::NEWRULE, flags), |m| {
                m.string(1, table.name);
                m.string(2, &self.name);
                m.nest(4, |expressions| expressions.raw(rule.bytes()));
                if nth + 1 == self.rules.len() {
                    m.attribute(7, &comment(&self.mark()));
                }
            });
        }
    }
}

/// A table, or the part of one that is made together.
#[derive(Debug)]
pub(super) struct Table {
    pub name: TableName,
    pub sets: &'static [Set],
    pub chains: Vec<Chain>,
}

impl Table {
    /// Makes what is missing; the rules of its chains are written again.
    pub fn ask(&self, batch: &mut Batch) {
        let TableName { family, name } = self.name;
        batch.ask_in(family, NftRequest::AddTable, (msg::NEWTABLE, NLM_F_CREATE), |m| {
            m.string(1, name);
            m.be32(2, 0);
        });
        for (nth, set) in self.sets.iter().enumerate() {
            set.ask(self.name, nth as u32 + 1, batch);
        }
        self.chains.iter().for_each(|chain| chain.ask_chain(self.name, batch));
        self.chains.iter().for_each(|chain| chain.ask_rules(self.name, batch));
    }

    /// The same for `nft -f -`.
    pub fn text(&self) -> String {
        let mut text = format!("table {} {{\n", self.name);
        for set in self.sets {
            let _ = writeln!(text, "\t{}", set.text());
        }
        for chain in &self.chains {
            let _ = match &chain.hook {
                Some(Hook { kind, hook, priority }) => {
                    writeln!(text, "\tchain {} {{ type {kind} hook {} priority {priority}; policy accept; }}", chain.name, hook.0)
                }
                None => writeln!(text, "\tchain {} {{ }}", chain.name),
            };
        }
        text.push_str("}\n");
        for chain in &self.chains {
            let _ = writeln!(text, "flush chain {} {}", self.name, chain.name);
        }
        let _ = writeln!(text, "table {} {{", self.name);
        for chain in &self.chains {
            let mark = chain.mark();
            let _ = writeln!(text, "\tchain {} {{", chain.name);
            for (nth, rule) in chain.rules.iter().enumerate() {
                let comment = if nth + 1 == chain.rules.len() { format!(" comment \"{mark}\"") } else { String::new() };
                let _ = writeln!(text, "\t\t{}{comment}", rule.text());
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
        text
    }
}

/// Asks for the deletion of a chain with its rules.
pub(super) fn ask_delete_chain(table: TableName, chain: &str, batch: &mut Batch) {
    let name = |m: &mut Writer, attribute: u16| {
        m.string(1, table.name);
        m.string(attribute, chain);
    };
    batch.ask_in(table.family, NftRequest::FlushChain { chain: chain.to_owned() }, (msg::DELRULE, 0), |m| name(m, 2));
    batch.ask_in(table.family, NftRequest::DeleteChain { chain: chain.to_owned() }, (msg::DELCHAIN, 0), |m| name(m, 3));
}
