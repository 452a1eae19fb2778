//! `rkbox sandbox stop` and `rm`: the journal played backwards, or the plan made again from the record.

use std::collections::BTreeSet;

use super::{RemoveArgs, steps};
use crate::cmd::network::{self, detach};
use crate::cmd::salvage::{self, Damage, Unwound};
use crate::cmd::{Context, carry, container, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Id;
use crate::network::publish;
use crate::plan::journal::{self, Journal};
use crate::plan::{self, Plan, Timings, explain};
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
    carry::remove_each(&args.keys, args.force, args.plan, |key| one(cx, args, key, extent))
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
            (Extent::Stop, _) => container::end(&cx.host, member)?,
            (Extent::All, true) => container::remove(&cx.host, member, Damage::Salvage)?,
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
    let damage = if args.force { Damage::Salvage } else { Damage::Refuse };
    remove(&cx.host, &id, extent, damage)
        .map_err(|fault| salvage::point_out(fault, &format!("rkbox sandbox rm --force {key}")))
        .doing(|| format!("cannot {} sandbox {key}", if extent == Extent::All { "remove" } else { "stop" }))?;
    timings.row("take back");
    carry::report(cx, args.plan, timings);
    Ok(())
}

/// Takes a sandbox back, by its journal where there is one.
pub fn remove(host: &Host, id: &Id, extent: Extent, damage: Damage) -> Result<()> {
    network::release(host, id, None)?;
    let by_journal = down_to(host, id, extent).and_then(|down_to| plan::unwind(id.as_str(), host, down_to));
    let held = match salvage::after(host, id, by_journal, damage)? {
        Unwound::Yes if extent == Extent::Stop || !file::exists(&host.sandbox_dir(id.as_str()))? => return Ok(()),
        // Made ready again after a reboot by a command that died before its journal knew of what outlived that.
        Unwound::Yes => None,
        Unwound::No(held) => held,
    };
    let record = records::sandbox(host, id).or_else(|fault| match damage {
        Damage::Salvage if matches!(fault.kind(), Kind::DataLoss | Kind::NotFound) => salvage::sandbox(host, id),
        _ => Err(fault),
    })?;
    let steps = from_record(host, &record)?;
    let mut taken = steps.all;
    if extent == Extent::Stop {
        taken.drain(..steps.stop_at);
    }
    plan::unwind_plan(Plan::new(id.as_str(), "take back a sandbox", taken), host)?;
    held.map_or(Ok(()), Journal::remove)
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
        network.extend(publish::private_steps(&attachment.result, &attachment.owner, &attachment.ports));
        network.extend(detach::steps_of(host, attachment, record.netns.as_deref())?);
    }
    publish::relay(&mut network, host.rootless_netns.as_deref());
    steps::steps(host, record, steps::Texts::default(), network)
}

fn explain_one(cx: &Context, id: &Id, extent: Extent) -> Result<()> {
    let path = journal::path(&cx.host, id.as_str());
    let status =
        journal::read(&path)?.ok_or_else(|| Fault::new(Kind::FailedPrecondition, format!("sandbox {} has no journal", id.short())));
    let script = explain::explain_removal(&format!("remove sandbox {}", id.short()), &status?, down_to(&cx.host, id, extent)?, &cx.host)?;
    carry::show(&script);
    Ok(())
}

/// The sandboxes of which there is something, but neither a record that can be read nor a journal.
///
/// A journal is there before all else of a box and goes after it: without one, nobody is at work.
fn remains(host: &Host) -> Result<BTreeSet<Id>> {
    let mut names = file::list(&host.root.join(records::BoxKind::Sandbox.dir()))?;
    names.extend(file::list(&host.run.join("sandboxes"))?);
    let mut found = BTreeSet::new();
    for id in names.iter().filter_map(|name| name.parse::<Id>().ok()) {
        if records::sandbox(host, &id).is_err() && !file::exists(&journal::path(host, id.as_str()))? {
            found.insert(id);
        }
    }
    Ok(found)
}

/// Frees what sandboxes of a former boot still hold (their addresses), and what is left of those that nothing tells about; records stay.
pub fn reclaim(host: &Host) -> Result<Vec<String>> {
    let boot = proc::boot_id()?;
    let mut gone = Vec::new();
    for id in remains(host)? {
        remove(host, &id, Extent::All, Damage::Salvage)?;
        gone.push(format!("remains of sandbox {}", id.short()));
    }
    for id in records::ids(host, records::BoxKind::Sandbox)? {
        let Ok(record) = records::sandbox(host, &id) else { continue };
        if record.boot_id == boot || file::exists(&journal::path(host, id.as_str()))? {
            continue;
        }
        let held = record.attachments.iter().map(|attachment| detach::is_held(host, attachment)).collect::<Result<Vec<bool>>>()?;
        if held.contains(&true) {
            remove(host, &id, Extent::Stop, Damage::Refuse)?;
            gone.push(format!("network of sandbox {} of a former boot", record.name));
        }
    }
    Ok(gone)
}
