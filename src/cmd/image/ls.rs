//! `rkbox image ls`.

use serde_json::json;

use super::store::{self, Image};
use crate::cmd::{Context, Format, output};
use crate::fault::Result;

/// Lists the images of the store, one row for each name; what cannot be read is told on stderr.
pub fn run(cx: &Context) -> Result<u8> {
    let (images, broken) = store::list(&cx.host)?;
    if cx.format == Format::Json {
        output::json(&images.iter().flat_map(objects).collect::<Vec<_>>())?;
    } else {
        let now = jiff::Timestamp::now();
        let rows: Vec<Vec<String>> = images.iter().flat_map(|image| rows(image, now)).collect();
        output::table(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows);
    }
    broken.iter().for_each(|what| output::note(&format!("warning: {what}")));
    Ok(0)
}

/// Repository and tag of each name; `None` stands for an image without one.
fn names(image: &Image) -> Vec<(Option<String>, Option<String>)> {
    if image.references.is_empty() {
        return vec![(None, None)];
    }
    image.references.iter().map(|reference| (Some(reference.repository()), reference.tag().map(str::to_owned))).collect()
}

fn objects(image: &Image) -> Vec<serde_json::Value> {
    let object = |(repository, tag): (Option<String>, Option<String>)| {
        json!({"repository": repository, "tag": tag, "id": image.id, "digest": image.manifest_digest, "created": image.config.created(),
            "size": image.size()})
    };
    names(image).into_iter().map(object).collect()
}

fn rows(image: &Image, now: jiff::Timestamp) -> Vec<Vec<String>> {
    let none = || "<none>".to_owned();
    let created = image.config.created().as_deref().map_or_else(none, |text| ago(text, now));
    let row = |(repository, tag): (Option<String>, Option<String>)| {
        let (repository, tag) = (repository.unwrap_or_else(none), tag.unwrap_or_else(none));
        vec![repository, tag, image.short().to_owned(), created.clone(), human_size(image.size())]
    };
    names(image).into_iter().map(row).collect()
}

/// How long ago an RFC 3339 time was: `3 days ago`.
fn ago(text: &str, now: jiff::Timestamp) -> String {
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
