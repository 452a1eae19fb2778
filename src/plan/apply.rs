//! Carrying a plan out: journal first, then the step; any failure rolls everything back.

use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::journal::{Event, Journal, VERSION};
use super::{Keep, Plan, Timings, beside, ledger, reach, unwind};
use crate::fault::{Context, Fault, Kind, Result};
use crate::step::pool::Hold;
use crate::step::{Step, Tenure};
use crate::sys::{Host, file, proc, signal};

/// A plan that holds; the journal's lock is the owner's life.
#[derive(Debug)]
pub struct Carried {
    /// Names the journal.
    pub box_id: String,
    journal: Option<Journal>,
}

impl Carried {
    /// Takes the box back, with the lock already held.
    pub fn remove(self, host: &Host) -> Result<()> {
        match self.journal {
            Some(journal) => unwind::remove_held(journal, host, 0).doing(|| format!("removing {}", self.box_id)),
            None => Ok(()),
        }
    }

    /// Frees the lock; the box stays.
    pub fn release(self) {}
}

/// Carries `plan` out. On success the journal is settled and its lock still held by the answer.
///
/// *Errors:* the first one, after everything was taken back; what could not be taken back is listed under it and stays in the journal
/// for `rkbox gc`. SIGINT and SIGTERM between steps count as a failure of the next step.
pub fn carry_out(plan: Plan, host: &Host, timings: &mut Timings) -> Result<Carried> {
    let journal = open_new(&plan, host)?;
    let planned =
        Event::Planned { v: VERSION, command: plan.command.clone(), boot: proc::boot_id()?, keep: plan.keep, steps: plan.steps.clone() };
    let Plan { box_id, command, steps, keep, beside, mut locks } = plan;
    let applied = reach("journal", 0).and_then(|()| journal.append(&planned)).and_then(|()| {
        timings.row("open the journal");
        let made = apply_all(&Work { steps: &steps, beside: &beside, journal: &journal, host }, &mut locks, timings)?;
        settle(&made, &journal, host)
    });
    drop(locks);
    if let Err(fault) = applied {
        return Err(roll_back(fault.doing(format!("cannot {command}")), journal, host));
    }
    timings.row("settle");
    if keep == Keep::Result {
        end_of_result(journal, host)?;
        return Ok(Carried { box_id, journal: None });
    }
    Ok(Carried { box_id, journal: Some(journal) })
}

/// Removes the journal of a settled plan whose result stays ([`Keep::Result`]), and before it the marks that only undos need.
pub(super) fn end_of_result(journal: Journal, host: &Host) -> Result<()> {
    let status = journal.status()?;
    for (_, step, before) in status.standing() {
        step.forget(before, host).doing(|| step.to_string())?;
    }
    journal.remove()
}

/// Opens the journal of a new box; one that a dead command left unsettled is unwound first.
fn open_new(plan: &Plan, host: &Host) -> Result<Journal> {
    match Journal::create(host, &plan.box_id) {
        Err(fault) if fault.kind() == Kind::AlreadyExists => {
            let Some(left) = Journal::open(host, &plan.box_id)? else { return Journal::create(host, &plan.box_id) };
            if !left.is_blank() && left.status()?.settled {
                return Err(fault.hint("remove it first"));
            }
            unwind::roll_back_held(left, host).doing(|| format!("taking back what an interrupted command left of {}", plan.box_id))?;
            Journal::create(host, &plan.box_id)
        }
        other => other,
    }
}

/// Shared things that a plan made, with what stood there before.
type Made = Vec<(Step, Value)>;

/// What is being carried out.
pub(super) struct Work<'a> {
    pub steps: &'a [Step],
    /// See [`Plan::side_by_side`].
    pub beside: &'a [Range<usize>],
    pub journal: &'a Journal,
    pub host: &'a Host,
}

/// Applies the steps in order; answers the shared things that they made and `gc` may take.
///
/// What must survive a power cut is synced beside the steps that follow it: an fsync can take longer than all the rest, and nothing else
/// of a box outlives the cut.
fn apply_all(work: &Work<'_>, locks: &mut Vec<(usize, Hold)>, timings: &mut Timings) -> Result<Made> {
    std::thread::scope(|scope| {
        let (mut syncs, mut made, mut next) = (Vec::new(), Made::new(), 0);
        while next < work.steps.len() {
            let stage = beside::stage(work, next)?;
            let steps = &work.steps[next..next + stage.len()];
            next += stage.len();
            match steps {
                [step] => timings.row(step.to_string()),
                several => {
                    timings.stage(beside::phrase(several), several.iter().zip(&stage).map(|(step, done)| (step.to_string(), done.took)))
                }
            }
            locks.retain(|(last, _)| *last + 1 > next);
            for (step, done) in steps.iter().zip(stage) {
                if step.tenure() == Tenure::Shared && step.is_reclaimed() && !step.already(&done.before)? {
                    made.push((step.clone(), done.before));
                }
                if let Some(path) = step.durable() {
                    syncs.push((step, scope.spawn(move || file::sync(&path))));
                }
            }
        }
        for (step, sync) in syncs {
            sync.join().map_err(|_| Fault::internal("the sync thread panicked"))?.doing(|| step.to_string())?;
        }
        Ok(made)
    })
}

/// What came of one step.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied {
    /// What stood there before.
    pub before: Value,
    /// What it took, the look and the journal included.
    pub took: Duration,
}

/// Applies one step.
pub(super) fn apply_one(index: usize, step: &Step, journal: &Journal, host: &Host) -> Result<Applied> {
    let began = Instant::now();
    if let Some(signal) = signal::pending() {
        return Err(Fault::new(Kind::Cancelled, format!("stopped by signal {signal}")));
    }
    reach("before", index)?;
    let before = step.look(host)?;
    journal.append(&Event::Started { index, before: before.clone() })?;
    reach("started", index)?;
    let started = Instant::now();
    if !step.already(&before)? {
        step.apply(&before, host)?;
    }
    reach("applied", index)?;
    journal.append(&Event::Done { index, micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX) })?;
    reach("done", index)?;
    Ok(Applied { before, took: began.elapsed() })
}

/// Writes down which shared things this plan made, then that it holds.
fn settle(made: &[(Step, Value)], journal: &Journal, host: &Host) -> Result<()> {
    if let Some(signal) = signal::pending() {
        return Err(Fault::new(Kind::Cancelled, format!("stopped by signal {signal}")));
    }
    ledger::note(made, host)?;
    reach("settle", 0)?;
    journal.append(&Event::Settled)
}

fn roll_back(fault: Fault, journal: Journal, host: &Host) -> Fault {
    match unwind::roll_back_held(journal, host) {
        Ok(()) => fault,
        Err(later) => fault.and_also(later.hint("rkbox gc tries again")),
    }
}
