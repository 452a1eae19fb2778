//! Sets lo up in a namespace.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Sets lo up in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loopback {
    /// The namespace.
    pub netns: PathBuf,
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set lo up in {netns}", netns = self.netns.display())
    }
}

super::stub!(Loopback);
