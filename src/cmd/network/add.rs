//! `rkbox net add`.

use clap::Args;

use super::attach::{self, Attached};
use super::{Target, networks};
use crate::cmd::{Context, Format, PlanArgs, carry, output};
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
    let mut made = None;
    let carried = carry::carry(cx, args.plan, &mut timings, |timings| {
        let (plan, attached) = plan(cx, args, timings)?;
        made = Some(attached);
        Ok(plan)
    })?;
    let (Some(carried), Some(attached)) = (carried, made) else { return Ok(0) };
    carried.release();
    print(cx, args, attached)?;
    carry::report(cx, args.plan, timings);
    Ok(0)
}

fn plan(cx: &Context, args: &AddArgs, timings: &mut Timings) -> Result<(Plan, Attached)> {
    let host = &cx.host;
    let target = &args.target;
    let network = networks::find_network(host, Some(&target.network))?;
    let handle = target.handle(host)?;
    if !args.plan.explain {
        finish_interrupted(cx, &handle.box_id())?;
    }
    let netns = target.netns_path(host)?;
    let ask = attach::Attach {
        network: &network,
        owner: &handle.owner,
        ifname: &handle.ifname,
        netns: &netns,
        own_netns: false,
        acting: !args.plan.explain,
        asked: &args.asked.read()?,
    };
    let mut attached = attach::plan_attach(host, &ask)?;
    super::tell(&attached);
    publish::secure(&mut attached, &network, &handle.owner, &[])?;
    let steps = std::mem::take(&mut attached.steps);
    let leases = steps.iter().rposition(|step| matches!(step, crate::step::Step::Lease(_)));
    let mut plan = Plan::new(handle.box_id(), format!("attach {} to {}", target.netns, network.name), steps);
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

fn print(cx: &Context, args: &AddArgs, mut attached: Attached) -> Result<()> {
    if attached.result.is_null() {
        // Another program gave it.
        attached.result = args.target.handle(&cx.host)?.find_cached(&cx.host)?.map(|cached| cached.result).unwrap_or_default();
        let result = CniResult::from_json(&attached.result).unwrap_or_default();
        attached.addresses = result.ips.iter().map(|ip| ip.address).collect();
        attached.gateway = result.ips.iter().find_map(|ip| ip.gateway);
    }
    if cx.format == Format::Json {
        return output::json(&attached.result);
    }
    let via = |is_ipv4: bool| attached.gateway.filter(|gateway| gateway.is_ipv4() == is_ipv4).map(|gateway| format!("  via {gateway}"));
    if attached.addresses.is_empty() {
        output::line(&format!("{}  {}", args.target.network, args.target.ifname));
    }
    for address in &attached.addresses {
        let via = via(address.is_ipv4()).unwrap_or_default();
        output::line(&format!("{}  {}  {address}{via}", args.target.network, args.target.ifname));
    }
    Ok(())
}
