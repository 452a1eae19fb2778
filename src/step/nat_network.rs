//! Ensures the masquerade chain of a network.

use std::fmt;

use serde::{Deserialize, Serialize};

use ipnetwork::IpNetwork;

use crate::fault::Result;
use crate::ids::NetworkName;
use crate::script::Script;
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::Host;
use crate::sys::nft::{self, Gone, Nft};


/// Ensures the masquerade chain of a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NatNetwork {
    /// The network.
    pub network: NetworkName,
    /// Where its pods talk to each other without masquerade.
    pub subnets: Vec<IpNetwork>,
}

impl fmt::Display for NatNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure nft chain of network {network}", network = self.network)
    }
}

/// What was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatNetworkBefore {
    /// The chain.
    pub existed: bool,
    /// With the rules for these subnets.
    pub same: bool,
}

impl Action for NatNetwork {
    type Before = NatNetworkBefore;
    const TENURE: Tenure = Tenure::Shared;
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<NatNetworkBefore> {
        let found = Nft::open()?.find_rules(&nft::chain_of(&self.network))?;
        let same = found.as_ref().is_some_and(|rules| {
            let is_marked = rules.last().is_some_and(|rule| rule.comment.as_deref() == Some(&nft::mark_of(&self.subnets)));
            is_marked && rules.len() == nft::rule_count(&self.subnets)
        });
        Ok(NatNetworkBefore { existed: found.is_some(), same })
    }

    fn already(&self, before: &NatNetworkBefore) -> bool {
        before.same
    }

    /// A chain that was there for other subnets (the configuration was edited) is written again in the same transaction.
    fn apply(&self, _: &NatNetworkBefore, _: &Host) -> Result<()> {
        Ok(Nft::open()?.put_network(&self.network, &self.subnets)?)
    }

    fn undo(&self, before: &NatNetworkBefore, _: &Host) -> Result<Undone> {
        if before.existed {
            return Ok(Undone::Kept);
        }
        match Nft::open()?.delete_network(&self.network)? {
            Gone::Deleted | Gone::Absent => Ok(Undone::Done),
            Gone::InUse => Ok(Undone::Kept),
        }
    }

    fn script(&self, way: Way<'_, NatNetworkBefore>, out: &mut Script) {
        match way {
            Way::Apply => out.feed(["nft", "-f", "-"], &nft::network_text(&self.network, &self.subnets)),
            Way::Undo(before) if before.existed => {}
            // The kernel refuses while an element jumps to the chain.
            Way::Undo(_) => out.run_ignoring(["nft", "delete", "chain", "inet", nft::TABLE, &nft::chain_of(&self.network)]),
        }
    }
}
