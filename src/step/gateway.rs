//! Ensures the gateway address of a bridge.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::fault::{Fault, Kind, Result};
use crate::ids::IfName;
use crate::script::Script;
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::netlink::Netlink;
use crate::sys::{Errno, Host};


/// Ensures the gateway address of a bridge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gateway {
    /// The bridge.
    pub bridge: IfName,
    /// Gateway address and prefix.
    pub address: IpNetwork,
    /// Replace a different address (forceAddress).
    pub force: bool,
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure {address} on {bridge}", bridge = self.bridge, address = self.address)
    }
}

/// What the bridge had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayBefore {
    /// The address itself.
    pub present: bool,
    /// Addresses that cannot stay beside it, to be replaced.
    pub replaced: Vec<IpNetwork>,
}

/// How long an undo waits for ports whose namespaces are dying.
const DYING: Duration = Duration::from_millis(300);

impl Gateway {
    /// A bridge has one IPv4 address; IPv6 addresses live side by side unless their subnets overlap (upstream `ensureAddr`).
    fn is_in_the_way(&self, other: &IpNetwork) -> bool {
        match (self.address, other) {
            (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
            (IpNetwork::V6(ours), IpNetwork::V6(other)) => {
                !other.ip().is_unicast_link_local() && (ours.contains(other.ip()) || other.contains(ours.ip()))
            }
            _ => false,
        }
    }

    fn refusal(&self, found: &[IpNetwork]) -> Fault {
        let list = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("bridge {} has the address {list} already, so it cannot be the gateway {}", self.bridge, self.address);
        Fault::new(Kind::FailedPrecondition, message)
            .hint(format!("another network or an administrator may have set it; `ip address show dev {}` tells more", self.bridge))
            .hint("give this network another \"bridge\" name, or set \"forceAddress\": true to replace the address")
    }
}

impl Action for Gateway {
    type Before = GatewayBefore;
    const TENURE: Tenure = Tenure::Shared;
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<GatewayBefore> {
        let mut netlink = Netlink::open()?;
        // The bridge is made by an earlier step.
        let Some(link) = netlink.find_link(self.bridge.as_ref())? else { return Ok(GatewayBefore::default()) };
        let addresses = netlink.addresses(link.index)?;
        if addresses.contains(&self.address) {
            return Ok(GatewayBefore { present: true, replaced: Vec::new() });
        }
        let replaced: Vec<IpNetwork> = addresses.into_iter().filter(|other| self.is_in_the_way(other)).collect();
        if !replaced.is_empty() && !self.force {
            return Err(self.refusal(&replaced));
        }
        Ok(GatewayBefore { present: false, replaced })
    }

    fn already(&self, before: &GatewayBefore) -> bool {
        before.present
    }

    fn apply(&self, before: &GatewayBefore, _: &Host) -> Result<()> {
        let mut netlink = Netlink::open()?;
        let name = self.bridge.as_ref();
        let link = netlink.find_link(name)?.ok_or_else(|| Fault::not_found(format!("bridge {name} is not there")))?;
        netlink.replace_addresses(name, link.index, &before.replaced, Some(self.address)).map_err(|error| match error.errno() {
            Some(Errno::EEXIST | Errno::EADDRNOTAVAIL) => Fault::from(error).of_kind(Kind::Conflict),
            _ => error.into(),
        })
    }

    fn undo(&self, before: &GatewayBefore, _: &Host) -> Result<Undone> {
        let mut netlink = Netlink::open()?;
        let name = self.bridge.as_ref();
        if before.present {
            return Ok(Undone::Kept);
        }
        let Some(link) = netlink.find_link(name)? else { return Ok(Undone::Done) };
        let now = netlink.addresses(link.index)?;
        let is_ours_there = now.contains(&self.address);
        let lost: Vec<IpNetwork> = before.replaced.iter().filter(|old| !now.contains(old)).copied().collect();
        if !is_ours_there && lost.is_empty() {
            return Ok(Undone::Done);
        }
        if !netlink.wait_without_ports(link.index, DYING)? {
            return Ok(Undone::Kept);
        }
        let ours: &[IpNetwork] = if is_ours_there { std::slice::from_ref(&self.address) } else { &[] };
        netlink.replace_addresses(name, link.index, ours, None)?;
        for old in lost {
            netlink.add_address(name, link.index, old)?;
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, GatewayBefore>, out: &mut Script) {
        let (bridge, address) = (self.bridge.as_ref(), self.address.to_string());
        match way {
            Way::Apply => {
                if self.force && self.address.is_ipv4() {
                    out.run(["ip", "-4", "address", "flush", "dev", bridge, "scope", "global"]);
                }
                out.run(address_words("replace", &self.address, bridge));
            }
            Way::Undo(before) if before.present => {}
            Way::Undo(before) => {
                out.run_ignoring(["ip", "address", "delete", &address, "dev", bridge]);
                for old in &before.replaced {
                    out.run(address_words("replace", old, bridge));
                }
            }
        }
    }
}

/// `ip address VERB …` as the netlink door does it: with a broadcast address for IPv4, without duplicate detection for IPv6.
pub(super) fn address_words(verb: &str, address: &IpNetwork, link: &str) -> Vec<String> {
    let mut words: Vec<String> = ["ip", "address", verb, &address.to_string(), "dev", link].map(str::to_owned).to_vec();
    match address {
        IpNetwork::V4(v4) if v4.prefix() < 31 => words.extend(["broadcast".to_owned(), "+".to_owned()]),
        IpNetwork::V4(_) => {}
        IpNetwork::V6(_) => words.push("nodad".to_owned()),
    }
    words
}
