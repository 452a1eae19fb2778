//! Gives the host's end of a point-to-point pair its addresses and its routes.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::gateway::address_words;
use super::{Action, Undone, Way};
use crate::cni::result::Metrics;
use crate::fault::{Fault, Kind, Result};
use crate::ids::IfName;
use crate::script::Script;
use crate::sys::Host;
use crate::sys::netlink::{AddressManner, Netlink, NewRoute, Setup};

/// The scope of a route to an address of this host.
const SCOPE_HOST: u8 = 254;

/// Gives the host's end of a point-to-point pair its addresses and its routes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostEnd {
    /// The link on the host.
    pub link: IfName,
    /// Pairs of the address here and the address at the other end.
    pub ends: Vec<(IpAddr, IpAddr)>,
}

impl fmt::Display for HostEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configure {}", self.link)
    }
}

impl Action for HostEnd {
    type Before = ();
    const AT_BRIDGES: bool = true;

    /// Nothing: the link is made by an earlier step, and the kernel refuses an address or route that is there.
    fn look(&self, _: &Host) -> Result<()> {
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let mut netlink = Netlink::open()?;
        let name = self.link.as_ref();
        let link = netlink.find_link(name)?.ok_or_else(|| Fault::not_found(format!("link {name} is not there")))?;
        let mut addresses: Vec<IpNetwork> = Vec::new();
        for (here, _) in &self.ends {
            let address = IpNetwork::from(*here);
            addresses.extend((!addresses.contains(&address)).then_some(address));
        }
        let metrics = Metrics { scope: Some(SCOPE_HOST), ..Metrics::default() };
        let routes: Vec<NewRoute> =
            self.ends.iter().map(|(_, there)| NewRoute { metrics, ..NewRoute::new(IpNetwork::from(*there), None) }).collect();
        let setup =
            Setup { link: (&self.link, link.index), loopback: false, addresses: &addresses, manner: AddressManner::default(), routes: &routes };
        netlink.configure(&setup).map_err(|error| match Fault::from(error) {
            fault if fault.kind() == Kind::AlreadyExists => fault.hint("another sandbox has that address: ip route show tells where"),
            fault => fault,
        })
    }

    /// Nothing: addresses and routes die with the link.
    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        if let Way::Undo(()) = way {
            return;
        }
        let name = self.link.as_ref();
        out.raw(&format!("echo 1 > /proc/sys/net/ipv4/conf/{name}/arp_notify"));
        let mut done: Vec<IpAddr> = Vec::new();
        for (here, _) in &self.ends {
            if !done.contains(here) {
                out.run(address_words("add", &IpNetwork::from(*here), name));
                done.push(*here);
            }
        }
        out.run(["ip", "link", "set", "dev", name, "up"]);
        for (_, there) in &self.ends {
            let mut words = vec!["ip"];
            words.extend(there.is_ipv6().then_some("-6"));
            let (dst, scope) = (IpNetwork::from(*there).to_string(), SCOPE_HOST.to_string());
            words.extend(["route", "add", &dst, "dev", name, "proto", "static"]);
            if there.is_ipv4() {
                words.extend(["scope", &scope]);
            }
            out.run(words);
        }
    }
}
