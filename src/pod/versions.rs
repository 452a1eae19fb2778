//! Which tags of coredns, etcd and pause belong to a Kubernetes version.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::release::Release;
use crate::fault::{Fault, Result};

/// The table that rkbox brings.
const BUILT_IN: &str = include_str!("component-versions.toml");

/// The tags of the images that are not built with Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Components {
    /// `v1.14.2`
    pub coredns: String,
    /// `3.6.8-0`
    pub etcd: String,
    /// `3.10.2`
    pub pause: String,
}

/// Components by the version from which on they hold.
#[derive(Clone, Debug)]
pub struct Table {
    rows: BTreeMap<(u32, u32, u32), Components>,
    newest: BTreeMap<(u32, u32), Release>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    newest: BTreeMap<String, String>,
    versions: BTreeMap<String, Components>,
}

impl Table {
    /// The table that rkbox brings.
    pub fn built_in() -> Result<Self> {
        Self::parse(BUILT_IN)
    }

    /// Reads a table.
    ///
    /// *Shape:* `[versions]` with rows `"1.36.0" = { coredns = "v1.14.2", etcd = "3.6.8-0", pause = "3.10.2" }`, and, if labels are to be
    /// understood, `[newest]` with rows `"1.36" = "1.36.3"`. *Errors:* `InvalidArgument`.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File =
            toml::from_str(text).map_err(|error| Fault::invalid(format!("table of component versions: {}", error.message())))?;
        let bad = |key: &str| Fault::invalid(format!("table of component versions: {key:?} is not a version")).hint("write \"1.36.0\"");
        let mut table = Table { rows: BTreeMap::new(), newest: BTreeMap::new() };
        for (key, components) in file.versions {
            let release = Release::parse(&key).filter(|release| release.rest.is_empty()).ok_or_else(|| bad(&key))?;
            table.rows.insert(release.number, components);
        }
        for (key, version) in file.newest {
            let minor = Release::parse(&format!("{key}.0")).filter(|release| release.rest.is_empty()).ok_or_else(|| bad(&key))?;
            let release = Release::parse(&version).ok_or_else(|| bad(&version))?;
            table.newest.insert((minor.number.0, minor.number.1), release);
        }
        if table.rows.is_empty() {
            return Err(Fault::invalid("table of component versions: it has no row"));
        }
        Ok(table)
    }

    /// The components of `release`, and whether its minor is in the table; otherwise they are those of the nearest minor.
    pub fn components(&self, release: &Release) -> Option<(&Components, bool)> {
        let (major, minor, _) = release.number;
        let row = self.rows.range(..=release.number).next_back();
        match row {
            Some((found, components)) if (found.0, found.1) == (major, minor) => Some((components, true)),
            Some((_, components)) => Some((components, false)),
            None => self.rows.iter().next().map(|(_, components)| (components, false)),
        }
    }

    /// The newest release of `minor`, or of all.
    pub fn newest(&self, minor: Option<u32>) -> Option<&Release> {
        match minor {
            Some(minor) => self.newest.get(&(1, minor)),
            None => self.newest.values().next_back(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_up_to_the_next_one_of_its_minor() {
        let table = Table::built_in().unwrap();
        let tags = |version: &str| {
            let (components, known) = table.components(&Release::parse(version).unwrap()).unwrap();
            (components.coredns.as_str(), components.etcd.as_str(), components.pause.as_str(), known)
        };
        assert_eq!(tags("1.36.2"), ("v1.14.2", "3.6.8-0", "3.10.2", true));
        assert_eq!(tags("1.35.0"), ("v1.13.1", "3.6.6-0", "3.10.1", true));
        assert_eq!(tags("1.31.0"), ("v1.11.1", "3.5.15-0", "3.10", true));
        assert_eq!(tags("1.31.13"), ("v1.11.3", "3.5.15-0", "3.10", true));
        assert_eq!(tags("1.31.99"), ("v1.11.3", "3.5.24-0", "3.10", true));
        assert_eq!(tags("v1.31.1-rc.0"), ("v1.11.3", "3.5.15-0", "3.10", true));
        assert!(!tags("1.99.0").3 && !tags("1.2.0").3 && !tags("2.0.0").3);
        assert_eq!(table.newest(None).unwrap().number.1, 36);
        assert_eq!(table.newest(Some(35)).unwrap().to_string(), "v1.35.7");
        assert_eq!(table.newest(Some(99)), None);
    }

    #[test]
    fn a_bad_table_is_refused() {
        let row = r#"{ coredns = "v1", etcd = "3", pause = "3" }"#;
        for text in [
            String::new(),
            "[versions]".to_owned(),
            format!("[versions]\n\"1.36\" = {row}"),
            format!("[versions]\n\"1.36.0-rc.1\" = {row}"),
            "[versions]\n\"1.36.0\" = { coredns = \"v1\" }".to_owned(),
            format!("[newest]\n\"x\" = \"1.36.0\"\n[versions]\n\"1.36.0\" = {row}"),
            format!("[version]\n\"1.36.0\" = {row}"),
        ] {
            let fault = Table::parse(&text).unwrap_err().to_string();
            assert!(fault.contains("component versions"), "{fault}");
        }
    }
}
