//! Unpacks layers into one plain directory.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// One layer to unpack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerBlob {
    /// Where the blob is.
    pub source: super::blob::BlobSource,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
}

/// Unpacks layers into one plain directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flatten {
    /// The layers, lowest first.
    pub layers: Vec<LayerBlob>,
    /// The directory, new.
    pub path: PathBuf,
}

impl fmt::Display for Flatten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unpack a plain root file system into {path}", path = self.path.display())
    }
}

super::stub!(Flatten);
