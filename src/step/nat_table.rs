//! Ensures the nftables table of rkbox.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::Result;
use crate::script::Script;
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::Host;
use crate::sys::nft::{self, Gone, Nft};


/// Ensures the nftables table of rkbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NatTable {}

impl fmt::Display for NatTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure nft table inet rkbox")
    }
}

/// What was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatTableBefore {
    /// The table, whole or not.
    pub existed: bool,
    /// With its base chain and the two rules in it.
    pub whole: bool,
}

impl Action for NatTable {
    type Before = NatTableBefore;
    const TENURE: Tenure = Tenure::Shared;
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<NatTableBefore> {
        let mut nft = Nft::open()?;
        let whole = nft.find_rules(nft::POSTROUTING)?.is_some_and(|rules| rules.len() == 2);
        Ok(NatTableBefore { existed: whole || nft.has_table()?, whole })
    }

    fn already(&self, before: &NatTableBefore) -> bool {
        before.whole
    }

    fn apply(&self, _: &NatTableBefore, _: &Host) -> Result<()> {
        Ok(Nft::open()?.ensure_table()?)
    }

    fn undo(&self, before: &NatTableBefore, _: &Host) -> Result<Undone> {
        if before.existed {
            return Ok(Undone::Kept);
        }
        match Nft::open()?.delete_table_if_unused()? {
            Gone::Deleted | Gone::Absent => Ok(Undone::Done),
            Gone::InUse => Ok(Undone::Kept),
        }
    }

    fn script(&self, way: Way<'_, NatTableBefore>, out: &mut Script) {
        match way {
            Way::Apply => out.feed(["nft", "-f", "-"], &nft::table_text()),
            Way::Undo(before) if before.existed => {}
            Way::Undo(_) => out.raw("nft list table inet rkbox 2>/dev/null | grep -qE 'chain masq-|elements' || nft delete table inet rkbox"),
        }
    }
}
