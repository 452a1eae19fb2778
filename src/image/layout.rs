//! The index of an OCI image layout, and the way from it down to one manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::manifest::{self, DOCUMENT_LIMIT, Role};
use super::{Digest, Platform};
use crate::fault::{Context, Fault, Kind, Result};

/// The annotation that names an image in an index. *Source:* image-spec `annotations.md`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd and Docker put the full reference, with only the tag in [`REF_NAME`].
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// How deep indexes may lie in indexes.
pub const DEPTH_LIMIT: usize = 8;
/// How many entries an index may have.
const ENTRY_LIMIT: usize = 10_000;

/// Points at a document or blob. *Source:* image-spec `descriptor.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest, validated.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Descriptor {
    /// The name of the image in its index, as written there.
    pub fn name(&self) -> Option<&str> {
        [CONTAINERD_NAME, REF_NAME].iter().find_map(|key| self.annotations.get(*key)).map(String::as_str)
    }

    /// Whether `text` is one of the names of the image.
    fn is_called(&self, text: &str) -> bool {
        [CONTAINERD_NAME, REF_NAME].iter().any(|key| self.annotations.get(*key).is_some_and(|name| name == text))
    }
}

/// An `index.json` or nested index: the raw JSON, so that a rewrite keeps what rkbox does not know, and a typed view of its entries.
#[derive(Clone, Debug)]
pub struct Index {
    raw: Value,
    entries: Vec<Descriptor>,
}

impl Index {
    /// An index without entries.
    pub fn empty() -> Self {
        Index { raw: json!({"schemaVersion": 2, "manifests": []}), entries: Vec::new() }
    }

    /// Reads an index.
    ///
    /// *Errors:* `InvalidArgument` when it is too large, no JSON, or has an entry without a valid digest or size.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Index::of(manifest::document(bytes, Role::Index)?)
    }

    fn of(raw: Value) -> Result<Self> {
        let list = raw.get("manifests").and_then(Value::as_array).ok_or_else(|| Fault::invalid("index has no list of manifests"))?;
        if list.len() > ENTRY_LIMIT {
            return Err(Fault::invalid(format!("index has {} entries, more than {ENTRY_LIMIT}", list.len())));
        }
        let entries = list
            .iter()
            .enumerate()
            .map(|(nth, entry)| manifest::descriptor(entry).doing(|| format!("reading entry {nth} of the index")))
            .collect::<Result<_>>()?;
        Ok(Index { raw, entries })
    }

    /// The typed view.
    pub fn entries(&self) -> &[Descriptor] {
        &self.entries
    }

    /// The raw entries, in the order of [`Index::entries`].
    pub fn raw_entries(&self) -> &[Value] {
        self.raw.get("manifests").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The same index with other entries; unknown members of the index stay.
    ///
    /// *Errors:* `InvalidArgument` when it would be too large, or an entry is not valid.
    pub fn with_entries(&self, entries: Vec<Value>) -> Result<Self> {
        let mut raw = self.raw.clone();
        raw["manifests"] = Value::Array(entries);
        let new = Index::of(raw)?;
        // What is written must be read again.
        let size = new.to_text().len() as u64;
        if size > manifest::INDEX_LIMIT {
            return Err(Fault::invalid(format!("index of {size} bytes is larger than {}", manifest::INDEX_LIMIT)));
        }
        Ok(new)
    }

    /// As JSON in one line with sorted keys (as `jq -cS` prints it).
    pub fn to_text(&self) -> String {
        format!("{}\n", self.raw)
    }

    /// The raw entry that bears `reference` in [`REF_NAME`].
    pub fn find_tagged(&self, reference: &str) -> Option<&Value> {
        self.raw_entries().iter().find(|entry| ref_name(entry) == Some(reference))
    }

    /// The images of the index, one descriptor each: what bears the same name is one image for several platforms.
    ///
    /// *Errors:* `NotFound` when no image is called `tag` (the names are listed), `InvalidArgument` when a name stands for several images.
    pub fn select(&self, tag: Option<&str>, platform: &Platform) -> Result<Vec<&Descriptor>> {
        let wanted: Vec<&Descriptor> = self.entries.iter().filter(|entry| tag.is_none_or(|tag| entry.is_called(tag))).collect();
        if wanted.is_empty() {
            let Some(tag) = tag else { return Err(Fault::not_found("the index names no image")) };
            let names: Vec<String> = self.entries.iter().filter_map(Descriptor::name).take(20).map(|name| format!("{name:?}")).collect();
            let fault = Fault::not_found(format!("no image of the index is called {tag:?}"));
            return Err(if names.is_empty() { fault } else { fault.hint(format!("it has {}", names.join(", "))) });
        }
        let mut groups: Vec<(Option<&str>, Vec<&Descriptor>)> = Vec::new();
        for entry in wanted {
            match groups.iter_mut().find(|(name, _)| *name == entry.name()) {
                Some((_, group)) => group.push(entry),
                None => groups.push((entry.name(), vec![entry])),
            }
        }
        groups.into_iter().map(|(name, group)| one_of(name, &group, platform)).collect()
    }
}

fn one_of<'a>(name: Option<&str>, group: &[&'a Descriptor], platform: &Platform) -> Result<&'a Descriptor> {
    if let [only] = group {
        return Ok(only);
    }
    let mut ranked: Vec<(u32, &Descriptor)> = group
        .iter()
        .filter_map(|entry| entry.platform.as_ref().map_or(Some(u32::MAX), |offered| platform.rank(offered)).map(|rank| (rank, *entry)))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    match ranked.as_slice() {
        [] => Err(Fault::not_found(format!("no image of the index runs on {platform}"))),
        [(first, entry), (second, other), ..] if first == second && entry.digest != other.digest => {
            let called = name.map_or("without a name".to_owned(), |name| format!("called {name:?}"));
            Err(Fault::invalid(format!("the index has several images {called}")).hint("name one of them: oci-archive:PATH:NAME"))
        }
        [(_, entry), ..] => Ok(entry),
    }
}

/// The [`REF_NAME`] of a raw entry.
pub fn ref_name(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

/// Goes from `top` through nested indexes to the manifest for `platform`; answers its descriptor and bytes, verified.
///
/// *Errors:* `InvalidArgument` past [`DEPTH_LIMIT`] levels, `NotFound` without a manifest for the platform, `DataLoss` for wrong bytes.
pub fn descend(
    top: &Descriptor,
    platform: &Platform,
    read: &mut dyn FnMut(&Descriptor) -> Result<Vec<u8>>,
) -> Result<(Descriptor, Vec<u8>)> {
    let mut here = top.clone();
    for _ in 0..=DEPTH_LIMIT {
        let bytes = read_verified(&here, read)?;
        if !manifest::is_index(&here, &bytes)? {
            return Ok((here, bytes));
        }
        let index = Index::parse(&bytes).doing(|| format!("reading index {}", here.digest))?;
        here = for_platform(&index, platform).doing(|| format!("choosing from index {}", here.digest))?.clone();
    }
    Err(Fault::invalid(format!("indexes lie more than {DEPTH_LIMIT} deep below {}", top.digest)))
}

fn for_platform<'a>(index: &'a Index, platform: &Platform) -> Result<&'a Descriptor> {
    let ranked = index.entries.iter().filter_map(|entry| match &entry.platform {
        Some(offered) => platform.rank(offered).map(|rank| (rank, entry)),
        None => Some((u32::MAX, entry)),
    });
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry).ok_or_else(|| {
        let mut offered: Vec<String> = index.entries.iter().filter_map(|entry| entry.platform.as_ref()).map(Platform::to_string).collect();
        offered.retain(|platform| platform != "unknown/unknown");
        offered.truncate(20);
        Fault::not_found(format!("the image has no manifest for {platform}")).hint(format!("it has {}", offered.join(", ")))
    })
}

/// Reads the small document of `descriptor` and holds it against size and digest.
pub fn read_verified(descriptor: &Descriptor, read: &mut dyn FnMut(&Descriptor) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let name = || format!("reading {}", descriptor.digest);
    if descriptor.size > DOCUMENT_LIMIT {
        return Err(Fault::invalid(format!("document of {} bytes is larger than {DOCUMENT_LIMIT}", descriptor.size)).doing(name()));
    }
    let bytes = read(descriptor)?;
    if bytes.len() as u64 != descriptor.size {
        let message = format!("content has {} bytes, its descriptor says {}", bytes.len(), descriptor.size);
        return Err(Fault::new(Kind::DataLoss, message).doing(name()));
    }
    descriptor.digest.verify(&bytes).doing(name)?;
    Ok(bytes)
}

/// Checks the `oci-layout` file.
///
/// *Errors:* `Unimplemented` for a version other than 1.
pub fn check_marker(bytes: &[u8]) -> Result<()> {
    let marker = super::json::read(bytes, "oci-layout")?;
    match marker.get("imageLayoutVersion").and_then(Value::as_str) {
        Some(version) if version.starts_with("1.") => Ok(()),
        Some(version) => Err(Fault::new(Kind::Unimplemented, format!("OCI image layout version {version:?} is not known"))),
        None => Err(Fault::invalid("oci-layout has no imageLayoutVersion")),
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
