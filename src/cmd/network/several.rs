//! The networks of one box: each `--net` is one interface.

use std::path::Path;

use super::{asked, attach, networks};
use crate::cmd::{Context, publish};
use crate::cni::inject::Asked;
use crate::cni::ports::PortAsk;
use crate::fault::{Context as _, Fault, Result};
use crate::ids::{IfName, NetworkName};
use crate::ports::Forward;
use crate::record::Attachment;
use crate::step::Step;
use crate::step::pool::Hold;

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

/// Plans the attachments of a box: eth0, eth1 … where no other name is asked. The first one's default route wins.
///
/// *Errors:* one network twice, one interface twice. Locks are taken in the order of the networks' names, so that two commands
/// cannot wait for each other.
pub fn plan(cx: &Context, wishes: &[Wish], of: Box<'_>, ports: (&[PortAsk], bool)) -> Result<Several> {
    let host = &cx.host;
    let mut found = Vec::new();
    for (nth, wish) in wishes.iter().enumerate() {
        let network = networks::find_network(host, wish.network.as_ref())?;
        let ifname = wish.ifname.clone().map_or_else(|| format!("eth{nth}").parse(), Ok)?;
        found.push((nth, network, ifname, &wish.asked));
    }
    for (nth, network, ifname, _) in &found {
        if found[..*nth].iter().any(|(_, other, ..)| other.name == network.name) {
            return Err(Fault::invalid(format!("network {} is named twice", network.name)));
        }
        if found[..*nth].iter().any(|(_, _, other, _)| other == ifname) {
            return Err(Fault::invalid(format!("two networks want interface {ifname}")).hint("name one of them: --net NETWORK:ifname=NAME"));
        }
    }
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by(|a, b| found[*a].1.name.as_ref().cmp(found[*b].1.name.as_ref()));
    let mut planned: Vec<Option<(attach::Attached, Vec<Forward>)>> = found.iter().map(|_| None).collect();
    for at in order {
        let (_, network, ifname, asked) = &found[at];
        let ask = attach::Attach { network, owner: of.owner, ifname, netns: of.netns, own_netns: true, acting: of.acting, asked };
        let mut attached = attach::plan_attach(host, &ask).doing(|| format!("planning network {}", network.name))?;
        super::tell(&attached);
        // Ports lead to the first network alone: an address of the host cannot lead to two.
        let ports = if at == 0 { ports } else { (&[][..], false) };
        let forwards = publish::secure(cx, network, &mut attached, of.owner, ports)?;
        planned[at] = Some((attached, forwards));
    }
    let mut several = Several::default();
    for ((nth, network, ifname, _), (mut attached, ports)) in found.iter().zip(planned.into_iter().flatten()) {
        yield_default_routes(&mut attached.steps, *nth);
        several.steps.append(&mut attached.steps);
        several.locks.extend(attached.lock);
        several.attachments.push(Attachment {
            network: network.name.to_string(),
            ifname: ifname.to_string(),
            owner: of.owner.to_owned(),
            addresses: attached.addresses,
            gateway: attached.gateway,
            result: attached.result,
            ports,
        });
    }
    Ok(several)
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
