//! What every command with a plan shares: `--explain`, `--timings`, retries.

use std::time::Duration;

use clap::Args;

use super::{Context, Format, output};
use crate::fault::{Faults, Kind, Result};
use crate::ids::shorten;
use crate::plan::{self, Carried, Plan, Timings, explain};
use crate::script::Script;

/// `--explain` and `--timings`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct PlanArgs {
    /// Print a POSIX shell script that does the same, and do nothing
    #[arg(long)]
    pub explain: bool,
    /// Print to stderr how long each step took
    #[arg(long, conflicts_with = "explain")]
    pub timings: bool,
}

/// Plans, then explains or carries out. `None` means that it was only explained.
pub fn carry(
    cx: &Context,
    args: PlanArgs,
    timings: &mut Timings,
    mut plan: impl FnMut(&mut Timings) -> Result<Plan>,
) -> Result<Option<Carried>> {
    if args.explain {
        let planned = plan(timings)?;
        show(&explain::explain(&planned, &cx.host)?);
        return Ok(None);
    }
    plan::attempt(&cx.host, timings, plan).map(Some)
}

/// Stops or removes what each key names and prints the key; one that fails does not stop the others, and with `force` a missing one is fine.
pub fn remove_each(keys: &[String], force: bool, args: PlanArgs, mut remove: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    let mut faults = Faults::default();
    for key in keys {
        match remove(key) {
            Ok(()) if args.explain => {}
            Ok(()) => output::line(key),
            Err(fault) if force && fault.kind() == Kind::NotFound => {}
            Err(fault) => faults.note(fault),
        }
    }
    faults.or(0)
}

/// Does one thing for each key; one that fails does not stop the others.
pub fn each(keys: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    let mut faults = Faults::default();
    for key in keys {
        faults.keep(act(key));
    }
    faults.or(0)
}

/// Prints a script.
pub fn show(script: &Script) {
    output::text(script.as_str());
}

/// Prints the rows of `--timings` to stderr, as a table or as JSON.
pub fn report(cx: &Context, args: PlanArgs, timings: Timings) {
    if !args.timings {
        return;
    }
    let (rows, total) = timings.finish();
    match cx.format {
        Format::Json => {
            let rows = rows.iter().map(|row| serde_json::json!({"step": row.what, "micros": micros(row.took), "beside": row.beside}));
            output::note(&serde_json::json!({"rows": rows.collect::<Vec<_>>(), "total_micros": micros(total)}).to_string());
        }
        Format::Table => {
            for row in rows {
                let indent = if row.beside { "  | " } else { "" };
                output::note(&format!("{indent}{:>9.3} ms  {}", millis(row.took), shorten(&row.what)));
            }
            output::note(&format!("{:>9.3} ms  in all", millis(total)));
        }
    }
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}
