//! Moves `last_reserved_ip.N` of a pool.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::net::IpAddr;
use std::path::PathBuf;

/// Moves `last_reserved_ip.N` of a pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// The pool.
    pub dir: PathBuf,
    /// Index of the range set.
    pub set: usize,
    /// The address just chosen.
    pub last: IpAddr,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "move the cursor of {dir} to {last}", dir = self.dir.display(), last = self.last)
    }
}

super::stub!(Cursor);
