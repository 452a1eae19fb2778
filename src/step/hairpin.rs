//! Ensures the way back to who asks a published port from the subnet that it leads to.

use std::fmt;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::port_table::PieceBefore;
use crate::fault::Result;
use crate::script::{Script, quote};
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::Host;
use crate::sys::nft::{self, Gone, Nft, Novelty, PORT_TABLE, Piece};

/// Ensures that what a published port leads back into the subnet it came from is masqueraded, so that its answer finds the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hairpin {
    /// The subnet.
    pub subnet: IpNetwork,
    /// All that is led there, wherever it comes from.
    pub all: bool,
}

impl fmt::Display for Hairpin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.all { "masquerade all that published ports lead to" } else { "ensure the way back through published ports of" };
        write!(f, "{what} {}", self.subnet)
    }
}

impl Hairpin {
    fn facts(&self) -> nft::Hairpin {
        nft::Hairpin { subnet: self.subnet, all: self.all }
    }

    /// The same in nftables.
    pub fn piece(&self) -> Piece {
        Piece::Hairpin(self.facts())
    }
}

impl Action for Hairpin {
    type Before = PieceBefore;
    const TENURE: Tenure = Tenure::Shared;
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<PieceBefore> {
        PieceBefore::of(&self.piece())
    }

    fn already(&self, before: &PieceBefore) -> bool {
        before.whole
    }

    fn apply(&self, _: &PieceBefore, _: &Host) -> Result<()> {
        Ok(Nft::open()?.put(&[self.piece()], Novelty::Again)?)
    }

    fn undo(&self, before: &PieceBefore, _: &Host) -> Result<Undone> {
        if before.existed {
            return Ok(Undone::Kept);
        }
        match Nft::open()?.delete_hairpin_if_unused(self.facts())? {
            Gone::Deleted | Gone::Absent => Ok(Undone::Done),
            Gone::InUse => Ok(Undone::Kept),
        }
    }

    fn script(&self, way: Way<'_, PieceBefore>, out: &mut Script) {
        match way {
            Way::Apply => out.feed(["nft", "-f", "-"], &self.piece().text(Novelty::Again)),
            Way::Undo(before) if before.existed => {}
            Way::Undo(_) => {
                // The shell cannot tell which addresses are of the subnet: while any port is published, the chain stays.
                let (table, chain) = (PORT_TABLE.to_string(), quote(&self.facts().chain()));
                out.raw(&format!("nft list table {table} 2>/dev/null | grep -q elements || nft delete chain {table} {chain} 2>/dev/null || true"));
            }
        }
    }
}
