//! `rkbox exec`: one more process in a container that runs.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::exec_terminal::{self, Outcome};
use super::options::span;
use super::state::{self, Phase};
use super::{exec_process, foreground, keys, run_dir};
use crate::cmd::{Context, parse, records};
use crate::fault::{Fault, Kind, Result};
use crate::record::ContainerRecord;
use crate::record::life::Exit;
use crate::sys::exec::{Bond, Stream};
use crate::sys::file::{self, Durable};
use crate::sys::pty::ConsoleSocket;
use crate::sys::runc::ExecRequest;
use crate::sys::subgroup::Subgroup;
use crate::sys::usage::Tasks;
use crate::sys::{Host, proc, reaper, runc, runc_log, signal};

/// How long the processes of a session may take to go after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How long one wait lasts.
const TURN: Duration = Duration::from_secs(60);
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
    /// Keys that leave a terminal without ending the process
    #[arg(long, value_name = "KEYS", default_value = keys::DETACH_KEYS, value_parser = keys::parse_keys)]
    pub detach_keys: keys::Keys,
    /// Environment variable; without a value it comes from the caller
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR", value_parser = parse::workdir)]
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
    console: String,
    group: Option<Subgroup>,
}

impl Drop for Session {
    fn drop(&mut self) {
        for path in [&self.process, &self.pid_file, &self.log] {
            let _ = file::remove_file(path);
        }
    }
}

/// So many processes and threads the runtime makes in the container while it enters: with fewer it mostly fails, and prints the traces of all
/// its threads (measured: runc 1.1 never did with five).
const NEEDED: u64 = 5;

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
    let tasks = Tasks::of(&record.runtime.cgroups_path);
    if tasks.room().is_some_and(|room| room < NEEDED) {
        return Err(no_room(&record, tasks).doing(format!("cannot run in container {}", record.name)));
    }
    let session = prepare(&cx.host, &record, args)?;
    let mark = runc_log::length(&session.log);
    let request = ExecRequest { process: &session.process, pid_file: &session.pid_file, log: &session.log, group: session.group.as_ref() };
    // As the parent of orphans we are the one whom the process is left to when the runtime ends: so it has our own streams, nobody
    // copies them, and its end is not put off by children that hold them. (`runc exec` in the foreground copies, and waits for those.)
    reaper::become_subreaper()?;
    let console = match args.tty {
        true => Some(ConsoleSocket::bind(&run_dir(&cx.host, &id), &session.console)?),
        false => None,
    };
    let path = console.as_ref().map(ConsoleSocket::path);
    let options = path.as_ref().map_or(vec!["--detach"], |path| vec!["--detach", "--tty", "--console-socket", path]);
    let exec = records::runtime(&record.runtime).exec_process(&request, &options, id.as_str());
    let stdin = if args.interactive { Stream::Inherit } else { Stream::Null };
    let exec = match args.detach || args.tty {
        true => exec.streams(Stream::Null, Stream::Null, Stream::Null),
        false => exec.streams(stdin, Stream::Inherit, Stream::Inherit),
    };
    let mut runtime = exec.spawn(Bond::Helper)?;
    let started = runc::wait_forwarding(&mut runtime)?.success();
    let pid = file::find(&session.pid_file, 64)?.and_then(|text| String::from_utf8_lossy(&text).trim().parse::<i32>().ok());
    match pid.filter(|pid| started && *pid > 1) {
        None => not_started(&session, (mark, tasks.refused), &record, args.detach),
        Some(_) if args.detach => Ok(0),
        Some(pid) => match console {
            Some(console) => in_terminal(&console, pid, &session, args),
            None => wait(pid, &session, args.timeout),
        },
    }
}

/// With a terminal we copy between that of the process and ours.
fn in_terminal(console: &ConsoleSocket, pid: i32, session: &Session, args: &ExecArgs) -> Result<u8> {
    let deadline = args.timeout.map(|limit| Instant::now() + limit);
    match exec_terminal::Session::begin(console.receive()?, pid, args.detach_keys.clone())?.run(deadline)? {
        Outcome::Ended(code) => Ok(code),
        Outcome::Left => Ok(0),
        Outcome::TimedOut => {
            end_group(session.group.as_ref())?;
            Ok(TIMED_OUT)
        }
    }
}

/// A container in which there may not be enough processes more.
fn no_room(record: &ContainerRecord, tasks: Tasks) -> Fault {
    let limit = tasks.limit.unwrap_or(tasks.used);
    let used = tasks.used;
    let message =
        format!("it has {used} of the {limit} processes and threads that it may have (--pids-limit), and another one takes {NEEDED}");
    Fault::new(Kind::ResourceExhausted, message).hint(format!("rkbox update --pids-limit {} {}", limit.max(used) + NEEDED, record.name))
}

/// `before`: the length of the runtime's log, and how many processes the container was refused, before the runtime began.
fn not_started(session: &Session, before: (u64, u64), record: &ContainerRecord, detached: bool) -> Result<u8> {
    let tasks = Tasks::of(&record.runtime.cgroups_path);
    if tasks.refused > before.1 {
        return foreground::failed_start(foreground::start_fault(
            no_room(record, tasks).doing(format!("cannot run in container {}", record.name)),
        ));
    }
    let fault = runc_log::failure(&session.log, before.0, "the runtime started nothing");
    if detached {
        return foreground::failed_start(foreground::start_fault(fault.doing(format!("cannot run in container {}", record.name))));
    }
    failed(fault, &session.log, record)
}

fn failed(fault: Fault, log: &std::path::Path, record: &ContainerRecord) -> Result<u8> {
    let doing = format!("cannot run in container {}", record.name);
    let mut start = foreground::start_fault(fault.doing(doing.clone()));
    if runc_log::is_printed_too(log) {
        start.fault = Fault::new(start.fault.kind(), "the runtime says why above").doing(doing);
    }
    foreground::failed_start(start)
}

/// Waits for a process that is ours to wait for; signals to us go to it.
fn wait(pid: i32, session: &Session, limit: Option<Duration>) -> Result<u8> {
    let pidfd = proc::open_pidfd(pid)?;
    let forwarding = signal::Forwarding::to(pid)?;
    let deadline = limit.map(|limit| Instant::now() + limit);
    let in_time = loop {
        let turn = deadline.map_or(TURN, |deadline| deadline.saturating_duration_since(Instant::now()).min(TURN));
        if proc::wait_readable(pidfd.as_fd(), turn)? {
            break true;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break false;
        }
    };
    drop(forwarding);
    if !in_time {
        end_group(session.group.as_ref())?;
        return Ok(TIMED_OUT);
    }
    Ok(reaper::reap_one(pid).map_or(Exit::UNKNOWN, |ended| ended.code))
}

fn end_group(group: Option<&Subgroup>) -> Result<()> {
    group.map_or(Ok(()), |group| group.kill(KILL_LIMIT))
}

fn prepare(host: &Host, record: &ContainerRecord, args: &ExecArgs) -> Result<Session> {
    let run = run_dir(host, &record.id);
    let word = crate::ids::hex(&proc::random::<6>()?);
    let at = |end: &str| run.join(format!("exec-{word}.{end}"));
    let group = match args.timeout {
        Some(_) => Some(Subgroup::make(&record.runtime.cgroups_path, &format!("exec-{word}"))?),
        None => None,
    };
    let session = Session { process: at("json"), pid_file: at("pid"), log: at("log"), console: format!("exec-{word}.sock"), group };
    let text = exec_process::document(record, args)?;
    file::create_atomic(&session.process, 0o600, text.as_bytes(), Durable::No)?;
    Ok(session)
}
