//! Elements of sets and maps: what a container adds to the tables, at a cost that does not grow with their number.

use std::net::IpAddr;

use nix::errno::Errno;

use super::error::{NftError, NftRequest};
use super::expr::{comment, comment_in, octets};
use super::table::TableName;
use super::{Batch, Gone, NLM_F_CREATE, NLM_F_EXCL, Nft, msg};
use crate::sys::netlink::wire::{self, Writer};

/// One element, with its words for `nft`.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub table: TableName,
    pub set: &'static str,
    pub key: Vec<u8>,
    /// Empty in a set.
    pub data: Vec<u8>,
    pub words: String,
    pub data_words: String,
    /// Empty is none.
    pub owner: String,
}

/// An element as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryFound {
    pub key: Vec<u8>,
    pub data: Vec<u8>,
    pub comment: Option<String>,
}

/// Whether an element must be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// It must: what is there belongs to somebody else.
    New,
    /// What is there stays, if it is the same.
    Again,
}

/// A port as a member of a key: big endian, padded to four bytes.
pub(super) fn port_bytes(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// An address and a port, as `nft` writes them: `10.88.0.2 . 80`.
pub(super) fn address_and_port(address: IpAddr, port: u16) -> (Vec<u8>, String) {
    ([&octets(address)[..], &port_bytes(port)].concat(), format!("{address} . {port}"))
}

impl Entry {
    fn fill(&self, out: &mut Writer, more: impl FnOnce(&mut Writer)) {
        out.string(1, self.table.name);
        out.string(2, self.set);
        out.nest(3, |list| {
            list.nest(1, |element| {
                element.nest(1, |key| key.attribute(1, &self.key));
                more(element);
            });
        });
    }

    fn what(&self, verb: &str) -> NftRequest {
        NftRequest::Other { what: format!("{verb} {} in nft set {} {}", self.words, self.table, self.set) }
    }

    pub fn ask_add(&self, novelty: Novelty, batch: &mut Batch) {
        let flags = NLM_F_CREATE | if novelty == Novelty::New { NLM_F_EXCL } else { 0 };
        batch.ask_in(self.table.family, self.what("add"), (msg::NEWSETELEM, flags), |m| {
            self.fill(m, |element| {
                if !self.data.is_empty() {
                    element.nest(2, |data| data.attribute(1, &self.data));
                }
                if !self.owner.is_empty() {
                    element.attribute(6, &comment(&self.owner));
                }
            });
        });
    }

    pub fn ask_delete(&self, batch: &mut Batch) {
        batch.ask_in(self.table.family, self.what("delete"), (msg::DELSETELEM, 0), |m| self.fill(m, |_| {}));
    }

    /// `create element …`, or `add element …`.
    pub fn add_text(&self, verb: &str) -> String {
        // A quote cannot be written inside a comment of nft; owners are ids and names, which have none.
        let owner: String = self.owner.chars().filter(|c| !c.is_control() && *c != '"').take(127).collect();
        let comment = if owner.is_empty() { String::new() } else { format!(" comment \"{owner}\"") };
        let data = if self.data.is_empty() { String::new() } else { format!(" : {}", self.data_words) };
        format!("{verb} element {} {} {{ {}{comment}{data} }}\n", self.table, self.set, self.words)
    }

    /// `delete element …`, without a line break.
    pub fn delete_text(&self) -> String {
        format!("delete element {} {} {{ {} }}", self.table, self.set, self.words)
    }

    /// Whether what was found bears the owner of this element.
    pub fn is_of(&self, found: &EntryFound) -> bool {
        comment_in(&comment(&self.owner)).filter(|text| !text.is_empty()) == found.comment
    }

    /// Whether what was found is this very element, its value and owner included.
    pub fn is(&self, found: &EntryFound) -> bool {
        self.is_of(found) && self.data == found.data
    }
}

impl Nft {
    pub(super) fn find_entry(&mut self, entry: &Entry) -> Result<Option<EntryFound>, NftError> {
        let request = entry.what("look up");
        let answers = self.query_in(entry.table.family, &request, (msg::GETSETELEM, 0), |m| entry.fill(m, |_| {}))?;
        let Some(answers) = answers else { return Ok(None) };
        let found = super::read::parse_elements(&request, &answers.replies, entry_in)?;
        Ok(found.into_iter().find(|found| found.key == entry.key))
    }

    /// All elements of a set, in no order; empty without the set.
    pub(super) fn entries(&mut self, table: TableName, set: &'static str) -> Result<Vec<EntryFound>, NftError> {
        let request = NftRequest::Other { what: format!("list nft set {table} {set}") };
        let answers = self.query_in(table.family, &request, (msg::GETSETELEM, super::read::NLM_F_DUMP), |m| {
            m.string(1, table.name);
            m.string(2, set);
        })?;
        super::read::parse_elements(&request, &answers.unwrap_or_default().replies, entry_in)
    }

    /// Deletes those of `entries` that are there and bear their owner; looked at and deleted in one generation.
    pub(super) fn delete_entries(&mut self, entries: &[Entry]) -> Result<Gone, NftError> {
        for _ in 0..16 {
            let generation = self.generation()?;
            let mut batch = Batch::at(generation);
            let mut kept = false;
            for entry in entries {
                match self.find_entry(entry)? {
                    Some(found) if entry.is_of(&found) => entry.ask_delete(&mut batch),
                    Some(_) => kept = true,
                    None => {}
                }
            }
            if batch.is_empty() {
                return Ok(if kept { Gone::InUse } else { Gone::Absent });
            }
            match self.commit(&batch) {
                Err(error) if matches!(error.errno(), Some(Errno::ERESTART | Errno::ENOENT)) => {}
                result => return result.map(|()| Gone::Deleted),
            }
        }
        Err(NftError::Unsettled)
    }
}

fn entry_in(attributes: &[u8]) -> Result<Option<EntryFound>, wire::Malformed> {
    let Some(key) = wire::find(attributes, 1)? else { return Ok(None) };
    let Some(key) = wire::find(key, 1)? else { return Ok(None) };
    let data = match wire::find(attributes, 2)? {
        Some(data) => wire::find(data, 1)?.unwrap_or_default().to_vec(),
        None => Vec::new(),
    };
    Ok(Some(EntryFound { key: key.to_vec(), data, comment: wire::find(attributes, 6)?.and_then(comment_in) }))
}
