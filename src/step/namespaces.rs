//! Makes new namespaces, each pinned by a bind mount.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Makes new namespaces, each pinned by a bind mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Namespaces {
    /// Pin of the network namespace.
    pub net: Option<PathBuf>,
    /// Pin of the IPC namespace.
    pub ipc: Option<PathBuf>,
    /// Pin of the UTS namespace.
    pub uts: Option<PathBuf>,
    /// Host name set inside the UTS namespace.
    pub hostname: Option<String>,
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make namespaces")
    }
}

super::stub!(Namespaces);
