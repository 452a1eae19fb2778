//! Writes a text file that must be new, atomically.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Writes a text file that must be new, atomically.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// The whole content.
    pub content: String,
    /// Whether it must survive a power cut.
    pub durable: bool,
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {path}", path = self.path.display())
    }
}

super::stub!(File);
