//! One plugin of one attachment: what CNI hands to it, and what it takes to carry it out.

use std::net::IpAddr;
use std::path::Path;

use super::{bridge, chained, loopback, macvlan, portmap, ptp};
use crate::cni::built_in::BuiltIn;
use crate::cni::result::CniResult;
use crate::cni::version::Version;
use crate::fault::Result;
use crate::ids::{IfName, NetworkName};
use crate::step::Step;
use crate::step::pool::Hold;
use crate::sys::Host;

/// Which interface of which namespace a plugin is called for.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The host.
    pub host: &'a Host,
    /// The network.
    pub network: &'a NetworkName,
    /// The version of its documents.
    pub version: Version,
    /// CNI container id, which owns the lease.
    pub owner: &'a str,
    /// The interface in the namespace.
    pub ifname: &'a IfName,
    /// The namespace.
    pub netns: &'a Path,
    /// Whether an earlier step of the same plan makes the namespace.
    pub own_netns: bool,
    /// Whether lo is set up too: a runtime that calls a plugin does that itself.
    pub lo: bool,
    /// False for `--explain`: no lock is taken and nothing is made.
    pub acting: bool,
    /// Addresses of before, given again where they are free.
    pub preferred: &'a [IpAddr],
}

/// What an ADD takes.
#[derive(Debug, Default)]
pub struct Planned {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The address pool, to be held until the leases are written.
    pub lock: Option<Hold>,
    /// The result, the one of the plugin before included.
    pub result: CniResult,
    /// What people should hear of.
    pub notes: Vec<String>,
}

/// Plans the ADD of a built-in plugin; `given` is what another program has answered that gives its addresses.
pub fn plan_add(call: &Call<'_>, built_in: &BuiltIn, previous: Option<&CniResult>, given: Option<CniResult>) -> Result<Planned> {
    match built_in {
        BuiltIn::Bridge(conf) => bridge::plan_add(call, conf, given),
        BuiltIn::Ptp(conf) => ptp::plan_add(call, conf, given),
        BuiltIn::Macvlan(conf) => macvlan::plan_add(call, conf, given),
        BuiltIn::Loopback => loopback::plan_add(call, previous),
        BuiltIn::Tuning(conf) => chained::plan_tuning(call, conf, previous),
        BuiltIn::Bandwidth(conf) => chained::plan_bandwidth(call, *conf, previous),
        BuiltIn::Firewall(conf) => chained::plan_firewall(conf, previous),
        BuiltIn::Portmap(conf) => portmap::plan_add(call, conf, previous),
    }
}

/// The private steps of what an ADD has made, to be undone; `previous` is the result of the whole chain, where it is known.
pub fn plan_del(call: &Call<'_>, built_in: &BuiltIn, previous: Option<&CniResult>) -> Result<Vec<Step>> {
    match built_in {
        BuiltIn::Bridge(conf) => bridge::plan_del(call, conf, previous),
        BuiltIn::Ptp(conf) => ptp::plan_del(call, conf, previous),
        BuiltIn::Macvlan(conf) => macvlan::plan_del(call, conf, previous),
        BuiltIn::Loopback => Ok(loopback::plan_del(call)),
        BuiltIn::Tuning(conf) => Ok(chained::tuning(call, conf).map(Step::from).into_iter().collect()),
        BuiltIn::Bandwidth(conf) => Ok(vec![chained::bandwidth(call, *conf, "lo".parse()?)?.into()]),
        BuiltIn::Firewall(conf) => {
            let step = previous.map(|previous| chained::firewall(conf, previous)).transpose()?.flatten();
            Ok(step.map(Step::from).into_iter().collect())
        }
        BuiltIn::Portmap(conf) => Ok(portmap::plan_del(call, conf, previous)),
    }
}
