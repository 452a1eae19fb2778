//! What the `macvlan` plugin takes: an interface of its own on a link of the host.

use super::addresses;
use super::call::{Call, Planned};
use super::wiring::{self, routes_to_apply};
use crate::cni::macvlan::{MacvlanConf, Mode};
use crate::cni::result::CniResult;
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, veth_names};
use crate::step::{self, Step};
use crate::sys::netlink::{Link, Netlink};

/// Plans an ADD.
///
/// *Source:* reference `macvlan` `cmdAdd`: the master of the default route when none is named; its MTU when none is asked.
pub fn plan_add(call: &Call<'_>, conf: &MacvlanConf, given: Option<CniResult>) -> Result<Planned> {
    let master = find_master(call, conf)?;
    if conf.mtu.is_some_and(|mtu| mtu > master.mtu) {
        return Err(Fault::invalid(format!("invalid MTU {}, must be [0, master MTU({})]", conf.mtu.unwrap_or(0), master.mtu)));
    }
    let assigned = addresses::assign(call, &conf.ipam, given)?;
    // In passthru mode the interface has the MAC of the master, which would change with it.
    let derived = veth_names(call.network, call.owner, call.ifname).inner_mac;
    let mac = conf.mac.or_else(|| (conf.mode != Mode::Passthru).then_some(derived));
    let shown = mac.or(master.mac).map_or(String::new(), |mac| mac.to_string());
    let mut result = CniResult { interfaces: vec![wiring::inner(call, shown)], ..assigned.result };
    result.ips.iter_mut().for_each(|ip| ip.interface = Some(0));
    if !conf.dns.is_empty() {
        result.dns = conf.dns.clone();
    }
    let mut steps = assigned.steps;
    if call.lo && !call.own_netns {
        steps.push(step::Loopback { netns: call.netns.to_path_buf(), own_netns: false }.into());
    }
    let macvlan = step::Macvlan {
        name: call.ifname.clone(),
        master: name_of(&master)?,
        inside: conf.inside,
        mode: conf.mode,
        mac,
        mtu: conf.mtu,
        netns: call.netns.to_path_buf(),
        own_netns: call.own_netns,
    };
    steps.push(macvlan.into());
    let interface = step::Interface {
        netns: call.netns.to_path_buf(),
        ifname: call.ifname.clone(),
        addresses: result.ips.iter().map(|ip| ip.address).collect(),
        dad: false,
        bare: false,
        routes: routes_to_apply(&result),
        loopback: call.own_netns,
    };
    steps.push(interface.into());
    Ok(Planned { steps, lock: assigned.lock, result, notes: assigned.notes })
}

/// The private steps of an attachment.
pub fn plan_del(call: &Call<'_>, conf: &MacvlanConf, previous: Option<&CniResult>) -> Result<Vec<Step>> {
    let mut steps = addresses::leases(call, &conf.ipam)?;
    let told = previous.and_then(|result| result.interfaces.first()).and_then(|interface| interface.mac.parse().ok());
    let mac = told.or(conf.mac).unwrap_or(veth_names(call.network, call.owner, call.ifname).inner_mac);
    let master = conf.master.clone().map_or_else(|| "lo".parse::<IfName>(), Ok)?;
    steps.push(
        step::Macvlan {
            name: call.ifname.clone(),
            master,
            inside: conf.inside,
            mode: conf.mode,
            mac: Some(mac),
            mtu: conf.mtu,
            netns: call.netns.to_path_buf(),
            own_netns: call.own_netns,
        }
        .into(),
    );
    Ok(steps)
}

fn name_of(link: &Link) -> Result<IfName> {
    link.name.parse()
}

fn find_master(call: &Call<'_>, conf: &MacvlanConf) -> Result<Link> {
    let find = |netlink: &mut Netlink| -> Result<Link> {
        let Some(name) = &conf.master else {
            let default = netlink.routes()?.into_iter().find(|route| route.dst.prefix() == 0).and_then(|route| route.index);
            let links = netlink.links()?;
            let found = default.and_then(|index| links.into_iter().find(|link| link.index == index));
            return found.ok_or_else(|| {
                Fault::new(Kind::FailedPrecondition, "no default route interface found").hint("say which link carries it: \"master\"")
            });
        };
        netlink.find_link(name.as_ref())?.ok_or_else(|| {
            Fault::not_found(format!("failed to lookup master {name:?}: Link not found", name = name.as_ref()))
                .hint("ip link show lists links")
        })
    };
    if conf.inside {
        if call.own_netns {
            return Err(Fault::invalid("\"linkInContainer\" needs a master in the sandbox, which is not made yet"));
        }
        return find(&mut *Netlink::open_in(call.netns)?);
    }
    find(&mut Netlink::open()?)
}
