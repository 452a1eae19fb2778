//! The engine: a plan is a list of steps, carried out under a journal, taken back by playing the journal backwards.

pub mod apply;
mod beside;
pub mod explain;
mod fault_point;
pub mod journal;
pub mod ledger;
pub mod recover;
#[cfg(test)]
mod tests;
pub mod timings;
pub mod unwind;

use std::ops::Range;

use crate::fault::{Kind, Result};
use crate::step::Step;
use crate::step::pool::Hold;
use crate::sys::Host;

pub use apply::{Carried, carry_out};
pub use fault_point::reach;
pub use timings::Timings;
pub use unwind::{unwind, unwind_plan};

/// What is to be done for one box, closed: every name and address in it is chosen.
#[derive(Debug)]
pub struct Plan {
    /// Names the journal: a sandbox or container id, `net-…` for an attachment.
    pub box_id: String,
    /// What it is for, in words: `create sandbox web`.
    pub command: String,
    /// In order.
    pub steps: Vec<Step>,
    /// Whether recovery removes a settled box whose owner is dead (`run --rm`).
    pub keep: Keep,
    /// Runs of steps that lie side by side; each run is carried out in order.
    beside: Vec<Range<usize>>,
    /// Pools held since planning; each is freed when the step of its index is done.
    locks: Vec<(usize, Hold)>,
    /// See [`Plan::adopting`].
    adopted: Vec<usize>,
}

/// What recovery does with a settled box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// It stays until somebody removes it.
    #[default]
    UntilRemoved,
    /// It goes with the command that made it and holds its lock.
    WhileOwned,
    /// The journal has served when the plan is settled (images, bundles): what was made stays.
    Result,
}

impl Plan {
    /// A plan without locks, one step after the other, that stays until removed.
    pub fn new(box_id: impl Into<String>, command: impl Into<String>, steps: Vec<Step>) -> Self {
        Plan {
            box_id: box_id.into(),
            command: command.into(),
            steps,
            keep: Keep::default(),
            beside: Vec::new(),
            locks: Vec::new(),
            adopted: Vec::new(),
        }
    }

    /// Sets what recovery does with it once settled.
    pub fn kept(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Carries these runs of steps out at the same time, each in its own order; they must follow each other without a gap.
    ///
    /// What a run waits for must lie in an earlier one, and its steps must not undo each other's work.
    pub fn side_by_side(mut self, runs: Vec<Range<usize>>) -> Self {
        self.beside = runs;
        self
    }

    /// Takes what these steps make for made: they are not carried out, and a rollback leaves them alone. Once the plan is settled they
    /// are the box's like the others, so that a removal takes them back.
    pub fn adopting(mut self, indices: Vec<usize>) -> Self {
        self.adopted = indices;
        self
    }

    /// Holds a pool until the step of `index` is done.
    pub fn release_after(mut self, index: usize, lock: Hold) -> Self {
        self.locks.push((index, lock));
        self
    }
}

/// Plans and carries out, again when a race was lost, at most eight times.
///
/// A step that loses a race says [`Kind::Conflict`]; everything is rolled back before `plan` is asked again.
pub fn attempt(host: &Host, timings: &mut Timings, mut plan: impl FnMut(&mut Timings) -> Result<Plan>) -> Result<Carried> {
    let mut tries = 0;
    loop {
        tries += 1;
        let planned = plan(timings)?;
        timings.planned();
        match carry_out(planned, host, timings) {
            Err(fault) if fault.kind() == Kind::Conflict && tries < 8 => timings.retried(),
            other => return other,
        }
    }
}
