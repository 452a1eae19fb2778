//! An attachment beside what it was when it was made: all differences at once.

use ipnetwork::IpNetwork;

use super::addresses;
use super::call::Call;
use super::chained;
use super::lease_search::held_by;
use super::portmap;
use crate::cni::bridge::BridgeConf;
use crate::cni::built_in::BuiltIn;
use crate::cni::ipam::Ipam;
use crate::cni::result::{CniResult, Interface};
use crate::fault::Result;
use crate::ids::Mac;
use crate::sys::file;
use crate::sys::netlink::{Link, Netlink};
use crate::sys::nft::{self, Nft};
use crate::sys::ns::{self, NsKind};

/// What is compared.
#[derive(Debug)]
pub struct Check<'a> {
    call: Call<'a>,
    result: &'a CniResult,
    /// Whether rkbox made it; other tools masquerade elsewhere and leave lo to others.
    by_rkbox: bool,
    differences: Vec<String>,
}

/// What differs from the result of an attachment, as one built-in plugin sees it.
///
/// *Source:* CHECK of the reference plugins, and more: the lease, the gateway on the bridge, the masquerade.
pub fn differences(call: Call<'_>, built_in: &BuiltIn, result: &CniResult, by_rkbox: bool) -> Result<Vec<String>> {
    let mut check = Check { call, result, by_rkbox, differences: Vec::new() };
    check.leases(built_in.ipam())?;
    match built_in {
        BuiltIn::Bridge(conf) => {
            let mut outside = Netlink::open()?;
            check.bridge(conf, &mut outside)?;
            check.masquerade(conf.ip_masq)?;
            let port = check.port(conf, &mut outside)?;
            check.sandbox(Some(!conf.disable_interface), port.as_ref())?;
        }
        BuiltIn::Ptp(conf) => {
            check.masquerade(conf.ip_masq)?;
            let port = check.host_link(&mut Netlink::open()?)?;
            check.sandbox(Some(true), port.as_ref())?;
        }
        BuiltIn::Macvlan(_) => check.sandbox(Some(true), None)?,
        BuiltIn::Loopback => check.sandbox(None, None)?,
        // What cannot even be looked at is not as it was made.
        BuiltIn::Tuning(_) | BuiltIn::Bandwidth(_) | BuiltIn::Firewall(_) => {
            let found = chained::differences(&call, built_in, result).unwrap_or_else(|fault| vec![fault.to_string()]);
            check.differences.extend(found);
        }
        // Of another tool's chain, that tool's own portmap may have made them.
        BuiltIn::Portmap(conf) => {
            let found = if call.lo && !by_rkbox { Ok(Vec::new()) } else { portmap::differences(&call, conf, result) };
            check.differences.extend(found.unwrap_or_else(|fault| vec![fault.to_string()]));
        }
    }
    Ok(check.differences)
}

impl Check<'_> {
    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.differences.push(otherwise());
        }
    }

    fn leases(&mut self, ipam: &Ipam) -> Result<()> {
        let Ipam::HostLocal(conf) = ipam else { return Ok(()) };
        let dir = addresses::pool_dir(self.call.host, self.call.network, conf);
        let held = held_by(self.call.host, &dir, self.call.owner, self.call.ifname)?;
        for ip in self.result.ips.clone() {
            self.expect(held.contains(&ip.address.ip()), || {
                format!("address {} is not leased to it in {}", ip.address.ip(), dir.display())
            });
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

    /// The link on the host that the result tells, if it is there.
    fn host_link(&mut self, outside: &mut Netlink) -> Result<Option<Link>> {
        let inner = self.result.interfaces.iter().position(|interface| !interface.sandbox.is_empty());
        let made = inner.and_then(|inner| self.result.interfaces.get(inner.checked_sub(1)?)).cloned();
        let Some(made) = made else { return Ok(None) };
        let name = &made.name;
        let Some(link) = outside.find_link(name)? else {
            self.differences.push(format!("link {name} is gone"));
            return Ok(None);
        };
        self.mac(&made, &link);
        self.expect(link.up, || format!("link {name} is not up"));
        Ok(Some(link))
    }

    fn port(&mut self, conf: &BridgeConf, outside: &mut Netlink) -> Result<Option<Link>> {
        let Some(link) = self.host_link(outside)? else { return Ok(None) };
        let name = &link.name;
        let bridge = outside.find_link(conf.bridge.as_ref())?.map(|link| link.index);
        self.expect(link.master.is_some() && link.master == bridge, || format!("link {name} is not a port of {}", conf.bridge));
        self.expect(link.hairpin == conf.hairpin, || format!("hairpin mode of {name} is {}", if link.hairpin { "on" } else { "off" }));
        self.expect(link.isolated || !conf.isolated, || format!("port {name} is not isolated"));
        Ok(Some(link))
    }

    fn mac(&mut self, made: &Interface, found: &Link) {
        let same = made.mac.is_empty() || made.mac.parse::<Mac>().ok() == found.mac;
        let mac = found.mac.map_or("none".to_owned(), |mac| mac.to_string());
        self.expect(same, || format!("MAC of {} is {mac}, not {}", made.name, made.mac));
    }

    fn masquerade(&mut self, wanted: bool) -> Result<()> {
        if !wanted || !self.by_rkbox {
            return Ok(());
        }
        let mut table = Nft::open()?;
        for ip in self.result.ips.clone() {
            let address = ip.address.ip();
            let found = table.find_element(address)?;
            let ours = found.is_some_and(|found| found.is_of(self.call.owner) && found.chain == nft::chain_of(self.call.network));
            self.expect(ours, || format!("{address} is not masqueraded"));
        }
        Ok(())
    }

    /// What is in the namespace; `interface` says whether one is there besides lo, and whether it is up.
    fn sandbox(&mut self, interface: Option<bool>, port: Option<&Link>) -> Result<()> {
        let netns = self.call.netns;
        if !file::exists(netns)? || !ns::is_namespace(netns, NsKind::Net)? {
            self.differences.push(format!("namespace {} is gone", netns.display()));
            return Ok(());
        }
        let mut inside = Netlink::open_in(netns)?;
        let lo = inside.find_link("lo")?.is_some_and(|link| link.up);
        let expected = (self.by_rkbox && self.call.lo) || interface.is_none();
        self.expect(lo || !expected, || "lo is not up".to_owned());
        match interface {
            Some(up) => self.interface(&mut inside, up, port),
            None => Ok(()),
        }
    }

    fn interface(&mut self, inside: &mut Netlink, up: bool, port: Option<&Link>) -> Result<()> {
        let name = self.call.ifname.as_ref();
        let Some(link) = inside.find_link(name)? else {
            self.differences.push(format!("interface {name} is gone"));
            return Ok(());
        };
        if let Some(made) = self.result.interfaces.iter().find(|interface| !interface.sandbox.is_empty()).cloned() {
            self.mac(&made, &link);
        }
        self.expect(link.up || !up, || format!("interface {name} is not up"));
        if let Some(port) = port {
            self.expect(link.peer == Some(port.index), || format!("interface {name} is not the other end of {}", port.name));
        }
        let addresses = inside.addresses(link.index)?;
        for ip in self.result.ips.clone() {
            self.expect(addresses.contains(&ip.address), || format!("address {} is not on {name}", ip.address));
        }
        let routes = inside.routes()?;
        for route in self.result.routes.clone().iter().filter(|route| route.metrics.table.is_none()) {
            let there = |entry: &&crate::sys::netlink::RouteEntry| same_network(entry.dst, route.dst) && entry.index == Some(link.index);
            let right = routes.iter().filter(there).any(|entry| route.gw.is_none() || entry.gw == route.gw);
            let via = route.gw.map_or(String::new(), |gw| format!(" via {gw}"));
            self.expect(right, || format!("route {}{via} is not there", route.dst));
        }
        Ok(())
    }
}

/// The kernel shows a destination without its host bits.
fn same_network(kernel: IpNetwork, told: IpNetwork) -> bool {
    kernel.prefix() == told.prefix() && kernel.network() == told.network()
}
