//! `rkbox image`: load, list, inspect and remove images.
#![allow(rustdoc::broken_intra_doc_links, reason = "clap prints these comments, in which [:TAG] may be left out")]

pub mod inspect;
pub mod load;
pub mod ls;
mod open;
pub mod rm;
mod source;
pub mod store;
pub mod sweep;
#[cfg(test)]
mod tests;

use clap::{Args, Subcommand};

use super::{Context, PlanArgs};
use crate::fault::Result;
use crate::image::{Platform, Reference};

pub use load::{Loaded, Wish, plan_load};
pub use open::{SourceImage, SourceLayer, open_source};
pub use sweep::sweep;

/// Arguments of `rkbox image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// What to do
    #[command(subcommand)]
    pub what: ImageCommand,
}

/// The commands of `rkbox image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Load images from a file or directory
    Load(LoadArgs),
    /// List images
    Ls,
    /// Print all that is known of images, as JSON
    Inspect(InspectArgs),
    /// Remove images: one name of them by name, all names by id
    Rm(RmArgs),
}

/// Arguments of `rkbox image load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// PATH, oci:DIR[:TAG], oci-archive:PATH[:TAG] or docker-archive:PATH[:REF]
    pub source: String,
    /// Name for the image, instead of those it was saved with; may be repeated
    #[arg(short, long, value_name = "REFERENCE")]
    pub name: Vec<Reference>,
    /// Platform to choose from an image for several ones
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Arguments of `rkbox image inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Names, ids or unique starts of ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Arguments of `rkbox image rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Names, ids or unique starts of ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print a POSIX shell script that does the same, and do nothing
    #[arg(long)]
    pub explain: bool,
}

/// Runs `rkbox image`.
pub fn run(cx: &Context, args: ImageArgs) -> Result<u8> {
    match args.what {
        ImageCommand::Load(args) => load::run(cx, &args),
        ImageCommand::Ls => ls::run(cx),
        ImageCommand::Inspect(args) => inspect::run(cx, &args),
        ImageCommand::Rm(args) => rm::run(cx, &args),
    }
}
