//! What keeps an attachment for those who may reach it, and who may: published ports, the fence of its network, the guard of its port.

use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::attach::Attached;
use super::networks::Network;
use super::wiring;
use crate::cni::cache::Attachment;
use crate::cni::list::List;
use crate::cni::portmap;
use crate::cni::ports::{self, PortAsk};
use crate::cni::result::CniResult;
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, Mac};
use crate::ports::{Forward, Protocol};
use crate::step::{self, Step};
use crate::sys::nft::{Nft, Publisher};
use crate::sys::{file, proc, sockets};

/// What is asked to be published, and for whom.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Each `-p`.
    pub asks: &'a [PortAsk],
    /// The addresses of the container.
    pub addresses: &'a [IpAddr],
    /// Publish although a process of this host holds the port: it is then out of reach for others.
    pub force: bool,
    /// The container: a process that names it in its arguments holds its ports for it (podman's conmon), and not against it.
    pub holder: Option<&'a str>,
    /// Whether a process of an ordinary user's leads in: there are no rules then, and the port has to be free.
    pub relayed: bool,
    /// What people call an owner.
    pub name_of: &'a dyn Fn(&str) -> String,
}

/// Chooses what leads where, and refuses what is taken.
///
/// *Errors:* `AlreadyExists` for a port that a process or another container has, named; `ResourceExhausted` for a range without a
/// free port.
pub fn choose(request: Request<'_>) -> Result<Vec<Forward>> {
    let mut pick = |ask: &PortAsk, chosen: &[Forward]| pick(ask, chosen, request.relayed);
    let forwards = ports::wanted(request.asks, request.addresses, &mut pick)?;
    if forwards.is_empty() {
        return Ok(forwards);
    }
    if request.relayed {
        refuse_roots(&forwards)?;
    }
    let mut published = Published::open(request.relayed)?;
    for forward in &forwards {
        let port = format!("port {}/{}", forward.host_port, forward.protocol);
        if let Some(publisher) = published.find(forward)? {
            let at = publisher.host_ip.map_or("all addresses".to_owned(), |address| address.to_string());
            let message = format!("{port} is published already, on {at} for {}", (request.name_of)(&publisher.owner));
            return Err(
                Fault::new(Kind::AlreadyExists, message).hint("choose another port, or leave the choice to rkbox: -p CONTAINER_PORT")
            );
        }
        if (request.relayed || !request.force)
            && let Some(holder) = sockets::find_holder(forward)?
            && !request.holder.is_some_and(|owner| holder.serves(owner))
        {
            let fault = Fault::new(Kind::AlreadyExists, format!("{port} is in use by {holder}"))
                .hint("choose another port, or one address that is free: -p IP:PORT:CONTAINER_PORT");
            return Err(match request.relayed {
                true => fault,
                false => fault.hint("--force publishes it all the same; others then reach the container and not that process"),
            });
        }
    }
    Ok(forwards)
}

/// Chooses the ports of the host, for an attachment whose addresses are not known yet: they are free in both families.
pub fn resolve(asks: &[PortAsk], relayed: bool) -> Result<Vec<Forward>> {
    let any = [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])];
    ports::wanted(asks, &any, &mut |ask, chosen| pick(ask, chosen, relayed))
}

/// The ports that rules publish; an ordinary user has none.
struct Published(Option<Nft>);

impl Published {
    fn open(relayed: bool) -> Result<Self> {
        Ok(Published(if relayed { None } else { Some(Nft::open()?) }))
    }

    fn find(&mut self, forward: &Forward) -> Result<Option<Publisher>> {
        Ok(self.0.as_mut().map(|nft| nft.find_publisher(forward)).transpose()?.flatten())
    }
}

/// Refuses what a process of an ordinary user cannot listen on.
fn refuse_roots(forwards: &[Forward]) -> Result<()> {
    if forwards.iter().any(|forward| forward.protocol == Protocol::Sctp) {
        return Err(Fault::new(Kind::Unimplemented, "publishing a port of SCTP needs root").hint("an ordinary user publishes tcp and udp"));
    }
    let text = file::read_kernel(Path::new("/proc/sys/net/ipv4/ip_unprivileged_port_start")).unwrap_or_default();
    let first = text.trim().parse::<u16>().unwrap_or(1024);
    match forwards.iter().map(|forward| forward.host_port).filter(|port| *port < first).min() {
        None => Ok(()),
        Some(port) => Err(Fault::new(Kind::PermissionDenied, format!("port {port} is root's: ordinary users have those from {first} on"))
            .hint(format!("choose one from {first} on, or as root: sysctl net.ipv4.ip_unprivileged_port_start={port}"))),
    }
}

/// Puts a process of an ordinary user's in the place of rules of the host, where his bridges are in the namespace `netns`.
pub fn relay(steps: &mut Vec<Step>, netns: Option<&Path>) {
    let Some(netns) = netns else { return };
    steps.retain(|step| !matches!(step, Step::Sysctl(sysctl) if sysctl.key.ends_with("/route_localnet")));
    for step in steps.iter_mut() {
        if let Step::Publish(publish) = step {
            let (forwards, owner) = (publish.forwards.clone(), publish.owner.clone());
            *step = step::PortRelay { netns: netns.to_path_buf(), forwards, owner }.into();
        }
    }
}

/// The ports of mappings, for an undo: each leads to the first address of its family, or to none that is known.
pub fn forwards_of(asks: &[PortAsk], addresses: &[IpAddr]) -> Vec<Forward> {
    let known = |v4: bool| addresses.iter().copied().find(|address| address.is_ipv4() == v4);
    let targets = [known(true).unwrap_or(IpAddr::from([0; 4])), known(false).unwrap_or(IpAddr::from([0_u16; 8]))];
    let of = |ask: &PortAsk| {
        let (protocol, host, family) = (ask.protocol, ask.host.clone(), ask.host_ip.map(|address| address.is_ipv4()));
        let host_ip = ask.host_ip.filter(|address| !address.is_unspecified());
        let target_port = *ask.container.start();
        let targets = targets.into_iter().filter(move |target| family.is_none_or(|v4| v4 == target.is_ipv4()));
        targets.flat_map(move |target| {
            host.clone().into_iter().flatten().map(move |host_port| Forward { protocol, host_ip, host_port, target, target_port })
        })
    };
    asks.iter().flat_map(of).collect()
}

/// The ports that rkbox itself has published for an attachment, as libcni's cache tells them; those of a plugin bear another mark.
pub fn noted(cached: &Attachment) -> Result<Vec<Forward>> {
    let asked = cached.asked();
    let Some(mappings) = asked.capabilities.get(portmap::CAPABILITY) else { return Ok(Vec::new()) };
    let result = CniResult::from_json(&cached.result).unwrap_or_default();
    let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
    Ok(forwards_of(&portmap::read_mappings(mappings)?, &addresses))
}

/// Picks a free port: the first of a given range, any of the host's range for clients otherwise.
fn pick(ask: &PortAsk, chosen: &[Forward], relayed: bool) -> Result<u16> {
    let range = ask.host.clone().unwrap_or_else(client_ports);
    let count = u32::from(range.end() - range.start()) + 1;
    let first = if ask.host.is_some() { 0 } else { u32::from(u16::from_ne_bytes(proc::random::<2>()?)) % count };
    let (fixed, open): (Vec<&Forward>, Vec<&Forward>) = chosen.iter().partition(|forward| forward.host_port != 0);
    let mut published = Published::open(relayed)?;
    for nth in 0..count {
        let host_port = range.start() + ((first + nth) % count) as u16;
        let mut free = true;
        for forward in open.iter().map(|open| Forward { host_port, ..**open }) {
            free = free && !fixed.iter().any(|other| other.collides_with(&forward));
            free = free && published.find(&forward)?.is_none() && sockets::find_holder(&forward)?.is_none();
        }
        if free {
            return Ok(host_port);
        }
    }
    let message = format!("no port of {}-{} is free for {:?}", range.start(), range.end(), ask.text);
    Err(Fault::new(Kind::ResourceExhausted, message).hint("give a wider range"))
}

/// `ip_local_port_range`.
fn client_ports() -> std::ops::RangeInclusive<u16> {
    let text = file::read_kernel(Path::new("/proc/sys/net/ipv4/ip_local_port_range")).unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<u16>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if first > 0 && first <= last => first..=last,
        _ => 32768..=60999,
    }
}

/// How published ports are led, beside their targets.
#[derive(Clone, Copy, Debug)]
pub struct Ways {
    /// This host reaches them by 127.0.0.1, and the container's neighbours and itself by this host.
    pub snat: bool,
    /// The container sees this host's address instead of the client's.
    pub masq_all: bool,
}

/// The steps that publish ports of a container behind `link` of this host, without a fence.
pub fn steps(link: &IfName, networks: &[IpNetwork], forwards: &[Forward], owner: String, ways: Ways) -> Vec<Step> {
    let mut steps: Vec<Step> = vec![step::PortTable {}.into()];
    let leads_to = |network: &&IpNetwork| forwards.iter().any(|forward| network.ip() == forward.target);
    for subnet in networks.iter().filter(leads_to).map(|network| wiring::subnet_of(*network)).filter(|_| ways.snat || ways.masq_all) {
        steps.push(step::Hairpin { subnet, all: ways.masq_all }.into());
    }
    if ways.snat && forwards.iter().any(Forward::is_on_loopback) {
        steps.push(route_localnet(link).into());
    }
    steps.push(step::Publish { forwards: forwards.to_vec(), owner }.into());
    steps
}

/// What lets an answer to 127.0.0.1 leave by a link; the table of ports keeps all others from using it.
fn route_localnet(link: &IfName) -> step::Sysctl {
    step::Sysctl { key: format!("net/ipv4/conf/{link}/route_localnet"), value: "1".to_owned(), bridge: Some(link.clone()) }
}

/// Says that what a step makes in nftables is not there.
pub fn missing(step: &Step) -> String {
    format!("not in nftables any more: {step}")
}

/// Adds to the steps of an attachment what fences its network, guards its bridge port and publishes its ports, before the link
/// comes up.
///
/// *Errors:* `Unimplemented` for ports on a network without an interface on this host (macvlan).
pub fn secure(attached: &mut Attached, network: &Network, owner: &str, forwards: &[Forward]) -> Result<()> {
    let steps = &mut attached.steps;
    let veth = steps.iter().find_map(|step| if let Step::Veth(veth) = step { Some(veth.clone()) } else { None });
    let at = steps.iter().position(|step| matches!(step, Step::Loopback(_) | Step::Veth(_)));
    if forwards.is_empty() && veth.as_ref().is_none_or(|veth| veth.bridge.is_none()) {
        return Ok(());
    }
    let (Some(veth), Some(at)) = (veth, at) else { return Err(without_link(network)) };
    let Some(bridge) = veth.bridge.clone() else {
        // A link for the container alone: there is no neighbour to fence off.
        let link = veth.host.clone();
        let ways = Ways { snat: true, masq_all: false };
        steps.extend(self::steps(&link, &attached.addresses, forwards, owner.to_owned(), ways));
        return Ok(());
    };
    let guarded = is_guarded(&network.text);
    let masqueraded = steps.iter().find_map(|step| if let Step::NatNetwork(nat) = step { Some(nat.subnets.clone()) } else { None });
    let addresses = steps.iter().find_map(|step| if let Step::Interface(inner) = step { Some(inner.addresses.clone()) } else { None });
    let addresses = addresses.unwrap_or_default();
    let mut more: Vec<Step> = Vec::new();
    if (guarded && masqueraded.is_some()) || !forwards.is_empty() {
        let guard = guarded && masqueraded.is_some();
        let own = || addresses.iter().filter_map(|address| IpNetwork::new(address.network(), address.prefix()).ok()).collect();
        let subnets = masqueraded.unwrap_or_else(own);
        more.push(step::PortTable {}.into());
        more.push(step::Fence { network: network.name.clone(), bridge: bridge.clone(), subnets, guard }.into());
    }
    if forwards.iter().any(Forward::is_on_loopback) {
        more.push(route_localnet(&bridge).into());
    }
    if !forwards.is_empty() {
        more.push(step::Publish { forwards: forwards.to_vec(), owner: owner.to_owned() }.into());
    }
    // A plugin further down the list may give the interface another MAC; one that is another program is not known to do so.
    let mac = CniResult::from_json(&attached.result).unwrap_or_default().interfaces.get(2).and_then(|inner| inner.mac.parse::<Mac>().ok());
    if let (true, false, Some(mac)) = (guarded, addresses.is_empty(), mac) {
        more.push(step::SpoofTable {}.into());
        let addresses = addresses.iter().map(IpNetwork::ip).collect();
        more.push(step::SpoofGuard { port: veth.host.clone(), mac, addresses }.into());
    }
    steps.splice(at..at, more);
    Ok(())
}

fn without_link(network: &Network) -> Fault {
    let message =
        format!("network {} has no interface on this host that leads to its containers, so rkbox cannot publish ports of it", network.name);
    Fault::new(Kind::Unimplemented, message).hint("attach to a network of the bridge or ptp plugin; others reach a macvlan directly")
}

/// `"guard": false` of the bridge plugin leaves the containers open to routers and to each other's addresses, for networks whose
/// pods move or are reached directly. Frames of VLANs have other ways in, which the guard does not know.
fn is_guarded(text: &str) -> bool {
    let Ok(list) = List::parse(text.as_bytes()) else { return true };
    let Some(bridge) = list.plugins.iter().find(|plugin| plugin.kind == "bridge") else { return true };
    let keys = bridge.keys();
    let has_vlans = keys.number("vlan").is_ok_and(|id| id > 0) || keys.array("vlanTrunk").is_ok_and(|trunk| !trunk.is_empty());
    !has_vlans && keys.find("guard").and_then(Value::as_bool).unwrap_or(true)
}

/// The private steps of [`secure`], made again from what is written down of an attachment.
pub fn private_steps(result: &Value, owner: &str, forwards: &[Forward]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    if !forwards.is_empty() {
        steps.push(step::Publish { forwards: forwards.to_vec(), owner: owner.to_owned() }.into());
    }
    let result = CniResult::from_json(result).unwrap_or_default();
    let name = |nth: usize| result.interfaces.get(nth)?.name.parse::<IfName>().ok();
    let mac = |nth: usize| result.interfaces.get(nth)?.mac.parse::<Mac>().ok();
    if let (Some(port), Some(mac)) = (name(1), mac(2)) {
        let addresses = result.ips.iter().map(|ip| ip.address.ip()).collect();
        steps.push(step::SpoofGuard { port, mac, addresses }.into());
    }
    steps
}
