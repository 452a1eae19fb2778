//! Ensures the gateway address of a bridge.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::IfName;
use ipnetwork::IpNetwork;

/// Ensures the gateway address of a bridge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gateway {
    /// The bridge.
    pub bridge: IfName,
    /// Gateway address and prefix.
    pub address: IpNetwork,
    /// Replace a different address (forceAddress).
    pub force: bool,
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure {address} on {bridge}", bridge = self.bridge, address = self.address)
    }
}

super::stub!(Gateway);
