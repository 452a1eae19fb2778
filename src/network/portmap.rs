//! The `portmap` plugin: published ports by nftables, for chains of rkbox itself and of other runtimes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::call::{Call, Planned};
use super::publish::{self, Request, Ways};
use crate::cni::built_in::without_previous;
use crate::cni::portmap::{self, PortmapConf};
use crate::cni::ports;
use crate::cni::result::{CniResult, Ip};
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, NetworkName};
use crate::ports::Forward;
use crate::step::{self, Action as _, Step};
use crate::sys::netlink::{LO, Netlink};
use crate::sys::nft::Nft;
use crate::sys::rootless;

/// What publishing takes; the result is the one of the plugin before.
///
/// *Errors:* `InvalidArgument` without a plugin before, or for a port of a family that the container lacks; `AlreadyExists` for a port
/// that is taken; `Unimplemented` where no interface of this host leads to the container. *Source:* reference `portmap` `cmdAdd`.
pub fn plan_add(call: &Call<'_>, conf: &PortmapConf, previous: Option<&CniResult>) -> Result<Planned> {
    let result = previous.cloned().ok_or_else(|| without_previous("portmap"))?;
    if conf.asks.is_empty() {
        return Ok(Planned { result, ..Planned::default() });
    }
    rootless::refuse("publishing a port", "lead one there yourself: rkbox port-forward BOX PORT; or --net host")?;
    let networks = networks_of(call, &result);
    let link = host_link(call, &result, &networks)?;
    let addresses: Vec<IpAddr> = networks.iter().map(IpNetwork::ip).collect();
    let name_of = |mark: &str| portmap::owner_of(mark).to_owned();
    let request =
        Request { asks: &conf.asks, addresses: &addresses, force: conf.force, holder: Some(call.owner), relayed: false, name_of: &name_of };
    let forwards = publish::choose(request)?;
    let steps = publish::steps(&link, &networks, &forwards, mark(call), ways(conf));
    Ok(Planned { steps, result, ..Planned::default() })
}

/// What is taken back: the ports under the mark of this attachment, whatever they lead to; the namespace may be gone.
pub fn plan_del(call: &Call<'_>, conf: &PortmapConf, previous: Option<&CniResult>) -> Vec<Step> {
    let forwards = told_forwards(call, conf, previous);
    if forwards.is_empty() {
        return Vec::new();
    }
    vec![step::Publish { forwards, owner: mark(call) }.into()]
}

/// The ports of a configuration, each at the address that is known or at none.
fn told_forwards(call: &Call<'_>, conf: &PortmapConf, previous: Option<&CniResult>) -> Vec<Forward> {
    let networks = previous.map(|result| networks_of(call, result)).unwrap_or_default();
    publish::forwards_of(&conf.asks, &networks.iter().map(IpNetwork::ip).collect::<Vec<_>>())
}

/// Whether any of the ports of a configuration bears the mark of this attachment.
pub fn is_ours(call: &Call<'_>, conf: &PortmapConf) -> Result<bool> {
    Ok(Nft::open()?.is_publisher(&told_forwards(call, conf, None), &mark(call))?)
}

/// What is not as it was made: tables and ports, and what lets this host answer 127.0.0.1.
///
/// *Source:* CHECK of the reference `portmap`, and more.
pub fn differences(call: &Call<'_>, conf: &PortmapConf, result: &CniResult) -> Result<Vec<String>> {
    if conf.asks.is_empty() {
        return Ok(Vec::new());
    }
    let networks = networks_of(call, result);
    let link = host_link(call, result, &networks)?;
    let addresses: Vec<IpAddr> = networks.iter().map(IpNetwork::ip).collect();
    let forwards = ports::wanted(&conf.asks, &addresses, &mut |_, _| Err(Fault::internal("a port mapping without a host port")))?;
    let mut found = Vec::new();
    let mut nft = Nft::open()?;
    for step in publish::steps(&link, &networks, &forwards, mark(call), ways(conf)) {
        match (step.piece(), &step) {
            (Some(piece), _) if !nft.find_missing(std::slice::from_ref(&piece))?.is_empty() => found.push(publish::missing(&step)),
            (None, Step::Sysctl(sysctl)) if !sysctl.already(&sysctl.look(call.host)?) => {
                found.push(format!("{} is not {}", sysctl.key, sysctl.value));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Takes back every port under the mark of this attachment, for a DEL that is not told which they are.
pub fn sweep(call: &Call<'_>) -> Result<()> {
    let wanted = mark(call);
    sweep_marks(call.host, |mark| mark == wanted)
}

/// GC: takes back the ports of a network's attachments that are none of `valid`, pairs of container id and interface.
pub fn gc(host: &crate::sys::Host, network: &NetworkName, valid: &[(String, String)]) -> Result<()> {
    let valid: Vec<String> =
        valid.iter().filter_map(|(owner, ifname)| Some(portmap::mark(network, owner, &ifname.parse().ok()?))).collect();
    sweep_marks(host, |mark| portmap::is_mark_of(mark, network) && !valid.iter().any(|known| known == mark))
}

fn sweep_marks(host: &crate::sys::Host, is_doomed: impl Fn(&str) -> bool) -> Result<()> {
    let mut doomed = Nft::open()?.published()?;
    doomed.retain(|(_, mark)| is_doomed(mark));
    doomed.sort_by(|(_, a), (_, b)| a.cmp(b));
    for same in doomed.chunk_by(|(_, a), (_, b)| a == b) {
        let Some((_, owner)) = same.first() else { continue };
        step::Publish { forwards: same.iter().map(|(forward, _)| *forward).collect(), owner: owner.clone() }.undo(&(), host)?;
    }
    Ok(())
}

fn mark(call: &Call<'_>) -> String {
    portmap::mark(call.network, call.owner, call.ifname)
}

fn ways(conf: &PortmapConf) -> Ways {
    Ways { snat: conf.snat, masq_all: conf.masq_all }
}

/// The first address of each family that is on the interface, or on none that is known.
///
/// *Source:* reference `portmap` `parseConfig`.
fn networks_of(call: &Call<'_>, result: &CniResult) -> Vec<IpNetwork> {
    let is_inside = |ip: &&Ip| match ip.interface.and_then(|nth| result.interfaces.get(nth)) {
        Some(interface) => interface.name == call.ifname.as_ref() && !interface.sandbox.is_empty(),
        None => true,
    };
    let first = |v4: bool| result.ips.iter().filter(is_inside).map(|ip| ip.address).find(|address| address.is_ipv4() == v4);
    first(true).into_iter().chain(first(false)).collect()
}

/// The interface of this host that leads to the container: the first of the result; below 0.3.0, which has none, the one in its subnet.
fn host_link(call: &Call<'_>, result: &CniResult, networks: &[IpNetwork]) -> Result<IfName> {
    if let Some(first) = result.interfaces.iter().find(|interface| interface.sandbox.is_empty()) {
        return first.name.parse();
    }
    if result.interfaces.is_empty() {
        let mut netlink = Netlink::open()?;
        for link in netlink.links()?.iter().filter(|link| link.index != LO) {
            let holds = |own: &IpNetwork| networks.iter().any(|network| own.contains(network.ip()));
            if netlink.addresses(link.index)?.iter().any(holds) {
                return link.name.parse();
            }
        }
    }
    let message =
        format!("portmap: no interface of this host leads to the containers of {}, so their ports cannot be published", call.network);
    Err(Fault::new(Kind::Unimplemented, message)
        .hint("publish ports of networks of the bridge or ptp plugin; others reach a macvlan directly"))
}
