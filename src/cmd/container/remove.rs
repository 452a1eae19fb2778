//! `rkbox rm`, and what `gc` does about containers whose owner is dead.

use std::time::Duration;

use clap::Args;

use super::state::{self, Phase, Watcher};
use super::{events, rename, run_dir, steps, stop};
use crate::cmd::network::detach;
use crate::cmd::salvage::{self, Damage, Unwound};
use crate::cmd::volume as volumes;
use crate::cmd::{Context, PlanArgs, carry, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Id;
use crate::network::publish;
use crate::plan::journal::{self, Journal};
use crate::plan::{self, Keep, Plan, Timings, explain};
use crate::record::life::EventKind;
use crate::step::Step;
use crate::sys::{Host, file, monitor, proc, runc};

/// Arguments of `rkbox rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub keys: Vec<String>,
    /// Kill what runs, pass over damage; a missing one is no error
    #[arg(short, long)]
    pub force: bool,
    /// Also the anonymous volumes that only they use
    #[arg(short, long)]
    pub volumes: bool,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

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
        carry::show(&explain::explain_removal(&format!("remove container {}", id.short()), &status, 0, &cx.host)?);
        return Ok(());
    }
    let state = records::container(&cx.host, &id).and_then(|record| state::of(&cx.host, &record));
    if !args.force && state.is_ok_and(|state| state.is_up() || state.phase == Phase::Restarting) {
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

/// Kills what runs in container `id`, and its monitor; nothing is written about it.
fn kill(host: &Host, id: &Id) -> Result<()> {
    monitor::kill(&run_dir(host, id))?;
    let runtime = match records::container(host, id) {
        Ok(record) => records::runtime(&record.runtime),
        // The record is damaged or was never written: then the runtime is the one of this command.
        Err(_) => runc::find(host)?,
    };
    runtime.kill_and_delete(id.as_str(), &host.container_dir(id.as_str()), Duration::ZERO)
}

/// Ends what runs in container `id` at once; its record stays, and its exit file is written.
pub fn end(host: &Host, id: &Id) -> Result<()> {
    match records::container(host, id) {
        Ok(_) => stop::stop(host, id, None, Some(0)),
        Err(_) => kill(host, id),
    }
}

/// Kills what runs in container `id`, then takes it back.
pub fn remove(host: &Host, id: &Id, damage: Damage) -> Result<()> {
    let record = records::container(host, id).ok();
    if !has_watched_step(host, id) {
        kill(host, id)?;
    }
    take_back(host, id, damage)?;
    if let Some(record) = record {
        rename::release(host, id, &record.name)?;
        events::tell(host, &record, EventKind::Remove);
    }
    Ok(())
}

/// Whether the journal itself ends what runs: then nothing happens before it says that the removal has begun.
fn has_watched_step(host: &Host, id: &Id) -> bool {
    let status = journal::read(&journal::path(host, id.as_str()));
    status.is_ok_and(|status| status.is_some_and(|status| status.standing().any(|(_, step, _)| matches!(step, Step::Watched(_)))))
}

fn take_back(host: &Host, id: &Id, damage: Damage) -> Result<()> {
    let held = match salvage::after(host, id, plan::unwind(id.as_str(), host, 0), damage)? {
        Unwound::Yes if !file::exists(&host.container_dir(id.as_str()))? => return Ok(()),
        // Made ready again after a reboot by a command that died before its journal knew of what outlived that.
        Unwound::Yes => None,
        Unwound::No(held) => held,
    };
    kill(host, id)?;
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
    publish::relay(&mut network, host.rootless_netns.as_deref());
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
            Some(open) => {
                let status = open.status()?;
                status.keep == Keep::WhileOwned || (status.settled && is_forsaken(host, &id))
            }
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

/// Whether a container that is removed when it ends has ended, and its monitor died before it could see to that.
fn is_forsaken(host: &Host, id: &Id) -> bool {
    let Ok(record) = records::container(host, id) else { return false };
    let state = state::of(host, &record);
    record.auto_remove && state.is_ok_and(|state| state.pid.is_none() && !matches!(state.watcher, Watcher::Monitor(_)))
}
