//! `--explain`: the same plan as a POSIX shell script that anybody can read and run.

use super::Plan;
use super::journal::Status;
use super::unwind;
use crate::fault::Result;
use crate::ids::shorten;
use crate::script::Script;
use crate::step::Tenure;
use crate::sys::Host;

/// The script that does what carrying out `plan` would do. A shared thing that stands already is a comment.
pub fn explain(plan: &Plan, host: &Host) -> Result<Script> {
    let mut script = Script::new();
    script.comment(&plan.command);
    for step in &plan.steps {
        script.blank();
        if step.tenure() == Tenure::Shared && step.look(host).and_then(|before| step.already(&before)).unwrap_or(false) {
            script.comment(&shorten(&format!("{step}: already so")));
            continue;
        }
        script.comment(&shorten(&step.to_string()));
        step.script(None, &mut script)?;
    }
    Ok(script)
}

/// The script that does what removing a box would do, from its journal, down to step `down_to`.
pub fn explain_removal(command: &str, status: &Status, down_to: usize) -> Result<Script> {
    let mut script = Script::new();
    script.comment(command);
    for (step, before) in unwind::removal_of(status, down_to) {
        script.blank();
        script.comment(&shorten(&format!("undo: {step}")));
        step.script(Some(before), &mut script)?;
    }
    Ok(script)
}

/// Appends the undo of every private step of `plan`, last first, as of a host on which nothing of it stood.
pub fn append_removal(plan: &Plan, script: &mut Script) -> Result<()> {
    for step in plan.steps.iter().rev().filter(|step| step.tenure() == Tenure::Private) {
        script.blank();
        script.comment(&shorten(&format!("undo: {step}")));
        step.script(Some(&step.before_nothing()?), script)?;
    }
    Ok(())
}
