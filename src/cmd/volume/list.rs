//! `rkbox volume ls` and `inspect`.

use serde_json::{Value, json};

use super::{KeysArgs, LsArgs, data, dir, find, names, read};
use crate::cmd::{Context, Format, output};
use crate::fault::{Fault, Result};
use crate::record::VolumeRecord;
use crate::step::volume;
use crate::sys::Host;

/// One condition of `--filter`.
enum Filter {
    Name(String),
    Label(String, Option<String>),
    Dangling(bool),
}

/// Conditions that all must hold.
pub(super) struct Filters(Vec<Filter>);

impl Filters {
    /// Reads `name=`, `label=` and `dangling=`. *Errors:* `InvalidArgument` for another key.
    pub(super) fn parse(texts: &[String]) -> Result<Self> {
        let one = |text: &String| {
            let bad =
                || Fault::invalid(format!("filter {text:?} is not known")).hint("use name=TEXT, label=KEY[=VALUE] or dangling=true|false");
            let (key, value) = text.split_once('=').ok_or_else(bad)?;
            Ok(match (key, value) {
                ("name", value) => Filter::Name(value.to_owned()),
                ("label", value) => match value.split_once('=') {
                    Some((key, value)) => Filter::Label(key.to_owned(), Some(value.to_owned())),
                    None => Filter::Label(value.to_owned(), None),
                },
                ("dangling", "true" | "1") => Filter::Dangling(true),
                ("dangling", "false" | "0") => Filter::Dangling(false),
                _ => return Err(bad()),
            })
        };
        texts.iter().map(one).collect::<Result<Vec<_>>>().map(Filters)
    }

    /// Whether a volume passes all of them.
    pub(super) fn pass(&self, record: &VolumeRecord, users: &[String]) -> bool {
        self.0.iter().all(|filter| match filter {
            Filter::Name(part) => record.name.contains(part.as_str()),
            Filter::Label(key, None) => record.labels.contains_key(key),
            Filter::Label(key, Some(value)) => record.labels.get(key) == Some(value),
            Filter::Dangling(dangling) => users.is_empty() == *dangling,
        })
    }
}

/// A volume with those who use it.
pub(super) fn seen(host: &Host, name: &str) -> Result<(VolumeRecord, Vec<String>)> {
    Ok((read(host, name)?, volume::users(&dir(host).join(name))?))
}

fn value(host: &Host, record: &VolumeRecord, users: &[String]) -> Value {
    json!({
        "name": record.name, "driver": "local", "mountpoint": data(host, &record.name), "anonymous": record.anonymous,
        "labels": record.labels, "created_at": record.created_at, "containers": users,
    })
}

/// Lists volumes.
pub fn run(cx: &Context, args: &LsArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filters)?;
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for name in names(&cx.host)? {
        match seen(&cx.host, &name) {
            Ok((record, users)) if filters.pass(&record, &users) => {
                rows.push(vec![name, users.len().to_string(), record.created_at.get(..19).unwrap_or("").to_owned()]);
                values.push(value(&cx.host, &record, &users));
            }
            Ok(_) => {}
            Err(_) => {
                rows.push(vec![name.clone(), "damaged".to_owned(), String::new()]);
                values.push(json!({ "name": name, "state": "damaged" }));
            }
        }
    }
    match (args.quiet, cx.format) {
        (true, _) => rows.iter().for_each(|row| output::line(&row[0])),
        (_, Format::Json) => output::json(&values)?,
        (_, Format::Table) => output::table(&["VOLUME NAME", "CONTAINERS", "CREATED"], &rows),
    }
    Ok(0)
}

/// Prints everything known of volumes.
pub fn inspect(cx: &Context, args: &KeysArgs) -> Result<u8> {
    let mut all = Vec::new();
    for key in &args.keys {
        let name = find(&cx.host, key)?;
        let (record, users) = seen(&cx.host, &name)?;
        all.push(value(&cx.host, &record, &users));
    }
    output::json(&all)?;
    Ok(0)
}
