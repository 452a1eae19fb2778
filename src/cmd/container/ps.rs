//! `rkbox ps`.

use super::PsArgs;
use crate::cmd::{Context, Format, output, publish, records};
use crate::fault::Result;
use crate::ids::Id;
use crate::ports::Forward;
use crate::record::ContainerRecord;
use crate::sys::file;

/// What a container is now, derived from the runtime's state, the exit file and the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Running(i32),
    Exited(Option<i64>),
}

fn state(record: &ContainerRecord) -> Result<State> {
    if let Some(pid) = records::running_pid(&record.runtime, &record.boot_id, &record.id)? {
        return Ok(State::Running(pid));
    }
    let exit = file::find(&record.bundle.join("exit.json"), 1 << 20)?;
    let exit: Option<serde_json::Value> = exit.and_then(|text| serde_json::from_slice(&text).ok());
    Ok(State::Exited(exit.and_then(|exit| exit["exit_code"].as_i64())))
}

impl State {
    fn text(&self) -> String {
        match self {
            State::Running(_) => "running".to_owned(),
            State::Exited(Some(code)) => format!("exited ({code})"),
            State::Exited(None) => "exited (unknown)".to_owned(),
        }
    }
}

/// Lists containers.
pub fn run(cx: &Context, args: &PsArgs) -> Result<u8> {
    let mut found: Vec<(Id, Result<ContainerRecord>)> = records::ids(&cx.host, records::BoxKind::Container)?
        .into_iter()
        .map(|id| (id.clone(), records::container(&cx.host, &id)))
        .collect();
    found.sort_by_key(|(id, record)| (record.as_ref().map_or(String::new(), |record| record.created_at.clone()), id.clone()));
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for (id, record) in &found {
        let shown = if args.no_trunc { id.as_str() } else { id.short() }.to_owned();
        let Ok(record) = record else {
            rows.push(vec![shown, String::new(), "damaged".to_owned(), String::new(), String::new(), String::new()]);
            values.push(serde_json::json!({ "id": id, "state": "damaged" }));
            continue;
        };
        let state = state(record)?;
        if !args.all && !matches!(state, State::Running(_)) {
            continue;
        }
        let pid = if let State::Running(pid) = state { Some(pid) } else { None };
        let ports: Vec<Forward> = record.attachments.iter().flat_map(|attachment| attachment.ports.clone()).collect();
        values.push(serde_json::json!({
            "ports": ports, "id": id, "name": record.name, "image": record.image.requested, "image_id": record.image_id, "state": state.text(), "pid": pid,
            "sandbox_id": record.sandbox_id, "command": record.args, "created_at": record.created_at,
        }));
        rows.push(vec![
            shown,
            record.image.requested.clone(),
            state.text(),
            publish::shown(&ports),
            record.args.join(" "),
            record.name.to_string(),
        ]);
    }
    if args.quiet {
        values.iter().filter_map(|value| value["id"].as_str()).for_each(output::line);
        return Ok(0);
    }
    match cx.format {
        Format::Json => output::json(&values)?,
        Format::Table => output::table(&["CONTAINER ID", "IMAGE", "STATE", "PORTS", "COMMAND", "NAME"], &rows),
    }
    Ok(0)
}
