//! The networks of one box: each `--net` is one interface.

use std::net::IpAddr;
use std::path::Path;

use super::{asked, attach, detach, networks};
use crate::cmd::{Context, publish};
use crate::cni::inject::Asked;
use crate::cni::ports::PortAsk;
use crate::fault::{Context as _, Fault, Result};
use crate::ids::{IfName, NetworkName};
use crate::network::networks::Network;
use crate::plan::{self, Plan};
use crate::ports::Forward;
use crate::record::Attachment;
use crate::step::pool::Hold;
use crate::step::{Loopback, Step};
use crate::sys::Host;

/// One `--net`.
///
/// *Shape:* `NAME`, or `NAME:ip=10.88.0.7,mac=02:00:00:00:00:07,ifname=eth1`.
#[derive(Clone, Debug)]
pub struct Wish {
    network: Option<NetworkName>,
    ifname: Option<IfName>,
    asked: Asked,
}

/// Reads one `--net`; the empty text is the default network.
pub fn read(text: &str) -> Result<Wish> {
    let (name, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut ips, mut mac, mut ifname) = (Vec::new(), None, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("ip", value)) => ips.push(value.to_owned()),
            Some(("mac", value)) => mac = Some(value),
            Some(("ifname" | "interface_name", value)) => ifname = Some(value.parse()?),
            _ => return Err(Fault::invalid(format!("{option:?} of --net {text} is not known")).hint("use ip=, mac= and ifname=")),
        }
    }
    let mut wish = Wish { network: None, ifname, asked: Asked::default() };
    if !name.is_empty() {
        wish.network = Some(name.parse()?);
    }
    asked::note(&mut wish.asked.capabilities, &ips, mac)?;
    Ok(wish)
}

/// For whom the networks are.
#[derive(Clone, Copy, Debug)]
pub struct Box<'a> {
    /// CNI container id.
    pub owner: &'a str,
    /// The namespace, made by the same plan.
    pub netns: &'a Path,
    /// False for `--explain`.
    pub acting: bool,
}

/// What all the attachments of a box take.
#[derive(Debug, Default)]
pub struct Several {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The pools, to be held until the steps are done.
    pub locks: Vec<Hold>,
    /// The attachments, for the record.
    pub attachments: Vec<Attachment>,
}

/// One interface of a box.
struct Interface<'a> {
    network: Network,
    ifname: IfName,
    asked: &'a Asked,
    preferred: Vec<IpAddr>,
}

/// Plans the attachments of a box: eth0, eth1 … where no other name is asked. The first one's default route wins.
///
/// *Errors:* one network twice, one interface twice. Locks are taken in the order of the networks' names, so that two commands
/// cannot wait for each other.
pub fn plan(cx: &Context, wishes: &[Wish], of: Box<'_>, ports: (&[PortAsk], bool)) -> Result<Several> {
    let mut found: Vec<Interface<'_>> = Vec::new();
    for (nth, wish) in wishes.iter().enumerate() {
        let network = networks::find_network(&cx.host, wish.network.as_ref())?;
        let ifname = wish.ifname.clone().map_or_else(|| format!("eth{nth}").parse(), Ok)?;
        if found.iter().any(|other| other.network.name == network.name) {
            return Err(Fault::invalid(format!("network {} is named twice", network.name)));
        }
        if found.iter().any(|other| other.ifname == ifname) {
            return Err(Fault::invalid(format!("two networks want interface {ifname}")).hint("name one of them: --net NETWORK:ifname=NAME"));
        }
        found.push(Interface { network, ifname, asked: &wish.asked, preferred: Vec::new() });
    }
    // Ports lead to the first network alone: an address of the host cannot lead to two.
    attach_all(cx, found, of, |nth| if nth == 0 { ports } else { (&[][..], false) })
}

/// Plans the network of a box once more, after a reboot: what was asked then, and the addresses of then where they are free. One that
/// was attached to nothing gets its lo.
pub fn plan_again(cx: &Context, before: &[Former], of: Box<'_>) -> Result<Several> {
    if before.is_empty() {
        let lo = Loopback { netns: of.netns.to_path_buf(), own_netns: true };
        return Ok(Several { steps: vec![lo.into()], ..Several::default() });
    }
    let mut found = Vec::new();
    for former in before {
        let network = networks::find_network(&cx.host, Some(&former.attachment.network.parse()?))?;
        let (ifname, preferred) = (former.attachment.ifname.parse()?, former.addresses.clone());
        found.push(Interface { network, ifname, asked: &former.asked, preferred });
    }
    let asks = before.iter().map(|former| publish::asks(&former.attachment.ports)).collect::<Result<Vec<_>>>()?;
    attach_all(cx, found, of, |nth| (asks[nth].as_slice(), false))
}

fn attach_all<'p>(cx: &Context, found: Vec<Interface<'_>>, of: Box<'_>, ports: impl Fn(usize) -> (&'p [PortAsk], bool)) -> Result<Several> {
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by(|a, b| found[*a].network.name.as_ref().cmp(found[*b].network.name.as_ref()));
    let mut planned: Vec<Option<(attach::Attached, Vec<Forward>)>> = found.iter().map(|_| None).collect();
    for at in order {
        let Interface { network, ifname, asked, preferred } = &found[at];
        let (owner, netns) = (of.owner, of.netns);
        let wanted = publish::hand_over(network, asked, ports(at))?;
        let (asked, published) = (&wanted.asked, None);
        let ask = attach::Attach { network, owner, ifname, netns, own_netns: true, acting: of.acting, asked, published, preferred };
        let mut attached = attach::plan_attach(&cx.host, &ask).doing(|| format!("planning network {}", network.name))?;
        super::tell(&attached);
        let forwards = publish::secure(cx, network, &mut attached, of.owner, &wanted)?;
        planned[at] = Some((attached, forwards));
    }
    let mut several = Several::default();
    for (nth, (interface, (mut attached, ports))) in found.iter().zip(planned.into_iter().flatten()).enumerate() {
        yield_default_routes(&mut attached.steps, nth);
        several.steps.append(&mut attached.steps);
        several.locks.extend(attached.lock);
        several.attachments.push(Attachment {
            network: interface.network.name.to_string(),
            ifname: interface.ifname.to_string(),
            owner: of.owner.to_owned(),
            addresses: attached.addresses,
            gateway: attached.gateway,
            result: attached.result,
            ports,
        });
    }
    Ok(several)
}

/// An attachment of a former boot.
#[derive(Clone, Debug)]
pub struct Former {
    /// As it was recorded.
    pub attachment: Attachment,
    /// What was asked beside the configuration.
    pub asked: Asked,
    /// The addresses that it held to the last.
    pub addresses: Vec<IpAddr>,
}

/// Takes the attachments of a former boot back: leases and cache entries. Answers what is needed to make them again.
pub fn release_former(host: &Host, attachments: &[Attachment], netns: Option<&Path>) -> Result<Vec<Former>> {
    let (former, plans) = former_of(host, attachments, netns)?;
    plans.into_iter().try_for_each(|plan| plan::unwind_plan(plan, host))?;
    Ok(former)
}

/// What is needed to make the attachments of a former boot again, and the plans whose undo takes them back.
pub fn former_of(host: &Host, attachments: &[Attachment], netns: Option<&Path>) -> Result<(Vec<Former>, Vec<Plan>)> {
    let (mut former, mut plans) = (Vec::new(), Vec::new());
    for attachment in attachments {
        let asked = detach::handle_of(attachment)?.find_cached(host)?.map(|cached| cached.asked()).unwrap_or_default();
        let steps = detach::steps_of(host, attachment, netns)?;
        let leased = steps.iter().filter_map(|step| if let Step::Lease(lease) = step { Some(lease.address) } else { None });
        let mut addresses: Vec<IpAddr> = leased.collect();
        if addresses.is_empty() {
            addresses = attachment.addresses.iter().map(ipnetwork::IpNetwork::ip).collect();
        }
        plans.push(Plan::new(&attachment.owner, "take back an attachment of a former boot", steps));
        former.push(Former { attachment: attachment.clone(), asked, addresses });
    }
    Ok((former, plans))
}

/// Lets default routes give way to the `nth` that there are already: they are there for when those go.
pub fn yield_default_routes(steps: &mut [Step], nth: usize) {
    let interfaces = steps.iter_mut().filter_map(|step| if let Step::Interface(interface) = step { Some(interface) } else { None });
    for interface in interfaces.filter(|_| nth > 0) {
        for route in interface.routes.iter_mut().filter(|route| route.dst.prefix() == 0 && route.metrics.priority == 0) {
            route.metrics.priority = 2000 + u32::try_from(nth).unwrap_or(0);
        }
    }
}
