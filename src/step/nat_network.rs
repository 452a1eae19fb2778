//! Ensures the masquerade chain of a network.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::NetworkName;
use ipnetwork::IpNetwork;

/// Ensures the masquerade chain of a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NatNetwork {
    /// The network.
    pub network: NetworkName,
    /// Where its pods talk to each other without masquerade.
    pub subnets: Vec<IpNetwork>,
}

impl fmt::Display for NatNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure nft chain of network {network}", network = self.network)
    }
}

super::stub!(NatNetwork);
