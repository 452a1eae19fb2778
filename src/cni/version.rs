//! Versions of the CNI specification.

use std::fmt;

use crate::fault::{Fault, Kind, Result};

/// A version of the CNI specification that rkbox speaks.
///
/// *Source:* libcni `version.All`; an absent or empty version means 0.1.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.1.0.
    #[default]
    V0_1_0,
    /// 0.2.0.
    V0_2_0,
    /// 0.3.0: lists, several addresses, interfaces in results.
    V0_3_0,
    /// 0.3.1.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: no `version` in the addresses of a result.
    V1_0_0,
    /// 1.1.0.
    V1_1_0,
}

const ALL: [(&str, Version); 7] = [
    ("0.1.0", Version::V0_1_0),
    ("0.2.0", Version::V0_2_0),
    ("0.3.0", Version::V0_3_0),
    ("0.3.1", Version::V0_3_1),
    ("0.4.0", Version::V0_4_0),
    ("1.0.0", Version::V1_0_0),
    ("1.1.0", Version::V1_1_0),
];

/// All versions, as they stand in documents, oldest first.
pub const ALL_TEXT: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

impl Version {
    /// Reads a `cniVersion`; the empty text is 0.1.0.
    ///
    /// *Errors:* `Unimplemented` for another version, the known ones listed.
    pub fn parse(text: &str) -> Result<Version> {
        if text.is_empty() {
            return Ok(Version::V0_1_0);
        }
        let found = ALL.iter().find(|(name, _)| *name == text).map(|(_, version)| *version);
        found.ok_or_else(|| {
            let known = ALL.map(|(name, _)| name).join(", ");
            Fault::new(Kind::Unimplemented, format!("cniVersion {text:?} is not supported")).hint(format!("use one of {known}"))
        })
    }

    /// The version as it stands in documents.
    pub fn as_str(self) -> &'static str {
        ALL.iter().find(|(_, version)| *version == self).map_or("0.1.0", |(name, _)| name)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Picks the version of a configuration list from `cniVersion` and `cniVersions`: the highest that rkbox speaks.
///
/// *Source:* libcni `NetworkConfFromBytes`: entries above 1.1.0 are passed over, `cniVersion` takes part.
pub fn pick(single: &str, several: &[String]) -> Result<Version> {
    let mut best: Option<Version> = None;
    for text in several.iter().map(String::as_str).chain((!single.is_empty() && !several.is_empty()).then_some(single)) {
        let numbers = numbers(text)?;
        if numbers > [1, 1, 0] {
            continue;
        }
        best = best.max(Some(Version::parse(text)?));
    }
    best.map_or_else(|| Version::parse(single), Ok)
}

/// Whether a text is a version at all: three numbers with dots between them.
pub fn is_version(text: &str) -> bool {
    numbers(text).is_ok()
}

fn numbers(text: &str) -> Result<[u64; 3]> {
    let bad = || Fault::invalid(format!("cniVersions entry {text:?} is not a version"));
    let mut out = [0; 3];
    let mut parts = text.split('.');
    for number in &mut out {
        *number = parts.next().and_then(|part| part.parse().ok()).ok_or_else(bad)?;
    }
    if parts.next().is_some() { Err(bad()) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_the_oldest_and_plugin_releases_are_no_versions() {
        assert_eq!(Version::parse("").unwrap(), Version::V0_1_0);
        assert_eq!(Version::parse("1.1.0").unwrap().to_string(), "1.1.0");
        for text in ["1.1.1", "2.0.0", "0.3", "v1.0.0", "1.0.0 "] {
            assert_eq!(Version::parse(text).unwrap_err().kind(), Kind::Unimplemented, "{text}");
        }
    }

    #[test]
    fn the_highest_known_version_is_picked() {
        let several = ["0.4.0".to_owned(), "1.2.0".to_owned(), "0.3.1".to_owned()];
        assert_eq!(pick("1.0.0", &several).unwrap(), Version::V1_0_0);
        assert_eq!(pick("", &several).unwrap(), Version::V0_4_0);
        assert_eq!(pick("0.2.0", &[]).unwrap(), Version::V0_2_0);
        assert!(pick("", &["one".to_owned()]).is_err());
    }
}
