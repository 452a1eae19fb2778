//! Ensures the nftables table of published ports.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::Result;
use crate::script::Script;
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::Host;
use crate::sys::nft::{Gone, Nft, Novelty, PORT_TABLE, Piece, Presence};

/// Ensures the nftables table of published ports: its maps, and what drops packets to 127.0.0.0/8 from elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortTable {}

impl fmt::Display for PortTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure nft table {PORT_TABLE}")
    }
}

/// What was there of something in nftables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceBefore {
    /// Some of it.
    pub existed: bool,
    /// All of it.
    pub whole: bool,
}

impl PieceBefore {
    /// Looks at a piece.
    pub(super) fn of(piece: &Piece) -> Result<PieceBefore> {
        let presence = Nft::open()?.presence(piece)?;
        Ok(PieceBefore { existed: presence != Presence::Absent, whole: presence == Presence::Whole })
    }
}

impl Action for PortTable {
    type Before = PieceBefore;
    const TENURE: Tenure = Tenure::Shared;
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<PieceBefore> {
        PieceBefore::of(&Piece::PortTable)
    }

    fn already(&self, before: &PieceBefore) -> bool {
        before.whole
    }

    fn apply(&self, _: &PieceBefore, _: &Host) -> Result<()> {
        Ok(Nft::open()?.put(&[Piece::PortTable], Novelty::Again)?)
    }

    fn undo(&self, before: &PieceBefore, _: &Host) -> Result<Undone> {
        if before.existed {
            return Ok(Undone::Kept);
        }
        match Nft::open()?.delete_port_table_if_unused()? {
            Gone::Deleted | Gone::Absent => Ok(Undone::Done),
            Gone::InUse => Ok(Undone::Kept),
        }
    }

    fn script(&self, way: Way<'_, PieceBefore>, out: &mut Script) {
        match way {
            Way::Apply => out.feed(["nft", "-f", "-"], &Piece::PortTable.text(Novelty::Again)),
            Way::Undo(before) if before.existed => {}
            Way::Undo(_) => {
                out.raw("nft list table inet rkbox_ports 2>/dev/null | grep -qE 'chain guard-|elements' || nft delete table inet rkbox_ports");
            }
        }
    }
}
