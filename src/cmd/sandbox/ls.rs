//! `rkbox sandbox ls`: records, with a state that is derived and never stored.

use super::LsArgs;
use crate::cmd::{Context, Format, output, publish, records};
use crate::fault::Result;
use crate::ids::Id;
use crate::ports::Forward;
use crate::record::SandboxRecord;

/// What a sandbox is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The pause process runs.
    Ready(i32),
    /// It does not.
    NotReady,
}

impl State {
    /// CRI's word.
    pub fn word(self) -> &'static str {
        match self {
            State::Ready(_) => "ready",
            State::NotReady => "notready",
        }
    }

    /// The pause process.
    pub fn pid(self) -> Option<i32> {
        match self {
            State::Ready(pid) => Some(pid),
            State::NotReady => None,
        }
    }
}

/// Derives the state of a sandbox from its record, the runtime's state file and the kernel.
pub fn state(record: &SandboxRecord) -> Result<State> {
    Ok(records::running_pid(&record.runtime, &record.boot_id, &record.id)?.map_or(State::NotReady, State::Ready))
}

/// Lists all sandboxes, newest last; a damaged record is a row too.
pub fn run(cx: &Context, args: &LsArgs) -> Result<u8> {
    let mut found: Vec<(Id, Result<SandboxRecord>)> =
        records::ids(&cx.host, records::BoxKind::Sandbox)?.into_iter().map(|id| (id.clone(), records::sandbox(&cx.host, &id))).collect();
    found.sort_by_key(|(id, record)| (record.as_ref().map_or(String::new(), |record| record.created_at.clone()), id.clone()));
    if args.quiet {
        found.iter().for_each(|(id, _)| output::line(id.as_str()));
        return Ok(0);
    }
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for (id, record) in &found {
        let shown = if args.no_trunc { id.as_str() } else { id.short() }.to_owned();
        let Ok(record) = record else {
            rows.push(vec![String::new(), shown, "damaged".to_owned(), String::new(), String::new(), String::new(), String::new()]);
            values.push(serde_json::json!({ "id": id, "state": "damaged" }));
            continue;
        };
        let state = state(record)?;
        let addresses: Vec<String> = record.attachments.iter().flat_map(|a| &a.addresses).map(|address| address.ip().to_string()).collect();
        let networks: Vec<String> = record.attachments.iter().map(|a| a.network.clone()).collect();
        let ports: Vec<Forward> = record.attachments.iter().flat_map(|a| a.ports.clone()).collect();
        values.push(serde_json::json!({
            "name": record.name, "id": id, "state": state.word(), "pid": state.pid(), "addresses": addresses,
            "networks": networks, "ports": ports, "created_at": record.created_at, "metadata": record.metadata,
        }));
        let created = record.created_at.get(..19).unwrap_or(&record.created_at).replace('T', " ");
        rows.push(vec![
            record.name.to_string(),
            shown,
            state.word().to_owned(),
            addresses.join(","),
            networks.join(","),
            publish::shown(&ports),
            created,
        ]);
    }
    match cx.format {
        Format::Json => output::json(&values)?,
        Format::Table => output::table(&["NAME", "ID", "STATE", "ADDRESS", "NETWORK", "PORTS", "CREATED"], &rows),
    }
    Ok(0)
}
