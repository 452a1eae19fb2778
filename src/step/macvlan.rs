//! Makes a macvlan interface in a namespace.

use std::fmt;
use std::os::fd::AsFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::loopback::in_netns;
use super::{Action, Undone, Way};
use crate::cni::macvlan::Mode;
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, Mac};
use crate::script::Script;
use crate::sys::netlink::{Netlink, NewMacvlan};
use crate::sys::ns::{self, NsKind};
use crate::sys::{Errno, Host};

/// Makes a macvlan interface in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Macvlan {
    /// The interface.
    pub name: IfName,
    /// The link that carries it.
    pub master: IfName,
    /// Whether that is in the namespace too.
    pub inside: bool,
    /// How neighbours reach each other.
    pub mode: Mode,
    /// Its MAC, our mark; none in passthru mode, where it has its master's.
    pub mac: Option<Mac>,
    /// Its MTU in bytes; none is the master's.
    pub mtu: Option<u32>,
    /// The namespace.
    pub netns: PathBuf,
    /// Whether the namespace is made by the same plan: then its death takes the interface with it.
    #[serde(default)]
    pub own_netns: bool,
}

impl fmt::Display for Macvlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "add macvlan {} on {}", self.name, self.master)
    }
}

impl Action for Macvlan {
    type Before = ();
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<()> {
        if self.own_netns {
            return Ok(());
        }
        drop(ns::open_foreign_netns(&self.netns)?);
        match Netlink::open_in(&self.netns)?.find_link(self.name.as_ref())? {
            None => Ok(()),
            Some(_) => {
                let message = format!("namespace already attached: interface {} is in {}", self.name, self.netns.display());
                Err(Fault::new(Kind::AlreadyExists, message).hint("detach it first, or name another interface"))
            }
        }
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let netns = ns::open_foreign_netns(&self.netns)?;
        let create = |netlink: &mut Netlink| -> Result<()> {
            let master = netlink.find_link(self.master.as_ref())?;
            let master = master.ok_or_else(|| Fault::not_found(format!("link {} is not there", self.master)))?;
            let new = NewMacvlan {
                name: &self.name,
                master: (&self.master, master.index),
                mode: self.mode,
                mac: self.mac,
                mtu: self.mtu,
                netns: netns.as_fd(),
            };
            netlink.create_macvlan(&new).map_err(|error| match error.errno() {
                Some(Errno::EEXIST) => Fault::from(error).of_kind(Kind::Conflict),
                Some(Errno::EBUSY) => Fault::from(error).hint("its master has another use already, which goes not together with this mode"),
                _ => error.into(),
            })
        };
        if self.inside { create(&mut *Netlink::open_in(&self.netns)?) } else { create(&mut Netlink::open()?) }
    }

    /// A namespace of our own takes the interface with it. Else the macvlan of our name with our MAC is deleted.
    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        if self.own_netns || !ns::is_namespace(&self.netns, NsKind::Net)? || ns::is_own_netns(&self.netns)? {
            return Ok(Undone::Done);
        }
        let mut inside = Netlink::open_in(&self.netns)?;
        let found = inside.find_link(self.name.as_ref())?;
        let ours = found.filter(|link| link.kind.as_deref() == Some("macvlan") && (self.mac.is_none() || link.mac == self.mac));
        let Some(link) = ours else { return Ok(Undone::Done) };
        match inside.delete_link(&link.name, link.index) {
            Err(error) if error.errno() != Some(Errno::ENODEV) => Err(error.into()),
            _ => Ok(Undone::Done),
        }
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        if let Way::Undo(()) = way {
            if !self.own_netns {
                let words = in_netns(&self.netns, &["ip", "link", "delete", "dev", self.name.as_ref()]);
                out.run_ignoring(words);
            }
            return;
        }
        let netns = self.netns.to_string_lossy();
        let netns = netns.strip_prefix("/run/netns/").unwrap_or(&netns);
        let (mac, mtu) = (self.mac.map(|mac| mac.to_string()), self.mtu.map(|mtu| mtu.to_string()));
        let mut words = vec!["ip", "link", "add", "link", self.master.as_ref(), "name", self.name.as_ref()];
        words.extend(mac.iter().flat_map(|mac| ["address", mac]));
        words.extend(mtu.iter().flat_map(|mtu| ["mtu", mtu]));
        if !self.inside {
            words.extend(["netns", netns]);
        }
        words.extend(["type", "macvlan", "mode", self.mode.as_str()]);
        if self.inside { out.run(in_netns(&self.netns, &words)) } else { out.run(words) }
    }
}
