//! A sandbox of a former boot, made ready again from its record.

use std::time::Duration;

use super::steps::{self, Texts};
use crate::cmd::network::several;
use crate::cmd::{Context, records, renewal};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Id;
use crate::plan::journal::{self, Journal};
use crate::plan::{self, Plan, Timings};
use crate::record::SandboxRecord;
use crate::script::Script;
use crate::step::{Action as _, HostsLines};
use crate::sys::dir_lock::{self, Beside};
use crate::sys::file;

/// How long another command may take that makes it ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a sandbox ready that a reboot has ended; one that is ready is fine.
///
/// *Errors:* `FailedPrecondition` for one that was stopped in this boot.
pub fn renew(cx: &Context, id: &Id) -> Result<()> {
    let host = &cx.host;
    let dir = host.sandbox_dir(id.as_str());
    let gone = || Fault::not_found(format!("sandbox {} was removed", id.short()));
    let _alone = dir_lock::acquire(&dir, Beside::Nobody, PATIENCE)?.ok_or_else(gone)?;
    let record = records::sandbox(host, id)?;
    if super::state(&record)?.pid().is_some() {
        return Ok(());
    }
    if Journal::open(host, id.as_str())?.is_some() {
        return Err(stopped(&record));
    }
    let former = several::release_former(host, &record.attachments, record.netns.as_deref())?;
    plan::attempt(host, &mut Timings::start(), |_| plan_again(cx, &record, &former))?.release();
    renewal::forget_former(&dir)
}

/// Appends the script that makes a sandbox ready that a reboot has ended; false when it is ready.
///
/// *Errors:* as [`renew`].
pub fn tell_renewal(cx: &Context, id: &Id, script: &mut Script) -> Result<bool> {
    let host = &cx.host;
    let record = records::sandbox(host, id)?;
    if super::state(&record)?.pid().is_some() {
        script.comment(&format!("sandbox {} is ready", record.name));
        return Ok(false);
    }
    if file::exists(&journal::path(host, id.as_str()))? {
        return Err(stopped(&record));
    }
    let (former, plans) = several::former_of(host, &record.attachments, record.netns.as_deref())?;
    let (plan, hosts) = planned(cx, &record, &former, false)?;
    renewal::append(host, &host.sandbox_dir(id.as_str()), &renewal::Told { former: plans, hosts, plan }, script)?;
    script.blank();
    Ok(true)
}

fn stopped(record: &SandboxRecord) -> Fault {
    let fault = Fault::new(Kind::FailedPrecondition, format!("sandbox {} is not ready: its pause process does not run", record.name));
    fault.hint(format!("make it again: rkbox sandbox rm --force {0} && rkbox sandbox create {0}", record.name))
}

fn plan_again(cx: &Context, record: &SandboxRecord, former: &[several::Former]) -> Result<Plan> {
    let (plan, hosts) = planned(cx, record, former, true)?;
    hosts.apply(&(), &cx.host)?;
    Ok(plan)
}

fn planned(cx: &Context, record: &SandboxRecord, former: &[several::Former], acting: bool) -> Result<(Plan, HostsLines)> {
    let host = &cx.host;
    let mut network = several::Several::default();
    if let Some(netns) = &record.netns {
        let of = several::Box { owner: record.id.as_str(), netns, acting };
        network = several::plan_again(cx, former, of).doing(|| "planning the network")?;
    }
    let attachments = std::mem::take(&mut network.attachments);
    let hosts = renewal::moved_lines(&record.files.join("hosts"), &record.hostname, &attachments)?;
    let note = renewal::note(&host.sandbox_dir(record.id.as_str()), attachments.clone())?;
    let record = SandboxRecord { attachments, ..record.clone() };
    let texts = Texts { resolv_conf: renewal::text(&record.files, "resolv.conf")?, ..Texts::default() };
    let made = steps::steps(host, &record, texts, std::mem::take(&mut network.steps))?;
    let plan = Plan::new(record.id.as_str(), format!("make sandbox {} ready again after a reboot", record.name), made.all);
    Ok((renewal::plan(host, plan, note, made.network_end, network.locks), hosts))
}
