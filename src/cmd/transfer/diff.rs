//! `rkbox diff`.

use super::DiffArgs;
use crate::cmd::{Context, Format, output, records};
use crate::fault::Result;
use crate::sys::tree_diff::{self, Change};

/// Lists what a container added, changed and deleted of its image's files.
pub fn run(cx: &Context, args: &DiffArgs) -> Result<u8> {
    let id = records::find(&cx.host, records::BoxKind::Container, &args.key)?;
    let record = records::container(&cx.host, &id)?;
    let mut lowers = vec![record.bundle.join("init")];
    lowers.extend(record.lowers.iter().cloned());
    let changes = tree_diff::list(&record.bundle.join("upper"), &lowers)?;
    let letter = |change: &Change| match change {
        Change::Added => "A",
        Change::Changed => "C",
        Change::Deleted => "D",
    };
    match cx.format {
        Format::Json => {
            let values: Vec<_> = changes.iter().map(|(change, path)| serde_json::json!({ "kind": letter(change), "path": path })).collect();
            output::json(&values)?;
        }
        Format::Table => changes.iter().for_each(|(change, path)| output::line(&format!("{} {path}", letter(change)))),
    }
    Ok(0)
}
