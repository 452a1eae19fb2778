//! Points a reference at a manifest in the index of the image store.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Points a reference at a manifest in the index of the image store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tag {
    /// The OCI layout of the store.
    pub store: PathBuf,
    /// `docker.io/library/busybox:latest`.
    pub reference: String,
    /// The descriptor, as JSON text.
    pub manifest: String,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tag {reference}", reference = self.reference)
    }
}

super::stub!(Tag);
