//! Taking back: the journal played backwards. Every undo is tried; the first error is kept, none stops the others.

use super::Plan;
use super::journal::{Event, Journal, Status};
use super::{ledger, reach};
use crate::fault::{Context, Faults, Result};
use crate::step::{Step, Tenure, Undone};
use crate::sys::Host;

/// Whether shared things go too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The rollback of a plan that never held: also the shared things that it made, while unused.
    Rollback,
    /// The removal of a box that held: shared things stay for `gc`.
    Removal,
}

/// Removes the box of `box_id`: waits for its owner, then takes back its steps down to `down_to` (0: all, and the journal).
///
/// Answers `false` when there is no journal. A box that never held is rolled back whole, whatever `down_to` says.
pub fn unwind(box_id: &str, host: &Host, down_to: usize) -> Result<bool> {
    let Some(journal) = Journal::open(host, box_id)? else { return Ok(false) };
    if journal.is_blank() || !journal.status()?.settled {
        return roll_back_held(journal, host).map(|()| true);
    }
    remove_held(journal, host, down_to).map(|()| true)
}

/// Takes back a box that held, with its lock in hand.
pub fn remove_held(journal: Journal, host: &Host, down_to: usize) -> Result<()> {
    reach("remove", 0)?;
    journal.append_if_room(&Event::Removing { down_to })?;
    reach("removing", 0)?;
    play_back(journal, host, down_to, Depth::Removal)
}

/// Takes back a plan that never held, with its lock in hand.
pub fn roll_back_held(journal: Journal, host: &Host) -> Result<()> {
    if journal.is_blank() {
        return journal.remove();
    }
    play_back(journal, host, 0, Depth::Rollback)
}

fn play_back(journal: Journal, host: &Host, down_to: usize, depth: Depth) -> Result<()> {
    let status = journal.status()?;
    let mut faults = Faults::default();
    for (index, step, before) in status.standing().filter(|(index, ..)| *index >= down_to) {
        faults.keep(undo_one(&journal, host, depth, (index, step, before)).doing(|| format!("undoing \"{step}\"")));
    }
    faults.or(())?;
    if down_to > 0 {
        return Ok(());
    }
    reach("unwound", 0)?;
    journal.remove()
}

fn undo_one(journal: &Journal, host: &Host, depth: Depth, (index, step, before): (usize, &Step, &serde_json::Value)) -> Result<()> {
    reach("undo", index)?;
    let skipped = step.already(before)? || (step.tenure() == Tenure::Shared && depth == Depth::Removal);
    if !skipped && step.undo(before, host)? == Undone::Kept && step.is_reclaimed() {
        // Somebody began to use what this plan made: from now on it is theirs, and `gc` takes it when the last one goes.
        ledger::note(&[(step.clone(), before.clone())], host)?;
    }
    reach("undone", index)?;
    journal.append_if_room(&Event::Undone { index })
}

/// Takes back a box of which only the record is left (a reboot took the journal, or a script made the box).
///
/// `steps` is the plan made again from the record; nothing is assumed to have stood there before, and shared things stay.
pub fn unwind_plan(plan: Plan, host: &Host) -> Result<()> {
    let mut faults = Faults::default();
    for step in plan.steps.iter().rev().filter(|step| step.tenure() == Tenure::Private) {
        if let Err(fault) = step.before_nothing().and_then(|before| step.undo(&before, host)).doing(|| format!("undoing \"{step}\"")) {
            faults.note(fault);
        }
    }
    faults.or(())
}

/// The steps of `status` that a removal would take back, last first, for `--explain`.
pub fn removal_of(status: &Status, down_to: usize) -> Vec<(&Step, &serde_json::Value)> {
    status
        .standing()
        .filter(|(index, step, before)| *index >= down_to && step.tenure() == Tenure::Private && !step.already(before).unwrap_or(false))
        .map(|(_, step, before)| (step, before))
        .collect()
}
