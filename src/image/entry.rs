//! What rkbox notes of an image in its index entry, as annotations: enough to list an image without opening another file.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::layout::{Descriptor, REF_NAME};
use super::{Config, Digest, Manifest};

/// The image's id.
const ID: &str = "io.rkbox.image.id";
/// The manifest of which the other annotations tell: a tool that moves an entry to another manifest may keep its annotations.
const OF: &str = "io.rkbox.image.manifest";
/// Bytes of the configuration and the layers as stored.
const SIZE: &str = "io.rkbox.image.size";
/// When the image was made.
const CREATED: &str = "org.opencontainers.image.created";
/// When it came into the store.
const AT: &str = "io.rkbox.image.pulled-at";
/// Where it came from.
const SOURCE: &str = "io.rkbox.image.source";
/// `repository@digest` under which its registry has it, separated by spaces.
const REPO_DIGESTS: &str = "io.rkbox.image.repo-digests";
/// The beginnings of the digests of the configuration and the layers, and of the chain ids, separated by spaces: enough to see that two
/// images have nothing in common.
const PARTS: &str = "io.rkbox.image.parts";
/// The most layers of which [`PARTS`] tells, so that the index stays small; of a larger image it does not tell at all.
const PARTS_LIMIT: usize = 64;
/// Whether a removal needs `--force`.
const PINNED: &str = "io.rkbox.image.pinned";

/// Where an image came from, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `docker-archive:/a.tar`, `registry.k8s.io`.
    pub source: String,
    /// RFC 3339.
    pub at: String,
    /// `docker.io/library/busybox@sha256:…`: of the manifest, and of the index in which it was found.
    pub repo_digests: Vec<String>,
}

/// What an entry says of its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The image's id.
    pub id: Digest,
    /// Bytes of the configuration and the layers as stored.
    pub size: u64,
    /// When it was made, as written in its configuration.
    pub created: Option<String>,
}

/// The entry of an image, without a name.
///
/// *Shape:* a descriptor with `platform`, `org.opencontainers.image.created` and `io.rkbox.image.*` annotations.
pub fn describe(manifest: &Manifest, config: &Config, origin: Option<&Origin>) -> Value {
    let (digest, id) = (manifest.digest(), config.id());
    let size = size(manifest, config);
    let mut notes = Map::new();
    let mut note = |key: &str, value: &str| {
        notes.insert(key.to_owned(), Value::from(value));
    };
    note(ID, id.as_str());
    note(OF, digest.as_str());
    note(SIZE, &size.to_string());
    if manifest.layers.len() <= PARTS_LIMIT {
        let (layers, chains) = (manifest.layers.iter().map(|layer| &layer.digest), config.chain_ids());
        let parts: BTreeSet<&str> = layers.chain([&manifest.config.digest]).chain(&chains).map(Digest::short).collect();
        note(PARTS, &parts.into_iter().collect::<Vec<_>>().join(" "));
    }
    if let Some(created) = config.created() {
        note(CREATED, created);
    }
    if let Some(origin) = origin {
        note(AT, &origin.at);
        note(SOURCE, &origin.source);
        if !origin.repo_digests.is_empty() {
            note(REPO_DIGESTS, &origin.repo_digests.join(" "));
        }
    }
    json!({"mediaType": manifest.media_type, "digest": digest, "size": manifest.raw.len(), "platform": config.platform(), "annotations": notes})
}

/// Bytes of the configuration and the layers as stored.
pub fn size(manifest: &Manifest, config: &Config) -> u64 {
    manifest.layers.iter().map(|layer| layer.size).sum::<u64>() + config.raw.len() as u64
}

/// The facts of an entry; `None` when it has none, or those of another manifest.
pub fn facts(entry: &Descriptor) -> Option<Facts> {
    let note = |key: &str| entry.annotations.get(key);
    if note(OF)? != entry.digest.as_str() {
        return None;
    }
    Some(Facts { id: note(ID)?.parse().ok()?, size: note(SIZE)?.parse().ok()?, created: note(CREATED).cloned() })
}

/// The beginnings ([`Digest::short`]) of all digests below the manifest of an entry and of the chain ids of its layers; `None` when it does
/// not tell them.
pub fn parts(entry: &Descriptor) -> Option<BTreeSet<&str>> {
    facts(entry)?;
    Some(entry.annotations.get(PARTS)?.split(' ').collect())
}

/// When the image of an entry came into the store, from where, and under which digests.
pub fn origin(entry: &Descriptor) -> Option<Origin> {
    let text = |key: &str| entry.annotations.get(key).cloned();
    let repo_digests = text(REPO_DIGESTS).unwrap_or_default().split(' ').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    Some(Origin { at: text(AT)?, source: text(SOURCE).unwrap_or_default(), repo_digests })
}

/// Whether the image of an entry is pinned.
pub fn is_pinned(entry: &Descriptor) -> bool {
    entry.annotations.get(PINNED).is_some_and(|value| value == "true")
}

/// The same entry, pinned or not.
pub fn with_pin(mut entry: Value, pinned: bool) -> Value {
    if pinned {
        entry["annotations"][PINNED] = Value::from("true");
    } else {
        remove(&mut entry, &[PINNED]);
    }
    entry
}

/// The same entry under another name; without one when `name` is absent.
pub fn with_name(mut entry: Value, name: Option<&str>) -> Value {
    match name {
        Some(name) => entry["annotations"][REF_NAME] = Value::from(name),
        None => remove(&mut entry, &[REF_NAME]),
    }
    entry
}

/// What makes two entries the same: all but when and whence the image came, whether it is pinned, and what older entries do not tell.
pub fn essence(mut entry: Value) -> Value {
    remove(&mut entry, &PASSING);
    entry
}

/// The annotations that [`essence`] leaves out.
pub const PASSING: [&str; 5] = [AT, SOURCE, REPO_DIGESTS, PINNED, PARTS];

fn remove(entry: &mut Value, keys: &[&str]) {
    if let Some(annotations) = entry.get_mut("annotations").and_then(Value::as_object_mut) {
        keys.iter().for_each(|key| {
            annotations.remove(*key);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Compression, manifest};

    #[test]
    fn facts_are_those_of_the_manifest_they_were_written_for() {
        let raw = json!({"architecture": "arm64", "os": "linux", "variant": "v8", "created": "2026-01-02T03:04:05Z",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"l")]}});
        let config = Config::parse(raw.to_string().as_bytes()).unwrap();
        let image = Manifest::compose(&config.raw, &[(Digest::of(b"l"), 7, Compression::None)]).unwrap();
        let origin = Origin { source: "quay.io".into(), at: "2026-11-25T08:00:00Z".into(), repo_digests: vec!["a@b".into(), "c@d".into()] };
        let entry = describe(&image, &config, Some(&origin));
        let parsed = manifest::descriptor(&entry).unwrap();
        let facts = super::facts(&parsed).unwrap();
        assert_eq!((facts.id, facts.size), (config.id(), 7 + config.raw.len() as u64));
        assert_eq!(facts.created.as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(parsed.platform, Some(config.platform()));
        assert_eq!(super::origin(&parsed), Some(origin));
        let mut moved = entry.clone();
        moved["digest"] = json!(Digest::of(b"other"));
        assert_eq!(super::facts(&manifest::descriptor(&moved).unwrap()), None);
        let pinned = with_pin(with_name(entry.clone(), Some("x:1")), true);
        assert!(is_pinned(&manifest::descriptor(&pinned).unwrap()));
        assert_eq!(with_pin(with_name(pinned.clone(), None), false), entry);
        assert_eq!(parts(&parsed), Some([Digest::of(b"l").short(), config.id().short()].into()));
        assert_eq!(parts(&manifest::descriptor(&moved).unwrap()), None);
        assert_eq!(essence(with_name(pinned, None)), essence(describe(&image, &config, None)));
    }
}
