//! A container in the foreground: the runtime has our streams, nobody copies anything.

use super::{events, run_dir};
use crate::cmd::{output, records};
use crate::fault::{Fault, Result};
use crate::plan::{Timings, reach};
use crate::record::ContainerRecord;
use crate::record::life::{EventKind, Exit};
use crate::sys::runc::{Input, Launch};
use crate::sys::{Host, exec, file, proc, runc_log};

/// The runtime could not start the process: 126 and 127 speak of the command, all else of rkbox.
pub fn failed_start(fault: StartFault) -> Result<u8> {
    output::fault(&fault.fault);
    Ok(fault.status)
}

/// Why a start failed, and the exit status that says so.
#[derive(Debug)]
pub struct StartFault {
    /// The fault.
    pub fault: Fault,
    /// 125, 126 or 127.
    pub status: u8,
}

impl StartFault {
    /// Lists `later` under it.
    pub fn and_also(self, later: Fault) -> Fault {
        self.fault.and_also(later)
    }
}

/// Runs the container to its end with our streams, without a monitor.
pub fn start(host: &Host, record: &ContainerRecord, timings: &mut Timings) -> std::result::Result<u8, StartFault> {
    let tool = |fault: Fault| StartFault { fault, status: 125 };
    reach("start", 0).map_err(tool)?;
    let run = run_dir(host, &record.id);
    let launch = Launch { id: record.id.as_str(), bundle: &record.bundle, log: &run.join("runtime.log"), pid_file: &run.join("pid") };
    let input = if record.stdin || record.tty { Input::Ours } else { Input::Null };
    events::tell(host, record, EventKind::Start);
    let ended = records::runtime(&record.runtime).run_foreground(&launch, input);
    timings.row("run the container");
    let ended = ended.map_err(|fault| {
        let said = runc_log::is_printed_too(launch.log);
        let status = runc_log::start_status(&fault.to_string());
        let fault = if said { Fault::new(fault.kind(), "the runtime says why above") } else { fault };
        StartFault { fault: with_hint(fault, status).doing(format!("cannot start container {}", record.name)), status }
    })?;
    let code = exec::exit_code(ended);
    events::tell_detail(host, record, EventKind::Die, |event| event.exit_code = Some(code));
    if !record.auto_remove {
        let signal = (code > 128).then(|| i32::from(code) - 128);
        let exit = Exit::seen(code, signal, None, proc::now_rfc3339());
        file::write_atomic(&record.bundle.join("exit.json"), 0o600, &exit.to_bytes(), file::Durable::Yes)
            .map_err(|error| tool(error.into()))?;
    }
    Ok(code)
}

/// What a start that failed means, from the text of its fault: 126 and 127 speak of the command, all else of rkbox.
pub fn start_fault(fault: Fault) -> StartFault {
    let status = runc_log::start_status(&fault.to_string());
    StartFault { fault: with_hint(fault, status), status }
}

fn with_hint(fault: Fault, status: u8) -> Fault {
    match status {
        126 => fault.hint("the program must be an executable file that this user may execute, made for this machine"),
        127 => fault.hint("name a program that the image has, by its path or in its PATH"),
        _ => fault,
    }
}
