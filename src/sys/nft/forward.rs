//! Rules in the chains of upstream's firewall, where iptables is a face of nf_tables: read and written as `iptables-nft` has them, which
//! costs a tenth of starting it.
//!
//! Whatever is not exactly as `iptables` writes it is left to the program itself: the answer is then `None`.

use std::net::IpAddr;

use nix::errno::Errno;

use super::batch::Batch;
use super::error::{NftError, NftRequest};
use super::expr::{Family, Rule, octets};
use super::read::{NLM_F_DUMP, parse_all};
use super::table::TableFamily;
use super::{NLM_F_CREATE, Nft, msg};
use crate::sys::netlink::wire::{self, Malformed, Writer};

const TABLE: &str = "filter";
const NLM_F_APPEND: u16 = 0x800;
const NF_ACCEPT: i32 = 1;
const NFT_JUMP: i32 = super::expr::NFT_JUMP;
const NFTA_RULE_COMPAT: u16 = 5;
const NETWORK_HEADER: u32 = 1;

/// `struct xt_conntrack_mtinfo3` of `--ctstate RELATED,ESTABLISHED`: which field is looked at, and the two bits of the state.
const CONNTRACK_LENGTH: usize = 168;
const CONNTRACK_FLAGS: usize = 146;
const CONNTRACK_STATE: usize = 150;

/// What a rule consists of; counters do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Base, offset, length.
    Load(u32, u32, u32),
    /// Operator, value.
    Compare(u32, Vec<u8>),
    /// Name, revision and what is private to the match, without zeroes at its end.
    Match(String, u32, Vec<u8>),
    /// Code and chain.
    Verdict(i32, Option<String>),
    /// Anything else.
    Other(String),
}

/// A rule of a chain.
#[derive(Debug)]
struct Found {
    handle: u64,
    parts: Vec<Part>,
}

/// What the firewall lets through of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Answers to it.
    Answers,
    /// All that it sends.
    Sent,
}

/// The chains of the firewall in one family: where packets come from, and whose chain goes before.
#[derive(Clone, Copy, Debug)]
pub struct ForwardChains<'a> {
    /// IPv4 or IPv6.
    pub family: Family,
    /// The chain of the addresses.
    pub chain: &'a str,
    /// The chain in which an administrator puts rules of their own.
    pub admin: &'a str,
}

impl ForwardChains<'_> {
    fn table(&self) -> TableFamily {
        match self.family {
            Family::V4 => TableFamily::Ip,
            Family::V6 => TableFamily::Ip6,
        }
    }
}

/// The two rules of an address, in their order.
const PASSAGES: [Passage; 2] = [Passage::Answers, Passage::Sent];

fn conntrack() -> Vec<u8> {
    let mut info = vec![0; CONNTRACK_LENGTH];
    info[CONNTRACK_FLAGS..CONNTRACK_FLAGS + 2].copy_from_slice(&1_u16.to_ne_bytes());
    info[CONNTRACK_STATE..CONNTRACK_STATE + 2].copy_from_slice(&6_u16.to_ne_bytes());
    info
}

fn place(family: Family, passage: Passage) -> (u32, u32) {
    match passage {
        Passage::Answers => family.destination(),
        Passage::Sent => family.source(),
    }
}

/// `-d ADDRESS -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`, or `-s ADDRESS -j ACCEPT`.
fn wanted(family: Family, (address, passage): (IpAddr, Passage)) -> Vec<Part> {
    let (offset, length) = place(family, passage);
    let mut parts = vec![Part::Load(NETWORK_HEADER, offset, length), Part::Compare(0, octets(address))];
    if passage == Passage::Answers {
        parts.push(Part::Match("conntrack".to_owned(), 3, trimmed(&conntrack())));
    }
    parts.push(Part::Verdict(NF_ACCEPT, None));
    parts
}

fn rule(family: Family, (address, passage): (IpAddr, Passage)) -> Rule {
    let mut rule = Rule::default().load(place(family, passage)).equals(&octets(address));
    if passage == Passage::Answers {
        rule = rule.expression("match", |d| {
            d.string(1, "conntrack");
            d.be32(2, 3);
            d.attribute(3, &conntrack());
        });
    }
    rule.expression("counter", |d| {
        d.attribute(1, &[0; 8]);
        d.attribute(2, &[0; 8]);
    })
    .verdict(NF_ACCEPT, None)
}

fn trimmed(info: &[u8]) -> Vec<u8> {
    let end = info.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    info[..end].to_vec()
}

fn part(expression: &[u8]) -> Result<Option<Part>, Malformed> {
    let name = wire::find(expression, 1)?.map(wire::string_of).unwrap_or_default();
    let data = wire::find(expression, 2)?.unwrap_or_default();
    let number = |kind: u16| wire::find(data, kind)?.map_or(Ok(0), |value| wire::be32_of(value, "expression"));
    Ok(Some(match name.as_str() {
        "counter" => return Ok(None),
        "payload" => Part::Load(number(2)?, number(3)?, number(4)?),
        "cmp" => {
            let value = wire::find(data, 3)?.map(|value| wire::find(value, 1)).transpose()?.flatten();
            Part::Compare(number(2)?, value.unwrap_or_default().to_vec())
        }
        "match" => {
            let of = wire::find(data, 1)?.map(wire::string_of).unwrap_or_default();
            Part::Match(of, number(2)?, trimmed(wire::find(data, 3)?.unwrap_or_default()))
        }
        "immediate" => {
            let verdict = wire::find(data, 2)?.map(|value| wire::find(value, 2)).transpose()?.flatten();
            let Some(verdict) = verdict else { return Ok(Some(Part::Other(name))) };
            let code = wire::find(verdict, 1)?.map_or(Ok(0), |code| wire::be32_of(code, "verdict"))? as i32;
            Part::Verdict(code, wire::find(verdict, 2)?.map(wire::string_of))
        }
        _ => Part::Other(name),
    }))
}

/// Whether a rule leads everything to `chain`, whatever it is called in a comment.
fn leads_to(found: &Found, chain: &str) -> bool {
    let is_comment = |part: &Part| matches!(part, Part::Match(name, ..) if name == "comment");
    let mut parts = found.parts.iter().filter(|part| !is_comment(part));
    let jump = Part::Verdict(NFT_JUMP, Some(chain.to_owned()));
    parts.next() == Some(&jump) && parts.next().is_none()
}

impl Nft {
    /// Those rules of addresses that are missing; `None` when the chains are not as they should be, or hold rules of another form for them.
    pub fn missing_passages(
        &mut self,
        chains: ForwardChains<'_>,
        addresses: &[IpAddr],
    ) -> Result<Option<Vec<(IpAddr, Passage)>>, NftError> {
        let (forward, own) = (self.rules_of(chains, "FORWARD")?, self.rules_of(chains, chains.chain)?);
        let is_led = forward.iter().any(|found| leads_to(found, chains.chain)) && own.iter().any(|found| leads_to(found, chains.admin));
        if !is_led || !addresses.iter().all(|address| is_understood(chains.family, &own, *address)) {
            return Ok(None);
        }
        let all = addresses.iter().flat_map(|address| PASSAGES.map(|passage| (*address, passage)));
        Ok(Some(all.filter(|passage| !own.iter().any(|found| found.parts == wanted(chains.family, *passage))).collect()))
    }

    /// Adds rules at the end of the chain. *Errors:* `ENOENT` when the chain is not there.
    pub fn add_passages(&mut self, chains: ForwardChains<'_>, passages: &[(IpAddr, Passage)]) -> Result<(), NftError> {
        let mut batch = Batch::default();
        for passage in passages {
            let request = NftRequest::AddRule { chain: chains.chain.to_owned() };
            batch.ask_in(chains.table(), request, (msg::NEWRULE, NLM_F_CREATE | NLM_F_APPEND), |m: &mut Writer| {
                m.string(1, TABLE);
                m.string(2, chains.chain);
                m.nest(4, |expressions| expressions.raw(rule(chains.family, *passage).bytes()));
                m.nest(NFTA_RULE_COMPAT, |compat| {
                    compat.be32(1, 0);
                    compat.be32(2, 0);
                });
            });
        }
        if batch.is_empty() { Ok(()) } else { self.commit(&batch) }
    }

    /// Removes the rules of addresses; false, and nothing done, when they are not all there in the form that is known.
    pub fn remove_passages(&mut self, chains: ForwardChains<'_>, addresses: &[IpAddr]) -> Result<bool, NftError> {
        for _ in 0..16 {
            let generation = self.generation()?;
            let own = self.rules_of(chains, chains.chain)?;
            let mut batch = Batch::at(generation);
            for passage in addresses.iter().flat_map(|address| PASSAGES.map(|passage| (*address, passage))) {
                let mut same = own.iter().filter(|found| found.parts == wanted(chains.family, passage)).peekable();
                if same.peek().is_none() || !is_understood(chains.family, &own, passage.0) {
                    return Ok(false);
                }
                for found in same {
                    let request = NftRequest::Other { what: format!("delete a rule of {} from {TABLE} {}", passage.0, chains.chain) };
                    batch.ask_in(chains.table(), request, (msg::DELRULE, 0), |m| {
                        m.string(1, TABLE);
                        m.string(2, chains.chain);
                        m.attribute(3, &found.handle.to_be_bytes());
                    });
                }
            }
            match self.commit(&batch) {
                Err(error) if error.errno() == Some(Errno::ERESTART) => {}
                result => return result.map(|()| true),
            }
        }
        Err(NftError::Unsettled)
    }

    fn rules_of(&mut self, chains: ForwardChains<'_>, chain: &str) -> Result<Vec<Found>, NftError> {
        let request = NftRequest::ListRules { chain: chain.to_owned() };
        let answers = self.query_in(chains.table(), &request, (msg::GETRULE, NLM_F_DUMP), |m| {
            m.string(1, TABLE);
            m.string(2, chain);
        })?;
        parse_all(&request, &answers.unwrap_or_default().replies, |attributes| {
            let of = (wire::find(attributes, 1)?.map(wire::string_of), wire::find(attributes, 2)?.map(wire::string_of));
            if of != (Some(TABLE.to_owned()), Some(chain.to_owned())) {
                return Ok(None);
            }
            let handle = wire::find(attributes, 3)?.and_then(|handle| handle.try_into().ok()).map(u64::from_be_bytes);
            let mut parts = Vec::new();
            for expression in wire::attributes(wire::find(attributes, 4)?.unwrap_or_default()) {
                parts.extend(part(expression?.1)?);
            }
            Ok(Some(Found { handle: handle.ok_or(Malformed("rule handle"))?, parts }))
        })
    }
}

/// Whether all rules that name an address are those that are written here.
fn is_understood(family: Family, rules: &[Found], address: IpAddr) -> bool {
    let names = |found: &&Found| found.parts.iter().any(|part| matches!(part, Part::Compare(_, value) if *value == octets(address)));
    let known = PASSAGES.map(|passage| wanted(family, (address, passage)));
    rules.iter().filter(names).all(|found| known.contains(&found.parts))
}
