//! `rkbox logs`: what containers printed, from their log files.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use clap::Args;

use super::state::{self, Phase};
use super::{of_sandbox, options, run_dir};
use crate::cmd::{Context, output, records};
use crate::fault::{Fault, Kind, Result};
use crate::record::ContainerRecord;
use crate::record::life::{Line, Reply, Request, StreamName};
use crate::sys::changes::Changes;
use crate::sys::control::{self, Connection};
use crate::sys::log_reader::LogReader;
use crate::sys::{Host, file, proc};

/// How long a follower waits before it looks by itself.
const TURN: Duration = Duration::from_secs(5);

/// Arguments of `rkbox logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Go on until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many of the last lines
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = tail)]
    pub tail: Option<Tail>,
    /// From then: RFC 3339, Unix seconds, or how long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<String>,
    /// Until then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<String>,
    /// Print the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
    /// Print nothing: have the files opened anew, after something else moved them away
    #[arg(long, conflicts_with_all = ["follow", "tail", "since", "until", "timestamps"])]
    pub reopen: bool,
    /// A container, or a sandbox for all of its containers
    #[arg(value_name = "CONTAINER|SANDBOX")]
    pub key: String,
}

/// `--tail`: so many lines, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail(Option<usize>);

fn tail(text: &str) -> Result<Tail> {
    match text {
        "all" | "-1" => Ok(Tail(None)),
        _ => text.parse().map(|count| Tail(Some(count))).map_err(|_| Fault::invalid(format!("{text:?} is not a count of lines"))),
    }
}

/// A moment as RFC 3339 in UTC with nine digits, as the log has it: so that texts are compared.
pub fn moment(text: &str) -> Result<String> {
    let bad = || {
        Fault::invalid(format!("{text:?} is not a time")).hint("the forms are 2026-01-31T12:00:00Z, 1769860800, or 10m for ten minutes ago")
    };
    let stamp = if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        stamp
    } else if let Ok(seconds) = text.parse::<f64>() {
        let nanos = (seconds * 1e9).round();
        if !nanos.is_finite() {
            return Err(bad());
        }
        jiff::Timestamp::from_nanosecond(nanos as i128).map_err(|_| bad())?
    } else {
        let span = options::span(text).map_err(|_| bad())?;
        jiff::Timestamp::now().checked_sub(span).map_err(|_| bad())?
    };
    Ok(format!("{stamp:.9}"))
}

/// One container's log being read.
struct Source {
    prefix: String,
    reader: LogReader,
    /// Hears when the container is over; `None` when it is, or when nobody watches it.
    life: Option<Connection>,
}

/// One record, kept.
struct Kept {
    time: String,
    stream: StreamName,
    partial: bool,
    content: Vec<u8>,
}

/// Prints the log of a container, or of all containers of a sandbox by time.
///
/// *Errors:* `FailedPrecondition` when none of them keeps a log.
pub fn run(cx: &Context, args: &LogsArgs) -> Result<u8> {
    let all = named(&cx.host, &args.key)?;
    let without = all.iter().map(|record| has_none(&cx.host, record)).collect::<Result<Vec<bool>>>()?;
    if let Some(first) = all.first().filter(|_| !without.contains(&false)) {
        return Err(Fault::new(Kind::FailedPrecondition, format!("container {} keeps no log", first.name))
            .hint("a run in the foreground prints where it was called; run -d and create keep a log"));
    }
    if args.reopen {
        return all.iter().filter(|record| record.life.log.is_some()).try_for_each(|record| reopen(&cx.host, record)).map(|()| 0);
    }
    let several = all.len() > 1;
    let mut sources = Vec::new();
    let changes = Changes::new()?;
    for record in &all {
        let Some(log) = &record.life.log else { continue };
        changes.of(log.path.parent().unwrap_or(&record.bundle))?;
        let life = if args.follow { life(&cx.host, record)? } else { None };
        let prefix = if several { format!("{} | ", record.name) } else { String::new() };
        sources.push(Source { prefix, reader: LogReader::oldest(&log.path), life });
    }
    let printer = Printer { timestamps: args.timestamps, since: args.since.as_deref(), until: args.until.as_deref() };
    let mut kept: Vec<(usize, Kept)> = Vec::new();
    for (place, source) in sources.iter_mut().enumerate() {
        let last = printer.read(source, args.tail.and_then(|tail| tail.0));
        kept.extend(last.into_iter().map(|one| (place, one)));
    }
    if several {
        kept.sort_by(|(_, a), (_, b)| a.time.cmp(&b.time));
    }
    for (place, one) in &kept {
        if !printer.print(&sources[*place].prefix, one) {
            return Ok(0);
        }
    }
    drop(kept);
    if args.follow {
        follow(&mut sources, &changes, &printer)?;
    }
    Ok(0)
}

fn named(host: &Host, key: &str) -> Result<Vec<ContainerRecord>> {
    match records::find(host, records::BoxKind::Container, key) {
        Ok(id) => Ok(vec![records::container(host, &id)?]),
        Err(fault) if fault.kind() == Kind::NotFound => {
            let sandbox = records::find(host, records::BoxKind::Sandbox, key).map_err(|_| fault)?;
            of_sandbox(host, &sandbox)?.iter().map(|id| records::container(host, id)).collect()
        }
        Err(fault) => Err(fault),
    }
}

/// Whether nothing of what a container printed was kept, nor will be in this life.
fn has_none(host: &Host, record: &ContainerRecord) -> Result<bool> {
    let Some(log) = &record.life.log else { return Ok(true) };
    if file::exists(&log.path)? || state::of(host, record)?.phase == Phase::Created {
        return Ok(false);
    }
    Ok(Connection::open(&run_dir(host, &record.id))?.is_none())
}

/// Has the monitor of a container write to a new file from now on; `logs` still reads what was moved to names of its own rotation.
fn reopen(host: &Host, record: &ContainerRecord) -> Result<()> {
    let refused = |why: &str| Fault::new(Kind::FailedPrecondition, format!("cannot reopen the log of container {}: {why}", record.name));
    match control::ask(&run_dir(host, &record.id), &Request::ReopenLog, Some(TURN))? {
        Some(Reply::Done) => Ok(()),
        Some(Reply::Refused { why }) => Err(refused(&why)),
        Some(_) => Err(Fault::internal("the monitor answers something else")),
        None if state::of(host, record)?.pid.is_none() => Err(refused("it does not run, and nothing writes to it")),
        None => Err(refused("it has no monitor").hint("rkbox repair gives it a new one, which opens the log anew")),
    }
}

fn life(host: &Host, record: &ContainerRecord) -> Result<Option<Connection>> {
    if state::of(host, record)?.pid.is_none() && !record.life.restart.is_active() {
        return Ok(None);
    }
    let Some(mut connection) = Connection::open(&run_dir(host, &record.id))? else { return Ok(None) };
    // Nothing is asked that is answered before the end: the connection ends with the monitor.
    Ok(connection.ask(&Request::Status).and_then(|()| connection.reply(Some(TURN))).is_ok().then_some(connection))
}

/// Prints what comes, until all containers are over and read to the end.
fn follow(sources: &mut [Source], changes: &Changes, printer: &Printer<'_>) -> Result<()> {
    loop {
        // Asked before the read: what is printed after it is read in the next round.
        let over: Vec<bool> = sources.iter().map(|source| source.life.as_ref().is_none_or(is_over)).collect();
        for source in sources.iter_mut() {
            for one in printer.read(source, None) {
                if !printer.print(&source.prefix, &one) {
                    return Ok(());
                }
            }
        }
        let now = format!("{:.9}", jiff::Timestamp::now());
        if over.iter().all(|over| *over) || printer.until.is_some_and(|until| now.as_str() > until) {
            return Ok(());
        }
        let alive: Vec<_> = sources.iter().zip(&over).filter(|(_, over)| !**over).filter_map(|(source, _)| source.life.as_ref()).collect();
        let fds: Vec<_> = alive.iter().map(|life| life.as_fd()).collect();
        changes.wait(&fds, TURN)?;
    }
}

fn is_over(life: &Connection) -> bool {
    proc::wait_readable(life.as_fd(), Duration::ZERO).unwrap_or(true)
}

/// What is printed, and how.
struct Printer<'a> {
    timestamps: bool,
    since: Option<&'a str>,
    until: Option<&'a str>,
}

impl Printer<'_> {
    /// The records that are there now; with `last` only those of the last lines.
    fn read(&self, source: &mut Source, last: Option<usize>) -> VecDeque<Kept> {
        let (mut kept, mut record) = (VecDeque::new(), Vec::new());
        let mut lines = 0;
        while source.reader.next(&mut record) {
            let Some(line) = Line::parse(&record) else { continue };
            if self.since.is_some_and(|since| line.time < since) || self.until.is_some_and(|until| line.time > until) {
                continue;
            }
            lines += usize::from(!line.partial);
            kept.push_back(Kept { time: line.time.to_owned(), stream: line.stream, partial: line.partial, content: line.content.to_vec() });
            while last.is_some_and(|last| lines > last) {
                lines -= usize::from(kept.pop_front().is_some_and(|first: Kept| !first.partial));
            }
        }
        if last == Some(0) { VecDeque::new() } else { kept }
    }

    /// Prints one record on its own stream; false when nobody reads.
    fn print(&self, prefix: &str, one: &Kept) -> bool {
        let mut text = Vec::with_capacity(one.content.len() + 64);
        text.extend_from_slice(prefix.as_bytes());
        if self.timestamps {
            text.extend_from_slice(one.time.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(&one.content);
        if !one.partial {
            text.push(b'\n');
        }
        match one.stream {
            StreamName::Stdout => output::bytes(&text),
            StreamName::Stderr => std::io::stderr().lock().write_all(&text).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_absolute_or_ago() {
        assert_eq!(moment("2026-01-31T12:00:00Z").unwrap(), "2026-01-31T12:00:00.000000000Z");
        assert_eq!(moment("2026-01-31T13:00:00.5+01:00").unwrap(), "2026-01-31T12:00:00.500000000Z");
        assert_eq!(moment("0").unwrap(), "1970-01-01T00:00:00.000000000Z");
        assert!(moment("10m").unwrap() < moment("5m").unwrap());
        for bad in ["", "yesterday", "1e99", "NaN", "99999999999h"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
        assert_eq!((tail("all").unwrap(), tail("7").unwrap()), (Tail(None), Tail(Some(7))));
        assert!(tail("x").is_err());
    }
}
