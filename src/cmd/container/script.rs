//! The lives of a container as scripts: in the foreground, made, run, and with `--rm` taken back; and started once it is made.

use super::state::{self, Phase};
use super::{launch, renew, run_dir, start as starting, stop};
use crate::cmd::{Context, records};
use crate::fault::{Fault, Kind, Result};
use crate::plan::{Plan, explain, journal};
use crate::record::ContainerRecord;
use crate::record::life::Launch as What;
use crate::script::Script;
use crate::step::{Step, Watched};
use crate::sys::runc::Launch;
use crate::sys::{file, proc};

/// Writes the script.
pub fn foreground(cx: &Context, plan: &Plan, record: &ContainerRecord) -> Result<Script> {
    let mut script = explain::explain(plan, &cx.host)?;
    let run = run_dir(&cx.host, &record.id);
    let launch = Launch { id: record.id.as_str(), bundle: &record.bundle, log: &run.join("runtime.log"), pid_file: &run.join("pid") };
    let words = records::runtime(&record.runtime).foreground_words(&launch);
    script.blank();
    script.comment("run the container");
    let line = words.iter().map(|word| crate::script::quote(word)).collect::<Vec<_>>().join(" ");
    script.raw(&format!("status=0; {line} || status=$?"));
    if record.auto_remove {
        explain::append_removal(plan, &cx.host, &mut script)?;
    } else {
        let path = crate::script::quote(&record.bundle.join("exit.json").to_string_lossy());
        script.raw("signal=null; [ \"$status\" -le 128 ] || signal=$((status - 128))");
        let form = r#"{"exit_code":%s,"finished_at":"%s","oom_killed":null,"reason":"exited","signal":%s,"v":1}"#;
        script.raw(&format!("printf '{form}' \"$status\" \"$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)\" \"$signal\" > {path}"));
        script.raw(&format!("chmod 0600 {path}"));
    }
    script.raw("exit \"$status\"");
    Ok(script)
}

/// Writes the script that starts a container, also after a reboot. No script has a monitor: nobody keeps what is printed by one that is started
/// again, or sees its end.
///
/// *Errors:* `FailedPrecondition` for one without a journal in this boot, and one that its monitor starts again.
pub fn start(cx: &Context, record: &ContainerRecord) -> Result<Script> {
    let (host, name) = (&cx.host, &record.name);
    if !file::exists(&journal::path(host, record.id.as_str()))? {
        if record.boot_id == proc::boot_id()? {
            return Err(starting::unprepared(record));
        }
        let mut script = Script::new();
        renew::tell(cx, record, &mut script)?;
        return Ok(script);
    }
    let mut script = Script::new();
    script.comment(&format!("start container {name}"));
    script.blank();
    let state = state::of(host, record)?;
    match state.phase {
        Phase::Running | Phase::Paused => script.comment("it runs already"),
        Phase::Created if state.pid.is_some() => script.run(records::runtime(&record.runtime).start_words(record.id.as_str())),
        Phase::Restarting => {
            let why = format!("container {name} waits to be started again by its monitor, which no script can be");
            return Err(Fault::new(Kind::FailedPrecondition, why).hint(format!("stop it first: rkbox stop {name}")));
        }
        Phase::Created | Phase::Exited => {
            let order = launch::order(host, record, What::Run, false);
            let old = [stop::MARK, "exit.json"].map(|name| record.bundle.join(name).to_string_lossy().into_owned());
            script.run(["rm", "-f"].into_iter().chain(old.iter().map(String::as_str)));
            let step: Step = Watched { order: Box::new(order) }.into();
            script.comment(&step.to_string());
            explain::print(&step, None, host, &mut script)?;
        }
    }
    Ok(script)
}
