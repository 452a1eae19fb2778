//! `rkbox bundle`: OCI bundles that plain `runc run -b` runs.
use super::Context;
use crate::fault::Result;
/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make
    Create,
}
/// Runs.
pub fn run(_cx: &Context, _command: Command) -> Result<u8> {
    Ok(0)
}
