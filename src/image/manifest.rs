//! Image manifests, OCI and Docker schema 2: a configuration and layers, every digest and count held against the limits.

use serde::Deserialize as _;
use serde_json::Value;

use super::layout::Descriptor;
use super::{Digest, json};
use crate::fault::{Context, Fault, Kind, Result};

/// The largest manifest, nested index or configuration, in bytes.
pub const DOCUMENT_LIMIT: u64 = 4 << 20;
/// The largest index of the store, in bytes: that of 10 000 images, the most that an index may have. What comes
/// from a registry or out of an archive stays within [`DOCUMENT_LIMIT`].
pub const INDEX_LIMIT: u64 = 16 << 20;
/// The most layers of an image (overlayfs mounts 500 lower directories).
pub const LAYER_LIMIT: usize = 512;

/// Media type of an OCI manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// How a layer's tar is compressed, as its media type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// What the first bytes of a blob say.
    pub fn sniff(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // Also a frame to be skipped, as pzstd puts it before each other one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// The OCI media type of a layer so compressed.
    pub fn media_type(self) -> &'static str {
        match self {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Reads the media type of a layer.
    ///
    /// *Errors:* `Unimplemented`, naming foreign layers and unknown types.
    pub fn from_media_type(media_type: &str) -> Result<Self> {
        Ok(match media_type {
            "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => Compression::None,
            "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Compression::Gzip,
            "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Compression::Zstd,
            foreign if foreign.contains(".nondistributable.") || foreign.contains(".foreign.") => {
                return Err(Fault::new(Kind::Unimplemented, format!("layer is foreign ({}), its bytes are elsewhere", shown(foreign))));
            }
            other => return Err(Fault::new(Kind::Unimplemented, format!("layer has media type {}, which is not a tar", shown(other)))),
        })
    }
}

/// A manifest, validated, with its raw bytes.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its own media type.
    pub media_type: String,
    /// The configuration, whose digest is the image's id.
    pub config: Descriptor,
    /// Lowest first.
    pub layers: Vec<Descriptor>,
    /// As stored; never written again from the typed view.
    pub raw: Vec<u8>,
    digest: Digest,
}

/// What a document must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A list of manifests.
    Index,
    /// A configuration and layers.
    Manifest,
}

impl Role {
    fn noun(self) -> &'static str {
        if self == Role::Index { "index" } else { "manifest" }
    }
}

/// Parses a bounded document and refuses one that could be read as another kind (CVE-2021-41190).
pub fn document(bytes: &[u8], role: Role) -> Result<Value> {
    let raw = object(bytes, role)?;
    check(&raw, role).map(|()| raw)
}

fn object(bytes: &[u8], role: Role) -> Result<Value> {
    let (noun, limit) = (role.noun(), if role == Role::Index { INDEX_LIMIT } else { DOCUMENT_LIMIT });
    if bytes.len() as u64 > limit {
        return Err(Fault::invalid(format!("{noun} of {} bytes is larger than {limit}", bytes.len())));
    }
    let raw = json::read(bytes, noun)?;
    if raw.is_object() { Ok(raw) } else { Err(Fault::invalid(format!("{noun} is not a JSON object"))) }
}

fn check(raw: &Value, role: Role) -> Result<()> {
    let noun = role.noun();
    if raw.get("fsLayers").is_some() || raw.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Err(Fault::new(Kind::Unimplemented, "image has a Docker schema 1 manifest, which is obsolete")
            .hint("convert it: skopeo copy -f oci SOURCE oci-archive:image.tar"));
    }
    if raw.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err(Fault::invalid(format!("{noun} does not have schemaVersion 2")));
    }
    check_media_type(raw, role)?;
    let has = |member: &str| raw.get(member).is_some_and(|value| !value.is_null());
    if has("manifests") && (has("layers") || has("config")) {
        return Err(Fault::invalid(format!("{noun} has both manifests and layers, so that it could be read in two ways")));
    }
    Ok(())
}

/// What a document calls itself must be of its kind; a document need not say it.
fn check_media_type(raw: &Value, role: Role) -> Result<()> {
    let Some(said) = raw.get("mediaType").filter(|said| !said.is_null()) else { return Ok(()) };
    let noun = role.noun();
    let others = if role == Role::Index { [OCI_MANIFEST, DOCKER_MANIFEST] } else { [OCI_INDEX, DOCKER_LIST] };
    match said.as_str() {
        Some(said) if others.contains(&said) => Err(Fault::invalid(format!("{noun} calls itself {}", shown(said)))),
        Some(_) => Ok(()),
        None => Err(Fault::invalid(format!("the mediaType of the {noun} is not a text"))),
    }
}

/// Reads a descriptor.
pub fn descriptor(raw: &Value) -> Result<Descriptor> {
    // serde would take a list of the values for the object.
    if [Some(raw), raw.get("platform")].into_iter().flatten().any(Value::is_array) {
        return Err(Fault::invalid("descriptor is not valid: it is a list"));
    }
    let found = Descriptor::deserialize(raw).map_err(|error| Fault::invalid(format!("descriptor is not valid: {error}")))?;
    if found.size > i64::MAX as u64 {
        return Err(Fault::invalid(format!("descriptor has size {}", found.size)));
    }
    Ok(found)
}

/// Whether `bytes`, which `descriptor` points at, are an index; what the descriptor says and what they say must agree.
pub fn is_index(descriptor: &Descriptor, bytes: &[u8]) -> Result<bool> {
    let said = descriptor.media_type.as_str();
    let role_of = |media_type: &str| if matches!(media_type, OCI_INDEX | DOCKER_LIST) { Role::Index } else { Role::Manifest };
    let reading = || format!("reading {}", descriptor.digest);
    let raw = object(bytes, role_of(said)).doing(reading)?;
    let inner = raw.get("mediaType").and_then(Value::as_str).unwrap_or(said);
    let unsaid = said.is_empty() && inner.is_empty() && raw.get("manifests").is_some();
    check(&raw, if unsaid { Role::Index } else { role_of(if said.is_empty() { inner } else { said }) }).doing(reading)?;
    if !said.is_empty() && inner != said {
        return Err(Fault::invalid(format!("{} calls itself {}, its descriptor {}", descriptor.digest, shown(inner), shown(said))));
    }
    match inner {
        OCI_INDEX | DOCKER_LIST => Ok(true),
        OCI_MANIFEST | DOCKER_MANIFEST => Ok(false),
        "" => Ok(unsaid),
        other => Err(Fault::new(Kind::Unimplemented, format!("{} is a {}, not an image", descriptor.digest, shown(other)))),
    }
}

impl Manifest {
    /// Reads a manifest that no descriptor names; it goes by its SHA-256.
    ///
    /// *Errors:* as [`Manifest::named`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Manifest::named(bytes, Digest::of(bytes))
    }

    /// Reads a manifest whose bytes were held against `digest`, by which it goes.
    ///
    /// *Errors:* `InvalidArgument` for a malformed one, `Unimplemented` for artifacts, foreign layers and unknown media types.
    pub fn named(bytes: &[u8], digest: Digest) -> Result<Self> {
        let raw = document(bytes, Role::Manifest)?;
        let config = descriptor(raw.get("config").unwrap_or(&Value::Null)).doing(|| "reading the config of the manifest")?;
        if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
            let message = format!("manifest describes an artifact ({}), not an image", shown(&config.media_type));
            return Err(Fault::new(Kind::Unimplemented, message));
        }
        let list = raw.get("layers").and_then(Value::as_array).ok_or_else(|| Fault::invalid("manifest has no list of layers"))?;
        if list.len() > LAYER_LIMIT {
            return Err(Fault::invalid(format!("manifest has {} layers, more than {LAYER_LIMIT}", list.len())));
        }
        let layers = list.iter().enumerate().map(|(nth, layer)| {
            let known = |found: Descriptor| Compression::from_media_type(&found.media_type).map(|_| found);
            descriptor(layer).and_then(known).doing(|| format!("reading layer {nth} of the manifest"))
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        if layers.iter().try_fold(config.size, |sum, layer| sum.checked_add(layer.size).filter(|sum| *sum <= i64::MAX as u64)).is_none() {
            return Err(Fault::invalid("manifest has layers that are too large together for any disk"));
        }
        let docker = config.media_type == DOCKER_CONFIG;
        let default = if docker { DOCKER_MANIFEST } else { OCI_MANIFEST };
        let media_type = raw.get("mediaType").and_then(Value::as_str).unwrap_or(default).to_owned();
        Ok(Manifest { media_type, config, layers, raw: bytes.to_vec(), digest })
    }

    /// Makes the OCI manifest of an image that came without one; equal inputs give equal bytes.
    pub fn compose(config: &[u8], layers: &[(Digest, u64, Compression)]) -> Result<Self> {
        let layers: Vec<Value> = layers
            .iter()
            .map(|(digest, size, how)| serde_json::json!({"mediaType": how.media_type(), "digest": digest, "size": size}))
            .collect();
        let config = serde_json::json!({"mediaType": OCI_CONFIG, "digest": Digest::of(config), "size": config.len()});
        let raw = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        Manifest::parse(raw.to_string().as_bytes())
    }

    /// Whether it is an OCI manifest of an OCI configuration, and not one of Docker's.
    pub fn is_oci(&self) -> bool {
        self.media_type == OCI_MANIFEST && self.config.media_type == OCI_CONFIG
    }

    /// The digest of the raw bytes, by which it is stored.
    pub fn digest(&self) -> Digest {
        self.digest.clone()
    }
}

/// A media type from a document, safe to print.
fn shown(media_type: &str) -> String {
    format!("{:?}", media_type.chars().take(100).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good(layers: usize) -> Value {
        let digest = Digest::of(b"x");
        let layer = json!({"mediaType": Compression::Gzip.media_type(), "digest": digest, "size": 1});
        json!({"schemaVersion": 2, "config": {"mediaType": OCI_CONFIG, "digest": digest, "size": 1}, "layers": vec![layer; layers]})
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut raw = good(1);
        change(&mut raw);
        Manifest::parse(raw.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn hostile_manifests_are_refused_by_name() {
        assert_eq!(Manifest::parse(good(1).to_string().as_bytes()).unwrap().layers.len(), 1);
        assert!(refusal(|m| m["layers"][0]["digest"] = json!("sha256:../../etc/passwd")).contains("64 lowercase hex"));
        assert!(refusal(|m| m["config"]["digest"] = json!("sha256:short")).contains("64 lowercase hex"));
        assert!(refusal(|m| m["layers"][0]["size"] = json!(-1)).contains("descriptor is not valid"));
        assert!(refusal(|m| m["layers"][0]["size"] = json!(u64::MAX)).contains("has size"));
        assert!(refusal(|m| m["manifests"] = json!([])).contains("two ways"));
        assert!(refusal(|m| m["schemaVersion"] = json!(1)).contains("schema 1"));
        assert!(refusal(|m| m["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json")).contains("artifact"));
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        assert!(refusal(|m| m["layers"][0]["mediaType"] = json!(foreign)).contains("foreign"));
        assert!(refusal(|m| m["layers"][0]["mediaType"] = json!("\u{1b}[2J")).contains("\\u{1b}"));
        assert!(refusal(|m| *m = good(513)).contains("513 layers"));
        assert!(refusal(|m| *m = json!([])).contains("not a JSON object"));
        let mut big = good(1).to_string().into_bytes();
        big.resize(5 << 20, b' ');
        assert!(Manifest::parse(&big).unwrap_err().to_string().contains("larger than"));
        let deep = "[".repeat(100_000);
        assert!(Manifest::parse(deep.as_bytes()).unwrap_err().to_string().contains("64 deep"));
    }

    #[test]
    fn a_composed_manifest_is_a_function_of_its_parts() {
        let layers = [(Digest::of(b"l"), 7, Compression::None)];
        let one = Manifest::compose(b"{}", &layers).unwrap();
        assert_eq!(one.raw, Manifest::compose(b"{}", &layers).unwrap().raw);
        assert_eq!(one.config.digest, Digest::of(b"{}"));
        assert_eq!(one.media_type, OCI_MANIFEST);
    }
}
