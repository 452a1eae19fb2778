//! `--explain`: the same plan as a POSIX shell script that anybody can read and run.

use serde_json::Value;

use super::Plan;
use super::journal::Status;
use super::unwind;
use crate::fault::Result;
use crate::ids::shorten;
use crate::script::Script;
use crate::step::{Step, Tenure};
use crate::sys::Host;

/// The script that does what carrying out `plan` would do. A shared thing that stands already is a comment.
pub fn explain(plan: &Plan, host: &Host) -> Result<Script> {
    let mut script = Script::new();
    append(plan, host, &mut script)?;
    Ok(script)
}

/// Appends what [`explain`] writes; what the plan finds made is left out.
pub fn append(plan: &Plan, host: &Host, script: &mut Script) -> Result<()> {
    script.comment(&plan.command);
    tell_where(host, script);
    if plan.steps.iter().any(Step::shows_other_ids) {
        need_mapped_mounts(script);
    }
    for (_, step) in plan.steps.iter().enumerate().filter(|(index, _)| !plan.adopted.contains(index)) {
        script.blank();
        if step.tenure() == Tenure::Shared && step.look(host).and_then(|before| step.already(&before)).unwrap_or(false) {
            script.comment(&shorten(&format!("{step}: already so")));
            continue;
        }
        script.comment(&shorten(&step.to_string()));
        print(step, None, host, script)?;
    }
    Ok(())
}

/// The script that does what removing a box would do, from its journal, down to step `down_to`.
pub fn explain_removal(command: &str, status: &Status, down_to: usize, host: &Host) -> Result<Script> {
    let mut script = Script::new();
    script.comment(command);
    tell_where(host, &mut script);
    for (step, before) in unwind::removal_of(status, down_to) {
        script.blank();
        script.comment(&shorten(&format!("undo: {step}")));
        print(step, Some(before), host, &mut script)?;
    }
    Ok(script)
}

/// Appends the undo of every private step of `plan`, last first, as of a host on which nothing of it stood.
pub fn append_removal(plan: &Plan, host: &Host, script: &mut Script) -> Result<()> {
    for step in plan.steps.iter().rev().filter(|step| step.tenure() == Tenure::Private) {
        script.blank();
        script.comment(&shorten(&format!("undo: {step}")));
        print(step, Some(&step.before_nothing()?), host, script)?;
    }
    Ok(())
}

/// Prints a step; where bridges are in a namespace of their own, what acts there enters it.
pub fn print(step: &Step, before: Option<&Value>, host: &Host, script: &mut Script) -> Result<()> {
    let Some(netns) = host.rootless_netns.as_ref().filter(|_| step.is_at_bridges()) else { return step.script(before, script) };
    let mut inside = Script::new();
    step.script(before, &mut inside)?;
    script.feed(["nsenter".to_owned(), format!("--net={}", netns.display()), "sh".into(), "-eu".into()], inside.as_str());
    Ok(())
}

/// Refuses a mount(8) that would pass over `X-mount.idmap`, before anything is made.
fn need_mapped_mounts(script: &mut Script) {
    script.blank();
    script.comment("mounts that show other ids need mount(8) of util-linux 2.39; an older one would show those of the disk");
    script.raw("version=$(mount --version | sed 's/.*util-linux \\([0-9.]*\\).*/\\1/')");
    script.raw("[ \"$(printf '%s\\n' 2.39 \"$version\" | sort -V | head -n1)\" = 2.39 ] || {");
    script.raw("  echo \"this mount(8) is of util-linux $version, and X-mount.idmap is of 2.39: leave --explain out (rkbox needs no mount(8))\" >&2");
    script.raw("  exit 1");
    script.raw("}");
}

/// Where an ordinary user's script is to be run.
fn tell_where(host: &Host, script: &mut Script) {
    if host.rootless_netns.is_some() {
        let pid = host.run.join("holder.pid");
        let enter = format!("nsenter --user --mount --preserve-credentials --target $(cat {}) sh", pid.display());
        script.comment(&format!("in the namespaces of this user: {enter}"));
    }
}
