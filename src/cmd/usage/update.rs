//! `rkbox update`: other bounds and another restart policy for a container, while it runs too.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxResourcesBuilder;
use serde_json::Value;

use super::UpdateArgs;
use crate::bundle::resources::{Resources, Swap};
use crate::cmd::container::{fitting, run_dir, runs_in_the_foreground, swap};
use crate::cmd::{Context, carry, output, records};
use crate::fault::{Context as _, Fault, Faults, Kind, Result};
use crate::ids::{CgroupDriver, Id};
use crate::plan::{Keep, Plan, Timings};
use crate::record::ContainerRecord;
use crate::record::life::RestartPolicy;
use crate::step::Step;
use crate::step::bounds::{self, Bounds};
use crate::step::setting::{Change, Setting};
use crate::sys::{Host, cgroup, file};

/// Changes what each container named may use; one that fails does not stop the others.
pub fn run(cx: &Context, args: &UpdateArgs) -> Result<u8> {
    let change = args.bounds.read()?;
    if change == Resources::default() && args.restart.is_none() {
        return Err(Fault::invalid("nothing to change is named").hint("such as --memory 64m, --cpus 0.5 or --restart always"));
    }
    let change = fitting(change.clone(), &change)?;
    let mut faults = Faults::default();
    for key in &args.keys {
        match one(cx, args, key, &change).doing(|| format!("cannot update container {key}")) {
            Ok(()) if args.plan.explain => {}
            Ok(()) => output::line(key),
            Err(fault) => faults.note(fault),
        }
    }
    faults.or(0)
}

/// What a container may use now: what was updated last, else what its record says.
pub fn bounds_of(host: &Host, record: &ContainerRecord) -> Result<Resources> {
    let path = host.container_dir(record.id.as_str()).join(bounds::FILE);
    let value = match file::find(&path, 1 << 20)? {
        Some(text) => serde_json::from_slice(&text)
            .map_err(|error| Fault::from_error(Kind::DataLoss, error).doing(format!("reading {}", path.display())))?,
        None => record.resources.clone(),
    };
    if value.is_null() {
        return Ok(Resources::default());
    }
    serde_json::from_value(value).map_err(|error| Fault::from_error(Kind::DataLoss, error).doing("reading the bounds of the container"))
}

fn one(cx: &Context, args: &UpdateArgs, key: &str, change: &Resources) -> Result<()> {
    let mut timings = Timings::start();
    let id = records::find(&cx.host, records::BoxKind::Container, key)?;
    let record = records::container(&cx.host, &id)?;
    let mut steps: Vec<Step> = Vec::new();
    if *change != Resources::default() {
        steps.push(bounds(cx, &record, change)?.into());
    }
    if let Some(policy) = args.restart {
        steps.push(restart(cx, &record, policy)?.into());
    }
    let carried = carry::carry(cx, args.plan, &mut timings, |_| {
        Ok(Plan::new(format!("update-{id}"), format!("update container {}", Id::short(&id)), steps.clone()).kept(Keep::Result))
    })?;
    if carried.is_some() {
        carry::report(cx, args.plan, timings);
    }
    Ok(())
}

/// What happens from now on when the container ends.
///
/// *Errors:* `FailedPrecondition` for one that nobody would start again: it goes when it ends, or its command waits for its end.
fn restart(cx: &Context, record: &ContainerRecord, to: RestartPolicy) -> Result<Setting> {
    let refused = |why: &str, hint: &str| Err(Fault::new(Kind::FailedPrecondition, format!("--restart {to}: {why}")).hint(hint));
    if to.is_active() && record.auto_remove {
        return refused("it is removed when it ends (--rm)", "run it again, without --rm if it is to stay");
    }
    if to.is_active() && runs_in_the_foreground(cx, record)? {
        return refused("it runs under its command, which does not start it again", "set the policy once it has ended, then start it");
    }
    Ok(Setting {
        id: record.id.clone(),
        bundle: record.bundle.clone(),
        run: run_dir(&cx.host, &record.id),
        change: Change::Restart { from: record.life.restart, to },
    })
}

/// The bounds of its control group from now on.
fn bounds(cx: &Context, record: &ContainerRecord, change: &Resources) -> Result<Bounds> {
    let id = &record.id;
    let old = bounds_of(&cx.host, record)?;
    let mut new = old.changed_by(change);
    // A bound of both that nobody set moves with the bound of memory.
    let mut change = change.clone();
    if change.memory.is_some() && new.memory_swap.is_none() {
        change.memory_swap = new.effective_swap();
    } else if matches!((change.memory, change.memory_swap, new.memory_swap), (Some(memory), None, Some(swap)) if swap >= 0 && swap < memory)
    {
        return Err(Fault::invalid("the new --memory is more than the bound of memory and swap that is in force")
            .hint("give --memory-swap too; -1 is no bound"));
    }
    new.check_memory()?;
    if change.memory.is_none() {
        new.memory_swap = new.memory_swap.or(old.memory_swap);
    }
    Ok(Bounds {
        id: id.clone(),
        runtime: record.runtime.path.clone(),
        state: record.runtime.state.clone(),
        systemd_cgroup: record.runtime.cgroup_driver == CgroupDriver::Systemd,
        bundle: record.bundle.clone(),
        running: records::running_pid(&record.runtime, &record.boot_id, id)?.is_some(),
        change: as_json(&change, swap())?,
        revert: as_json(&reverting(&old, &change, unified_now(record, &change)), swap())?,
        recorded: serde_json::to_value(&new).map_err(|error| Fault::from_error(Kind::Internal, error))?,
    })
}

/// What the files that `change` names hold now; of a file of several lines that which begins with the same word, such as a device.
fn unified_now(record: &ContainerRecord, change: &Resources) -> BTreeMap<String, String> {
    let dirs = cgroup::directories(&record.runtime.cgroups_path);
    let find = |key: &str, value: &str| {
        let text = dirs.iter().find_map(|dir| file::read_kernel(&dir.join(key)).ok())?;
        let is_same = |line: &&str| line.split_whitespace().next() == value.split_whitespace().next();
        if text.contains(['\n', ':']) { text.lines().find(is_same).map(str::to_owned) } else { Some(text) }
    };
    change.unified.iter().filter_map(|(key, value)| Some((key.clone(), find(key, value)?))).collect()
}

/// The old value of everything that `change` names; what had none is unbounded again.
fn reverting(old: &Resources, change: &Resources, unified: BTreeMap<String, String>) -> Resources {
    Resources {
        memory: change.memory.map(|_| old.memory.unwrap_or(-1)),
        memory_reservation: change.memory_reservation.map(|_| old.memory_reservation.unwrap_or(-1)),
        memory_swap: change.memory_swap.map(|_| old.effective_swap().unwrap_or(-1)),
        cpu_shares: change.cpu_shares.map(|_| old.cpu_shares.unwrap_or(1024)),
        cpu_quota: change.cpu_quota.map(|_| old.cpu_quota.unwrap_or(-1)),
        cpu_period: change.cpu_period.map(|_| old.cpu_period.unwrap_or(crate::bundle::resources::PERIOD)),
        cpuset_cpus: change.cpuset_cpus.as_ref().and(old.cpuset_cpus.clone()),
        cpuset_mems: change.cpuset_mems.as_ref().and(old.cpuset_mems.clone()),
        pids: change.pids.map(|_| old.pids.unwrap_or(-1)),
        blkio_weight: change.blkio_weight.and(old.blkio_weight),
        unified,
    }
}

fn as_json(bounds: &Resources, swap: Swap) -> Result<Value> {
    let internal = |error: oci_spec::OciSpecError| Fault::from_error(Kind::Internal, error);
    let built = bounds.build(LinuxResourcesBuilder::default(), swap)?.build().map_err(internal)?;
    let mut value = serde_json::to_value(built).map_err(|error| Fault::from_error(Kind::Internal, error))?;
    // The builder adds a rule for devices, which is no bound.
    if let Some(object) = value.as_object_mut() {
        object.remove("devices");
    }
    Ok(value)
}
