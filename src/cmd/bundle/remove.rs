//! `rkbox bundle rm`: the journal played backwards, or the plan made again from `OUT/record.json`.

use super::RmArgs;
use super::place::{self, Place};
use super::steps::{self, Texts};
use crate::cmd::{Context, carry, output};
use crate::fault::{Context as _, Fault, Faults, Kind, Result};
use crate::plan::journal::{self, Status};
use crate::plan::{self, Plan, Timings, explain};
use crate::record::{BundleRecord, VERSION};
use crate::script::{Script, quote};
use crate::step::bundle_dir::RECORD;
use crate::sys::{Host, file, privilege};

/// A record larger than this is not ours.
const LIMIT: u64 = 16 << 20;

/// Removes each bundle named; one that fails does not stop the others.
pub fn run(cx: &Context, args: &RmArgs) -> Result<u8> {
    let mut faults = Faults::default();
    for out in &args.outs {
        let mut timings = Timings::start();
        let gone = place::place(out).and_then(|place| one(cx, args, &place).doing(|| format!("cannot remove bundle {}", out.display())));
        match gone {
            Ok(()) if !args.plan.explain => {
                timings.row("take back");
                output::line(&out.display().to_string());
                carry::report(cx, args.plan, timings);
            }
            Ok(()) => {}
            Err(fault) if args.force && fault.kind() == Kind::NotFound => {}
            Err(fault) => {
                faults.note(fault);
            }
        }
    }
    faults.or(0)
}

fn one(cx: &Context, args: &RmArgs, place: &Place) -> Result<()> {
    let host = &cx.host;
    let status = journal::read(&journal::path(host, &place.id))?;
    let record = find_record(place)?;
    if let Some(status) = &status
        && status.settled
        && status.removing.is_none()
        && record.is_none()
        && file::exists(&place.path)?
    {
        // The name is another one's now; what the journal knows of (a mount) may still be there.
        return Err(not_ours(place));
    }
    if args.plan.explain {
        carry::show(&script(host, place, status.as_ref(), record.as_ref())?);
        return Ok(());
    }
    privilege::require()?;
    if plan::unwind(&place.id, host, 0)? {
        return Ok(());
    }
    match record {
        Some(record) => plan::unwind_plan(from_record(place, &record)?, host),
        None => Err(not_here(place)?),
    }
}

fn script(host: &Host, place: &Place, status: Option<&Status>, record: Option<&(BundleRecord, String)>) -> Result<Script> {
    let command = format!("remove bundle {}", place.path.display());
    match (status, record) {
        (Some(status), _) => explain::explain_removal(&command, status, 0, host),
        (None, Some(record)) => {
            let mut script = Script::new();
            script.comment(&command);
            explain::append_removal(&from_record(place, record)?, host, &mut script)?;
            Ok(script)
        }
        (None, None) => Err(not_here(place)?),
    }
}

/// The plan made again: contents do not matter to an undo, except the record, which is the mark.
fn from_record(place: &Place, (record, text): &(BundleRecord, String)) -> Result<Plan> {
    let steps = steps::layered(record, Texts { record: text.clone(), ..Texts::default() })?;
    Ok(Plan::new(&place.id, "take back a bundle", steps))
}

/// The record of a bundle that was made at this very place, and its text.
///
/// *Errors:* `FailedPrecondition` when it was made elsewhere: its paths are absolute, and so somebody else's.
fn find_record(place: &Place) -> Result<Option<(BundleRecord, String)>> {
    let path = place.path.join(RECORD);
    let Some(bytes) = file::find(&path, LIMIT)? else { return Ok(None) };
    let damaged = |why: String| {
        Fault::new(Kind::FailedPrecondition, format!("{} is not the record of a bundle: {why}", path.display()))
            .hint(format!("if nothing in it is needed: rm -r {}", quote(&place.path.to_string_lossy())))
    };
    let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
    let record: BundleRecord = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if record.v != VERSION {
        return Err(damaged(format!("version {} is not known, {VERSION} is", record.v)));
    }
    if record.path != place.path || record.id != place.id {
        return Err(damaged(format!("it was made at {}", record.path.display())));
    }
    Ok(Some((record, text)))
}

fn not_here(place: &Place) -> Result<Fault> {
    Ok(match file::exists(&place.path)? {
        true => not_ours(place),
        false => Fault::not_found(format!("{} is not there", place.path.display())),
    })
}

fn not_ours(place: &Place) -> Fault {
    Fault::new(Kind::FailedPrecondition, format!("{} has no record of rkbox: it is a plain directory", place.path.display()))
        .hint(format!("rm -r {}", quote(&place.path.to_string_lossy())))
}
