//! `rkbox top`: the processes of a container, as the host sees them; nothing of the image is run for it.

use super::TopArgs;
use crate::bundle::size;
use crate::cmd::{Context, Format, output, records};
use crate::fault::{Fault, Kind, Result};
use crate::sys::usage;

/// Lists the processes of a container.
pub fn run(cx: &Context, args: &TopArgs) -> Result<u8> {
    let id = records::find(&cx.host, records::BoxKind::Container, &args.key)?;
    let record = records::container(&cx.host, &id)?;
    if records::running_pid(&record.runtime, &record.boot_id, &id)?.is_none() {
        return Err(
            Fault::new(Kind::FailedPrecondition, format!("container {} does not run", args.key)).hint("rkbox ps shows those that run")
        );
    }
    let processes = usage::processes(&record.runtime.cgroups_path);
    if cx.format == Format::Json {
        output::json(&processes)?;
        return Ok(0);
    }
    let row = |process: &usage::ProcessRow| {
        let seconds = process.cpu_millis / 1000;
        let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        vec![
            process.uid.to_string(),
            process.pid.to_string(),
            process.pid_inside.to_string(),
            process.ppid.to_string(),
            process.state.clone(),
            size::text(process.memory_bytes),
            time,
            process.command.clone(),
        ]
    };
    output::table(&["UID", "PID", "INSIDE", "PPID", "STATE", "MEMORY", "TIME", "COMMAND"], &processes.iter().map(row).collect::<Vec<_>>());
    Ok(0)
}
