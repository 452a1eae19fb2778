//! What a container may use.

use clap::Args;

use crate::bundle::spec::Limits;
use crate::fault::Result;
use crate::sys::proc;

/// The limits of a container.
#[derive(Debug, Args)]
#[command(next_help_heading = "Resources")]
pub struct ResourceArgs {}

impl ResourceArgs {
    /// What it may use on this host.
    pub fn limits(&self) -> Result<Limits> {
        Ok(Limits::new(proc::nofile_limit()?))
    }
}
