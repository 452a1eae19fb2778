//! Gives an interface in a namespace its addresses, sets it up and adds its routes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::IfName;
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::path::PathBuf;

/// A route through an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination; `0.0.0.0/0` is the default route.
    pub dst: IpNetwork,
    /// Next hop.
    pub gw: Option<IpAddr>,
}

/// Gives an interface in a namespace its addresses, sets it up and adds its routes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// The namespace.
    pub netns: PathBuf,
    /// The interface.
    pub ifname: IfName,
    /// Addresses with prefix.
    pub addresses: Vec<IpNetwork>,
    /// Routes through it.
    pub routes: Vec<Route>,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configure {ifname} in {netns}", netns = self.netns.display(), ifname = self.ifname)
    }
}

super::stub!(Interface);
