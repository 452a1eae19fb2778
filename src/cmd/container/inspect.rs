//! `rkbox inspect`: everything known of containers, as JSON.

use clap::Args;

use super::state::{self, Watcher};
use crate::cmd::{Context, output, records};
use crate::fault::{Faults, Result};

/// Arguments of `rkbox inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub keys: Vec<String>,
}

/// Prints an array: state first, then the record. One that is not there does not hide the others.
pub fn run(cx: &Context, args: &InspectArgs) -> Result<u8> {
    let (mut all, mut faults) = (Vec::new(), Faults::default());
    for key in &args.keys {
        all.extend(faults.keep(one(cx, key)));
    }
    output::json(&all)?;
    faults.or(0)
}

fn one(cx: &Context, key: &str) -> Result<serde_json::Value> {
    let id = records::find(&cx.host, records::BoxKind::Container, key)?;
    let record = records::container(&cx.host, &id)?;
    let state = state::of(&cx.host, &record)?;
    let (monitor, watched) = match state.watcher {
        Watcher::Monitor(pid) => (Some(pid), true),
        Watcher::Lost => (None, false),
        Watcher::Command => (None, state.pid.is_some()),
    };
    Ok(serde_json::json!({
        "id": id, "name": record.name, "state": state.word(), "pid": state.pid, "monitor_pid": monitor, "watched": watched,
        "started_at": state.started_at, "restarts": state.restarts, "exit": state.exit, "health": state.health,
        "log_path": record.life.log.as_ref().map(|log| &log.path), "record": record,
    }))
}
