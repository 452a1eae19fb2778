//! `rkbox net check`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::detach::Handle;
use super::{Target, networks, repair};
use crate::cmd::{Context, Format, output};
use crate::cni::bridge::BridgeConf;
use crate::cni::config::Plane;
use crate::cni::list::List;
use crate::cni::result::{CniResult, Interface};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Mac;
use crate::network;
use crate::plan::journal;
use crate::sys::netlink::{Link, Netlink};
use crate::sys::nft::{self, Nft};
use crate::sys::ns::{self, NsKind};
use crate::sys::{Host, file};

/// Arguments of `rkbox net check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    target: Target,
}

/// One attachment as it was made, and what differs from it.
struct Check<'a> {
    host: &'a Host,
    handle: &'a Handle,
    netns: PathBuf,
    result: CniResult,
    /// Whether rkbox made it; other tools masquerade elsewhere and leave lo to others.
    by_rkbox: bool,
    differences: Vec<String>,
}

/// Compares an attachment with its cached result; prints every difference.
///
/// *Errors:* `NotFound` when it is not attached, `FailedPrecondition` when anything differs. *Source:* reference `bridge` `cmdCheck`
/// and more: the lease, the gateway on the bridge, the masquerade and all differences at once.
pub fn run(cx: &Context, args: &CheckArgs) -> Result<u8> {
    let handle = args.target.handle(&cx.host)?;
    let Some(cached) = handle.find_cached(&cx.host)? else {
        let fault = Fault::not_found(format!("{} of {} is not attached to {}", handle.ifname, args.target.netns, handle.network));
        return Err(fault.hint(format!("attach it: rkbox net add {} {}", handle.network, args.target.netns)));
    };
    let network = networks::interpret(List::parse(&cached.config()?)?).doing(|| "reading the cached configuration")?;
    let result = CniResult::from_json(&cached.result).doing(|| "reading the cached result")?;
    let netns = args.target.netns_path(&cx.host)?;
    let by_rkbox = file::exists(&journal::path(&cx.host, &handle.box_id()))?;
    let mut check = Check { host: &cx.host, handle: &handle, netns, result, by_rkbox, differences: Vec::new() };
    if !network.disable_check {
        check.leases(&network)?;
        check.links(&network)?;
    }
    if by_rkbox {
        check.differences.extend(repair::missing_of(&cx.host, &handle.box_id())?);
    }
    let differences = check.differences;
    if cx.format == Format::Json {
        output::json(&json!({ "differences": differences }))?;
    } else {
        differences.iter().for_each(|difference| output::line(difference));
    }
    match differences.len() {
        0 => Ok(0),
        count => Err(Fault::new(
            Kind::FailedPrecondition,
            format!("attachment {} differs in {count} places from what was made", args.target.netns),
        )
        .hint(format!("make it again: rkbox net del {0} {1}; rkbox net add {0} {1}", handle.network, args.target.netns))),
    }
}

impl Check<'_> {
    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.differences.push(otherwise());
        }
    }

    fn leases(&mut self, network: &networks::Network) -> Result<()> {
        let Plane::Bridge(conf) = &network.plane else { return Ok(()) };
        let Some(ipam) = &conf.ipam else { return Ok(()) };
        let dir = network::pool_dir(self.host, network, ipam);
        let held = network::held_by(&dir, &self.handle.owner, &self.handle.ifname)?;
        for ip in self.result.ips.clone() {
            self.expect(held.contains(&ip.address.ip()), || {
                format!("address {} is not leased to it in {}", ip.address.ip(), dir.display())
            });
        }
        Ok(())
    }

    fn links(&mut self, network: &networks::Network) -> Result<()> {
        let mut outside = Netlink::open()?;
        let port = match &network.plane {
            Plane::Bridge(conf) => {
                self.bridge(conf, &mut outside)?;
                self.masquerade(conf)?;
                self.port(conf, &mut outside)?
            }
            Plane::Loopback => None,
        };
        if !file::exists(&self.netns)? || !ns::is_namespace(&self.netns, NsKind::Net)? {
            self.differences.push(format!("namespace {} is gone", self.netns.display()));
            return Ok(());
        }
        let mut inside = Netlink::open_in(&self.netns)?;
        let lo = inside.find_link("lo")?.is_some_and(|link| link.up);
        let expected = self.by_rkbox || network.plane == Plane::Loopback;
        self.expect(lo || !expected, || "lo is not up".to_owned());
        if matches!(network.plane, Plane::Bridge(_)) {
            self.interface(&mut inside, port.as_ref())?;
        }
        Ok(())
    }

    fn bridge(&mut self, conf: &BridgeConf, outside: &mut Netlink) -> Result<()> {
        let name = &conf.bridge;
        let Some(link) = outside.find_link(name.as_ref())?.filter(Link::is_bridge) else {
            self.differences.push(format!("bridge {name} is gone"));
            return Ok(());
        };
        self.expect(link.up, || format!("bridge {name} is not up"));
        self.expect(link.promisc || !conf.promisc, || format!("bridge {name} is not promiscuous"));
        if conf.is_gateway {
            let addresses = outside.addresses(link.index)?;
            for gateway in self.result.ips.clone().iter().filter_map(|ip| ip.gateway) {
                self.expect(addresses.iter().any(|address| address.ip() == gateway), || format!("gateway {gateway} is not on {name}"));
            }
        }
        Ok(())
    }

    /// The host's end of the pair, if it is there.
    fn port(&mut self, conf: &BridgeConf, outside: &mut Netlink) -> Result<Option<Link>> {
        let Some(made) = self.result.interfaces.get(1).cloned() else { return Ok(None) };
        let name = &made.name;
        let Some(link) = outside.find_link(name)? else {
            self.differences.push(format!("link {name} is gone"));
            return Ok(None);
        };
        let bridge = outside.find_link(conf.bridge.as_ref())?.map(|link| link.index);
        self.mac(&made, &link);
        self.expect(link.up, || format!("link {name} is not up"));
        self.expect(link.master.is_some() && link.master == bridge, || format!("link {name} is not a port of {}", conf.bridge));
        self.expect(link.hairpin == conf.hairpin, || format!("hairpin mode of {name} is {}", if link.hairpin { "on" } else { "off" }));
        Ok(Some(link))
    }

    fn mac(&mut self, made: &Interface, found: &Link) {
        let same = made.mac.is_empty() || made.mac.parse::<Mac>().ok() == found.mac;
        let mac = found.mac.map_or("none".to_owned(), |mac| mac.to_string());
        self.expect(same, || format!("MAC of {} is {mac}, not {}", made.name, made.mac));
    }

    fn masquerade(&mut self, conf: &BridgeConf) -> Result<()> {
        if !conf.ip_masq || !self.by_rkbox {
            return Ok(());
        }
        let mut table = Nft::open()?;
        for ip in self.result.ips.clone() {
            let address = ip.address.ip();
            let found = table.find_element(address)?;
            let ours = found.is_some_and(|found| found.is_of(&self.handle.owner) && found.chain == nft::chain_of(&self.handle.network));
            self.expect(ours, || format!("{address} is not masqueraded"));
        }
        Ok(())
    }

    fn interface(&mut self, inside: &mut Netlink, port: Option<&Link>) -> Result<()> {
        let name = self.handle.ifname.as_ref();
        let Some(link) = inside.find_link(name)? else {
            self.differences.push(format!("interface {name} is gone"));
            return Ok(());
        };
        if let Some(made) = self.result.interfaces.get(2).cloned() {
            self.mac(&made, &link);
        }
        self.expect(link.up, || format!("interface {name} is not up"));
        if let Some(port) = port {
            self.expect(link.peer == Some(port.index), || format!("interface {name} is not the other end of {}", port.name));
        }
        let addresses = inside.addresses(link.index)?;
        for ip in self.result.ips.clone() {
            self.expect(addresses.contains(&ip.address), || format!("address {} is not on {name}", ip.address));
        }
        let routes = inside.routes()?;
        for route in self.result.routes.clone() {
            let there = |entry: &&crate::sys::netlink::RouteEntry| entry.dst == route.dst && entry.index == Some(link.index);
            let right = routes.iter().filter(there).any(|entry| route.gw.is_none() || entry.gw == route.gw);
            let via = route.gw.map_or(String::new(), |gw| format!(" via {gw}"));
            self.expect(right, || format!("route {}{via} is not there", route.dst));
        }
        Ok(())
    }
}
