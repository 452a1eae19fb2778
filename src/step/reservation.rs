//! Reserves a name for a box: a symlink NAME -> id.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Id;
use std::path::PathBuf;

/// Reserves a name for a box: a symlink NAME -> id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reservation {
    /// The symlink.
    pub path: PathBuf,
    /// Its target.
    pub id: Id,
}

impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reserve the name {path}", path = self.path.display())
    }
}

super::stub!(Reservation);
