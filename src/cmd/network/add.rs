//! `rkbox net add`.

use std::path::Path;

use clap::Args;

use super::attach::{self, Attached};
use super::detach::Handle;
use super::{Target, networks};
use crate::cmd::publish::{self, PortArgs};
use crate::cmd::{Context, Format, PlanArgs, carry, output};
use crate::cni::inject::Asked;
use crate::cni::portmap::CAPABILITY;
use crate::cni::ports::PortAsk;
use crate::cni::result::CniResult;
use crate::fault::{Context as _, Fault, Result};
use crate::plan::journal::{self, Journal};
use crate::plan::{Plan, Timings, unwind};
use crate::ports::Forward;

/// Arguments of `rkbox net add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    asked: super::AskedArgs,
    #[command(flatten)]
    ports: PortArgs,
    #[command(flatten)]
    plan: PlanArgs,
}

/// Attaches a namespace; prints the CNI result, or one line per address and one of its ports.
pub fn run(cx: &Context, args: &AddArgs) -> Result<u8> {
    let mut timings = Timings::start();
    let (handle, netns) = (args.target.handle(&cx.host)?, args.target.netns_path(&cx.host)?);
    let asked = args.asked.read()?;
    if !args.ports.publish.is_empty() && asked.capabilities.contains_key(CAPABILITY) {
        return Err(Fault::invalid(format!("ports are asked for twice: by -p and by {CAPABILITY} of --cap-args")).hint("use one of them"));
    }
    let mut made = None;
    let carried = carry::carry(cx, args.plan, &mut timings, |timings| {
        let ports = (args.ports.publish.as_slice(), args.ports.force_publish);
        let what = Attachable { handle: &handle, netns: &netns, asked: &asked, ports, name: &args.target.netns };
        let (plan, attached, forwards) = plan_attachment(cx, &what, args.plan.explain, timings)?;
        made = Some((attached, forwards));
        Ok(plan)
    })?;
    let (Some(carried), Some((attached, forwards))) = (carried, made) else { return Ok(0) };
    carried.release();
    print_attached(cx, &handle, attached)?;
    print_ports(cx, &handle, &forwards);
    carry::report(cx, args.plan, timings);
    Ok(0)
}

/// What is to be attached.
#[derive(Clone, Copy, Debug)]
pub struct Attachable<'a> {
    /// Network, container id and interface.
    pub handle: &'a Handle,
    /// The namespace.
    pub netns: &'a Path,
    /// What is asked beside the configuration.
    pub asked: &'a Asked,
    /// Each `-p`, and whether ports are published although a process holds them.
    pub ports: (&'a [PortAsk], bool),
    /// What people call it.
    pub name: &'a str,
}

/// Plans the attachment of a namespace that stands.
pub fn plan_attachment(
    cx: &Context,
    what: &Attachable<'_>,
    explain: bool,
    timings: &mut Timings,
) -> Result<(Plan, Attached, Vec<Forward>)> {
    let (host, handle) = (&cx.host, what.handle);
    let network = networks::find_network(host, Some(&handle.network))?;
    if !explain {
        finish_interrupted(cx, &handle.box_id())?;
    }
    let mut wanted = publish::hand_over(&network, what.asked, what.ports)?;
    let published = wanted.settle()?;
    let ask = attach::Attach {
        network: &network,
        owner: &handle.owner,
        ifname: &handle.ifname,
        netns: what.netns,
        own_netns: false,
        acting: !explain,
        asked: &wanted.asked,
        published: published.as_ref(),
        preferred: &[],
    };
    let mut attached = attach::plan_attach(host, &ask)?;
    super::tell(&attached);
    let forwards = publish::secure(cx, &network, &mut attached, &handle.owner, &wanted)?;
    let steps = std::mem::take(&mut attached.steps);
    let leases = steps.iter().rposition(|step| matches!(step, crate::step::Step::Lease(_)));
    let mut plan = Plan::new(handle.box_id(), format!("attach {} to {}", what.name, network.name), steps);
    if let (Some(lock), Some(index)) = (attached.lock.take(), leases) {
        timings.waited(lock.waited());
        plan = plan.release_after(index, lock);
    }
    Ok((plan, attached, forwards))
}

/// Takes back what a killed `net add` or `net del` of the same attachment left: it would look like an attachment.
fn finish_interrupted(cx: &Context, box_id: &str) -> Result<()> {
    let Some(left) = Journal::open_free(&journal::path(&cx.host, box_id))? else { return Ok(()) };
    if left.is_blank() {
        return unwind::roll_back_held(left, &cx.host);
    }
    let status = left.status()?;
    match (status.settled, status.removing) {
        (false, _) => unwind::roll_back_held(left, &cx.host),
        (true, Some(_)) => unwind::remove_held(left, &cx.host, 0),
        (true, None) => Ok(()),
    }
    .doing(|| "taking back what an interrupted command left")
}

/// Prints what is published; beside a result, which has no place for it, on standard error.
fn print_ports(cx: &Context, handle: &Handle, forwards: &[Forward]) {
    let shown = publish::shown(forwards);
    match cx.format {
        _ if forwards.is_empty() => {}
        Format::Json => output::note(&format!("rkbox: published {shown}")),
        Format::Table => output::line(&format!("{}  {}  {shown}", handle.network, handle.ifname)),
    }
}

/// Prints what was attached: the result as JSON, or one line per address.
pub fn print_attached(cx: &Context, handle: &Handle, mut attached: Attached) -> Result<()> {
    if attached.result.is_null() {
        // Another program gave it.
        attached.result = handle.find_cached(&cx.host)?.map(|cached| cached.result).unwrap_or_default();
        let result = CniResult::from_json(&attached.result).unwrap_or_default();
        attached.addresses = result.ips.iter().map(|ip| ip.address).collect();
        attached.gateway = result.ips.iter().find_map(|ip| ip.gateway);
    }
    if cx.format == Format::Json {
        return output::json(&attached.result);
    }
    let via = |is_ipv4: bool| attached.gateway.filter(|gateway| gateway.is_ipv4() == is_ipv4).map(|gateway| format!("  via {gateway}"));
    if attached.addresses.is_empty() {
        output::line(&format!("{}  {}", handle.network, handle.ifname));
    }
    for address in &attached.addresses {
        let via = via(address.is_ipv4()).unwrap_or_default();
        output::line(&format!("{}  {}  {address}{via}", handle.network, handle.ifname));
    }
    Ok(())
}
