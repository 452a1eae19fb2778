//! Ensures the directories of rkbox itself, root only (shared: removed again only when empty).

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Ensures the directories of rkbox itself, root only (shared: removed again only when empty).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Home {
    /// The directories, parents first, each made with mode 0700.
    pub dirs: Vec<PathBuf>,
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure the directories of rkbox")
    }
}

super::stub!(Home);
