//! Gives an interface in a namespace its addresses, sets it up and adds its routes.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::gateway::address_words;
use super::loopback::in_netns;
use crate::cni::result::Metrics;
use crate::fault::{Fault, Kind, Result};
use crate::ids::IfName;
use crate::script::{Script, quote};
use crate::step::{Action, Undone, Way};
use crate::sys::netlink::{AddressManner, Netlink, NewRoute, Setup};
use crate::sys::{Host, ns, sysctl};


/// How long duplicate address detection may take; the kernel needs one to two seconds.
const SETTLE: Duration = Duration::from_secs(10);

/// A route through an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination; `0.0.0.0/0` is the default route.
    pub dst: IpNetwork,
    /// Next hop.
    pub gw: Option<IpAddr>,
    /// The address that packets leave with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<IpAddr>,
    /// What else is said of it.
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// Gives an interface in a namespace its addresses, sets it up and adds its routes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// The namespace.
    pub netns: PathBuf,
    /// The interface.
    pub ifname: IfName,
    /// Addresses with prefix.
    pub addresses: Vec<IpNetwork>,
    /// IPv6 addresses are used only when nobody else answers for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dad: bool,
    /// No route to the subnets of the addresses but those named here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bare: bool,
    /// Routes through it.
    pub routes: Vec<Route>,
    /// Set lo up in the same send. For a namespace of the same plan, which then needs no step `Loopback`; nothing takes it back.
    #[serde(default)]
    pub loopback: bool,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configure {ifname} in {netns}", netns = self.netns.display(), ifname = self.ifname)
    }
}

impl Action for Interface {
    type Before = ();

    /// Only the namespace is looked at: the interface is made by an earlier step, and the kernel refuses an address or route that is there.
    fn look(&self, _: &Host) -> Result<()> {
        drop(ns::open_foreign_netns(&self.netns)?);
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let mut inside = Netlink::open_in(&self.netns)?;
        let name = self.ifname.as_ref();
        let link = inside.find_link(name)?;
        let missing = || Fault::not_found(format!("interface {name} is not in {}", self.netns.display()));
        let link = link.ok_or_else(missing)?;
        if self.addresses.iter().any(IpNetwork::is_ipv6) {
            sysctl::ready_for_ipv6(&self.netns, name)?;
        }
        let routes: Vec<NewRoute> = self.routes.iter().map(|r| NewRoute { dst: r.dst, gw: r.gw, src: r.src, metrics: r.metrics }).collect();
        let dad = self.dad && self.addresses.iter().any(IpNetwork::is_ipv6);
        let setup = Setup {
            link: (&self.ifname, link.index),
            loopback: self.loopback,
            addresses: &self.addresses,
            manner: AddressManner { dad: self.dad, no_prefix_route: self.bare },
            routes: &routes,
        };
        inside.configure(&setup).map_err(|error| match Fault::from(error) {
            fault if fault.kind() == Kind::AlreadyExists => fault.hint(format!(
                "another interface has that route or address (ip -n {} route shows it): attach to a network without it",
                self.netns.file_name().unwrap_or_default().to_string_lossy()
            )),
            fault => fault,
        })?;
        if dad && !inside.settle_addresses(link.index, SETTLE)? {
            let all: Vec<String> = self.addresses.iter().filter(|address| address.is_ipv6()).map(|address| address.ip().to_string()).collect();
            let message = format!("somebody on the link of {name} has {}, or it did not settle within {SETTLE:?}", all.join(" or "));
            return Err(Fault::new(Kind::AlreadyExists, message).hint("use a range that nobody else on this link gives addresses from"));
        }
        Ok(())
    }

    /// Nothing: addresses and routes die with the interface, which the undo of its veth or the death of the namespace takes away.
    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        if let Way::Undo(()) = way {
            return;
        }
        let name = self.ifname.as_ref();
        if self.loopback {
            out.run(in_netns(&self.netns, &["ip", "link", "set", "dev", "lo", "up"]));
        }
        let notify = format!("echo 1 > {}", quote(&format!("/proc/sys/net/ipv4/conf/{name}/arp_notify")));
        out.run(in_netns(&self.netns, &["sh", "-c", &notify]));
        if self.addresses.iter().any(IpNetwork::is_ipv6) {
            let conf = format!("/proc/sys/net/ipv6/conf/{name}");
            let lines = format!("echo 0 > {0}; echo 1 > {1}", quote(&format!("{conf}/disable_ipv6")), quote(&format!("{conf}/keep_addr_on_down")));
            out.run(in_netns(&self.netns, &["sh", "-c", &lines]));
        }
        for address in &self.addresses {
            let mut words = address_words("add", address, name);
            words.retain(|word| !self.dad || word != "nodad");
            words.extend(self.bare.then(|| "noprefixroute".to_owned()));
            out.run(in_netns(&self.netns, &words));
        }
        out.run(in_netns(&self.netns, &["ip", "link", "set", "dev", name, "up"]));
        for route in &self.routes {
            out.run(in_netns(&self.netns, &route.words(name)));
        }
    }
}

impl Route {
    /// A route without anything special.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Route {
        Route { dst, gw, src: None, metrics: Metrics::default() }
    }

    fn words(&self, link: &str) -> Vec<String> {
        let mut words = vec!["ip".to_owned()];
        if self.dst.is_ipv6() {
            words.push("-6".to_owned());
        }
        let dst = format!("{}/{}", self.dst.network(), self.dst.prefix());
        words.extend(["route", "add", &dst].map(str::to_owned));
        match self.gw {
            Some(gw) if gw.is_ipv6() && self.dst.is_ipv4() => words.extend(["via".to_owned(), "inet6".to_owned(), gw.to_string()]),
            Some(gw) => words.extend(["via".to_owned(), gw.to_string()]),
            None => {}
        }
        words.extend(["dev", link, "proto", "static"].map(str::to_owned));
        if let Some(src) = self.src {
            words.extend(["src".to_owned(), src.to_string()]);
        }
        let Metrics { mtu, advmss, priority, table, scope } = self.metrics;
        let told = [
            ("mtu", (mtu != 0).then_some(mtu)),
            ("advmss", (advmss != 0).then_some(advmss)),
            ("metric", (priority != 0).then_some(priority)),
            ("table", table),
            ("scope", scope.map(u32::from)),
        ];
        for (word, value) in told.into_iter().filter_map(|(word, value)| Some((word, value?))) {
            words.extend([word.to_owned(), value.to_string()]);
        }
        words
    }
}
