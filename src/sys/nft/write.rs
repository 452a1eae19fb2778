//! The changes of the table: each is one transaction.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::batch::Batch;
use super::entry::Novelty;
use super::error::{NftError, NftRequest};
use super::expr::{Family, Rule, comment, jump, octets};
use super::{Gone, NLM_F_CREATE, NLM_F_EXCL, Nft, POSTROUTING, TABLE, chain_of, map_of, map_of_family, mark_of, msg, multicast_of};
use crate::ids::NetworkName;
use crate::sys::netlink::wire::Writer;

const NLM_F_APPEND: u16 = 0x800;
const NF_INET_POST_ROUTING: u32 = 4;
const PRIORITY_SRCNAT: u32 = 100;
const NF_ACCEPT: u32 = 1;
const NFT_SET_MAP: u32 = 8;
const TYPE_VERDICT: u32 = 0xffff_ff00;

impl Nft {
    /// Makes what is missing of the table, its two maps and its base chain; the two rules of that chain are written again.
    pub fn ensure_table(&mut self) -> Result<(), NftError> {
        let mut batch = Batch::default();
        ask_table(&mut batch);
        self.commit(&batch)
    }

    /// Deletes the table if it holds no network and no element; looked at and deleted in one generation.
    pub fn delete_table_if_unused(&mut self) -> Result<Gone, NftError> {
        for _ in 0..16 {
            let generation = self.generation()?;
            if !self.has_table()? {
                return Ok(Gone::Absent);
            }
            let chains = self.chains()?;
            let is_used = chains.iter().any(|chain| chain != POSTROUTING)
                || !self.elements(Family::V4)?.is_empty()
                || !self.elements(Family::V6)?.is_empty();
            if is_used {
                return Ok(Gone::InUse);
            }
            let mut batch = Batch::at(generation);
            batch.ask(NftRequest::DeleteTable, msg::DELTABLE, 0, |m| m.string(1, TABLE));
            match self.commit(&batch) {
                Err(error) if error.errno() == Some(Errno::ERESTART) => {}
                result => return result.map(|()| Gone::Deleted),
            }
        }
        Err(NftError::Unsettled)
    }

    /// Makes the chain of a network, or writes its rules again.
    pub fn put_network(&mut self, network: &NetworkName, subnets: &[IpNetwork]) -> Result<(), NftError> {
        let mut batch = Batch::default();
        ask_network(network, subnets, &mut batch);
        self.commit(&batch)
    }

    /// Deletes the chain of a network; the kernel itself refuses while an element jumps to it.
    pub fn delete_network(&mut self, network: &NetworkName) -> Result<Gone, NftError> {
        let chain = chain_of(network);
        let mut batch = Batch::default();
        batch.ask(NftRequest::DeleteChain { chain: chain.clone() }, msg::DELCHAIN, 0, |m| {
            m.string(1, TABLE);
            m.string(3, &chain);
        });
        match self.commit(&batch) {
            Ok(()) => Ok(Gone::Deleted),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Gone::Absent),
            Err(error) if error.errno() == Some(Errno::EBUSY) => Ok(Gone::InUse),
            Err(error) => Err(error),
        }
    }

    /// Adds the element of a pod, which must be new: its address jumps to the chain of its network.
    ///
    /// *Errors:* `EEXIST` when the address has an element, `ENOENT` when the table or the chain is not there.
    pub fn add_element(&mut self, address: IpAddr, network: &NetworkName, owner: &str) -> Result<(), NftError> {
        let mut batch = Batch::default();
        ask_element((address, network, owner), Novelty::New, &mut batch);
        self.commit(&batch)
    }

    /// Deletes the element of `address` if it jumps to the chain of `network` and bears `owner` as its comment.
    pub fn delete_element(&mut self, address: IpAddr, network: &NetworkName, owner: &str) -> Result<Gone, NftError> {
        for _ in 0..16 {
            let generation = self.generation()?;
            let Some(found) = self.find_element(address)? else { return Ok(Gone::Absent) };
            if found.chain != chain_of(network) || !found.is_of(owner) {
                return Ok(Gone::InUse);
            }
            let map = map_of(address);
            let mut batch = Batch::at(generation);
            let request = NftRequest::DeleteElement { map, address: address.to_string() };
            batch.ask(request, msg::DELSETELEM, 0, |m| element(m, map, address, |_| {}));
            match self.commit(&batch) {
                Err(error) if error.errno() == Some(Errno::ERESTART) => {}
                Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(Gone::Absent),
                result => return result.map(|()| Gone::Deleted),
            }
        }
        Err(NftError::Unsettled)
    }

    /// Deletes the elements that jump to the chain of `network` and whose owner is not valid; answers how many.
    pub fn sweep_network(&mut self, network: &NetworkName, is_valid: impl Fn(&str) -> bool) -> Result<usize, NftError> {
        let mut gone = 0;
        for family in [Family::V4, Family::V6] {
            for element in self.elements(family)? {
                let owner = element.comment.clone().unwrap_or_default();
                if element.chain != chain_of(network) || is_valid(&owner) {
                    continue;
                }
                if self.delete_element(element.address, network, &owner)? == Gone::Deleted {
                    gone += 1;
                }
            }
        }
        Ok(gone)
    }
}

pub(super) fn ask_table(batch: &mut Batch) {
    batch.ask(NftRequest::AddTable, msg::NEWTABLE, NLM_F_CREATE, |m| {
        m.string(1, TABLE);
        m.be32(2, 0);
    });
    for (id, family) in [(1, Family::V4), (2, Family::V6)] {
        ask_map(batch, id, family);
    }
    let chain = || POSTROUTING.to_owned();
    batch.ask(NftRequest::AddChain { chain: chain() }, msg::NEWCHAIN, NLM_F_CREATE, |m| {
        m.string(1, TABLE);
        m.string(3, POSTROUTING);
        m.nest(4, |hook| {
            hook.be32(1, NF_INET_POST_ROUTING);
            hook.be32(2, PRIORITY_SRCNAT);
        });
        m.be32(5, NF_ACCEPT);
        m.string(7, "nat");
    });
    ask_flush(batch, POSTROUTING);
    for family in [Family::V4, Family::V6] {
        let rule = Rule::default().of_family(family).source_verdict(family, map_of_family(family));
        ask_rule(batch, POSTROUTING, &rule, None);
    }
}

pub(super) fn ask_network(network: &NetworkName, subnets: &[IpNetwork], batch: &mut Batch) {
    let chain = chain_of(network);
    batch.ask(NftRequest::AddChain { chain: chain.clone() }, msg::NEWCHAIN, NLM_F_CREATE, |m| {
        m.string(1, TABLE);
        m.string(3, &chain);
    });
    ask_flush(batch, &chain);
    for subnet in subnets.iter().copied().chain(multicast_of(subnets)) {
        let rule = Rule::default().of_family(Family::of(&subnet)).destination_in(&subnet).back();
        ask_rule(batch, &chain, &rule, None);
    }
    ask_rule(batch, &chain, &Rule::default().masquerade(), Some(&mark_of(subnets)));
}

pub(super) fn ask_element((address, network, owner): (IpAddr, &NetworkName, &str), novelty: Novelty, batch: &mut Batch) {
    let map = map_of(address);
    let request = NftRequest::AddElement { map, address: address.to_string() };
    let flags = NLM_F_CREATE | if novelty == Novelty::New { NLM_F_EXCL } else { 0 };
    batch.ask(request, msg::NEWSETELEM, flags, |m| {
        element(m, map, address, |e| {
            e.nest(2, |data| jump(data, &chain_of(network)));
            if !owner.is_empty() {
                e.attribute(6, &comment(owner));
            }
        });
    });
}

fn ask_map(batch: &mut Batch, id: u32, family: Family) {
    let map = map_of_family(family);
    let (key_type, key_length) = family.data_type();
    batch.ask(NftRequest::AddMap { map }, msg::NEWSET, NLM_F_CREATE, |m| {
        m.string(1, TABLE);
        m.string(2, map);
        m.be32(3, NFT_SET_MAP);
        m.be32(4, key_type);
        m.be32(5, key_length);
        m.be32(6, TYPE_VERDICT);
        m.be32(10, id);
    });
}

fn ask_flush(batch: &mut Batch, chain: &str) {
    batch.ask(NftRequest::FlushChain { chain: chain.to_owned() }, msg::DELRULE, 0, |m| {
        m.string(1, TABLE);
        m.string(2, chain);
    });
}

fn ask_rule(batch: &mut Batch, chain: &str, rule: &Rule, mark: Option<&str>) {
    batch.ask(NftRequest::AddRule { chain: chain.to_owned() }, msg::NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |m| {
        m.string(1, TABLE);
        m.string(2, chain);
        m.nest(4, |expressions| expressions.raw(rule.bytes()));
        if let Some(mark) = mark {
            m.attribute(7, &comment(mark));
        }
    });
}

fn element(out: &mut Writer, map: &str, address: IpAddr, more: impl FnOnce(&mut Writer)) {
    out.string(1, TABLE);
    out.string(2, map);
    out.nest(3, |list| {
        list.nest(1, |element| {
            element.nest(1, |key| key.attribute(1, &octets(address)));
            more(element);
        });
    });
}
