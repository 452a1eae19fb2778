//! What the plugins that make interfaces have in common: pairs, forwarding, masquerade, routes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::call::Call;
use crate::cni::result::{CniResult, Interface, Ip};
use crate::ids::{IfName, Mac, VethNames, veth_names};
use crate::step::{self, Step};

/// A veth pair under `names`, without a bridge.
pub fn veth(call: &Call<'_>, names: VethNames) -> step::Veth {
    step::Veth {
        host: names.host,
        host_mac: names.host_mac,
        inner: call.ifname.clone(),
        inner_mac: names.inner_mac,
        netns: call.netns.to_path_buf(),
        bridge: None,
        mtu: None,
        hairpin: false,
        isolated: false,
        own_netns: call.own_netns,
    }
}

/// The names of a pair as a result tells them, the link on the host at `host` and the one inside after it; ours when it tells
/// nothing (below 0.3.0, or there is no result).
pub fn told_names(call: &Call<'_>, previous: Option<&CniResult>, host: usize) -> VethNames {
    let ours = veth_names(call.network, call.owner, call.ifname);
    let told = |nth: usize| {
        let interface = previous?.interfaces.get(nth)?;
        Some((interface.name.parse::<IfName>().ok()?, interface.mac.parse::<Mac>().ok()?))
    };
    let (name, host_mac) = told(host).unwrap_or((ours.host, ours.host_mac));
    let inner_mac = told(host + 1).map_or(ours.inner_mac, |(_, mac)| mac);
    VethNames { host: name, host_mac, inner_mac }
}

/// The interface in the sandbox, as a result tells it.
pub fn inner(call: &Call<'_>, mac: String) -> Interface {
    Interface { name: call.ifname.to_string(), mac, sandbox: call.netns.to_string_lossy().into_owned(), ..Interface::default() }
}

/// The subnet of an address.
pub fn subnet_of(address: IpNetwork) -> IpNetwork {
    IpNetwork::new(address.network(), address.prefix()).unwrap_or(address)
}

/// All addresses of the family of `address`.
pub fn everywhere(address: IpNetwork) -> IpNetwork {
    match address {
        IpNetwork::V4(_) => IpNetwork::V4(std::net::Ipv4Addr::UNSPECIFIED.into()).with_prefix(0),
        IpNetwork::V6(_) => IpNetwork::V6(std::net::Ipv6Addr::UNSPECIFIED.into()).with_prefix(0),
    }
}

trait WithPrefix {
    fn with_prefix(self, prefix: u8) -> IpNetwork;
}

impl WithPrefix for IpNetwork {
    fn with_prefix(self, prefix: u8) -> IpNetwork {
        IpNetwork::new(self.ip(), prefix).unwrap_or(self)
    }
}

/// Forwarding for the families of `gateways`.
pub fn forwarding<'a>(gateways: impl Iterator<Item = &'a IpNetwork> + Clone, bridge: Option<&IfName>) -> Vec<Step> {
    let keys = [
        ("net/ipv4/ip_forward", gateways.clone().any(IpNetwork::is_ipv4)),
        ("net/ipv6/conf/all/forwarding", gateways.clone().any(IpNetwork::is_ipv6)),
    ];
    let sysctl = |key: &str| step::Sysctl { key: key.to_owned(), value: "1".to_owned(), bridge: bridge.cloned() }.into();
    keys.into_iter().filter(|(_, wanted)| *wanted).map(|(key, _)| sysctl(key)).collect()
}

/// What masquerading the addresses of a result takes, towards all but `subnets`.
pub fn masquerade_steps(call: &Call<'_>, subnets: Vec<IpNetwork>, ips: &[Ip]) -> Vec<Step> {
    if ips.is_empty() {
        return Vec::new();
    }
    let mut each: Vec<IpNetwork> = Vec::new();
    for subnet in subnets {
        if !each.contains(&subnet) {
            each.push(subnet);
        }
    }
    let mut steps: Vec<Step> = vec![step::NatTable {}.into(), step::NatNetwork { network: call.network.clone(), subnets: each }.into()];
    let addresses: Vec<IpAddr> = ips.iter().map(|ip| ip.address.ip()).collect();
    steps.extend(masquerades(call, &addresses));
    steps
}

/// The masquerade of each address.
pub fn masquerades(call: &Call<'_>, addresses: &[IpAddr]) -> Vec<Step> {
    let step = |&address: &IpAddr| step::Masquerade { network: call.network.clone(), address, owner: call.owner.to_owned() }.into();
    addresses.iter().map(step).collect()
}

/// The addresses that an attachment has: those of its result, else those of its leases.
pub fn known_addresses(leases: &[Step], previous: Option<&CniResult>) -> Vec<IpAddr> {
    match previous {
        Some(result) if !result.ips.is_empty() => result.ips.iter().map(|ip| ip.address.ip()).collect(),
        _ => leases.iter().filter_map(|step| if let Step::Lease(lease) = step { Some(lease.address) } else { None }).collect(),
    }
}

/// Routes without a next hop get the first gateway of their family, as the reference plugins apply them; what that makes equal is one.
pub fn routes_to_apply(result: &CniResult) -> Vec<step::interface::Route> {
    let gateway = |is_ipv4: bool| result.ips.iter().filter(|ip| ip.address.is_ipv4() == is_ipv4).find_map(|ip| ip.gateway);
    let mut routes: Vec<step::interface::Route> = Vec::new();
    for route in &result.routes {
        let gw = route.gw.or_else(|| gateway(route.dst.is_ipv4()));
        let route = step::interface::Route { metrics: route.metrics, ..step::interface::Route::new(route.dst, gw) };
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes
}
