//! `rkbox net check`.

use clap::Args;

use super::Target;
use crate::cmd::Context;
use crate::fault::{Fault, Kind, Result};

/// Arguments of `rkbox net check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    target: Target,
}

/// Compares.
pub fn run(_cx: &Context, args: &CheckArgs) -> Result<u8> {
    Err(Fault::new(Kind::Unimplemented, format!("{:?}", args.target)))
}
