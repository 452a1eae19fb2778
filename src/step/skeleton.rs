//! Makes the init layer: real /dev, /proc, /sys and mount points that no image can steer.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

/// Makes the init layer: real /dev, /proc, /sys and mount points that no image can steer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Skeleton {
    /// The directory, new.
    pub path: PathBuf,
    /// Also place the pause program at `/pause`.
    pub pause: bool,
}

impl fmt::Display for Skeleton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make init layer {path}", path = self.path.display())
    }
}

super::stub!(Skeleton);
