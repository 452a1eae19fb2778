//! Claims one address of a pool.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::IfName;
use std::net::IpAddr;
use std::path::PathBuf;

/// Claims one address of a pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// The pool.
    pub dir: PathBuf,
    /// The address.
    pub address: IpAddr,
    /// CNI container id.
    pub owner: String,
    /// Interface.
    pub ifname: IfName,
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {address} to {ifname}", address = self.address, ifname = self.ifname)
    }
}

super::stub!(Lease);
