//! A container of a former boot, made ready and started again from its record.

use std::path::Path;

use super::{launch, steps, stop};
use crate::cmd::network::several;
use crate::cmd::{Context, renewal, sandbox};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::plan::journal::Journal;
use crate::plan::{self, Keep, Plan, Timings};
use crate::record::ContainerRecord;
use crate::record::life::Launch;
use crate::script::Script;
use crate::step::{Action as _, HostsLines, Watched};
use crate::sys::dir_lock::{self, Beside};
use crate::sys::{Host, file, ns};

/// Starts a container that a reboot has ended; its sandbox first. Answers false when somebody else was faster.
///
/// Its files, name, volumes and ranges of ids are as they were, and its address too where it is still free. What is made is
/// journaled as for a new one: a failure takes it back, and the container is again what the reboot left.
pub fn start(cx: &Context, record: &ContainerRecord, awaits_client: bool, timings: &mut Timings) -> Result<bool> {
    let host = &cx.host;
    if let Some(id) = &record.sandbox_id {
        sandbox::renew(cx, id).doing(|| "making its sandbox ready again")?;
    }
    let gone = || Fault::not_found(format!("container {} was removed just now", record.name));
    let _alone = dir_lock::acquire(&record.bundle, Beside::Nobody, super::start::PATIENCE)?.ok_or_else(gone)?;
    // A journal says that it is ready: made so by another command, while the lock was waited for.
    if let Some(journal) = Journal::open(host, record.id.as_str())? {
        drop(journal);
        return Ok(false);
    }
    let former = prepare(host, record)?;
    let carried = plan::attempt(host, timings, |_| plan(cx, record, &former, awaits_client))?;
    file::remove_file(&record.bundle.join(stop::MARK))?;
    carried.release();
    renewal::forget_former(&record.bundle)?;
    Ok(true)
}

/// Takes back what the former boot left of the network and the mounts.
fn prepare(host: &Host, record: &ContainerRecord) -> Result<Vec<several::Former>> {
    let former = several::release_former(host, &record.attachments, record.netns.as_deref())?;
    file::remove_tree(&record.bundle.join(renewal::MOUNTS))?;
    Ok(former)
}

/// Appends the script that starts a container that a reboot has ended; its sandbox first.
///
/// *Errors:* as [`start`], where nothing has to be made for them to show.
pub fn tell(cx: &Context, record: &ContainerRecord, script: &mut Script) -> Result<()> {
    let host = &cx.host;
    let mut joins = record.netns.as_deref();
    if let Some(id) = &record.sandbox_id
        && sandbox::tell_renewal(cx, id, script)?
    {
        // The script makes it.
        joins = None;
    }
    let (former, plans) = several::former_of(host, &record.attachments, record.netns.as_deref())?;
    let (plan, hosts) = planned(cx, record, &former, How { acting: false, awaits_client: false, joins })?;
    let told = renewal::Told { former: plans, hosts, plan };
    renewal::append(host, &record.bundle, &told, script)?;
    script.run(["rm", "-f", &record.bundle.join(stop::MARK).to_string_lossy()]);
    Ok(())
}

fn plan(cx: &Context, record: &ContainerRecord, former: &[several::Former], awaits_client: bool) -> Result<Plan> {
    let how = How { acting: true, awaits_client, joins: record.netns.as_deref() };
    let (plan, hosts) = planned(cx, record, former, how)?;
    hosts.apply(&(), &cx.host)?;
    Ok(plan)
}

/// How a start is planned.
#[derive(Clone, Copy)]
struct How<'a> {
    /// False for `--explain`.
    acting: bool,
    awaits_client: bool,
    /// The namespace of somebody else that has to be there.
    joins: Option<&'a Path>,
}

fn planned(cx: &Context, record: &ContainerRecord, former: &[several::Former], how: How<'_>) -> Result<(Plan, HostsLines)> {
    let host = &cx.host;
    let mut network = several::Several::default();
    match (&record.netns, how.joins) {
        (Some(netns), _) if record.owns_netns => {
            let of = several::Box { owner: record.id.as_str(), netns, acting: how.acting };
            network = several::plan_again(cx, former, of).doing(|| "planning the network")?;
        }
        (Some(_), Some(netns)) => {
            ns::open(netns, ns::NsKind::Net).doing(|| "joining a network namespace")?;
        }
        _ => {}
    }
    let attachments = std::mem::take(&mut network.attachments);
    let hosts = renewal::moved_lines(&record.bundle.join("hosts"), &hostname(record)?, &attachments)?;
    let (mut all, network_end) = steps::steps(host, record, steps::Texts::default(), std::mem::take(&mut network.steps));
    all.push(Watched { order: Box::new(launch::order(host, record, Launch::Run, how.awaits_client)) }.into());
    let plan = Plan::new(record.id.as_str(), format!("start {} again after a reboot", record.name), all).kept(Keep::UntilRemoved);
    let note = renewal::note(&record.bundle, attachments)?;
    Ok((renewal::plan(host, plan, note, network_end, network.locks), hosts))
}

/// The host name that its runtime configuration gives it.
pub fn hostname(record: &ContainerRecord) -> Result<String> {
    let path = record.bundle.join("config.json");
    let config: serde_json::Value = serde_json::from_slice(&file::read(&path, 16 << 20)?)
        .map_err(|error| Fault::from_error(Kind::DataLoss, error))
        .doing(|| format!("reading {}", path.display()))?;
    Ok(config["hostname"].as_str().unwrap_or(record.name.as_ref()).to_owned())
}
