//! Ensures the lease directory of a host-local network.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Ensures the lease directory of a host-local network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pool {
    /// `/var/lib/cni/networks/<network>`.
    pub dir: PathBuf,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure the address pool {dir}", dir = self.dir.display())
    }
}

super::stub!(Pool);
