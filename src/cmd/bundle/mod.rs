//! `rkbox bundle`: OCI bundles that plain `runc run -b` runs.
#![allow(rustdoc::broken_intra_doc_links, reason = "clap prints these comments, in which [:TAG] may be left out")]

mod accounts;
mod create;
mod place;
mod remove;
mod request;
mod steps;

use clap::{Args, Subcommand};

use super::{Context, PlanArgs};
use crate::fault::Result;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a bundle of an image
    Create(CreateArgs),
    /// Take bundles back that were made without --flat
    Rm(RmArgs),
}

/// Arguments of `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Only config.json and a plain rootfs, as umoci unpack makes it
    #[arg(long)]
    pub flat: bool,
    /// docker://REFERENCE, which is pulled into the store first, oci:DIR[:TAG],
    /// oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], a path, - for standard
    /// input, or the name or id of an image of the store; archives may be compressed
    pub source: String,
    /// The bundle: a new directory in one that is there
    pub out: std::path::PathBuf,
    /// `--creds` and its like.
    #[command(flatten)]
    pub registry: super::image::RegistryArgs,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Arguments of `rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Bundles
    #[arg(required = true, value_name = "OUT")]
    pub outs: Vec<std::path::PathBuf>,
    /// A missing bundle is no error
    #[arg(short, long)]
    pub force: bool,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Carries a verb out.
pub fn run(cx: &Context, command: Command) -> Result<u8> {
    match command {
        Command::Create(args) => create::run(cx, &args),
        Command::Rm(args) => remove::run(cx, &args),
    }
}
