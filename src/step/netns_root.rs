//! Makes /run/netns the shared mount that `ip netns` keeps there.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Makes /run/netns the shared mount that `ip netns` keeps there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetnsRoot {
    /// `/run/netns`.
    pub path: PathBuf,
}

impl fmt::Display for NetnsRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prepare {path}", path = self.path.display())
    }
}

super::stub!(NetnsRoot);
