//! `rkbox sandbox stop` and `rm`: the journal played backwards, or the plan made again from the record.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{RemoveArgs, steps};
use crate::cmd::network::detach;
use crate::cmd::{Context, carry, container, output, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Id;
use crate::plan::journal::{self, Journal};
use crate::plan::{self, Plan, Timings, explain};
use crate::record::SandboxRecord;
use crate::step::mount::MountKind;
use crate::step::{Directory, Mount, Namespaces, Reservation, Step};
use crate::sys::{Host, file, proc, runc};

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
    let removed = match remove(&cx.host, &id, extent) {
        Err(fault) if fault.kind() == Kind::DataLoss && extent == Extent::All && args.force => remove_without_journal(&cx.host, &id),
        Err(fault) if fault.kind() == Kind::DataLoss => {
            Err(fault.hint(format!("take it back from its record: rkbox sandbox rm --force {key}")))
        }
        other => other,
    };
    removed.doing(|| format!("cannot {} sandbox {key}", if extent == Extent::All { "remove" } else { "stop" }))?;
    timings.row("take back");
    carry::report(cx, args.plan, timings);
    Ok(())
}

/// Takes a sandbox back, by its journal where there is one.
pub fn remove(host: &Host, id: &Id, extent: Extent) -> Result<()> {
    if plan::unwind(id.as_str(), host, down_to(host, id, extent)?)? {
        return Ok(());
    }
    remove_by_record(host, id, extent)
}

fn remove_by_record(host: &Host, id: &Id, extent: Extent) -> Result<()> {
    let record = records::sandbox(host, id)?;
    let steps = from_record(host, &record)?;
    let mut taken = steps.all;
    if extent == Extent::Stop {
        taken.drain(..steps.stop_at);
    }
    plan::unwind_plan(Plan::new(id.as_str(), "take back a sandbox", taken), host)
}

/// Takes a sandbox back whose journal, record or both cannot be read; what neither tells is found where it always is.
fn remove_without_journal(host: &Host, id: &Id) -> Result<()> {
    let Some(held) = Journal::open(host, id.as_str())? else { return remove_remains(host, id) };
    match remove_by_record(host, id, Extent::All) {
        Err(fault) if fault.kind() == Kind::DataLoss => remove_remains(host, id)?,
        other => other?,
    }
    held.remove()
}

/// Takes back what a sandbox has in its own directories: processes, pins, mounts, files, its name.
fn remove_remains(host: &Host, id: &Id) -> Result<()> {
    let (dir, run) = (host.sandbox_dir(id.as_str()), steps::run_dir(host, id.as_str()));
    runc::find(host)?.kill_and_delete(id.as_str(), &dir, Duration::ZERO)?;
    let mut all: Vec<Step> = Vec::new();
    let names = host.root.join(records::BoxKind::Sandbox.names());
    for name in file::list(&names)? {
        all.push(Reservation { path: names.join(name), id: id.clone() }.into());
    }
    let pins = Namespaces { net: None, ipc: Some(run.join("ipc")), uts: Some(run.join("uts")), hostname: None };
    let shm = Mount { what: MountKind::Tmpfs { size_kib: 0, mode: 0 }, target: run.join("shm") };
    all.extend::<[Step; 4]>([Directory::new(dir, 0).into(), Directory::new(run, 0).into(), pins.into(), shm.into()]);
    plan::unwind_plan(Plan::new(id.as_str(), "take back the remains of a sandbox", all), host)
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
        remove_remains(host, &id)?;
        gone.push(format!("remains of sandbox {}", id.short()));
    }
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
