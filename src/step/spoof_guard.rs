//! Binds a bridge port to the MAC and the addresses of the interface behind it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::fault::Result;
use crate::ids::{IfName, Mac};
use crate::script::Script;
use crate::step::{Action, Undone, Way};
use crate::sys::nft::{Nft, Novelty, Piece, SpoofPort};
use crate::sys::{Errno, Host};

/// Binds a bridge port to the MAC and the addresses of the interface behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpoofGuard {
    /// The port, whose name is derived from the attachment: our mark.
    pub port: IfName,
    /// The MAC of the interface behind it.
    pub mac: Mac,
    /// The addresses of the interface behind it.
    pub addresses: Vec<IpAddr>,
}

impl fmt::Display for SpoofGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bind {} to its addresses", self.port)
    }
}

impl SpoofGuard {
    fn facts(&self) -> SpoofPort {
        SpoofPort { port: self.port.clone(), mac: self.mac, addresses: self.addresses.clone() }
    }

    /// The same in nftables.
    pub fn piece(&self) -> Piece {
        Piece::SpoofPort(self.facts())
    }
}

impl Action for SpoofGuard {
    type Before = ();
    const AT_BRIDGES: bool = true;

    /// What is there under this name is of this attachment: the remains of one that another tool took away.
    fn look(&self, _: &Host) -> Result<()> {
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        Nft::open()?.put(&[self.piece()], Novelty::Again).map_err(|error| match error.errno() {
            Some(Errno::ENOENT) => crate::fault::Fault::from(error).of_kind(crate::fault::Kind::Conflict),
            _ => error.into(),
        })
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        Nft::open()?.unguard(&self.facts())?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        match way {
            Way::Apply => out.feed(["nft", "-f", "-"], &self.piece().text(Novelty::Again)),
            Way::Undo(()) => self.piece().removal_text().iter().for_each(|line| out.run_ignoring(["nft", line])),
        }
    }
}
