//! `rkbox net add`.

use std::path::Path;

use clap::Args;

use super::attach::{self, Attached};
use super::detach::Handle;
use super::{Target, networks};
use crate::cmd::{Context, Format, PlanArgs, carry, output};
use crate::cni::inject::Asked;
use crate::cni::result::CniResult;
use crate::fault::{Context as _, Result};
use crate::network::publish;
use crate::plan::journal::{self, Journal};
use crate::plan::{Plan, Timings, unwind};

/// Arguments of `rkbox net add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    asked: super::AskedArgs,
    #[command(flatten)]
    plan: PlanArgs,
}

/// Attaches a namespace; prints the CNI result, or one line per address.
pub fn run(cx: &Context, args: &AddArgs) -> Result<u8> {
    let mut timings = Timings::start();
    let (handle, netns) = (args.target.handle(&cx.host)?, args.target.netns_path(&cx.host)?);
    let asked = args.asked.read()?;
    let mut made = None;
    let carried = carry::carry(cx, args.plan, &mut timings, |timings| {
        let what = Attachable { handle: &handle, netns: &netns, asked: &asked, name: &args.target.netns };
        let (plan, attached) = plan_attachment(cx, &what, args.plan.explain, timings)?;
        made = Some(attached);
        Ok(plan)
    })?;
    let (Some(carried), Some(attached)) = (carried, made) else { return Ok(0) };
    carried.release();
    print_attached(cx, &handle, attached)?;
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
    /// What people call it.
    pub name: &'a str,
}

/// Plans the attachment of a namespace that stands.
pub fn plan_attachment(cx: &Context, what: &Attachable<'_>, explain: bool, timings: &mut Timings) -> Result<(Plan, Attached)> {
    let (host, handle) = (&cx.host, what.handle);
    let network = networks::find_network(host, Some(&handle.network))?;
    if !explain {
        finish_interrupted(cx, &handle.box_id())?;
    }
    let ask = attach::Attach {
        network: &network,
        owner: &handle.owner,
        ifname: &handle.ifname,
        netns: what.netns,
        own_netns: false,
        acting: !explain,
        asked: what.asked,
        preferred: &[],
    };
    let mut attached = attach::plan_attach(host, &ask)?;
    super::tell(&attached);
    publish::secure(&mut attached, &network, &handle.owner, &[])?;
    let steps = std::mem::take(&mut attached.steps);
    let leases = steps.iter().rposition(|step| matches!(step, crate::step::Step::Lease(_)));
    let mut plan = Plan::new(handle.box_id(), format!("attach {} to {}", what.name, network.name), steps);
    if let (Some(lock), Some(index)) = (attached.lock.take(), leases) {
        timings.waited(lock.waited());
        plan = plan.release_after(index, lock);
    }
    Ok((plan, attached))
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
