//! Copies one blob into the image store, verified.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Where the bytes of a blob come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlobSource {
    /// A span of a file: the file itself, or a member of an archive.
    Span {
        /// The file.
        path: PathBuf,
        /// Where the bytes start.
        offset: u64,
    },
    /// Bytes made by rkbox (a manifest for a docker-archive).
    Text(String),
}

/// Copies one blob into the image store, verified.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Blob {
    /// The OCI layout of the store.
    pub store: PathBuf,
    /// `sha256:HEX`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Where the bytes come from.
    pub source: BlobSource,
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store blob {digest}", digest = self.digest)
    }
}

super::stub!(Blob);
