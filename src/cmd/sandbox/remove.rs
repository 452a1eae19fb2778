//! `rkbox sandbox stop` and `rm`: the journal played backwards, or the plan made again from the record.

use super::{RemoveArgs, steps};
use crate::cmd::network::detach;
use crate::cmd::{Context, carry, container, output, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Id;
use crate::plan::{self, Plan, Timings, explain, journal};
use crate::record::SandboxRecord;
use crate::sys::{Host, file, proc};

/// How far a sandbox is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Down to the record.
    Stop,
    /// Everything.
    All,
}

/// Stops or removes each sandbox named; one that fails does not stop the others.
pub fn run(cx: &Context, args: &RemoveArgs, extent: Extent) -> Result<u8> {
    let mut first: Option<Fault> = None;
    for key in &args.keys {
        let outcome = one(cx, args, key, extent);
        match outcome {
            Ok(()) if !args.plan.explain => output::line(key),
            Ok(()) => {}
            Err(fault) if args.force && fault.kind() == Kind::NotFound => {}
            Err(fault) => {
                first = Some(match first {
                    None => fault,
                    Some(earlier) => earlier.and_also(fault),
                });
            }
        }
    }
    first.map_or(Ok(0), Err)
}

fn one(cx: &Context, args: &RemoveArgs, key: &str, extent: Extent) -> Result<()> {
    let mut timings = Timings::start();
    let id = records::find(&cx.host, records::BoxKind::Sandbox, key)?;
    let inside = container::of_sandbox(&cx.host, &id)?;
    if args.plan.explain {
        return explain_one(cx, &id, extent);
    }
    for member in &inside {
        match (extent, args.force) {
            (Extent::Stop, _) => container::stop(&cx.host, member)?,
            (Extent::All, true) => container::remove(&cx.host, member)?,
            (Extent::All, false) => {
                let fault = Fault::new(
                    Kind::FailedPrecondition,
                    format!("sandbox {key} has {} containers, {} is one", inside.len(), member.short()),
                );
                return Err(fault.hint(format!("remove them first, or all at once: rkbox sandbox rm --force {key}")));
            }
        }
    }
    timings.row("find");
    remove(&cx.host, &id, extent).doing(|| format!("cannot {} sandbox {key}", if extent == Extent::All { "remove" } else { "stop" }))?;
    timings.row("take back");
    carry::report(cx, args.plan, timings);
    Ok(())
}

/// Takes a sandbox back, by its journal where there is one.
pub fn remove(host: &Host, id: &Id, extent: Extent) -> Result<()> {
    if plan::unwind(id.as_str(), host, down_to(host, id, extent)?)? {
        return Ok(());
    }
    let record = records::sandbox(host, id)?;
    let steps = from_record(host, &record)?;
    let mut taken = steps.all;
    if extent == Extent::Stop {
        taken.drain(..steps.stop_at);
    }
    plan::unwind_plan(Plan::new(id.as_str(), "take back a sandbox", taken), host)
}

fn down_to(host: &Host, id: &Id, extent: Extent) -> Result<usize> {
    if extent == Extent::All {
        return Ok(0);
    }
    let Some(status) = journal::read(&journal::path(host, id.as_str()))? else { return Ok(0) };
    let is_record = |step: &crate::step::Step| matches!(step, crate::step::Step::File(file) if file.path.ends_with("record.json"));
    Ok(status.steps.iter().position(is_record).map_or(0, |at| at + 1))
}

/// The plan made again: contents do not matter to an undo.
fn from_record(host: &Host, record: &SandboxRecord) -> Result<steps::Steps> {
    let mut network = Vec::new();
    for attachment in &record.attachments {
        network.extend(detach::steps_of(host, attachment, record.netns.as_deref())?);
    }
    steps::steps(host, record, steps::Texts::default(), network)
}

fn explain_one(cx: &Context, id: &Id, extent: Extent) -> Result<()> {
    let path = journal::path(&cx.host, id.as_str());
    let status =
        journal::read(&path)?.ok_or_else(|| Fault::new(Kind::FailedPrecondition, format!("sandbox {} has no journal", id.short())));
    let script = explain::explain_removal(&format!("remove sandbox {}", id.short()), &status?, down_to(&cx.host, id, extent)?)?;
    carry::show(&script);
    Ok(())
}

/// Frees what sandboxes of a former boot still hold (their addresses); their records stay until removed.
pub fn reclaim(host: &Host) -> Result<Vec<String>> {
    let boot = proc::boot_id()?;
    let mut gone = Vec::new();
    for id in records::ids(host, records::BoxKind::Sandbox)? {
        let Ok(record) = records::sandbox(host, &id) else { continue };
        if record.boot_id == boot || file::exists(&journal::path(host, id.as_str()))? {
            continue;
        }
        let held = record.attachments.iter().map(|attachment| detach::is_held(host, attachment)).collect::<Result<Vec<bool>>>()?;
        if held.contains(&true) {
            remove(host, &id, Extent::Stop)?;
            gone.push(format!("network of sandbox {} of a former boot", record.name));
        }
    }
    Ok(gone)
}
