//! Steps side by side: what a plan says may run at the same time, does.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::apply::{Applied, Work, apply_one};
use crate::fault::{Context, Fault, Kind, Result};
use crate::step::Step;
use crate::sys::Host;

/// Applies the step at `first`, or all the runs that lie side by side from there on; answers what came of each.
pub(super) fn stage(work: &Work<'_>, first: usize) -> Result<Vec<Applied>> {
    if work.beside.first().is_none_or(|run| run.start != first) {
        let step = &work.steps[first];
        return Ok(vec![apply_one(first, step, work.journal, work.host).doing(|| step.to_string())?]);
    }
    let last = work.beside.last().map_or(first, |run| run.end);
    let host = work.host.with_own_halt();
    let found = Mutex::new(vec![Applied::default(); last - first]);
    let mut faults: Vec<(usize, Fault)> = std::thread::scope(|scope| {
        let runs: Vec<_> = work.beside.iter().map(|run| scope.spawn(|| carry_run(work, run.clone(), &host, (first, &found)))).collect();
        let panicked = || Some((last, Fault::internal("a thread of the plan panicked")));
        runs.into_iter().filter_map(|run| run.join().unwrap_or_else(|_| panicked())).collect()
    });
    // The one that stopped the others, and not one that was only stopped, or fell because an earlier step had failed.
    faults.sort_by_key(|(index, fault)| (fault.kind() == Kind::Cancelled, *index));
    match faults.into_iter().next() {
        Some((_, fault)) => Err(fault),
        None => Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// One run, in order; a fault ends it and halts the others.
fn carry_run(work: &Work<'_>, run: Range<usize>, host: &Host, (first, found): (usize, &Mutex<Vec<Applied>>)) -> Option<(usize, Fault)> {
    for index in run {
        if host.halt.is_set() {
            return None;
        }
        let step = &work.steps[index];
        match apply_one(index, step, work.journal, host).doing(|| step.to_string()) {
            Ok(applied) => found.lock().unwrap_or_else(PoisonError::into_inner)[index - first] = applied,
            Err(fault) => {
                host.halt.set();
                return Some((index, fault));
            }
        }
    }
    None
}

/// The row of a stage in `--timings`.
pub(super) fn phrase(steps: &[Step]) -> String {
    format!("{} steps side by side", steps.len())
}
