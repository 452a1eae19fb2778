//! `rkbox start`: what was created, and what has ended.

use std::time::Duration;

use clap::Args;

use super::state::{self, Phase, State};
use super::{attach, events, foreground, keys, launch, renew, run_dir, script};
use crate::cmd::{Context, Format, PlanArgs, carry, output, records};
use crate::fault::{Context as _, Fault, Faults, Kind, Result};
use crate::ids::Id;
use crate::plan::Timings;
use crate::plan::journal::Journal;
use crate::record::ContainerRecord;
use crate::record::life::{EventKind, Exit, Launch};
use crate::sys::{Host, file, monitor, proc};

/// How long a monitor may take to finish with the last life.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `rkbox start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Attach to it (one container)
    #[arg(short, long, conflicts_with = "explain")]
    pub attach: bool,
    /// Start all containers that do not run
    #[arg(long, conflicts_with_all = ["keys", "attach"])]
    pub all: bool,
    /// Of all, those whose restart policy wants it at boot: always,
    /// unless-stopped if not stopped before, on-failure if it failed
    #[arg(long, requires = "all")]
    pub restart_policy: bool,
    /// Names, ids or unique prefixes of ids
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    pub keys: Vec<String>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Starts each container named.
pub fn run(cx: &Context, args: &StartArgs) -> Result<u8> {
    if args.all {
        return all(cx, args.restart_policy, args.plan);
    }
    if args.attach {
        let [key] = args.keys.as_slice() else { return Err(Fault::invalid("--attach takes one container")) };
        return attached(cx, key, args.plan);
    }
    carry::each(&args.keys, |key| {
        let id = records::find(&cx.host, records::BoxKind::Container, key)?;
        one(cx, &id, args.plan).doing(|| format!("cannot start container {key}"))?;
        if !args.plan.explain {
            output::line(key);
        }
        Ok(())
    })
}

fn one(cx: &Context, id: &Id, plan: PlanArgs) -> Result<()> {
    if plan.explain {
        return script::start(cx, &records::container(&cx.host, id)?).map(|script| carry::show(&script));
    }
    let mut timings = Timings::start();
    begin(cx, id, false, &mut timings)?;
    carry::report(cx, plan, timings);
    Ok(())
}

/// Starts all that do not run, the oldest first: it may be what later ones join. One that fails does not stop the others.
fn all(cx: &Context, by_policy: bool, plan: PlanArgs) -> Result<u8> {
    let (mut faults, mut records, mut rows) = (Faults::default(), Vec::new(), Vec::new());
    for id in records::ids(&cx.host, records::BoxKind::Container)? {
        match records::container(&cx.host, &id) {
            Ok(record) => records.push(record),
            Err(fault) => faults.note(fault),
        }
    }
    records.sort_by(|a, b| (&a.created_at, &a.id).cmp(&(&b.created_at, &b.id)));
    for record in records {
        let wanted = state::of(&cx.host, &record).and_then(|state| Ok(!state.is_up() && (!by_policy || wants(&record, &state)?)));
        let started = match wanted {
            Ok(false) => continue,
            Ok(true) => one(cx, &record.id, plan),
            Err(fault) => Err(fault),
        };
        let error = started.as_ref().err().map(ToString::to_string);
        if started.is_ok() && cx.format == Format::Table && !plan.explain {
            output::line(record.name.as_ref());
        }
        rows.push(serde_json::json!({ "id": record.id, "name": record.name, "started": started.is_ok(), "error": error }));
        faults.keep(started.doing(|| format!("cannot start container {}", record.name)));
    }
    if cx.format == Format::Json && !plan.explain {
        output::json(&rows)?;
    }
    faults.or(0)
}

/// Whether the restart policy of one that does not run wants it at boot.
fn wants(record: &ContainerRecord, state: &State) -> Result<bool> {
    let stopped = file::exists(&record.bundle.join(super::stop::MARK))?;
    let code = state.exit.as_ref().map_or(Exit::UNKNOWN, |exit| exit.exit_code);
    Ok(record.life.restart.wants_at_boot(code, stopped))
}

/// Attached to one that was created before it is started; the monitor of another life waits for us: so nothing is missed.
fn attached(cx: &Context, key: &str, plan: PlanArgs) -> Result<u8> {
    let mut timings = Timings::start();
    let id = records::find(&cx.host, records::BoxKind::Container, key)?;
    let record = records::container(&cx.host, &id)?;
    let how = attach::How { stdin: record.stdin, pace: true, sig_proxy: true, keys: keys::parse_keys(keys::DETACH_KEYS)? };
    let host = &cx.host;
    let state = state::of(host, &record)?;
    let waiting = match state.phase {
        Phase::Created if state.pid.is_some() => Some(attach::connect(host, &record, &how)?),
        _ => None,
    };
    if let Err(fault) = begin(cx, &id, true, &mut timings) {
        return foreground::failed_start(foreground::start_fault(fault.doing(format!("cannot start container {key}"))));
    }
    let connection = waiting.map_or_else(|| attach::connect(host, &record, &how), Ok)?;
    let code = attach::copy(&record, &how, connection)?.code();
    timings.row("run the container");
    carry::report(cx, plan, timings);
    Ok(code)
}

/// Starts a container; one that runs already is fine.
pub fn start(cx: &Context, id: &Id) -> Result<()> {
    begin(cx, id, false, &mut Timings::start())
}

fn begin(cx: &Context, id: &Id, awaits_client: bool, timings: &mut Timings) -> Result<()> {
    let host = &cx.host;
    loop {
        let record = records::container(host, id)?;
        if state::of(host, &record)?.is_up() {
            return Ok(());
        }
        // Two starts, or a start and a removal, come one after the other.
        if let Some(held) = Journal::open(host, id.as_str())? {
            timings.row("wait for other commands");
            let begun = of_this_boot(host, &record, awaits_client);
            drop(held);
            timings.row("start the container");
            return begun;
        }
        if record.boot_id == proc::boot_id()? {
            return Err(unprepared(&record));
        }
        if renew::start(cx, &record, awaits_client, timings)? {
            return Ok(());
        }
    }
}

fn of_this_boot(host: &Host, record: &ContainerRecord, awaits_client: bool) -> Result<()> {
    let state = state::of(host, record)?;
    match state.phase {
        Phase::Running | Phase::Paused => {}
        Phase::Created if state.pid.is_some() => {
            records::runtime(&record.runtime).start(record.id.as_str())?;
            events::tell(host, record, EventKind::Start);
        }
        Phase::Created | Phase::Exited | Phase::Restarting => again(host, record, awaits_client)?,
    }
    Ok(())
}

/// Starts one that has ended (or was never launched) under a new monitor.
fn again(host: &Host, record: &ContainerRecord, awaits_client: bool) -> Result<()> {
    let run = run_dir(host, &record.id);
    // Whatever the last monitor still does: it is told that there will be no other life of its making.
    super::stop::hold(&run)?;
    if !monitor::wait_end(&run, PATIENCE)? {
        return Err(Fault::new(Kind::DeadlineExceeded, format!("the last monitor of {} does not end", record.name)));
    }
    file::remove_file(&record.bundle.join(super::stop::MARK))?;
    monitor::start(&launch::order(host, record, Launch::Run, awaits_client)).map(drop)
}

pub fn unprepared(record: &ContainerRecord) -> Fault {
    Fault::new(Kind::FailedPrecondition, format!("container {} has no journal: what was made of it is not known", record.name))
        .hint(format!("its files are in {}; make it again: rkbox rm {} and rkbox run", record.bundle.join("upper").display(), record.name))
}
