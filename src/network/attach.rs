//! The planner: what attaching an interface to a network takes, step by step.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::addresses;
use super::call::{self, Call};
use super::foreign;
use super::networks::Network;
use crate::cni::cache;
use crate::cni::config::Member;
use crate::cni::inject::{self, Asked};
use crate::cni::resolv_conf::Dns;
use crate::cni::result::CniResult;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::IfName;
use crate::step::pool::Hold;
use crate::step::{self, Step};
use crate::sys::{Host, file, ns, rootless_netns};

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
    /// What is asked beside the configuration.
    pub asked: &'a Asked,
    /// Port mappings that rkbox publishes itself, for libcni's cache: a removal without a journal reads them there.
    pub published: Option<&'a Value>,
    /// Addresses of before, given again where they are free.
    pub preferred: &'a [IpAddr],
}

/// A planned attachment.
#[derive(Debug, Default)]
pub struct Attached {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The address pool's lock, to be held until the steps are done.
    pub lock: Option<Hold>,
    /// The addresses with their prefixes; not known before the steps are done when another program gives them.
    pub addresses: Vec<IpNetwork>,
    /// The gateway of the first address.
    pub gateway: Option<IpAddr>,
    /// The CNI result, in the network's version; null when it is not known before the steps are done.
    pub result: Value,
    /// Name servers that the network hands out.
    pub dns: Dns,
    /// What people should hear of.
    pub notes: Vec<String>,
}

/// Plans an attachment: the plugins of the list in order. From the first one on that is another program, all are: the result that
/// the next one needs is not known before.
///
/// *Errors:* `NotFound` for a namespace that is not there, `AlreadyExists` for an attachment that is, `ResourceExhausted` for a
/// pool without a free address. *Source:* libcni `AddNetworkList`.
pub fn plan_attach(host: &Host, attach: &Attach<'_>) -> Result<Attached> {
    let mut attached = host.at_bridges(|| plan_here(host, attach))?;
    if let Some(path) = &host.rootless_netns {
        lead_out(path, &mut attached)?;
    }
    Ok(attached)
}

/// Puts before the steps of an attachment what an ordinary user's bridges need: their namespace, and pasta for those with a gateway.
///
/// *Errors:* `Unavailable` without pasta.
fn lead_out(path: &Path, attached: &mut Attached) -> Result<()> {
    let mut before: Vec<Step> = vec![step::RootlessNetns { path: path.to_path_buf() }.into()];
    let leads_out = |step: &Step| matches!(step, Step::Gateway(_) | Step::HostEnd(_) | Step::Plugin(_));
    if attached.steps.iter().any(leads_out) {
        if rootless_netns::has_default_route()? || rootless_netns::has_way_out(path)? {
            before.push(step::Pasta { netns: path.to_path_buf() }.into());
        } else {
            attached.notes.push("this host has no default route, so nothing leads out of the network".to_owned());
        }
    }
    attached.steps.splice(0..0, before);
    Ok(())
}

fn plan_here(host: &Host, attach: &Attach<'_>) -> Result<Attached> {
    refuse_bad_owner(attach.owner)?;
    let cached = cache_path(host, attach);
    if file::exists(&cached)? && !addresses::is_told_again(attach.acting, attach.preferred) {
        return Err(Fault::new(
            Kind::AlreadyExists,
            format!("{} of {} is attached to {} already", attach.ifname, attach.netns.display(), attach.network.name),
        )
        .hint(format!("detach it first: rkbox net del {} {}", attach.network.name, attach.netns.display())));
    }
    if !attach.own_netns {
        refuse_no_namespace(attach.netns)?;
    }
    refuse_undeclared(attach)?;
    let (mut attached, rest, result) = in_process(host, attach).doing(|| format!("network {}", attach.network.name))?;
    let network = attach.network;
    let mut entry = cache::Attachment::new(&network.name, attach.owner, attach.ifname, &network.text);
    entry.netns = attach.netns.to_string_lossy().into_owned();
    entry.note_asked(attach.asked);
    entry.note_published(attach.published);
    attached.steps.push(step::Home { dirs: vec![host.cni_state.join("results")] }.into());
    if rest.is_empty() {
        let result = result.unwrap_or_default();
        attached.result = result.to_json(network.version)?;
        attached.addresses = result.ips.iter().map(|ip| ip.address).collect();
        attached.gateway = result.ips.iter().find_map(|ip| ip.gateway);
        attached.dns = result.dns;
        entry.result = attached.result.clone();
        attached.steps.push(step::File { path: cached, mode: 0o600, content: entry.to_text()?, durable: false, owner: (0, 0) }.into());
        return Ok(attached);
    }
    let chain = foreign::Chain { host, network, owner: attach.owner, ifname: attach.ifname, netns: attach.netns, asked: attach.asked };
    let (steps, last) = chain.plan_add(rest, result.map(|result| result.to_json(network.version)).transpose()?)?;
    attached.steps.extend(steps);
    attached.steps.push(step::CachedResult { path: cached, entry: entry.to_text()?, result: last }.into());
    Ok(attached)
}

/// The built-in plugins at the head of a list, and those that are left for other programs.
fn in_process<'a>(host: &Host, attach: &Attach<'a>) -> Result<(Attached, &'a [Member], Option<CniResult>)> {
    let network = attach.network;
    let call = Call {
        host,
        network: &network.name,
        version: network.version,
        owner: attach.owner,
        ifname: attach.ifname,
        netns: attach.netns,
        own_netns: attach.own_netns,
        lo: true,
        acting: attach.acting,
        preferred: attach.preferred,
    };
    let (mut attached, mut result) = (Attached::default(), None::<CniResult>);
    for (nth, member) in network.members.iter().enumerate() {
        let built_in = member.built_in.as_ref().map(|_| network.told(member, attach.asked)).transpose()?;
        let Some(built_in) = built_in.filter(|built_in| built_in.ipam().is_built_in()) else {
            return Ok((attached, &network.members[nth..], result));
        };
        let planned = call::plan_add(&call, &built_in, result.as_ref(), None)?;
        attached.steps.extend(planned.steps);
        attached.lock = attached.lock.or(planned.lock);
        attached.notes.extend(planned.notes);
        result = Some(planned.result);
    }
    Ok((attached, &[], result))
}

/// Where libcni keeps an attachment.
fn cache_path(host: &Host, attach: &Attach<'_>) -> PathBuf {
    host.cni_state.join("results").join(cache::Attachment::file_name(&attach.network.name, attach.owner, attach.ifname))
}

/// *Source:* libcni `ValidateContainerID`.
fn refuse_bad_owner(owner: &str) -> Result<()> {
    if crate::cni::request::is_container_id(owner) {
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

/// libcni drops what no plugin declares; a limit or an address that is asked for and not given is worse than a refusal.
fn refuse_undeclared(attach: &Attach<'_>) -> Result<()> {
    let plugins = attach.network.members.iter().map(|member| &member.plugin);
    match inject::undeclared(plugins, attach.asked)?.first() {
        None => Ok(()),
        Some(key) => {
            let message = format!("no plugin of network {} declares the capability {key:?}", attach.network.name);
            Err(Fault::new(Kind::FailedPrecondition, message)
                .hint(format!("add \"capabilities\": {{\"{key}\": true}} to the plugin of its list that honours it")))
        }
    }
}
