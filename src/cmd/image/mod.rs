//! `rkbox image`: load, list, name, inspect and remove images.
#![allow(rustdoc::broken_intra_doc_links, reason = "clap prints these comments, in which [:TAG] may be left out")]

pub mod catalog;
mod df;
mod filter;
mod find;
mod history;
pub mod inspect;
pub mod load;
pub mod ls;
mod mount;
pub mod need;
mod open;
mod progress;
mod prune;
pub mod pull;
mod registry_args;
mod remote;
mod removal;
pub mod rm;
mod save;
mod source;
pub mod store;
mod stream;
pub mod sweep;
mod tag;
#[cfg(test)]
mod tests;
pub mod verify;
mod verify_index;
mod verify_repair;

use clap::{Args, Subcommand};

use super::{Context, PlanArgs};
use crate::fault::Result;
use crate::image::{Platform, Reference};

pub use find::{Finding, PullPolicy, find_or_pull};
pub use load::{Loaded, Wish, plan_load};
pub use open::{Opening, SourceImage, SourceLayer, open_source};
pub use registry_args::{RegistryArgs, Talk};
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
    /// Fetch images from registries
    Pull(pull::PullArgs),
    /// Write images into an archive or directory that every tool loads
    Save(save::SaveArgs),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    /// Print all that is known of images, as JSON
    Inspect(InspectArgs),
    /// Print how an image was made
    History(history::HistoryArgs),
    /// Give an image more names
    Tag(tag::TagArgs),
    /// Take names of an image away and keep the image
    Untag(tag::UntagArgs),
    /// Remove images: one name of them by name, all names by id
    Rm(rm::RmArgs),
    /// Remove images that nobody uses
    Prune(prune::PruneArgs),
    /// Keep images from being pruned, and removed without --force
    Pin(tag::PinArgs),
    /// Take pins back
    Unpin(tag::PinArgs),
    /// Show images as read-only directories; without IMAGE, list those shown
    Mount(mount::MountArgs),
    /// Take mounts of images off
    #[command(visible_alias = "umount")]
    Unmount(mount::UnmountArgs),
    /// Print how much room images take
    Df(df::DfArgs),
    /// Compare blobs and unpacked files with what they were, and repair them
    Verify(verify::VerifyArgs),
}

/// Arguments of `rkbox image load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// PATH, oci:DIR[:TAG], oci-archive:PATH[:TAG], docker-archive:PATH[:REF], or
    /// docker://REFERENCE for what image pull does;
    /// archives may be compressed, - and nothing stand for standard input
    pub source: Option<String>,
    /// The same as SOURCE, for those who are used to docker load
    #[arg(short, long, value_name = "PATH", conflicts_with = "source")]
    pub input: Option<String>,
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

/// Runs `rkbox image`.
pub fn run(cx: &Context, args: ImageArgs) -> Result<u8> {
    match args.what {
        ImageCommand::Load(args) => load::run(cx, &args),
        ImageCommand::Pull(args) => pull::run(cx, &args),
        ImageCommand::Save(args) => save::run(cx, &args),
        ImageCommand::Ls(args) => ls::run(cx, &args),
        ImageCommand::History(args) => history::run(cx, &args),
        ImageCommand::Tag(args) => tag::tag(cx, &args),
        ImageCommand::Untag(args) => tag::untag(cx, &args),
        ImageCommand::Prune(args) => prune::run(cx, &args),
        ImageCommand::Pin(args) => tag::pin(cx, &args, true),
        ImageCommand::Unpin(args) => tag::pin(cx, &args, false),
        ImageCommand::Mount(args) => mount::run(cx, &args),
        ImageCommand::Unmount(args) => mount::unmount(cx, &args),
        ImageCommand::Df(args) => df::run(cx, &args),
        ImageCommand::Verify(args) => verify::run(cx, &args),
        ImageCommand::Inspect(args) => inspect::run(cx, &args),
        ImageCommand::Rm(args) => rm::run(cx, &args),
    }
}
