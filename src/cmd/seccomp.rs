//! `rkbox seccomp`: the default profile, for other tools to use and for people to read.

use clap::Args;

use super::{Context, output};
use crate::bundle::capabilities;
use crate::bundle::seccomp::{self, Architectures};
use crate::fault::Result;

/// Arguments of `rkbox seccomp`.
#[derive(Debug, Args)]
pub struct SeccompArgs {
    /// Capability that the container has besides the default ones
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub cap_add: Vec<String>,
    /// Capability that it lacks
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub cap_drop: Vec<String>,
    /// Also for the 32-bit programs of this machine
    #[arg(long)]
    pub all_archs: bool,
}

/// Prints the profile as `linux.seccomp` of an OCI configuration, which runc, podman and a kubelet take as a file.
pub fn run(_: &Context, args: &SeccompArgs) -> Result<u8> {
    let capabilities = capabilities::select(&args.cap_add, &args.cap_drop)?;
    let architectures = if args.all_archs { Architectures::All } else { Architectures::Native };
    output::json(&seccomp::default_profile(&capabilities, architectures)?)?;
    Ok(0)
}
