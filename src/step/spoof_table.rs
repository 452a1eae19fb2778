//! Ensures the nftables table that guards bridge ports.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::port_table::PieceBefore;
use crate::fault::{Fault, Kind, Result};
use crate::script::Script;
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::nft::{Gone, Nft, Novelty, Piece, SPOOF_TABLE};
use crate::sys::{Errno, Host};

/// Ensures the nftables table that guards bridge ports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpoofTable {}

impl fmt::Display for SpoofTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure nft table {SPOOF_TABLE}")
    }
}

impl Action for SpoofTable {
    type Before = PieceBefore;
    const TENURE: Tenure = Tenure::Shared;
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<PieceBefore> {
        PieceBefore::of(&Piece::SpoofTable)
    }

    fn already(&self, before: &PieceBefore) -> bool {
        before.whole
    }

    fn apply(&self, _: &PieceBefore, _: &Host) -> Result<()> {
        Nft::open()?.put(&[Piece::SpoofTable], Novelty::Again).map_err(|error| match error.errno() {
            Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) => Fault::new(Kind::FailedPrecondition, "this kernel has no nftables for bridges")
                .hint("load its module: modprobe nf_tables_bridge")
                .hint("or do without the guard against spoofing: \"guard\": false in the bridge plugin's configuration"),
            _ => error.into(),
        })
    }

    fn undo(&self, before: &PieceBefore, _: &Host) -> Result<Undone> {
        if before.existed {
            return Ok(Undone::Kept);
        }
        match Nft::open()?.delete_spoof_table_if_unused()? {
            Gone::Deleted | Gone::Absent => Ok(Undone::Done),
            Gone::InUse => Ok(Undone::Kept),
        }
    }

    fn script(&self, way: Way<'_, PieceBefore>, out: &mut Script) {
        match way {
            Way::Apply => out.feed(["nft", "-f", "-"], &Piece::SpoofTable.text(Novelty::Again)),
            Way::Undo(before) if before.existed => {}
            Way::Undo(_) => out.raw("nft list set bridge rkbox ports 2>/dev/null | grep -q elements || nft delete table bridge rkbox"),
        }
    }
}
