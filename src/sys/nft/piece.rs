//! The pieces of what rkbox has in nftables: each can be added, looked for and printed, one alone or all in one transaction.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::entry::{Entry, Novelty};
use super::error::NftError;
use super::hairpin::Hairpin;
use super::ports::{self, Fence};
use super::spoof::{self, SpoofPort};
use super::table::{Chain, Table, TableName};
use super::{Batch, Nft, chain_of, element_text, mark_of, network_text, rule_count, table_text, write};
use crate::ids::NetworkName;
use crate::ports::Forward;

/// One piece.
#[derive(Clone, Debug)]
pub enum Piece {
    /// The table of masquerade, without networks.
    MasqueradeTable,
    /// The chain of a network in it.
    MasqueradeNetwork {
        /// The network.
        network: NetworkName,
        /// Where nothing is masqueraded.
        subnets: Vec<IpNetwork>,
    },
    /// A pod in it.
    Masquerade {
        /// Its network.
        network: NetworkName,
        /// Its address.
        address: IpAddr,
        /// Its owner.
        owner: String,
    },
    /// The table of published ports, without any.
    PortTable,
    /// The fence of a network in it.
    Fence(Fence),
    /// The way back into a subnet in it.
    Hairpin(Hairpin),
    /// Published ports in it.
    Forwards {
        /// The ports.
        forwards: Vec<Forward>,
        /// Their owner.
        owner: String,
    },
    /// The table of guarded bridge ports, without any.
    SpoofTable,
    /// A bridge port in it.
    SpoofPort(SpoofPort),
}

impl Piece {
    fn table(&self) -> Option<Table> {
        match self {
            Piece::PortTable => Some(ports::port_table()),
            Piece::Fence(fence) => Some(fence.table()),
            Piece::Hairpin(hairpin) => Some(hairpin.table()),
            Piece::SpoofTable => Some(spoof::spoof_table()),
            _ => None,
        }
    }

    fn entries(&self) -> Vec<Entry> {
        match self {
            Piece::Forwards { forwards, owner } => forwards.iter().map(|forward| ports::entry_of(forward, owner)).collect(),
            Piece::SpoofPort(port) => port.entries(),
            _ => Vec::new(),
        }
    }

    fn ask(&self, novelty: Novelty, batch: &mut Batch) {
        match self {
            Piece::MasqueradeTable => write::ask_table(batch),
            Piece::MasqueradeNetwork { network, subnets } => write::ask_network(network, subnets, batch),
            Piece::Masquerade { network, address, owner } => write::ask_element((*address, network, owner), novelty, batch),
            _ => {
                self.table().iter().for_each(|table| table.ask(batch));
                self.entries().iter().for_each(|entry| entry.ask_add(novelty, batch));
            }
        }
    }

    /// The same for `nft -f -`.
    pub fn text(&self, novelty: Novelty) -> String {
        let verb = if novelty == Novelty::New { "create" } else { "add" };
        match self {
            Piece::MasqueradeTable => table_text(),
            Piece::MasqueradeNetwork { network, subnets } => network_text(network, subnets),
            Piece::Masquerade { network, address, owner } => {
                let text = element_text(*address, Some(network), owner);
                if novelty == Novelty::New { text } else { text.replacen("create", verb, 1) }
            }
            _ => {
                let tables = self.table().map(|table| table.text()).unwrap_or_default();
                self.entries().iter().fold(tables, |text, entry| text + &entry.add_text(verb))
            }
        }
    }

    /// The removal of its elements, each a statement of `nft`.
    pub fn removal_text(&self) -> Vec<String> {
        self.entries().iter().map(Entry::delete_text).collect()
    }
}

/// How much of a piece there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Absent,
    /// Something, or something else in its place.
    Partial,
    /// All, as it should be.
    Whole,
}

impl Nft {
    /// Adds pieces in one transaction.
    ///
    /// *Errors:* `EEXIST` for an element that should be new and is not, `ENOENT` when its table is not there.
    pub fn put(&mut self, pieces: &[Piece], novelty: Novelty) -> Result<(), NftError> {
        let mut batch = Batch::default();
        pieces.iter().for_each(|piece| piece.ask(novelty, &mut batch));
        if batch.is_empty() { Ok(()) } else { self.commit(&batch) }
    }

    /// Says how much there is of a piece.
    pub fn presence(&mut self, piece: &Piece) -> Result<Presence, NftError> {
        let of = |whole: bool| if whole { Presence::Whole } else { Presence::Partial };
        match piece {
            Piece::MasqueradeTable => {
                let rules = self.find_rules(super::POSTROUTING)?;
                Ok(rules.map_or(Presence::Absent, |rules| of(rules.len() == 2)))
            }
            Piece::MasqueradeNetwork { network, subnets } => Ok(self.find_rules(&chain_of(network))?.map_or(Presence::Absent, |rules| {
                let marked = rules.last().is_some_and(|rule| rule.comment.as_deref() == Some(&mark_of(subnets)));
                of(marked && rules.len() == rule_count(subnets))
            })),
            Piece::Masquerade { network, address, owner } => {
                let found = self.find_element(*address)?;
                Ok(found.map_or(Presence::Absent, |found| of(found.chain == chain_of(network) && found.is_of(owner))))
            }
            _ => {
                // All of a table is made in one transaction: where its last chain stands, all does that nobody tampered with.
                let chains = piece.table().map(|table| (table.name, table.chains.into_iter().next_back().into_iter().collect()));
                self.presence_of(chains, &piece.entries())
            }
        }
    }

    /// The same, with a look at every chain.
    fn presence_of_all(&mut self, piece: &Piece) -> Result<Presence, NftError> {
        match piece.table() {
            Some(table) => self.presence_of(Some((table.name, table.chains)), &piece.entries()),
            None => self.presence(piece),
        }
    }

    /// The pieces that are not there whole, by their place.
    pub fn find_missing(&mut self, pieces: &[Piece]) -> Result<Vec<usize>, NftError> {
        let mut missing = Vec::new();
        for (nth, piece) in pieces.iter().enumerate() {
            if self.presence_of_all(piece)? != Presence::Whole {
                missing.push(nth);
            }
        }
        Ok(missing)
    }

    /// Adds those of `pieces` that are not there whole, in one transaction; answers their places.
    pub fn restore(&mut self, pieces: &[Piece]) -> Result<Vec<usize>, NftError> {
        for _ in 0..16 {
            let mut batch = Batch::at(self.generation()?);
            let missing = self.find_missing(pieces)?;
            for piece in missing.iter().filter_map(|nth| pieces.get(*nth)) {
                for entry in piece.entries() {
                    if self.find_entry(&entry)?.is_some_and(|found| !entry.is(&found)) {
                        entry.ask_delete(&mut batch);
                    }
                }
                piece.ask(Novelty::Again, &mut batch);
            }
            if missing.is_empty() {
                return Ok(missing);
            }
            match self.commit(&batch) {
                Err(error) if error.errno() == Some(Errno::ERESTART) => {}
                result => return result.map(|()| missing),
            }
        }
        Err(NftError::Unsettled)
    }

    fn presence_of(&mut self, chains: Option<(TableName, Vec<Chain>)>, entries: &[Entry]) -> Result<Presence, NftError> {
        let (mut some, mut all) = (false, true);
        for (table, chain) in chains.iter().flat_map(|(table, chains)| chains.iter().map(|chain| (*table, chain))) {
            let found = self.find_rules_of(table, &chain.name)?;
            some |= found.is_some();
            let mark = (!chain.rules.is_empty()).then(|| chain.mark());
            all &=
                found.is_some_and(|rules| rules.len() == chain.rules.len() && rules.last().and_then(|rule| rule.comment.clone()) == mark);
        }
        for entry in entries {
            let found = self.find_entry(entry)?;
            some |= found.is_some();
            all &= found.is_some_and(|found| entry.is(&found));
        }
        Ok(match (some, all) {
            (false, _) => Presence::Absent,
            (true, false) => Presence::Partial,
            (true, true) => Presence::Whole,
        })
    }
}
