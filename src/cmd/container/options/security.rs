//! What a container may do.

use clap::Args;

use crate::bundle::capabilities::{self, CapabilitySet};
use crate::bundle::spec::Privileges;

/// The rights of a container.
#[derive(Debug, Args)]
#[command(next_help_heading = "Security")]
pub struct SecurityArgs {}

impl SecurityArgs {
    /// Whether programs may gain privileges that their process does not have.
    pub fn privileges(&self) -> Privileges {
        Privileges::Fixed
    }

    /// The capabilities of its processes.
    pub fn capabilities(&self) -> CapabilitySet {
        capabilities::default_set()
    }
}
