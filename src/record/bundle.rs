//! The record of a bundle.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::RawConfig;

/// What a bundle was made of: enough to take it back without its journal.
///
/// *Shape:* `OUT/record.json`. It holds no time and no random word, so that equal commands write equal bundles.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BundleRecord {
    /// [`super::VERSION`].
    pub v: u32,
    /// `bundle-` and 16 hex digits of the SHA-256 of `path`: names its journal.
    pub id: String,
    /// The bundle, absolute.
    pub path: PathBuf,
    /// The source as it was given.
    pub source: String,
    /// Digest of the image's configuration.
    pub image_id: String,
    /// Digest of the image's manifest.
    pub manifest: String,
    /// Whether the blobs are members of an archive, and so copied into `OUT/image` before they are unpacked.
    pub copied: bool,
    /// Its layers, lowest first.
    pub layers: Vec<BundleLayer>,
    /// Version of rkbox.
    pub rkbox: String,
    /// The request, verbatim.
    pub config: RawConfig,
    /// What a later version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One layer of a bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BundleLayer {
    /// The file that holds the blob.
    pub file: PathBuf,
    /// Where in the file it starts.
    pub offset: u64,
    /// Media type of the blob.
    pub media_type: String,
    /// Digest of the blob.
    pub digest: String,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// Digest of it and all below it; names the directory.
    pub chain_id: String,
}
