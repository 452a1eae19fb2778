//! Masquerades what one pod address sends out of its network.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::NetworkName;
use std::net::IpAddr;

/// Masquerades what one pod address sends out of its network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Masquerade {
    /// The network.
    pub network: NetworkName,
    /// The pod.
    pub address: IpAddr,
    /// Comment of the element, our mark: the CNI container id.
    #[serde(default)]
    pub owner: String,
}

impl fmt::Display for Masquerade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "masquerade {address}", address = self.address)
    }
}

super::stub!(Masquerade);
