//! `rkbox start`: what was created, and what has ended.

use std::time::Duration;

use clap::Args;

use super::state::{self, Phase};
use super::{attach, events, foreground, keys, launch, run_dir};
use crate::cmd::{Context, carry, output, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Id;
use crate::plan::journal::Journal;
use crate::record::ContainerRecord;
use crate::record::life::{EventKind, Launch};
use crate::sys::{Host, file, monitor, proc};

/// How long a monitor may take to finish with the last life.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `rkbox start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Attach to it (one container)
    #[arg(short, long)]
    pub attach: bool,
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub keys: Vec<String>,
}

/// Starts each container named.
pub fn run(cx: &Context, args: &StartArgs) -> Result<u8> {
    if args.attach {
        let [key] = args.keys.as_slice() else { return Err(Fault::invalid("--attach takes one container")) };
        return attached(cx, key);
    }
    carry::each(&args.keys, |key| {
        let id = records::find(&cx.host, records::BoxKind::Container, key)?;
        start(&cx.host, &id).doing(|| format!("cannot start container {key}"))?;
        output::line(key);
        Ok(())
    })
}

/// Attached to one that was created before it is started; the monitor of another life waits for us: so nothing is missed.
fn attached(cx: &Context, key: &str) -> Result<u8> {
    let id = records::find(&cx.host, records::BoxKind::Container, key)?;
    let record = records::container(&cx.host, &id)?;
    let how = attach::How { stdin: record.stdin, pace: true, sig_proxy: true, keys: keys::parse_keys(keys::DETACH_KEYS)? };
    let host = &cx.host;
    let state = state::of(host, &record)?;
    let waiting = match state.phase {
        Phase::Created if state.pid.is_some() => Some(attach::connect(host, &record, &how)?),
        _ => None,
    };
    if let Err(fault) = begin(host, &id, true) {
        return foreground::failed_start(foreground::start_fault(fault.doing(format!("cannot start container {key}"))));
    }
    let connection = waiting.map_or_else(|| attach::connect(host, &record, &how), Ok)?;
    Ok(attach::copy(&record, &how, connection)?.code())
}

/// Starts a container; one that runs already is fine.
pub fn start(host: &Host, id: &Id) -> Result<()> {
    begin(host, id, false)
}

fn begin(host: &Host, id: &Id, awaits_client: bool) -> Result<()> {
    let record = records::container(host, id)?;
    if state::of(host, &record)?.is_up() {
        return Ok(());
    }
    // Two starts, or a start and a removal, come one after the other.
    let held = Journal::open(host, id.as_str())?.ok_or_else(|| unprepared(&record))?;
    let state = state::of(host, &record)?;
    match state.phase {
        Phase::Running | Phase::Paused => {}
        Phase::Created if state.pid.is_some() => {
            records::runtime(&record.runtime).start(id.as_str())?;
            events::tell(host, &record, EventKind::Start);
        }
        Phase::Created | Phase::Exited | Phase::Restarting => again(host, &record, awaits_client)?,
    }
    drop(held);
    Ok(())
}

/// Starts one that has ended (or was never launched) under a new monitor.
fn again(host: &Host, record: &ContainerRecord, awaits_client: bool) -> Result<()> {
    if record.boot_id != proc::boot_id()? {
        return Err(unprepared(record));
    }
    let run = run_dir(host, &record.id);
    // Whatever the last monitor still does: it is told that there will be no other life of its making.
    super::stop::hold(&run)?;
    if !monitor::wait_end(&run, PATIENCE)? {
        return Err(Fault::new(Kind::DeadlineExceeded, format!("the last monitor of {} does not end", record.name)));
    }
    file::remove_file(&record.bundle.join(super::stop::MARK))?;
    monitor::start(&launch::order(host, record, Launch::Run, awaits_client)).map(drop)
}

fn unprepared(record: &ContainerRecord) -> Fault {
    Fault::new(Kind::FailedPrecondition, format!("container {} was lost at a reboot: its mounts and network are gone", record.name))
        .hint(format!("its files are in {}; make it again: rkbox rm {} and rkbox run", record.bundle.join("upper").display(), record.name))
}
