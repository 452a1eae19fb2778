//! Ensures the nftables table of rkbox.

use std::fmt;

use serde::{Deserialize, Serialize};


/// Ensures the nftables table of rkbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NatTable {
}

impl fmt::Display for NatTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure nft table inet rkbox")
    }
}

super::stub!(NatTable);
