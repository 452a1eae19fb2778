//! Ensures the value of a kernel parameter.

use std::fmt;

use serde::{Deserialize, Serialize};


/// Ensures the value of a kernel parameter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sysctl {
    /// Path below /proc/sys: `net/ipv4/ip_forward`.
    pub key: String,
    /// The value.
    pub value: String,
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {key} to {value}", key = self.key, value = self.value)
    }
}

super::stub!(Sysctl);
