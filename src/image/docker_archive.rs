//! The `manifest.json` of what `docker save` writes, and the names and links in such an archive.

use serde::Deserialize;
use serde_json::Value;

use super::manifest::{DOCUMENT_LIMIT, LAYER_LIMIT};
use super::{Digest, Reference, json};
use crate::fault::{Context, Fault, Result};

/// How many images an archive may hold.
const IMAGE_LIMIT: usize = 1_000;
/// How many links may lead from a name to its bytes.
pub const LINK_LIMIT: usize = 8;

/// One image of the archive, its member names validated.
#[derive(Clone, Debug)]
pub struct ArchivedImage {
    /// The member with the configuration.
    pub config: String,
    /// The image's id, when the name of `config` says it.
    pub id: Option<Digest>,
    /// The names it was saved with.
    pub references: Vec<Reference>,
    /// The members with the layers, lowest first.
    pub layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Reads `manifest.json`.
///
/// *Source:* the Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
pub fn parse(bytes: &[u8]) -> Result<Vec<ArchivedImage>> {
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(Fault::invalid(format!("manifest.json of {} bytes is larger than {DOCUMENT_LIMIT}", bytes.len())));
    }
    let raw = json::read(bytes, "manifest.json")?;
    // serde would take a list of the values for the object.
    if raw.as_array().is_none_or(|list| !list.iter().all(Value::is_object)) {
        return Err(Fault::invalid("manifest.json is not valid: it is not a list of objects"));
    }
    let entries: Vec<Entry> = serde_json::from_value(raw)
        .map_err(|error| Fault::invalid(format!("manifest.json is not valid: {}", error.to_string().escape_debug())))?;
    if entries.len() > IMAGE_LIMIT {
        return Err(Fault::invalid(format!("manifest.json has {} images, more than {IMAGE_LIMIT}", entries.len())));
    }
    if entries.is_empty() {
        return Err(Fault::not_found("manifest.json names no image"));
    }
    entries.into_iter().enumerate().map(|(nth, entry)| image(entry).doing(|| format!("reading image {nth} of manifest.json"))).collect()
}

fn image(entry: Entry) -> Result<ArchivedImage> {
    let layers = entry.layers.unwrap_or_default();
    if layers.len() > LAYER_LIMIT {
        return Err(Fault::invalid(format!("image has {} layers, more than {LAYER_LIMIT}", layers.len())));
    }
    let config = member_name(&entry.config)?;
    let base = config.rsplit('/').next().unwrap_or_default();
    let stem = base.strip_suffix(".json").unwrap_or(base);
    let id = Digest::from_file_name(stem.strip_prefix("sha256:").unwrap_or(stem));
    let layers = layers.iter().map(|name| member_name(name)).collect::<Result<_>>()?;
    let named = entry.repo_tags.unwrap_or_default();
    let references = named.iter().map(|name| name.parse()).collect::<Result<Vec<Reference>>>().hint(|| "give it a name with --name")?;
    Ok(ArchivedImage { config, id, references, layers })
}

/// Validates and cleans a member name that a document gives.
///
/// *Shape:* `./a//b` → `a/b`. *Errors:* `InvalidArgument` for an absolute name, `..`, NUL, or nothing at all.
pub fn member_name(name: &str) -> Result<String> {
    let bad = || Fault::invalid(format!("member name {:?} is not a path inside the archive", name.chars().take(300).collect::<String>()));
    if name.starts_with('/') || name.contains('\0') || name.len() > 4096 {
        return Err(bad());
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() || parts.contains(&"..") {
        return Err(bad());
    }
    Ok(parts.join("/"))
}

/// Where the symlink `member` with `target` leads, by names alone.
///
/// *Shape:* `a/layer.tar` with `../b/layer.tar` → `b/layer.tar`. *Errors:* `InvalidArgument` when that is outside of the archive.
pub fn link_target(member: &str, target: &str) -> Result<String> {
    let outside = || Fault::invalid(format!("link {member:?} leads outside of the archive, to {target:?}"));
    if target.starts_with('/') || target.contains('\0') || target.len() > 4096 {
        return Err(outside());
    }
    let mut parts: Vec<&str> = member.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(outside)?;
            }
            name => parts.push(name),
        }
    }
    if parts.is_empty() { Err(outside()) } else { Ok(parts.join("/")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(member_name("./a//b/layer.tar").unwrap(), "a/b/layer.tar");
        for name in ["", ".", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "a\0b"] {
            assert!(member_name(name).is_err(), "{name:?}");
        }
        assert_eq!(link_target("a/layer.tar", "../b/layer.tar").unwrap(), "b/layer.tar");
        for (member, target) in [("a/l", "../../etc/shadow"), ("a/l", "/etc/shadow"), ("l", ".."), ("a/l", "..")] {
            assert!(link_target(member, target).is_err(), "{member} {target}");
        }
    }

    #[test]
    fn documents_are_read_or_refused_by_name() {
        let hex = "a".repeat(64);
        let good = format!(r#"[{{"Config":"{hex}.json","RepoTags":["busybox:1"],"Layers":["x/layer.tar"]}}]"#);
        let images = parse(good.as_bytes()).unwrap();
        assert_eq!(images[0].references[0].to_string(), "docker.io/library/busybox:1");
        assert_eq!(images[0].id, Digest::from_hex(&hex));
        let bare = parse(br#"[{"Config":"blobs/sha256/c","RepoTags":null,"Layers":null}]"#).unwrap();
        assert!(bare[0].references.is_empty() && bare[0].layers.is_empty() && bare[0].id.is_none());
        for (raw, says) in [
            (r#"[]"#, "names no image"),
            (r#"{}"#, "not valid"),
            (r#"[{"Config":"../c","Layers":[]}]"#, "inside the archive"),
            (r#"[{"Config":"c","Layers":["/l"]}]"#, "inside the archive"),
            (r#"[{"Config":"c","RepoTags":["../../x:\u001b[2J"],"Layers":[]}]"#, "not valid"),
        ] {
            let fault = parse(raw.as_bytes()).unwrap_err().to_string();
            assert!(fault.contains(says) && !fault.chars().any(char::is_control), "{fault:?}");
        }
    }
}
