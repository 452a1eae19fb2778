//! `rkbox image ls`.

use clap::Args;
use serde_json::json;

use super::catalog::{Catalog, Listed};
use super::filter::{self, Filter};
use super::need::{self, NeedArgs};
use crate::cmd::{Context, Format, output};
use crate::fault::Result;
use crate::image::Reference;

/// Arguments of `rkbox image ls`.
#[derive(Clone, Debug, Default, Args)]
pub struct LsArgs {
    /// Only images of this name; * and ? stand for any characters but a slash
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Option<String>,
    /// Only images for which all of these hold: reference=PATTERN,
    /// dangling=BOOL, pinned=BOOL, label=KEY[=VALUE], before=IMAGE,
    /// since=IMAGE, until=TIME, unused-for=TIME
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<Filter>,
    /// Print ids only, each once
    #[arg(short, long)]
    pub quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Print the digest of each manifest too
    #[arg(long)]
    pub digests: bool,
    /// What is listed instead of the store.
    #[command(flatten)]
    pub need: NeedArgs,
    /// How that is printed: text, json or yaml, as kubeadm does
    #[arg(short, long, value_name = "FORM", requires = "need", conflicts_with_all = ["name", "filter", "quiet", "digests"])]
    pub output: Option<need::Form>,
}

/// Lists the images of the store, newest first, one row for each name; what cannot be read is told on stderr.
pub fn run(cx: &Context, args: &LsArgs) -> Result<u8> {
    if args.need.is_asked() {
        return need::list(cx, &args.need, args.output);
    }
    let catalog = Catalog::read(&cx.host)?;
    let filters: Vec<Filter> = args.filter.iter().cloned().chain(args.name.clone().map(Filter::Reference)).collect();
    let mut images = Vec::new();
    for image in &catalog.images {
        if filter::keep(&cx.host, &catalog, &filters, image)? {
            images.push(image);
        }
    }
    images.sort_by_cached_key(|image| std::cmp::Reverse(image.age_mark()));
    match (cx.format, args.quiet) {
        (Format::Json, true) => output::json(&images.iter().map(|image| &image.id).collect::<Vec<_>>())?,
        (Format::Json, false) => {
            let objects = images.iter().flat_map(|image| {
                let used = image.last_use(&cx.host, &catalog).map(|time| time.to_string());
                names(image, &filters).into_iter().map(move |name| object(image, name, used.as_deref()))
            });
            output::json(&objects.collect::<Vec<_>>())?;
        }
        (Format::Table, true) => output::text(&images.iter().map(|image| format!("{}\n", shown_id(image, args))).collect::<String>()),
        (Format::Table, false) => table(&images, &filters, args),
    }
    catalog.broken.iter().for_each(|what| output::note(&format!("warning: {what}")));
    Ok(0)
}

fn shown_id<'a>(image: &'a Listed, args: &LsArgs) -> &'a str {
    if args.no_trunc { &image.id } else { image.short() }
}

/// The names of an image that a `reference` filter lets through; `None` stands for an image without one.
fn names<'a>(image: &'a Listed, filters: &[Filter]) -> Vec<Option<&'a Reference>> {
    if image.references.is_empty() {
        return vec![None];
    }
    let patterns: Vec<&String> =
        filters.iter().filter_map(|filter| if let Filter::Reference(text) = filter { Some(text) } else { None }).collect();
    let fits = |name: &&Reference| patterns.is_empty() || patterns.iter().any(|pattern| crate::image::glob::fits(pattern, name));
    image.references.iter().filter(fits).map(Some).collect()
}

fn object(image: &Listed, name: Option<&Reference>, last_used: Option<&str>) -> serde_json::Value {
    let origin = image.origin.as_ref();
    json!({
        "repository": name.map(Reference::repository), "tag": name.and_then(Reference::tag), "id": image.id, "digest": image.digest,
        "created": image.created, "size": image.size, "platform": image.platform.as_ref().map(ToString::to_string), "pinned": image.pinned,
        "pulled_at": origin.map(|origin| &origin.at), "source": origin.map(|origin| &origin.source),
        "last_used": last_used,
    })
}

fn table(images: &[&Listed], filters: &[Filter], args: &LsArgs) {
    let (none, now) = ("<none>".to_owned(), jiff::Timestamp::now());
    let mut rows = Vec::new();
    for image in images {
        let created = image.created.as_deref().map_or_else(|| none.clone(), |text| ago(text, now));
        for name in names(image, filters) {
            let repository = name.map_or_else(|| none.clone(), Reference::repository);
            let mut row = vec![repository, name.and_then(Reference::tag).unwrap_or(&none).to_owned()];
            if args.digests {
                row.push(image.digest.to_string());
            }
            row.extend([shown_id(image, args).to_owned(), created.clone(), human_size(image.size)]);
            rows.push(row);
        }
    }
    match args.digests {
        true => output::table(&["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"], &rows),
        false => output::table(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows),
    }
}

/// How long ago an RFC 3339 time was: `3 days ago`.
pub(super) fn ago(text: &str, now: jiff::Timestamp) -> String {
    let Ok(then) = text.parse::<jiff::Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = (now.as_second() - then.as_second()).max(0);
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        172_800..1_209_600 => (seconds / 86_400, "day"),
        1_209_600..5_184_000 => (seconds / 604_800, "week"),
        5_184_000..63_072_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// Bytes for people, decimal as in `docker image ls`: `4.26MB`.
pub(super) fn human_size(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if size < 1000.0 {
            let digits = if unit == "B" || size >= 100.0 {
                0
            } else if size >= 10.0 {
                1
            } else {
                2
            };
            return format!("{size:.digits$}{unit}");
        }
        size /= 1000.0;
    }
    format!("{size:.1}TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_for_people() {
        let sizes =
            [(0, "0B"), (999, "999B"), (4_260_000, "4.26MB"), (12_345, "12.3kB"), (240_700_000, "241MB"), (u64::MAX, "18446744.1TB")];
        for (bytes, text) in sizes {
            assert_eq!(human_size(bytes), text);
        }
        let now: jiff::Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        for (then, text) in [
            ("2026-01-30T23:59:59Z", "1 second ago"),
            ("2026-01-28T00:00:00Z", "3 days ago"),
            ("1970-01-01T00:00:00Z", "56 years ago"),
            ("2999-01-01T00:00:00Z", "0 seconds ago"),
            ("\u{1b}[2J", "<unknown>"),
        ] {
            assert_eq!(ago(then, now), text);
        }
    }
}
