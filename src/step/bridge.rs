//! Ensures a bridge, up.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::IfName;

/// Ensures a bridge, up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bridge {
    /// The bridge.
    pub name: IfName,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Promiscuous mode.
    pub promisc: bool,
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure bridge {name}", name = self.name)
    }
}

super::stub!(Bridge);
