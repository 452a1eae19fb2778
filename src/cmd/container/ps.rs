//! `rkbox ps`.

use std::str::FromStr;

use clap::Args;

use super::state::{self, State};
use crate::cmd::{Context, Format, output, publish, records};
use crate::fault::{Fault, Result};
use crate::ids::Id;
use crate::ports::Forward;
use crate::record::ContainerRecord;

/// Arguments of `rkbox ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Also those that do not run
    #[arg(short, long)]
    pub all: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Only those that fit; one word twice is either, two are both
    #[arg(short, long = "filter", value_name = "WORD=VALUE", long_help = FILTERS)]
    pub filters: Vec<Filter>,
}

const FILTERS: &str = "\
Only those that fit; one word twice is either, two are both: id=PREFIX,
name=PART, status=created|running|paused|restarting|exited, exited=CODE,
health=starting|healthy|unhealthy|none, label=KEY[=VALUE], image=REFERENCE,
sandbox=NAME|ID";

/// One `--filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    word: Word,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Id,
    Name,
    Status,
    Exited,
    Health,
    Label,
    Image,
    Sandbox,
}

impl FromStr for Filter {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        let hint = "the words are id, name, status, exited, health, label, image and sandbox";
        let (word, value) = text.split_once('=').ok_or_else(|| Fault::invalid(format!("filter {text:?} is not WORD=VALUE")).hint(hint))?;
        let word = match word {
            "id" => Word::Id,
            "name" => Word::Name,
            "status" => Word::Status,
            "exited" => Word::Exited,
            "health" => Word::Health,
            "label" => Word::Label,
            "image" | "ancestor" => Word::Image,
            "sandbox" | "pod" => Word::Sandbox,
            _ => return Err(Fault::invalid(format!("filter {word:?} is not known")).hint(hint)),
        };
        Ok(Filter { word, value: value.to_owned() })
    }
}

impl Filter {
    fn fits(&self, record: &ContainerRecord, state: &State) -> bool {
        let value = self.value.as_str();
        match self.word {
            Word::Id => record.id.as_str().starts_with(value),
            Word::Name => record.name.as_ref().contains(value),
            Word::Status => state.word() == value,
            Word::Exited => state.exit.as_ref().is_some_and(|exit| exit.exit_code.to_string() == value),
            Word::Health => state.health_word().unwrap_or("none") == value,
            Word::Label => match value.split_once('=') {
                Some((key, value)) => record.labels.get(key).is_some_and(|found| found == value),
                None => record.labels.contains_key(value),
            },
            Word::Image => record.image.requested == value || record.image.reference == value || record.image_id == value,
            Word::Sandbox => record.sandbox_id.as_ref().is_some_and(|id| id.as_str().starts_with(value)),
        }
    }
}

/// Lists containers.
pub fn run(cx: &Context, args: &PsArgs) -> Result<u8> {
    let filters = resolved(cx, &args.filters)?;
    // Asking for a state is asking for those that do not run, too.
    let all = args.all || filters.iter().any(|filter| matches!(filter.word, Word::Status | Word::Exited));
    let mut found: Vec<(Id, Result<ContainerRecord>)> = records::ids(&cx.host, records::BoxKind::Container)?
        .into_iter()
        .map(|id| (id.clone(), records::container(&cx.host, &id)))
        .collect();
    found.sort_by_key(|(id, record)| (record.as_ref().map_or(String::new(), |record| record.created_at.clone()), id.clone()));
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for (id, record) in &found {
        let shown = if args.no_trunc { id.as_str() } else { id.short() }.to_owned();
        let Ok(record) = record else {
            if filters.is_empty() {
                rows.push(vec![shown, String::new(), "damaged".to_owned(), String::new(), String::new(), String::new()]);
                values.push(serde_json::json!({ "id": id, "state": "damaged" }));
            }
            continue;
        };
        let state = state::of(&cx.host, record)?;
        if !fits(&filters, record, &state) || !(all || state.pid.is_some() || state.word() == "restarting") {
            continue;
        }
        let ports: Vec<Forward> = record.attachments.iter().flat_map(|attachment| attachment.ports.clone()).collect();
        let (image, command) = (record.image.requested.clone(), record.args.join(" "));
        rows.push(vec![shown, image, state.text(), publish::shown(&ports), command, record.name.to_string()]);
        values.push(value(id, record, &state, &ports));
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

fn value(id: &Id, record: &ContainerRecord, state: &State, ports: &[Forward]) -> serde_json::Value {
    serde_json::json!({
        "id": id, "name": record.name, "image": record.image.requested, "image_id": record.image_id, "state": state.word(),
        "status": state.text(), "exit_code": state.exit.as_ref().map(|exit| exit.exit_code), "pid": state.pid, "restarts": state.restarts,
        "health": state.health_word(), "labels": record.labels, "sandbox_id": record.sandbox_id, "command": record.args,
        "created_at": record.created_at, "ports": ports,
    })
}

/// The filters, with the names of sandboxes made ids.
fn resolved(cx: &Context, filters: &[Filter]) -> Result<Vec<Filter>> {
    let resolve = |filter: &Filter| match filter.word {
        Word::Sandbox => records::find(&cx.host, records::BoxKind::Sandbox, &filter.value)
            .map(|id| Filter { word: Word::Sandbox, value: id.to_string() }),
        _ => Ok(filter.clone()),
    };
    filters.iter().map(resolve).collect()
}

fn fits(filters: &[Filter], record: &ContainerRecord, state: &State) -> bool {
    filters.iter().all(|one| filters.iter().filter(|other| other.word == one.word).any(|other| other.fits(record, state)))
}
