//! The whole life of a container in the foreground as a script: made, run, and with `--rm` taken back.

use super::run_dir;
use crate::cmd::{Context, records};
use crate::fault::Result;
use crate::plan::{Plan, explain};
use crate::record::ContainerRecord;
use crate::script::Script;
use crate::sys::runc::Launch;

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
