//! The way back to who asks a published port from the network that it leads to: a chain for each subnet, beside the fences of networks.
//!
//! Without it the container answers its neighbour directly, and the neighbour knows nothing of the address that answers.

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::error::NftError;
use super::expr::{Family, Rule};
use super::ports::{PORT_TABLE, SRCNAT, target_in};
use super::table::{self, Chain, Hook, Table};
use super::{Batch, Gone, Nft};

/// What is masqueraded of that which was led into a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hairpin {
    /// The subnet.
    pub subnet: IpNetwork,
    /// All of it, not only what comes from the subnet itself: `masqAll` of portmap.
    pub all: bool,
}

impl Hairpin {
    /// The chain: `back-10.88.0.0-16`, `all-10.88.0.0-16`; nft knows no colon in a name.
    pub fn chain(&self) -> String {
        let word = if self.all { "all" } else { "back" };
        format!("{word}-{}-{}", self.subnet.network().to_string().replace(':', "_"), self.subnet.prefix())
    }

    pub(super) fn table(&self) -> Table {
        let led = Rule::default().was_led_here().of_family(Family::of(&self.subnet));
        let from = if self.all { led } else { led.source_in(&self.subnet) };
        let hook = Some(Hook { kind: "nat", hook: table::POSTROUTING_HOOK, priority: SRCNAT });
        let rules = vec![from.destination_in(&self.subnet).masquerade()];
        Table { name: PORT_TABLE, sets: &[], chains: vec![Chain { name: self.chain(), hook, rules }] }
    }
}

impl Nft {
    /// Deletes the chain of a subnet if no published port leads there; looked at and deleted in one generation.
    pub fn delete_hairpin_if_unused(&mut self, hairpin: Hairpin) -> Result<Gone, NftError> {
        let sets = if hairpin.subnet.is_ipv4() { ["ports", "bound"] } else { ["ports6", "bound6"] };
        for _ in 0..16 {
            let generation = self.generation()?;
            if !self.chains_of(PORT_TABLE)?.contains(&hairpin.chain()) {
                return Ok(Gone::Absent);
            }
            for set in sets {
                let leads_there = |data: &[u8]| target_in(data).is_some_and(|(address, _)| hairpin.subnet.contains(address));
                if self.entries(PORT_TABLE, set)?.iter().any(|found| leads_there(&found.data)) {
                    return Ok(Gone::InUse);
                }
            }
            let mut batch = Batch::at(generation);
            table::ask_delete_chain(PORT_TABLE, &hairpin.chain(), &mut batch);
            match self.commit(&batch) {
                Err(error) if matches!(error.errno(), Some(Errno::ERESTART | Errno::ENOENT)) => {}
                result => return result.map(|()| Gone::Deleted),
            }
        }
        Err(NftError::Unsettled)
    }
}
