//! `rkbox rm`, and what `gc` does about containers whose owner is dead.

use std::time::Duration;

use super::{RmArgs, steps};
use crate::cmd::network::detach;
use crate::cmd::salvage::{self, Damage, Unwound};
use crate::cmd::volume as volumes;
use crate::cmd::{Context, carry, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Id;
use crate::network::publish;
use crate::plan::journal::{self, Journal};
use crate::plan::{self, Keep, Plan, Timings, explain};
use crate::sys::{Host, file, proc, runc};

/// Removes each container named; one that fails does not stop the others.
pub fn run(cx: &Context, args: &RmArgs) -> Result<u8> {
    carry::remove_each(&args.keys, args.force, args.plan, |key| one(cx, args, key))
}

fn one(cx: &Context, args: &RmArgs, key: &str) -> Result<()> {
    let mut timings = Timings::start();
    let id = records::find(&cx.host, records::BoxKind::Container, key)?;
    if args.plan.explain {
        let status = journal::read(&journal::path(&cx.host, id.as_str()))?;
        let status = status.ok_or_else(|| Fault::new(Kind::FailedPrecondition, format!("container {} has no journal", id.short())))?;
        carry::show(&explain::explain_removal(&format!("remove container {}", id.short()), &status, 0)?);
        return Ok(());
    }
    let running = records::container(&cx.host, &id).and_then(|record| records::running_pid(&record.runtime, &record.boot_id, &id));
    if !args.force && running.is_ok_and(|pid| pid.is_some()) {
        return Err(Fault::new(Kind::FailedPrecondition, format!("container {key} runs"))
            .hint(format!("kill and remove it: rkbox rm --force {key}")));
    }
    if args.volumes {
        volumes::ask_removal(&cx.host, &id)?;
    }
    timings.row("find");
    remove(&cx.host, &id, if args.force { Damage::Salvage } else { Damage::Refuse })
        .map_err(|fault| salvage::point_out(fault, &format!("rkbox rm --force {key}")))
        .doing(|| format!("cannot remove container {key}"))?;
    timings.row("take back");
    carry::report(cx, args.plan, timings);
    Ok(())
}

/// Kills what runs in container `id`; its record stays.
pub fn stop(host: &Host, id: &Id) -> Result<()> {
    let runtime = match records::container(host, id) {
        Ok(record) => records::runtime(&record.runtime),
        // The record is damaged or was never written: then the runtime is the one of this command.
        Err(_) => runc::find(host)?,
    };
    runtime.kill_and_delete(id.as_str(), &host.container_dir(id.as_str()), Duration::ZERO)
}

/// Kills what runs in container `id`, then takes it back.
pub fn remove(host: &Host, id: &Id, damage: Damage) -> Result<()> {
    stop(host, id)?;
    let held = match salvage::after(host, id, plan::unwind(id.as_str(), host, 0), damage)? {
        Unwound::Yes => return Ok(()),
        Unwound::No(held) => held,
    };
    if held.is_none() && !file::exists(&host.container_dir(id.as_str()))? {
        return Ok(());
    }
    let record = records::container(host, id).or_else(|fault| match damage {
        Damage::Salvage if matches!(fault.kind(), Kind::DataLoss | Kind::NotFound) => salvage::container(host, id),
        _ => Err(fault),
    })?;
    let mut network = Vec::new();
    for attachment in &record.attachments {
        network.extend(publish::private_steps(&attachment.result, &attachment.owner, &attachment.ports));
        network.extend(detach::steps_of(host, attachment, record.netns.as_deref())?);
    }
    let (all, _) = steps::steps(host, &record, steps::Texts::default(), network);
    plan::unwind_plan(Plan::new(id.as_str(), "take back a container", all), host)?;
    held.map_or(Ok(()), Journal::remove)
}

/// Removes the containers of `run --rm` whose command is dead, and what containers of a former boot hold.
pub fn reclaim(host: &Host) -> Result<Vec<String>> {
    let boot = proc::boot_id()?;
    let mut gone = Vec::new();
    for id in records::ids(host, records::BoxKind::Container)? {
        let path = journal::path(host, id.as_str());
        let orphaned = match Journal::open_free(&path)? {
            Some(open) => open.status()?.keep == Keep::WhileOwned,
            None if file::exists(&path)? => false,
            None => records::container(host, &id).is_ok_and(|record| record.boot_id != boot && record.auto_remove),
        };
        if orphaned {
            remove(host, &id, Damage::Refuse)?;
            gone.push(format!("container {} whose command is dead", id.short()));
        }
    }
    Ok(gone)
}
