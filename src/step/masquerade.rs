//! Masquerades what one pod address sends out of its network.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::net::IpAddr;

use crate::fault::{Fault, Kind, Result};
use crate::ids::NetworkName;
use crate::script::Script;
use crate::step::{Action, Undone, Way};
use crate::sys::nft::{self, Nft};
use crate::sys::{Errno, Host};


/// Masquerades what one pod address sends out of its network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Masquerade {
    /// The network.
    pub network: NetworkName,
    /// The pod.
    pub address: IpAddr,
    /// Comment of the element, our mark: the CNI container id.
    #[serde(default)]
    pub owner: String,
}

impl fmt::Display for Masquerade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "masquerade {address}", address = self.address)
    }
}

impl Action for Masquerade {
    type Before = ();
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<()> {
        match Nft::open()?.find_element(self.address)? {
            None => Ok(()),
            Some(found) => {
                let owner = found.comment.map_or(String::new(), |owner| format!(" for {owner}"));
                let message = format!("{} is masqueraded already{owner} ({})", self.address, found.chain);
                Err(Fault::new(Kind::AlreadyExists, message).hint("if its owner is gone: rkbox gc"))
            }
        }
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        Nft::open()?.add_element(self.address, &self.network, &self.owner).map_err(|error| match error.errno() {
            Some(Errno::EEXIST | Errno::ENOENT) => Fault::from(error).of_kind(Kind::Conflict),
            _ => error.into(),
        })
    }

    /// Deletes the element while it jumps to the chain of our network and bears our owner; looked at and deleted in one generation.
    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        Nft::open()?.delete_element(self.address, &self.network, &self.owner)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        match way {
            Way::Apply => out.feed(["nft", "-f", "-"], &nft::element_text(self.address, Some(&self.network), &self.owner)),
            Way::Undo(()) => {
                let text = nft::element_text(self.address, None, "");
                let mut words = vec!["nft"];
                words.extend(text.split_whitespace());
                out.run_ignoring(words);
            }
        }
    }
}
