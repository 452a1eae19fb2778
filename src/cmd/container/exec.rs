//! `rkbox exec`: one more process in a container that runs.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use clap::Args;

use super::options::span;
use super::state::{self, Phase};
use super::{exec_process, foreground, run_dir};
use crate::cmd::{Context, records};
use crate::fault::{Fault, Kind, Result};
use crate::record::ContainerRecord;
use crate::sys::exec::{self, Bond, Stream};
use crate::sys::file::{self, Durable};
use crate::sys::runc::ExecRequest;
use crate::sys::subgroup::Subgroup;
use crate::sys::{Host, proc, pty, runc, runc_log};

/// How long the processes of a session may take to go after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// The exit status of a session that took too long. *Source:* timeout(1).
const TIMED_OUT: u8 = 124;

/// Arguments of `rkbox exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Leave it running
    #[arg(short, long, conflicts_with_all = ["interactive", "tty", "timeout"])]
    pub detach: bool,
    /// Hand standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Environment variable; without a value it comes from the caller
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// All capabilities, and the right to gain privileges
    #[arg(long)]
    pub privileged: bool,
    /// Kill it, and all that it started, after this time (status 124)
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub timeout: Option<Duration>,
    /// Name, id or unique prefix of an id
    #[arg(value_name = "CONTAINER")]
    pub key: String,
    /// Command and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// The files of a session; gone when dropped.
struct Session {
    process: PathBuf,
    pid_file: PathBuf,
    log: PathBuf,
    group: Option<Subgroup>,
}

impl Drop for Session {
    fn drop(&mut self) {
        for path in [&self.process, &self.pid_file, &self.log] {
            let _ = file::remove_file(path);
        }
    }
}

/// Runs a process in a container; answers its exit status.
pub fn run(cx: &Context, args: &ExecArgs) -> Result<u8> {
    if args.tty && !std::io::stdin().is_terminal() {
        return Err(Fault::invalid("--tty: standard input is not a terminal").hint("leave --tty out, or call rkbox from a terminal"));
    }
    let id = records::find(&cx.host, records::BoxKind::Container, &args.key)?;
    let record = records::container(&cx.host, &id)?;
    match state::of(&cx.host, &record)?.phase {
        Phase::Running => {}
        Phase::Paused => {
            let fault = Fault::new(Kind::FailedPrecondition, format!("container {} is paused", record.name));
            return Err(fault.hint(format!("rkbox unpause {}", record.name)));
        }
        _ => return Err(Fault::new(Kind::FailedPrecondition, format!("container {} does not run", record.name))),
    }
    let session = prepare(&cx.host, &record, args)?;
    let mark = runc_log::length(&session.log);
    let request = ExecRequest { process: &session.process, pid_file: &session.pid_file, log: &session.log, group: session.group.as_ref() };
    let options: &[&str] = match (args.detach, args.tty) {
        (true, _) => &["--detach"],
        (_, true) => &["--tty"],
        _ => &[],
    };
    // The runtime puts the terminal back itself, unless it is killed.
    let before = args.tty.then(pty::Kept::take);
    let exec = records::runtime(&record.runtime).exec_process(&request, options, id.as_str());
    let stdin = if args.interactive || args.tty { Stream::Inherit } else { Stream::Null };
    let exec = match args.detach {
        true => exec.streams(Stream::Null, Stream::Null, Stream::Null),
        false => exec.streams(stdin, Stream::Inherit, Stream::Inherit),
    };
    let mut child = exec.spawn(Bond::Helper)?;
    let status = wait(&mut child, &session, args.timeout)?;
    drop(before);
    let Some(code) = status else { return Ok(TIMED_OUT) };
    // Without its pid the process never was: then the status is the runtime's own.
    if code != 0 && (!file::exists(&session.pid_file)? || runc_log::has_error(&session.log, mark)) {
        return not_started(&session, mark, &record, args.detach);
    }
    Ok(code)
}

fn not_started(session: &Session, mark: u64, record: &ContainerRecord, detached: bool) -> Result<u8> {
    let fault = runc_log::failure(&session.log, mark, "the runtime started nothing");
    let fault = foreground::start_fault(fault.doing(format!("cannot run in container {}", record.name)));
    if !detached && runc_log::is_printed_too(&session.log) {
        let said = Fault::new(fault.fault.kind(), "the runtime says why above");
        return foreground::failed_start(foreground::StartFault {
            fault: said.doing(format!("cannot run in container {}", record.name)),
            status: fault.status,
        });
    }
    foreground::failed_start(fault)
}

/// Waits for the runtime, which ends with the process however many children hold the streams; `None` when that took too long.
fn wait(child: &mut Child, session: &Session, limit: Option<Duration>) -> Result<Option<u8>> {
    let Some(limit) = limit else { return runc::wait_forwarding(child).map(|status| Some(exec::exit_code(status))) };
    if let Some(status) = exec::wait_timeout(child, limit)? {
        return Ok(Some(exec::exit_code(status)));
    }
    if let Some(group) = &session.group {
        group.kill(KILL_LIMIT)?;
    }
    let _ = child.kill();
    let _ = child.wait();
    Ok(None)
}

fn prepare(host: &Host, record: &ContainerRecord, args: &ExecArgs) -> Result<Session> {
    let run = run_dir(host, &record.id);
    let word = crate::ids::hex(&proc::random::<6>()?);
    let at = |end: &str| run.join(format!("exec-{word}.{end}"));
    let group = match args.timeout {
        Some(_) => Some(Subgroup::make(&record.runtime.cgroups_path, &format!("exec-{word}"))?),
        None => None,
    };
    let session = Session { process: at("json"), pid_file: at("pid"), log: at("log"), group };
    let text = exec_process::document(record, args)?;
    file::create_atomic(&session.process, 0o600, text.as_bytes(), Durable::No)?;
    Ok(session)
}
