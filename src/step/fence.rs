//! Ensures the fence of a network: only its own bridge and this host reach its containers directly.

use std::fmt;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::port_table::PieceBefore;
use crate::fault::Result;
use crate::ids::{IfName, NetworkName};
use crate::script::{Script, quote};
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::Host;
use crate::sys::netlink::Netlink;
use crate::sys::nft::{self, Nft, Novelty, Piece};

/// Ensures the fence of a network: only its own bridge and this host reach its containers directly.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fence {
    /// The network.
    pub network: NetworkName,
    /// Its bridge.
    pub bridge: IfName,
    /// Its subnets.
    pub subnets: Vec<IpNetwork>,
    /// Whether only the bridge and this host reach its containers directly; if not, only their published ports come back to them.
    pub guard: bool,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure the fence of network {}", self.network)
    }
}

/// How long an undo waits for ports whose namespaces are dying.
const DYING: Duration = Duration::from_millis(300);

impl Fence {
    fn facts(&self) -> nft::Fence {
        nft::Fence { network: self.network.clone(), bridge: self.bridge.clone(), subnets: self.subnets.clone(), guard: self.guard }
    }

    /// The same in nftables.
    pub fn piece(&self) -> Piece {
        Piece::Fence(self.facts())
    }
}

impl Action for Fence {
    type Before = PieceBefore;
    const TENURE: Tenure = Tenure::Shared;
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<PieceBefore> {
        PieceBefore::of(&self.piece())
    }

    fn already(&self, before: &PieceBefore) -> bool {
        before.whole
    }

    /// A fence for other subnets (the configuration was edited) is written again in the same transaction.
    fn apply(&self, _: &PieceBefore, _: &Host) -> Result<()> {
        Ok(Nft::open()?.put(&[self.piece()], Novelty::Again)?)
    }

    fn undo(&self, before: &PieceBefore, _: &Host) -> Result<Undone> {
        if before.existed {
            return Ok(Undone::Kept);
        }
        let mut netlink = Netlink::open()?;
        if let Some(link) = netlink.find_link(self.bridge.as_ref())?
            && !netlink.wait_without_ports(link.index, DYING)?
        {
            return Ok(Undone::Kept);
        }
        Nft::open()?.delete_fence(&self.facts())?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, PieceBefore>, out: &mut Script) {
        match way {
            Way::Apply => out.feed(["nft", "-f", "-"], &self.piece().text(Novelty::Again)),
            Way::Undo(before) if before.existed => {}
            Way::Undo(_) => {
                for words in nft::fence_removal(&self.facts()) {
                    let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
                    let ports = format!("ip -o link show master {} 2>/dev/null", quote(self.bridge.as_ref()));
                    out.raw(&format!("[ -n \"$({ports})\" ] || {line} 2>/dev/null || true"));
                }
            }
        }
    }
}
