//! `rkbox stats`: what containers use, once or again and again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::StatsArgs;
use crate::bundle::size;
use crate::bundle::usage::Usage;
use crate::cmd::{Context, Format, output, records};
use crate::fault::{Fault, Kind, Result};
use crate::ids::Id;
use crate::sys::{proc, signal, usage};

/// How far apart the two looks are that tell the share of the processors, when only one answer is wanted.
const FIRST: Duration = Duration::from_millis(250);

/// One look at one container.
struct Look {
    id: Id,
    name: String,
    at: Instant,
    usage: Usage,
}

/// Prints what containers use until it is stopped, or once.
pub fn run(cx: &Context, args: &StatsArgs) -> Result<u8> {
    let mut before = look(cx, args)?;
    let mut pause = FIRST;
    loop {
        // Nothing is watched: a pause that a signal ends.
        proc::wait_any(&[], pause)?;
        if let Some(signal) = signal::pending() {
            return if args.no_stream { Err(Fault::new(Kind::Cancelled, format!("stopped by signal {signal}"))) } else { Ok(0) };
        }
        let now = look(cx, args)?;
        show(cx, args, &before, &now)?;
        if args.no_stream {
            return Ok(0);
        }
        before = now;
        pause = Duration::from_secs(args.interval);
    }
}

/// Looks at the containers that were named, or at all that run.
fn look(cx: &Context, args: &StatsArgs) -> Result<Vec<Look>> {
    let named = args.keys.iter().map(|key| records::find(&cx.host, records::BoxKind::Container, key)).collect::<Result<Vec<_>>>()?;
    let ids = if named.is_empty() { records::ids(&cx.host, records::BoxKind::Container)? } else { named };
    let mut looks = Vec::new();
    for id in ids {
        let record = match records::container(&cx.host, &id) {
            Ok(record) => record,
            Err(fault) if !args.keys.is_empty() => return Err(fault),
            Err(_) => continue,
        };
        let pid = records::running_pid(&record.runtime, &record.boot_id, &id)?;
        let seen = pid.and_then(|pid| usage::find(&record.runtime.cgroups_path, pid));
        // One that does not run uses nothing, and is shown when it was named.
        if seen.is_some() || !args.keys.is_empty() {
            looks.push(Look { id, name: record.name.to_string(), at: Instant::now(), usage: seen.unwrap_or_default() });
        }
    }
    Ok(looks)
}

/// Hundredths of one processor used between two looks.
fn processor_share(before: Option<&Look>, now: &Look) -> f64 {
    let Some(before) = before else { return 0.0 };
    let wall = now.at.duration_since(before.at).as_nanos();
    let used = now.usage.cpu_nanos.saturating_sub(before.usage.cpu_nanos);
    if wall == 0 { 0.0 } else { 100.0 * used as f64 / wall as f64 }
}

fn show(cx: &Context, args: &StatsArgs, before: &[Look], now: &[Look]) -> Result<()> {
    let earlier: BTreeMap<&str, &Look> = before.iter().map(|look| (look.id.as_str(), look)).collect();
    let host = usage::host_memory();
    let (mut rows, mut values): (Vec<Vec<String>>, Vec<Value>) = Default::default();
    for look in now {
        let share = processor_share(earlier.get(look.id.as_str()).copied(), look);
        let used = &look.usage;
        let limit = used.memory_limit_bytes.unwrap_or(host).min(host.max(1));
        let pair = |one, two| format!("{} / {}", size::text(one), size::text(two));
        rows.push(vec![
            if args.no_trunc { look.id.to_string() } else { look.id.short().to_owned() },
            look.name.clone(),
            format!("{share:.2}%"),
            pair(used.memory_bytes, limit),
            format!("{:.2}%", 100.0 * used.memory_bytes as f64 / limit as f64),
            pair(used.network_received_bytes, used.network_sent_bytes),
            pair(used.block_read_bytes, used.block_written_bytes),
            used.pids.to_string(),
        ]);
        let mut value = serde_json::to_value(used).map_err(|error| Fault::from_error(Kind::Internal, error))?;
        value["id"] = json!(look.id);
        value["name"] = json!(look.name);
        value["cpu_percent"] = json!(share);
        values.push(value);
    }
    match (cx.format, args.no_stream) {
        (Format::Json, true) => output::json(&values)?,
        (Format::Json, false) => output::line(&Value::from(values).to_string()),
        (Format::Table, once) => {
            if !once && output::is_terminal() {
                // Home, and clear what is below: the table is drawn over the last one.
                output::text("\x1b[H\x1b[J");
            }
            output::table(&["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"], &rows);
        }
    }
    Ok(())
}
