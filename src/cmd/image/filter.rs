//! `--filter` of `image ls` and `image prune`.

use jiff::{Span, Timestamp};

use super::catalog::{Catalog, Listed};
use super::store;
use crate::fault::{Fault, Kind, Result};
use crate::image::{Config, glob};
use crate::sys::Host;

/// One condition. Conditions must all hold, but of several `reference` ones any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// `reference=PATTERN`
    Reference(String),
    /// `dangling=true|false`: without a name.
    Dangling(bool),
    /// `pinned=true|false`
    Pinned(bool),
    /// `label=KEY[=VALUE]`, or `label!=`.
    Label {
        /// The key.
        key: String,
        /// Its value; any when absent.
        value: Option<String>,
        /// Whether the label must be there.
        there: bool,
    },
    /// `before=IMAGE`: made earlier than that one.
    Before(String),
    /// `since=IMAGE`: made later than that one.
    Since(String),
    /// `until=TIME`: made before that time.
    Until(Timestamp),
    /// `unused-for=TIME`: neither used nor stored since.
    UnusedFor(Timestamp),
}

impl std::str::FromStr for Filter {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let known = "reference, dangling, pinned, label, before, since, until, unused-for";
        let Some((key, value)) = text.split_once('=').filter(|(_, value)| !value.is_empty()) else {
            return Err(Fault::invalid(format!("filter {text:?} is not KEY=VALUE")).hint(format!("the keys are {known}")));
        };
        Ok(match key {
            "reference" => Filter::Reference(value.to_owned()),
            "dangling" => Filter::Dangling(truth(value)?),
            "pinned" => Filter::Pinned(truth(value)?),
            "label" | "label!" => {
                let (name, content) = value.split_once('=').map_or((value, None), |(name, content)| (name, Some(content.to_owned())));
                Filter::Label { key: name.to_owned(), value: content, there: key == "label" }
            }
            "before" => Filter::Before(value.to_owned()),
            "since" | "after" => Filter::Since(value.to_owned()),
            "until" => Filter::Until(time(value)?),
            "unused-for" => Filter::UnusedFor(time(value)?),
            other => return Err(Fault::invalid(format!("filter {other:?} is not known")).hint(format!("the keys are {known}"))),
        })
    }
}

fn truth(text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(Fault::invalid(format!("{text:?} is neither true nor false"))),
    }
}

/// RFC 3339, a date, seconds since 1970, or how long ago (`24h`, `1h30m`).
fn time(text: &str) -> Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && let Ok(zoned) = date.to_zoned(jiff::tz::TimeZone::UTC)
    {
        return Ok(zoned.timestamp());
    }
    if let Some(time) = text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        return Ok(time);
    }
    let ago = text.parse::<Span>().ok().and_then(|span| Timestamp::now().checked_sub(span).ok());
    ago.ok_or_else(|| Fault::invalid(format!("time {text:?} is not known")).hint("write 2026-11-25, 2026-11-25T08:00:00Z or 24h"))
}

/// Keeps those images that all filters let through.
///
/// *Errors:* `NotFound` when `before` or `since` names an image that is not there.
pub fn keep(host: &Host, catalog: &Catalog, filters: &[Filter], image: &Listed) -> Result<bool> {
    let mut patterns =
        filters.iter().filter_map(|filter| if let Filter::Reference(pattern) = filter { Some(pattern) } else { None }).peekable();
    if patterns.peek().is_some() && !patterns.any(|pattern| image.references.iter().any(|name| glob::fits(pattern, name))) {
        return Ok(false);
    }
    for filter in filters {
        let holds = match filter {
            Filter::Reference(_) => true,
            Filter::Dangling(wanted) => image.references.is_empty() == *wanted,
            Filter::Pinned(wanted) => image.pinned == *wanted,
            Filter::Label { key, value, there } => has_label(host, catalog, image, key, value.as_deref())? == *there,
            Filter::Before(other) => image.age_mark() < catalog.find(other)?.age_mark(),
            Filter::Since(other) => image.age_mark() > catalog.find(other)?.age_mark(),
            Filter::Until(time) => image.age_mark() < time.as_second(),
            Filter::UnusedFor(time) => is_unused(host, catalog, image, *time),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether an image was neither used nor stored since `time`; one of which nobody knows either was not.
fn is_unused(host: &Host, catalog: &Catalog, image: &Listed, time: Timestamp) -> bool {
    let stored = image.origin.as_ref().and_then(|origin| origin.at.parse::<Timestamp>().ok());
    image.last_use(host, catalog).into_iter().chain(stored).all(|last| last < time)
}

/// An image that cannot be read has no labels.
fn has_label(host: &Host, catalog: &Catalog, image: &Listed, key: &str, value: Option<&str>) -> Result<bool> {
    let Some(&first) = image.entries.first() else { return Ok(false) };
    let opened = match store::open(host, &catalog.index.entries()[first]) {
        Err(fault) if fault.kind() == Kind::DataLoss => return Ok(false),
        opened => opened?,
    };
    let labels = Config::parse(&opened.config_raw)?.labels();
    Ok(labels.get(key).is_some_and(|found| value.is_none_or(|wanted| wanted == found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parsed_or_refused_with_the_keys() {
        assert_eq!("reference=a*:1".parse::<Filter>().unwrap(), Filter::Reference("a*:1".into()));
        assert_eq!("dangling=True".parse::<Filter>().unwrap(), Filter::Dangling(true));
        let label = |text: &str| text.parse::<Filter>().unwrap();
        assert_eq!(label("label=a=b=c"), Filter::Label { key: "a".into(), value: Some("b=c".into()), there: true });
        assert_eq!(label("label!=a"), Filter::Label { key: "a".into(), value: None, there: false });
        for text in ["until=2026-11-25", "until=2026-11-25T08:00:00Z", "until=24h", "until=1h30m", "until=0"] {
            assert!(matches!(text.parse::<Filter>().unwrap(), Filter::Until(_)), "{text}");
        }
        assert!(matches!("unused-for=24h".parse::<Filter>().unwrap(), Filter::UnusedFor(_)));
        for text in ["", "a", "a=b", "reference=", "dangling=maybe", "until=yesterday", "until=9999999999999999999"] {
            assert_eq!(text.parse::<Filter>().unwrap_err().kind(), Kind::InvalidArgument, "{text}");
        }
    }
}
