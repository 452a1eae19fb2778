//! Makes a directory that must be new; its undo removes the whole tree.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Makes a directory that must be new; its undo removes the whole tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Directory {
    /// Where.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make directory {path}", path = self.path.display())
    }
}

super::stub!(Directory);
