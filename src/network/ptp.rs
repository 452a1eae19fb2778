//! What the `ptp` plugin takes: a veth pair without a bridge, the gateway's address on its host end, routes on both ends.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::addresses;
use super::call::{Call, Planned};
use super::wiring::{self, masquerade_steps, routes_to_apply, subnet_of};
use crate::cni::ptp::PtpConf;
use crate::cni::result::{CniResult, Interface};
use crate::fault::{Fault, Result};
use crate::ids::veth_names;
use crate::step::interface::Route;
use crate::step::{self, Step};

/// Plans an ADD.
///
/// *Source:* reference `ptp` `cmdAdd`: the sandbox reaches its own subnet too by way of the host; the result lists the link on the
/// host, then the interface in the sandbox.
pub fn plan_add(call: &Call<'_>, conf: &PtpConf, given: Option<CniResult>) -> Result<Planned> {
    let names = veth_names(call.network, call.owner, call.ifname);
    let assigned = addresses::assign(call, &conf.ipam, given)?;
    let on_host = Interface { name: names.host.to_string(), mac: names.host_mac.to_string(), ..Interface::default() };
    let interfaces = vec![on_host, wiring::inner(call, names.inner_mac.to_string())];
    let mut result = CniResult { interfaces, ..assigned.result };
    if result.ips.is_empty() {
        return Err(Fault::invalid("IPAM plugin returned missing IP config"));
    }
    let mut routes = Vec::new();
    let mut ends = Vec::new();
    for ip in &mut result.ips {
        ip.interface = Some(1);
        let gateway = ip.gateway.ok_or_else(|| Fault::invalid(format!("ptp needs a gateway for {}", ip.address)))?;
        // The kernel refuses an IPv6 source that it has not made its own yet, and has no other to choose from anyway.
        let src = Some(ip.address.ip()).filter(IpAddr::is_ipv4);
        routes.push(Route { src, ..Route::new(IpNetwork::from(gateway), None) });
        routes.push(Route { src, ..Route::new(subnet_of(ip.address), Some(gateway)) });
        ends.push((gateway, ip.address.ip()));
    }
    for route in routes_to_apply(&result) {
        if !routes.iter().any(|known| known.dst == route.dst && known.gw == route.gw) {
            routes.push(route);
        }
    }
    if !conf.dns.is_empty() {
        result.dns = conf.dns.clone();
    }
    let mut steps = assigned.steps;
    let addresses: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
    steps.extend(wiring::forwarding(addresses.iter(), None));
    if conf.ip_masq {
        // Upstream masquerades whatever leaves the address itself, whose "subnet" is all its traffic that is not masqueraded.
        steps.extend(masquerade_steps(call, addresses.iter().map(|address| subnet_of(*address)).collect(), &result.ips));
    }
    if call.lo && !call.own_netns {
        steps.push(step::Loopback { netns: call.netns.to_path_buf(), own_netns: false }.into());
    }
    let host = names.host.clone();
    steps.push(step::Veth { mtu: conf.mtu, ..wiring::veth(call, names) }.into());
    steps.push(step::HostEnd { link: host, ends }.into());
    let interface = step::Interface {
        netns: call.netns.to_path_buf(),
        ifname: call.ifname.clone(),
        addresses,
        dad: false,
        bare: true,
        routes,
        loopback: call.own_netns,
    };
    steps.push(interface.into());
    Ok(Planned { steps, lock: assigned.lock, result, notes: assigned.notes })
}

/// The private steps of an attachment.
pub fn plan_del(call: &Call<'_>, conf: &PtpConf, previous: Option<&CniResult>) -> Result<Vec<Step>> {
    let mut steps = addresses::leases(call, &conf.ipam)?;
    if conf.ip_masq {
        steps.extend(wiring::masquerades(call, &wiring::known_addresses(&steps, previous)));
    }
    steps.push(wiring::veth(call, wiring::told_names(call, previous, 0)).into());
    Ok(steps)
}
