//! Files into and out of containers: `rkbox cp`, `diff`, `export`.

mod copy;
mod diff;
mod export;
mod former;
mod place;

use std::path::PathBuf;

use clap::Args;

pub use copy::run as cp;
pub use diff::run as diff;
pub use export::run as export;

/// Arguments of `rkbox cp`.
#[derive(Debug, Args)]
pub struct CpArgs {
    /// Keep owners and all mode bits
    #[arg(short, long)]
    pub archive: bool,
    /// Follow a link that SOURCE itself is
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// PATH, CONTAINER:PATH, or - for a tar stream on standard input; both
    /// ends may be in containers
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// PATH, CONTAINER:PATH, or - for a tar stream on standard output
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
}

/// Arguments of `rkbox diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Name, id or unique prefix of an id
    #[arg(value_name = "CONTAINER")]
    pub key: String,
}

/// Arguments of `rkbox export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Name, id or unique prefix of an id
    #[arg(value_name = "CONTAINER")]
    pub key: String,
}
