//! `rkbox stop`: asked to end, then made to.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::state::{self, Phase};
use super::{events, run_dir};
use crate::cmd::{Context, carry, output, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Id;
use crate::plan::journal::Journal;
use crate::record::ContainerRecord;
use crate::record::life::{EventKind, Exit, Request, STOP_TIMEOUT, parse_signal};
use crate::sys::control::Connection;
use crate::sys::file::{self, Durable};
use crate::sys::{Host, proc};

/// The file in the directory of a container that its user has stopped, so that no boot starts it again.
pub const MARK: &str = "stopped";
/// How long the end may take after SIGKILL.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Arguments of `rkbox stop` and `restart`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Seconds until SIGKILL; by default the container's own, or 10
    #[arg(short, long, value_name = "SECONDS")]
    pub time: Option<u32>,
    /// Instead of the container's own stop signal
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub keys: Vec<String>,
}

/// Stops each container named; returns when each one's exit file is there.
pub fn run(cx: &Context, args: &StopArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(parse_signal).transpose()?;
    carry::each(&args.keys, |key| {
        let id = records::find(&cx.host, records::BoxKind::Container, key)?;
        stop(&cx.host, &id, signal, args.time).doing(|| format!("cannot stop container {key}"))?;
        output::line(key);
        Ok(())
    })
}

/// Tells the monitor in `run`, if there is one, that its container is not to be started again. The connection hears how it ended.
pub fn hold(run: &Path) -> Result<Option<Connection>> {
    let Some(mut connection) = Connection::open(run)? else { return Ok(None) };
    // One that has just ended needs not be told.
    Ok(connection.ask(&Request::Stop).is_ok().then_some(connection))
}

/// Stops a container; one that does not run is fine.
pub fn stop(host: &Host, id: &Id, signal: Option<i32>, seconds: Option<u32>) -> Result<()> {
    let record = records::container(host, id)?;
    let state = state::of(host, &record)?;
    let run = run_dir(host, id);
    // Also of one that no policy starts: it may be given one while it is stopped.
    if !record.auto_remove {
        file::write_atomic(&record.bundle.join(MARK), 0o600, b"", Durable::No)?;
    }
    if state.pid.is_none() {
        if let Some(mut monitor) = hold(&run)? {
            monitor.reply(Some(END_LIMIT))?;
        }
        return Ok(());
    }
    let monitor = hold(&run)?;
    let Some(process) = records::runtime(&record.runtime).open_process(id.as_str())? else { return ended(host, &record, monitor) };
    if state.phase == Phase::Paused {
        records::runtime(&record.runtime).resume(id.as_str())?;
    }
    let signal = signal.map_or_else(|| parse_signal(&record.stop_signal), Ok)?;
    let seconds = seconds.or(record.life.stop_timeout).unwrap_or(STOP_TIMEOUT);
    // One that was not started has no program yet that could hear the signal.
    let heard = state.phase != Phase::Created && proc::ask_to_end(process.as_fd(), signal, Duration::from_secs(seconds.into()))?;
    if !heard {
        proc::send_kill(process.as_fd())?;
        if !proc::wait_readable(process.as_fd(), END_LIMIT)? {
            return Err(Fault::new(Kind::DeadlineExceeded, format!("container {} survives SIGKILL", record.name)));
        }
    }
    ended(host, &record, monitor)
}

/// Waits until whoever watches has written the exit file; where nobody does, writes what is known.
fn ended(host: &Host, record: &ContainerRecord, monitor: Option<Connection>) -> Result<()> {
    if let Some(mut monitor) = monitor
        && monitor.reply(Some(END_LIMIT))?.is_some()
    {
        return Ok(());
    }
    // A command in the foreground holds the journal until it has written it, or removed the container.
    let Some(journal) = Journal::open(host, record.id.as_str())? else { return Ok(()) };
    if state::exit(record)?.is_none() && file::exists(&record.bundle)? {
        records::runtime(&record.runtime).kill_and_delete(record.id.as_str(), &record.bundle, Duration::ZERO)?;
        let exit = Exit::unseen("nobody watched it when it was stopped", proc::now_rfc3339());
        file::write_atomic(&record.bundle.join("exit.json"), 0o600, &exit.to_bytes(), Durable::Yes)?;
        events::tell_detail(host, record, EventKind::Die, |event| event.exit_code = Some(exit.exit_code));
    }
    drop(journal);
    Ok(())
}
