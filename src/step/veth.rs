//! Adds a veth pair: one end on a bridge, the other in a namespace.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, Mac};
use crate::script::{Script, quote};
use crate::step::{Action, Undone, Way};
use crate::sys::netlink::{Link, Netlink, NewVeth};
use crate::sys::{Errno, Host, ns, sysctl};


/// Adds a veth pair: one end on a bridge, the other in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Veth {
    /// The end on the host.
    pub host: IfName,
    /// Its MAC, our mark.
    pub host_mac: Mac,
    /// The end in the namespace.
    pub inner: IfName,
    /// Its MAC.
    pub inner_mac: Mac,
    /// The namespace.
    pub netns: PathBuf,
    /// The master; none for a pair that stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<IfName>,
    /// MTU of both ends in bytes.
    pub mtu: Option<u32>,
    /// Hairpin mode of the bridge port.
    pub hairpin: bool,
    /// Whether the bridge keeps the port from other ports of the kind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// Whether the namespace is made by the same plan: then its death takes the pair with it.
    #[serde(default)]
    pub own_netns: bool,
}

impl fmt::Display for Veth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bridge {
            Some(bridge) => write!(f, "add veth {host} to {bridge}", host = self.host),
            None => write!(f, "add veth {host}", host = self.host),
        }
    }
}

impl Veth {
    fn find_inner(&self) -> Result<()> {
        let mut inside = Netlink::open_in(&self.netns)?;
        let Some(link) = inside.find_link(self.inner.as_ref())? else { return Ok(()) };
        let addresses = inside.addresses(link.index)?;
        let global = addresses.iter().find(|address| !matches!(address.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local()));
        let with = global.map_or(String::new(), |address| format!(" with address {address}"));
        let message = format!("namespace already attached: interface {} is in {}{with}", self.inner, self.netns.display());
        Err(Fault::new(Kind::AlreadyExists, message).hint("detach it first, or name another interface"))
    }
}

impl Action for Veth {
    type Before = ();
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<()> {
        let mut netlink = Netlink::open()?;
        if let Some(link) = netlink.find_link(self.host.as_ref())? {
            let whose = if link.mac == Some(self.host_mac) { "of this very attachment" } else { "of somebody else" };
            let fault = Fault::new(Kind::AlreadyExists, format!("link {} is there already, {whose}", self.host));
            return Err(fault.hint(format!("if nothing uses it: ip link delete dev {}", self.host)));
        }
        // A namespace of the same plan is new and empty.
        if self.own_netns {
            return Ok(());
        }
        drop(ns::open_foreign_netns(&self.netns)?);
        self.find_inner()
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let netns = ns::open_foreign_netns(&self.netns)?;
        let mut netlink = Netlink::open()?;
        let bridge = match &self.bridge {
            None => None,
            Some(bridge) => {
                let found = netlink.find_link(bridge.as_ref())?.filter(Link::is_bridge);
                // It was there, or was made, a moment ago: somebody just took it away.
                let gone = || Fault::new(Kind::Conflict, format!("bridge {bridge} is not there any more"));
                Some((bridge, found.ok_or_else(gone)?.index))
            }
        };
        let new = NewVeth {
            host: &self.host,
            host_mac: self.host_mac,
            inner: &self.inner,
            inner_mac: self.inner_mac,
            netns: netns.as_fd(),
            bridge,
            mtu: self.mtu,
            hairpin: self.hairpin,
            isolated: self.isolated,
        };
        netlink.create_veth(&new).map_err(|error| match error.errno() {
            Some(Errno::EEXIST) => Fault::from(error).of_kind(Kind::Conflict),
            _ => error.into(),
        })?;
        // A port hands its frames to the bridge before IPv6 sees them, so it is early enough after up.
        Ok(sysctl::ignore_router_advertisements(self.host.as_ref())?)
    }

    /// A namespace of our own takes the pair with it when it is unpinned, at no cost; else the link with our MAC is deleted.
    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        if self.own_netns {
            return Ok(Undone::Done);
        }
        let mut netlink = Netlink::open()?;
        let ours = netlink.find_link(self.host.as_ref())?.filter(|link| link.mac == Some(self.host_mac));
        let Some(link) = ours else { return Ok(Undone::Done) };
        match netlink.remove_link(&link.name, link.index) {
            Err(error) if error.errno() != Some(Errno::ENODEV) => Err(error.into()),
            _ => Ok(Undone::Done),
        }
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let host = self.host.as_ref();
        if let Way::Undo(()) = way {
            if !self.own_netns {
                out.run_ignoring(["ip", "link", "delete", "dev", host]);
            }
            return;
        }
        let netns = self.netns.to_string_lossy();
        // A name for `ip netns`, else a path, which `ip link … netns` takes as well.
        let netns = netns.strip_prefix("/run/netns/").unwrap_or(&netns);
        let (host_mac, inner_mac) = (self.host_mac.to_string(), self.inner_mac.to_string());
        let mtu = self.mtu.map(|mtu| mtu.to_string());
        let mtu = || mtu.iter().flat_map(|mtu| ["mtu", mtu]);
        let mut words = vec!["ip", "link", "add", host, "address", &host_mac];
        words.extend(mtu());
        words.extend(["type", "veth", "peer", "name", self.inner.as_ref(), "address", &inner_mac]);
        words.extend(mtu());
        words.extend(["netns", netns]);
        out.run(words);
        let key = format!("/proc/sys/net/ipv6/conf/{host}/accept_ra");
        out.raw(&format!("[ ! -e {0} ] || echo 0 > {0}", quote(&key)));
        if let Some(bridge) = &self.bridge {
            out.run(["ip", "link", "set", "dev", host, "master", bridge.as_ref()]);
        }
        if self.isolated {
            out.run(["ip", "link", "set", "dev", host, "type", "bridge_slave", "isolated", "on"]);
        }
        if self.hairpin {
            out.run(["ip", "link", "set", "dev", host, "type", "bridge_slave", "hairpin", "on"]);
        }
        out.run(["ip", "link", "set", "dev", host, "up"]);
    }
}
