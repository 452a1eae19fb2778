//! `rkbox net del`: by the journal, by libcni's cache, or by the leases alone; absence is fine.

use std::path::PathBuf;

use clap::Args;

use super::detach::{self, Handle};
use super::{Target, networks};
use crate::cmd::{Context, PlanArgs, carry, output};
use crate::cni::cache::Attachment;
use crate::fault::{Context as _, Result};
use crate::network::publish;
use crate::plan::{self, Plan, Timings, explain, journal};
use crate::script::Script;
use crate::step::{Step, Tenure};
use crate::sys::Host;

/// Arguments of `rkbox net del`.
#[derive(Debug, Args)]
pub struct DelArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    plan: PlanArgs,
}

/// Detaches a namespace, which may be gone already.
pub fn run(cx: &Context, args: &DelArgs) -> Result<u8> {
    let mut timings = Timings::start();
    let host = &cx.host;
    let handle = args.target.handle(host)?;
    let command = format!("detach {} from {}", args.target.netns, handle.network);
    if args.plan.explain {
        return explain_removal(host, &handle, &command);
    }
    let by_journal = plan::unwind(&handle.box_id(), host, 0).doing(|| format!("cannot {command}"))?;
    if !by_journal {
        let steps = written_down(host, &handle)?;
        take_back(host, &handle, &command, steps).doing(|| format!("cannot {command}"))?;
    }
    timings.row("take back");
    output::line(&args.target.netns);
    carry::report(cx, args.plan, timings);
    Ok(0)
}

/// The steps of an attachment that another tool made, or whose journal is gone.
fn written_down(host: &Host, handle: &Handle) -> Result<Vec<Step>> {
    if let Some(cached) = handle.find_cached(host)? {
        return told_by(host, handle, &cached);
    }
    // Without a cache only leases can be left, in the pool that the network has now; without the network, in its usual place.
    let dirs: Vec<PathBuf> = match networks::find_network(host, Some(&handle.network)) {
        Ok(network) => network.pools(host),
        Err(_) => vec![host.pool(handle.network.as_ref())],
    };
    let leases = dirs.iter().map(|dir| detach::lease_steps(host, dir, handle)).collect::<Result<Vec<_>>>()?;
    Ok(leases.into_iter().flatten().collect())
}

/// The private steps of an attachment that libcni's cache tells of, with what rkbox adds to the plugins' work.
pub fn told_by(host: &Host, handle: &Handle, cached: &Attachment) -> Result<Vec<Step>> {
    let ports = publish::noted(cached).doing(|| "reading the cached port mappings")?;
    let mut steps = publish::private_steps(&cached.result, &handle.owner, &ports);
    steps.extend(detach::steps_of_cached(host, handle, cached)?);
    publish::relay(&mut steps, host.rootless_netns.as_deref());
    Ok(steps)
}

/// Takes back steps, and when all are gone the entry that tells of them.
pub fn take_back(host: &Host, handle: &Handle, command: &str, steps: Vec<Step>) -> Result<()> {
    plan::unwind_plan(Plan::new(handle.box_id(), command, steps), host)?;
    if let Some(cached) = handle.find_cached(host)?.filter(|cached| !detach::is_ours(handle, cached)) {
        // Another tool's: its plugins masquerade in iptables.
        if cached.config().is_ok_and(|config| String::from_utf8_lossy(&config).contains("ipMasq")) {
            crate::network::upstream::remove_masquerade(&handle.network, &handle.owner)?;
        }
    }
    plan::unwind_plan(Plan::new(handle.box_id(), command, vec![detach::cache_file(host, handle)]), host)
}

fn explain_removal(host: &Host, handle: &Handle, command: &str) -> Result<u8> {
    if let Some(status) = journal::read(&journal::path(host, &handle.box_id()))? {
        carry::show(&explain::explain_removal(command, &status, 0, host)?);
        return Ok(0);
    }
    let mut script = Script::new();
    script.comment(command);
    let mut steps = vec![detach::cache_file(host, handle)];
    steps.extend(written_down(host, handle)?);
    for step in steps.iter().rev().filter(|step| step.tenure() == Tenure::Private) {
        script.blank();
        script.comment(&format!("undo: {step}"));
        explain::print(step, Some(&step.before_nothing()?), host, &mut script)?;
    }
    carry::show(&script);
    Ok(0)
}
