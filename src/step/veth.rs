//! Adds a veth pair: one end on a bridge, the other in a namespace.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::IfName;
use crate::ids::Mac;
use std::path::PathBuf;

/// Adds a veth pair: one end on a bridge, the other in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Veth {
    /// The end on the host.
    pub host: IfName,
    /// Its MAC, our mark.
    pub host_mac: Mac,
    /// The end in the namespace.
    pub inner: IfName,
    /// Its MAC.
    pub inner_mac: Mac,
    /// The namespace.
    pub netns: PathBuf,
    /// The master.
    pub bridge: IfName,
    /// MTU of both ends in bytes.
    pub mtu: Option<u32>,
    /// Hairpin mode of the bridge port.
    pub hairpin: bool,
    /// Whether the namespace belongs to the same box, so that the pair goes with it.
    #[serde(default)]
    pub own_netns: bool,
}

impl fmt::Display for Veth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "add veth {host} to {bridge}", host = self.host, bridge = self.bridge)
    }
}

super::stub!(Veth);
