//! Publishes ports of a container on the host.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Kind, Result};
use crate::ports::{Forward, Protocol, named};
use crate::script::Script;
use crate::step::{Action, Undone, Way};
use crate::sys::netlink::Netlink;
use crate::sys::nft::{Nft, Novelty, Piece};
use crate::sys::{Errno, Host, conntrack};

/// Publishes ports of a container on the host, all in one transaction; UDP flows that went elsewhere are forgotten.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Publish {
    /// The ports.
    pub forwards: Vec<Forward>,
    /// Comment of the elements, our mark: the CNI container id.
    pub owner: String,
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "publish {}", named(&self.forwards))
    }
}

impl Publish {
    /// The same in nftables.
    pub fn piece(&self) -> Piece {
        Piece::Forwards { forwards: self.forwards.clone(), owner: self.owner.clone() }
    }

    /// Nothing to forget without UDP, and nothing to read then.
    fn forget_flows(&self) -> Result<()> {
        if self.forwards.iter().any(|forward| forward.protocol == Protocol::Udp) {
            conntrack::forget_flows(&self.forwards, &own_addresses()?)?;
        }
        Ok(())
    }
}

/// The addresses of this host.
fn own_addresses() -> Result<Vec<IpAddr>> {
    let mut netlink = Netlink::open()?;
    let mut all = Vec::new();
    for link in netlink.links()? {
        all.extend(netlink.addresses(link.index)?.iter().map(ipnetwork::IpNetwork::ip));
    }
    Ok(all)
}

impl Action for Publish {
    type Before = ();
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<()> {
        let mut nft = Nft::open()?;
        for forward in &self.forwards {
            if let Some(publisher) = nft.find_publisher(forward)? {
                let at = publisher.host_ip.map_or("all addresses".to_owned(), |address| address.to_string());
                let message = format!("port {}/{} is published already, on {at} for {}", forward.host_port, forward.protocol, publisher.owner);
                return Err(Fault::new(Kind::AlreadyExists, message).hint("choose another port; if its owner is gone: rkbox gc, or rkbox net gc"));
            }
        }
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        Nft::open()?.put(&[self.piece()], Novelty::New).map_err(|error| match error.errno() {
            Some(Errno::EEXIST | Errno::ENOENT) => Fault::from(error).of_kind(Kind::Conflict),
            _ => error.into(),
        })?;
        self.forget_flows()
    }

    /// Deletes the elements that bear our owner; looked at and deleted in one generation.
    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        Nft::open()?.unpublish(&self.forwards, &self.owner)?;
        self.forget_flows()?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        match way {
            Way::Apply => out.feed(["nft", "-f", "-"], &self.piece().text(Novelty::New)),
            Way::Undo(()) => self.piece().removal_text().iter().for_each(|line| out.run_ignoring(["nft", line])),
        }
        for forward in self.forwards.iter().filter(|forward| forward.protocol == Protocol::Udp) {
            let family = if forward.target.is_ipv4() { "ipv4" } else { "ipv6" };
            out.raw(&format!(
                "! command -v conntrack >/dev/null || conntrack -D -f {family} -p udp --orig-port-dst {} >/dev/null 2>&1 || true",
                forward.host_port
            ));
        }
    }
}
