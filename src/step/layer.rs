//! Unpacks one layer into a directory in overlayfs form, verified.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Unpacks one layer into a directory in overlayfs form, verified.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layer {
    /// The stored blob.
    pub blob: PathBuf,
    /// Digest of the blob, `sha256:HEX`.
    pub digest: String,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// `layers/<chain id in hex>`.
    pub path: PathBuf,
    /// The layers below, lowest last.
    pub lowers: Vec<PathBuf>,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unpack layer {diff_id}", diff_id = self.diff_id)
    }
}

super::stub!(Layer);
