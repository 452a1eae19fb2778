//! The planner: what attaching an interface to a network takes, step by step.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::addresses::{self, Asker, Chosen};
use super::networks::Network;
use crate::cni::bridge::BridgeConf;
use crate::cni::cache;
use crate::cni::config::Plane;
use crate::cni::ranges::default_gateway;
use crate::cni::resolv_conf::{self, Dns};
use crate::cni::result::{CniResult, Interface, Ip, Route};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::{IfName, VethNames, veth_names};
use crate::step::{self, Step};
use crate::sys::lock::Lock;
use crate::sys::netlink::Netlink;
use crate::sys::{Host, file, ns};

pub use super::detach::{is_held, steps_of};

/// What is attached to what.
#[derive(Clone, Copy, Debug)]
pub struct Attach<'a> {
    /// The network.
    pub network: &'a Network,
    /// CNI container id, which owns the lease.
    pub owner: &'a str,
    /// The interface in the namespace.
    pub ifname: &'a IfName,
    /// The namespace.
    pub netns: &'a Path,
    /// Whether an earlier step of the same plan makes the namespace.
    pub own_netns: bool,
    /// False for `--explain`: no lock is taken and nothing is made.
    pub acting: bool,
}

/// A planned attachment.
#[derive(Debug, Default)]
pub struct Attached {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The address pool's lock, to be held until the steps are done.
    pub lock: Option<Lock>,
    /// The addresses with their prefixes.
    pub addresses: Vec<IpNetwork>,
    /// The gateway of the first address.
    pub gateway: Option<IpAddr>,
    /// The CNI result, in the network's version.
    pub result: Value,
    /// Name servers that the network hands out.
    pub dns: Dns,
    /// What people should hear of.
    pub notes: Vec<String>,
}

/// Plans an attachment.
///
/// *Errors:* `NotFound` for a namespace that is not there, `AlreadyExists` for an attachment that is, `ResourceExhausted` for a
/// pool without a free address. *Source:* reference `bridge` `cmdAdd`, libcni `AddNetworkList`; rules come before connectivity here.
pub fn plan_attach(host: &Host, attach: &Attach<'_>) -> Result<Attached> {
    refuse_bad_owner(attach.owner)?;
    let cached = cache_path(host, attach);
    if file::exists(&cached)? {
        return Err(Fault::new(
            Kind::AlreadyExists,
            format!("{} of {} is attached to {} already", attach.ifname, attach.netns.display(), attach.network.name),
        )
        .hint(format!("detach it first: rkbox net del {} {}", attach.network.name, attach.netns.display())));
    }
    if !attach.own_netns {
        refuse_no_namespace(attach.netns)?;
    }
    let (mut attached, result) = match &attach.network.plane {
        Plane::Bridge(conf) => bridge(host, attach, conf)?,
        Plane::Loopback => loopback(attach)?,
    };
    attached.result = result.to_json(attach.network.version)?;
    attached.dns = result.dns;
    let mut entry = cache::Attachment::new(&attach.network.name, attach.owner, attach.ifname, &attach.network.text);
    entry.netns = attach.netns.to_string_lossy().into_owned();
    entry.result = attached.result.clone();
    let results = host.cni_state.join("results");
    attached.steps.push(step::Home { dirs: vec![results] }.into());
    attached.steps.push(step::File { path: cached, mode: 0o600, content: entry.to_text()?, durable: false }.into());
    Ok(attached)
}

/// Where libcni keeps an attachment.
fn cache_path(host: &Host, attach: &Attach<'_>) -> PathBuf {
    host.cni_state.join("results").join(cache::Attachment::file_name(&attach.network.name, attach.owner, attach.ifname))
}

/// *Source:* libcni `ValidateContainerID`.
fn refuse_bad_owner(owner: &str) -> Result<()> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if owner.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && owner.bytes().all(word) {
        return Ok(());
    }
    Err(Fault::invalid(format!("container id {owner:?} is not valid")).hint("use letters, digits, _ . -, a letter or digit first"))
}

fn refuse_no_namespace(netns: &Path) -> Result<()> {
    if !file::exists(netns)? {
        return Err(Fault::not_found(format!("network namespace {} is not there", netns.display()))
            .hint("make one: ip netns add NAME, or rkbox sandbox create NAME"));
    }
    drop(ns::open_foreign_netns(netns)?);
    Ok(())
}

fn bridge(host: &Host, attach: &Attach<'_>, conf: &BridgeConf) -> Result<(Attached, CniResult)> {
    let names = veth_names(&attach.network.name, attach.owner, attach.ifname);
    let asker = Asker { owner: attach.owner, ifname: attach.ifname, acting: attach.acting };
    let chosen = match &conf.ipam {
        Some(ipam) => addresses::choose(host, attach.network, ipam, asker)?,
        None => Chosen::default(),
    };
    let result = describe(attach, conf, &chosen, &names)?;
    let mut steps = chosen.steps;
    steps.extend(host_steps(attach, conf, &result));
    if !attach.own_netns {
        // Before the veth, so that its undo comes after the pair is gone: only then is nobody left who needs lo.
        steps.push(step::Loopback { netns: attach.netns.to_path_buf(), own_netns: false }.into());
    }
    steps.push(
        step::Veth {
            host: names.host,
            host_mac: names.host_mac,
            inner: attach.ifname.clone(),
            inner_mac: conf.mac.unwrap_or(names.inner_mac),
            netns: attach.netns.to_path_buf(),
            bridge: conf.bridge.clone(),
            mtu: conf.mtu,
            hairpin: conf.hairpin,
            own_netns: attach.own_netns,
        }
        .into(),
    );
    let addresses: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
    steps.push(
        step::Interface {
            netns: attach.netns.to_path_buf(),
            ifname: attach.ifname.clone(),
            addresses: addresses.clone(),
            routes: routes_to_apply(&result),
            loopback: attach.own_netns,
        }
        .into(),
    );
    let gateway = result.ips.iter().find_map(|ip| ip.gateway);
    Ok((Attached { steps, lock: chosen.lock, addresses, gateway, notes: chosen.notes, ..Attached::default() }, result))
}

/// What the host gets: the bridge, gateway addresses on it, forwarding, masquerade.
fn host_steps(attach: &Attach<'_>, conf: &BridgeConf, result: &CniResult) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut gateways: Vec<IpNetwork> = Vec::new();
    if conf.is_gateway {
        for ip in &result.ips {
            let address = ip.gateway.and_then(|gateway| IpNetwork::new(gateway, ip.address.prefix()).ok());
            gateways.extend(address.filter(|address| !gateways.contains(address)));
        }
    }
    let forward = !gateways.is_empty();
    steps.push(step::Bridge { name: conf.bridge.clone(), mtu: conf.mtu, promisc: conf.promisc }.into());
    let gateway = |address| step::Gateway { bridge: conf.bridge.clone(), address, force: conf.force_address }.into();
    steps.extend(gateways.into_iter().map(gateway));
    if forward {
        let bridge = Some(conf.bridge.clone());
        steps.push(step::Sysctl { key: "net/ipv4/ip_forward".to_owned(), value: "1".to_owned(), bridge }.into());
    }
    if conf.ip_masq && !result.ips.is_empty() {
        let mut subnets: Vec<IpNetwork> = Vec::new();
        for ip in &result.ips {
            let subnet = IpNetwork::new(ip.address.network(), ip.address.prefix()).ok();
            subnets.extend(subnet.filter(|subnet| !subnets.contains(subnet)));
        }
        let network = attach.network.name.clone();
        steps.push(step::NatTable {}.into());
        steps.push(step::NatNetwork { network: network.clone(), subnets }.into());
        let masquerade =
            |ip: &Ip| step::Masquerade { network: network.clone(), address: ip.address.ip(), owner: attach.owner.to_owned() }.into();
        steps.extend(result.ips.iter().map(masquerade));
    }
    steps
}

/// The MAC that a bridge has or will have; what stands under its name is looked at again by its step.
fn bridge_mac(conf: &BridgeConf) -> Result<String> {
    let found = Netlink::open()?.find_link(conf.bridge.as_ref())?.and_then(|link| link.mac);
    Ok(found.unwrap_or_else(|| step::bridge::bridge_mac(&conf.bridge)).to_string())
}

/// The result of a bridge network.
fn describe(attach: &Attach<'_>, conf: &BridgeConf, chosen: &Chosen, names: &VethNames) -> Result<CniResult> {
    let sandbox = attach.netns.to_string_lossy().into_owned();
    let inner_mac = conf.mac.unwrap_or(names.inner_mac).to_string();
    let interfaces = vec![
        Interface { name: conf.bridge.to_string(), mac: bridge_mac(conf)?, sandbox: String::new() },
        Interface { name: names.host.to_string(), mac: names.host_mac.to_string(), sandbox: String::new() },
        Interface { name: attach.ifname.to_string(), mac: inner_mac, sandbox },
    ];
    let ips: Vec<Ip> =
        chosen.choices.iter().map(|choice| Ip { interface: Some(2), address: choice.address, gateway: Some(choice.gateway) }).collect();
    let mut routes: Vec<Route> = conf.ipam.iter().flat_map(|ipam| ipam.routes.clone()).collect();
    if let Some(first) = ips.first().filter(|_| conf.is_default_gateway) {
        let everywhere = IpNetwork::new(IpAddr::from([0, 0, 0, 0]), 0).map_err(|error| Fault::internal(error.to_string()))?;
        if !routes.iter().any(|route| route.dst == everywhere && route.gw.is_some()) {
            routes.push(Route { dst: everywhere, gw: first.gateway });
        }
    }
    Ok(CniResult { interfaces, ips, routes, dns: dns(conf)? })
}

/// The network's own name servers, else those of the file that IPAM names.
fn dns(conf: &BridgeConf) -> Result<Dns> {
    if !conf.dns.is_empty() {
        return Ok(conf.dns.clone());
    }
    let Some(path) = conf.ipam.as_ref().and_then(|ipam| ipam.resolv_conf.as_ref()) else { return Ok(Dns::default()) };
    let text = file::read_following(path, 1 << 20).doing(|| "reading resolvConf of ipam")?;
    Ok(resolv_conf::parse(&String::from_utf8_lossy(&text)))
}

/// Routes without a next hop get the first gateway, as the reference plugins apply them; what that makes equal is one.
fn routes_to_apply(result: &CniResult) -> Vec<step::interface::Route> {
    let gateway = result.ips.iter().map(|ip| ip.gateway.unwrap_or_else(|| default_gateway(ip.address))).next();
    let mut routes: Vec<step::interface::Route> = Vec::new();
    for route in &result.routes {
        let route = step::interface::Route { dst: route.dst, gw: route.gw.or(gateway) };
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes
}

/// *Source:* reference `loopback`: whatever the interface is called, it is `lo`.
fn loopback(attach: &Attach<'_>) -> Result<(Attached, CniResult)> {
    let address = IpNetwork::new(IpAddr::from([127, 0, 0, 1]), 8).map_err(|error| Fault::internal(error.to_string()))?;
    let lo = Interface { name: "lo".to_owned(), mac: "00:00:00:00:00:00".to_owned(), sandbox: attach.netns.to_string_lossy().into_owned() };
    let ips = vec![Ip { interface: Some(0), address, gateway: None }];
    let steps = vec![step::Loopback { netns: attach.netns.to_path_buf(), own_netns: attach.own_netns }.into()];
    let attached = Attached { steps, addresses: vec![address], ..Attached::default() };
    Ok((attached, CniResult { interfaces: vec![lo], ips, ..CniResult::default() }))
}
