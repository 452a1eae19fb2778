//! `rkbox volume rm` and `prune`.

use super::list::{Filters, seen};
use super::{PruneArgs, RmArgs, dir, find, names};
use crate::cmd::{Context, Format, PlanArgs, carry, output};
use crate::fault::{Context as _, Faults, Kind, Result};
use crate::plan::{Keep, Plan, Timings};
use crate::step::{Step, VolumeRemoval, volume};
use crate::sys::file;

/// Removes each volume named; one that fails does not stop the others.
pub fn run(cx: &Context, args: &RmArgs) -> Result<u8> {
    carry::remove_each(&args.keys, args.force, args.plan, |key| {
        let name = find(&cx.host, key).doing(|| format!("cannot remove volume {key}"))?;
        remove(cx, &name, args.plan)
    })
}

fn remove(cx: &Context, name: &str, how: PlanArgs) -> Result<()> {
    let mut timings = Timings::start();
    let step: Step = VolumeRemoval { path: dir(&cx.host).join(name) }.into();
    // Said before anything is written; the step looks again, under the lock of the volume.
    step.look(&cx.host).doing(|| format!("cannot remove volume {name}"))?;
    let carried = carry::carry(cx, how, &mut timings, |_| {
        Ok(Plan::new(format!("volume-{name}"), format!("remove volume {name}"), vec![step.clone()]).kept(Keep::Result))
    })?;
    if carried.is_some() {
        carry::report(cx, how, timings);
    }
    Ok(())
}

/// Removes the volumes that nobody uses; prints their names.
pub fn prune(cx: &Context, args: &PruneArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filters)?;
    let (mut removed, mut faults) = (Vec::new(), Faults::default());
    for name in names(&cx.host)? {
        let Some((record, users)) = faults.keep(seen(&cx.host, &name)) else { continue };
        let wanted = users.is_empty() && (args.all || record.anonymous) && filters.pass(&record, &users);
        if !wanted || !file::exists(&dir(&cx.host).join(&name).join(volume::USERS))? {
            continue;
        }
        match remove(cx, &name, PlanArgs::default()) {
            Ok(()) => removed.push(name),
            // Somebody took it, or removed it, just now.
            Err(fault) if matches!(fault.kind(), Kind::FailedPrecondition | Kind::NotFound) => {}
            Err(fault) => faults.note(fault),
        }
    }
    match cx.format {
        Format::Json => output::json(&removed)?,
        Format::Table => removed.iter().for_each(|name| output::line(name)),
    }
    faults.or(0)
}
