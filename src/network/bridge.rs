//! What the `bridge` plugin takes: a bridge on the host, a veth pair into the sandbox, rules before connectivity.

use ipnetwork::IpNetwork;

use super::addresses;
use super::call::{Call, Planned};
use super::wiring::{self, everywhere, masquerade_steps, routes_to_apply, subnet_of};
use crate::cni::bridge::BridgeConf;
use crate::cni::ranges::default_gateway;
use crate::cni::result::{CniResult, Interface, Metrics, Route};
use crate::fault::Result;
use crate::ids::{IfName, VethNames, veth_names};
use crate::step::{self, Step};
use crate::sys::netlink::Netlink;

/// Plans an ADD.
///
/// *Source:* reference `bridge` `cmdAdd`; the result lists bridge, link on the host, interface in the sandbox.
pub fn plan_add(call: &Call<'_>, conf: &BridgeConf, given: Option<CniResult>) -> Result<Planned> {
    let names = veth_names(call.network, call.owner, call.ifname);
    let assigned = addresses::assign(call, &conf.ipam, given)?;
    let result = describe(call, conf, assigned.result, &names)?;
    let mut steps = assigned.steps;
    steps.extend(host_steps(call, conf, &result)?);
    if call.lo && (!call.own_netns || conf.disable_interface) {
        // Before the veth, so that its undo comes after the pair is gone: only then is nobody left who needs lo.
        steps.push(step::Loopback { netns: call.netns.to_path_buf(), own_netns: call.own_netns }.into());
    }
    let inner_mac = conf.mac.unwrap_or(names.inner_mac);
    if conf.mac_spoof_check && !call.lo {
        // A runtime of rkbox guards every port anyway; as a plugin it does when it is told to.
        let addresses = result.ips.iter().map(|ip| ip.address.ip()).collect();
        steps.push(step::SpoofTable {}.into());
        steps.push(step::SpoofGuard { port: names.host.clone(), mac: inner_mac, addresses }.into());
    }
    let veth = wiring::veth(call, VethNames { inner_mac, ..names });
    let bridge = Some(conf.bridge.clone());
    steps.push(step::Veth { bridge, mtu: conf.mtu, hairpin: conf.hairpin, isolated: conf.isolated, ..veth }.into());
    if !conf.disable_interface {
        steps.push(
            step::Interface {
                netns: call.netns.to_path_buf(),
                ifname: call.ifname.clone(),
                addresses: result.ips.iter().map(|ip| ip.address).collect(),
                dad: conf.dad,
                bare: false,
                routes: routes_to_apply(&result),
                loopback: call.own_netns,
            }
            .into(),
        );
    }
    Ok(Planned { steps, lock: assigned.lock, result, notes: assigned.notes })
}

/// The private steps of an attachment.
pub fn plan_del(call: &Call<'_>, conf: &BridgeConf, previous: Option<&CniResult>) -> Result<Vec<Step>> {
    let mut steps = addresses::leases(call, &conf.ipam)?;
    if conf.ip_masq {
        steps.extend(wiring::masquerades(call, &wiring::known_addresses(&steps, previous)));
    }
    let names = wiring::told_names(call, previous, 1);
    if conf.mac_spoof_check {
        let addresses = wiring::known_addresses(&steps, previous);
        steps.push(step::SpoofGuard { port: names.host.clone(), mac: names.inner_mac, addresses }.into());
    }
    steps.push(step::Veth { bridge: Some(conf.bridge.clone()), ..wiring::veth(call, names) }.into());
    Ok(steps)
}

/// What the host gets: the bridge, gateway addresses on it, forwarding, masquerade.
fn host_steps(call: &Call<'_>, conf: &BridgeConf, result: &CniResult) -> Result<Vec<Step>> {
    let mut gateways: Vec<IpNetwork> = Vec::new();
    if conf.is_gateway {
        for ip in &result.ips {
            let address = ip.gateway.and_then(|gateway| IpNetwork::new(gateway, ip.address.prefix()).ok());
            gateways.extend(address.filter(|address| !gateways.contains(address)));
        }
    }
    let mut steps: Vec<Step> = vec![step::Bridge { name: conf.bridge.clone(), mtu: conf.mtu, promisc: conf.promisc }.into()];
    let gateway = |&address: &IpNetwork| step::Gateway { bridge: conf.bridge.clone(), address, force: conf.force_address }.into();
    steps.extend(gateways.iter().map(gateway));
    steps.extend(wiring::forwarding(gateways.iter(), Some(&conf.bridge)));
    if conf.ip_masq {
        let subnets = result.ips.iter().map(|ip| subnet_of(ip.address));
        steps.extend(masquerade_steps(call, subnets.collect(), &result.ips));
    }
    Ok(steps)
}

/// The MAC that a bridge has or will have; what stands under its name is looked at again by its step.
fn bridge_mac(name: &IfName) -> Result<String> {
    let found = Netlink::open()?.find_link(name.as_ref())?.and_then(|link| link.mac);
    Ok(found.unwrap_or_else(|| step::bridge::bridge_mac(name)).to_string())
}

/// The result: what IPAM gave, gateways and default routes filled in.
///
/// *Source:* reference `bridge` `calcGateways`.
fn describe(call: &Call<'_>, conf: &BridgeConf, ipam: CniResult, names: &VethNames) -> Result<CniResult> {
    let inner_mac = conf.mac.unwrap_or(names.inner_mac).to_string();
    let on_host = |name: String, mac: String| Interface { name, mac, ..Interface::default() };
    let interfaces = vec![
        on_host(conf.bridge.to_string(), bridge_mac(&conf.bridge)?),
        on_host(names.host.to_string(), names.host_mac.to_string()),
        wiring::inner(call, inner_mac),
    ];
    let mut result = CniResult { interfaces, ..ipam };
    for ip in &mut result.ips {
        ip.interface = Some(2);
        if conf.is_gateway && ip.gateway.is_none() {
            ip.gateway = Some(default_gateway(ip.address));
        }
    }
    for ip in result.ips.clone().iter().filter(|_| conf.is_default_gateway) {
        let dst = everywhere(ip.address);
        if !result.routes.iter().any(|route| route.dst == dst && route.gw.is_some()) {
            result.routes.push(Route { dst, gw: ip.gateway, metrics: Metrics::default() });
        }
    }
    if !conf.dns.is_empty() {
        result.dns = conf.dns.clone();
    }
    Ok(result)
}
