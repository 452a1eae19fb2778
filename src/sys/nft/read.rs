//! What stands in the table: generation, chains, rules, map elements.

use std::net::IpAddr;

use nix::errno::Errno;

use super::error::{NftError, NftRequest};
use super::expr::{comment_in, octets};
use super::table::{TableFamily, TableName};
use super::{Element, Family, NLM_F_REQUEST, Nft, RuleFound, TABLE, map_of, message_kind, msg};
use crate::sys::netlink::channel::{Answers, Reply};
use crate::sys::netlink::wire::{self, Malformed, Writer};

pub(super) const NLM_F_DUMP: u16 = 0x300;
const NFTA_TABLE_NAME: u16 = 1;
const MASQUERADE: TableName = TableName { family: TableFamily::Inet, name: TABLE };

impl Nft {
    /// The generation of the ruleset: it changes with every transaction of anybody in this network namespace.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        let request = NftRequest::Generation;
        let answers = self.query(&request, msg::GETGEN, 0, |_| {})?.unwrap_or_default();
        let generation = answers
            .replies
            .first()
            .map(|reply| wire::find(attributes_of(reply), 1)?.map_or(Err(Malformed("generation")), |v| wire::be32_of(v, "generation")));
        match generation {
            Some(Ok(generation)) => Ok(generation),
            Some(Err(source)) => Err(NftError::Exchange { request, source: source.into() }),
            None => Err(NftError::Exchange { request, source: crate::sys::netlink::ChannelError::NoAnswer }),
        }
    }

    /// Whether the table of masquerade is there.
    pub fn has_table(&mut self) -> Result<bool, NftError> {
        self.has_table_of(MASQUERADE)
    }

    /// Whether a table is there.
    pub(super) fn has_table_of(&mut self, table: TableName) -> Result<bool, NftError> {
        let found = self.query_in(table.family, &NftRequest::FindTable, (msg::GETTABLE, 0), |m| m.string(NFTA_TABLE_NAME, table.name))?;
        Ok(found.is_some())
    }

    /// The names of the chains of the table of masquerade, sorted; empty without a table.
    pub fn chains(&mut self) -> Result<Vec<String>, NftError> {
        self.chains_of(MASQUERADE)
    }

    /// The names of the chains of a table, sorted; empty without it.
    pub(super) fn chains_of(&mut self, table: TableName) -> Result<Vec<String>, NftError> {
        let request = NftRequest::ListChains;
        let answers = self.query_in(table.family, &request, (msg::GETCHAIN, NLM_F_DUMP), |_| {})?.unwrap_or_default();
        let mut names = parse_all(&request, &answers.replies, |attributes| {
            let of = wire::find(attributes, 1)?.map(wire::string_of);
            let name = wire::find(attributes, 3)?.map(wire::string_of);
            Ok(name.filter(|_| of.as_deref() == Some(table.name)))
        })?;
        names.sort();
        Ok(names)
    }

    /// The rules of a chain of the table, in order; `None` when the chain is not there.
    pub fn find_rules(&mut self, chain: &str) -> Result<Option<Vec<RuleFound>>, NftError> {
        self.find_rules_of(MASQUERADE, chain)
    }

    /// The rules of a chain, in order; `None` when the chain is not there.
    pub(super) fn find_rules_of(&mut self, table: TableName, chain: &str) -> Result<Option<Vec<RuleFound>>, NftError> {
        let request = NftRequest::ListRules { chain: chain.to_owned() };
        let found = self.query_in(table.family, &request, (msg::GETCHAIN, 0), |m| {
            m.string(1, table.name);
            m.string(3, chain);
        })?;
        if found.is_none() {
            return Ok(None);
        }
        let answers = self.query_in(table.family, &request, (msg::GETRULE, NLM_F_DUMP), |m| {
            m.string(1, table.name);
            m.string(2, chain);
        })?;
        let rules = parse_all(&request, &answers.unwrap_or_default().replies, |attributes| {
            let of = (wire::find(attributes, 1)?.map(wire::string_of), wire::find(attributes, 2)?.map(wire::string_of));
            if of != (Some(table.name.to_owned()), Some(chain.to_owned())) {
                return Ok(None);
            }
            Ok(Some(RuleFound { comment: wire::find(attributes, 7)?.and_then(comment_in) }))
        })?;
        Ok(Some(rules))
    }

    /// The element of `address`, if it is there.
    pub fn find_element(&mut self, address: IpAddr) -> Result<Option<Element>, NftError> {
        let map = map_of(address);
        let request = NftRequest::FindElement { map, address: address.to_string() };
        let answers = self.query(&request, msg::GETSETELEM, 0, |m| {
            m.string(1, TABLE);
            m.string(2, map);
            m.nest(3, |list| list.nest(1, |element| element.nest(1, |key| key.attribute(1, &octets(address)))));
        })?;
        let Some(answers) = answers else { return Ok(None) };
        let elements = elements_in(&request, &answers.replies)?;
        Ok(elements.into_iter().find(|element| element.address == address))
    }

    /// All elements of one family, in no order; empty without a table.
    pub fn elements(&mut self, family: Family) -> Result<Vec<Element>, NftError> {
        let map = super::map_of_family(family);
        let request = NftRequest::ListElements { map };
        let answers = self.query(&request, msg::GETSETELEM, NLM_F_DUMP, |m| {
            m.string(1, TABLE);
            m.string(2, map);
        })?;
        elements_in(&request, &answers.unwrap_or_default().replies)
    }

    fn query(&mut self, request: &NftRequest, kind: u16, flags: u16, fill: impl Fn(&mut Writer)) -> Result<Option<Answers>, NftError> {
        self.query_in(TableFamily::Inet, request, (kind, flags), fill)
    }

    /// One question; `None` is the kernel's ENOENT. A dump during which something changed is made again.
    pub(super) fn query_in(
        &mut self,
        family: TableFamily,
        request: &NftRequest,
        (kind, flags): (u16, u16),
        fill: impl Fn(&mut Writer),
    ) -> Result<Option<Answers>, NftError> {
        for _ in 0..16 {
            let seq = self.channel()?.sequence(1);
            let mut out = Writer::default();
            out.message(message_kind(kind), NLM_F_REQUEST | flags, seq, |m| {
                m.raw(&[family.number(), 0, 0, 0]);
                fill(m);
            });
            let answers = self
                .channel()?
                .exchange(out.bytes(), |answers| {
                    answers.done || !answers.verdicts.is_empty() || (flags == 0 && !answers.replies.is_empty())
                })
                .map_err(|source| NftError::Exchange { request: request.clone(), source })?;
            match answers.verdicts.iter().find_map(|verdict| verdict.refused.clone()) {
                Some(refusal) if refusal.errno == Errno::ENOENT => return Ok(None),
                Some(refusal) if refusal.errno == Errno::EINTR => {}
                Some(refusal) => return Err(NftError::Refused { request: request.clone(), refusal }),
                None if answers.interrupted => {}
                None => return Ok(Some(answers)),
            }
        }
        Err(NftError::Unsettled)
    }
}

/// What follows the four bytes of `struct nfgenmsg`.
fn attributes_of(reply: &Reply) -> &[u8] {
    reply.body.get(4..).unwrap_or_default()
}

pub(super) fn parse_all<T>(
    request: &NftRequest,
    replies: &[Reply],
    parse: impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
) -> Result<Vec<T>, NftError> {
    let parsed: Result<Vec<Option<T>>, Malformed> = replies.iter().map(|reply| parse(attributes_of(reply))).collect();
    match parsed {
        Ok(all) => Ok(all.into_iter().flatten().collect()),
        Err(source) => Err(NftError::Exchange { request: request.clone(), source: source.into() }),
    }
}

fn elements_in(request: &NftRequest, replies: &[Reply]) -> Result<Vec<Element>, NftError> {
    parse_elements(request, replies, element_in)
}

pub(super) fn parse_elements<T>(
    request: &NftRequest,
    replies: &[Reply],
    parse: impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
) -> Result<Vec<T>, NftError> {
    let lists = parse_all(request, replies, |attributes| {
        let mut elements = Vec::new();
        for element in wire::attributes(wire::find(attributes, 3)?.unwrap_or_default()) {
            elements.extend(parse(element?.1)?);
        }
        Ok(Some(elements))
    })?;
    Ok(lists.into_iter().flatten().collect())
}

fn element_in(attributes: &[u8]) -> Result<Option<Element>, Malformed> {
    let Some(key) = wire::find(attributes, 1)? else { return Ok(None) };
    let Some(key) = wire::find(key, 1)? else { return Ok(None) };
    let address = match (<[u8; 4]>::try_from(key), <[u8; 16]>::try_from(key)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return Err(Malformed("map key")),
    };
    let mut chain = None;
    if let Some(data) = wire::find(attributes, 2)?
        && let Some(verdict) = wire::find(data, 2)?
    {
        chain = wire::find(verdict, 2)?.map(wire::string_of);
    }
    Ok(Some(Element { address, chain: chain.unwrap_or_default(), comment: wire::find(attributes, 6)?.and_then(comment_in) }))
}
