//! Mounts a file system.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// A file system to mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// overlayfs.
    Overlay {
        /// Read-only layers, highest first.
        lowers: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Scratch of overlayfs beside the upper layer.
        work: PathBuf,
    },
    /// tmpfs.
    Tmpfs {
        /// Size in KiB.
        size_kib: u64,
        /// Mode of its root.
        mode: u32,
    },
}

/// Mounts a file system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Overlay or tmpfs.
    pub what: MountKind,
    /// An existing directory.
    pub target: PathBuf,
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount on {target}", target = self.target.display())
    }
}

super::stub!(Mount);
