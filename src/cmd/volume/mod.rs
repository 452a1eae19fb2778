//! `rkbox volume`: directories that outlive containers.

mod create;
mod list;
mod remove;
mod uses;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Context, PlanArgs};
use crate::fault::{Fault, Kind, Result};
use crate::record::VolumeRecord;
use crate::step::volume::{DATA, RECORD, USERS};
use crate::sys::tree_partial::INFIX;
use crate::sys::{Host, file};

pub use uses::{ask_removal, reclaim, use_steps};

/// A record larger than this is not ours.
const LIMIT: u64 = 1 << 20;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a volume
    Create(CreateArgs),
    /// List volumes
    Ls(LsArgs),
    /// Print everything known of volumes as JSON
    Inspect(KeysArgs),
    /// Remove volumes that no container uses
    Rm(RmArgs),
    /// Remove all anonymous volumes that no container uses
    Prune(PruneArgs),
}

/// Arguments of `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name; by default 64 random hex digits
    pub name: Option<String>,
    /// Label, may be repeated
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = crate::cmd::parse::pair)]
    pub labels: Vec<(String, String)>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Print only names
    #[arg(short, long)]
    pub quiet: bool,
    /// Only those with name=TEXT, label=KEY[=VALUE], dangling=BOOL
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
}

/// Names.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Names, or unique beginnings of anonymous ones
    #[arg(required = true, value_name = "VOLUME")]
    pub keys: Vec<String>,
}

/// Arguments of `rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Names, or unique beginnings of anonymous ones
    #[arg(required = true, value_name = "VOLUME")]
    pub keys: Vec<String>,
    /// A missing one is no error
    #[arg(short, long)]
    pub force: bool,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Arguments of `prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Also those with a name
    #[arg(short, long)]
    pub all: bool,
    /// Only those with label=KEY[=VALUE]
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Do not ask (it never does)
    #[arg(short, long, hide = true)]
    pub force: bool,
}

impl Command {
    /// Whether it makes or removes anything.
    pub fn changes_the_host(&self) -> bool {
        !matches!(self, Command::Ls(_) | Command::Inspect(_))
    }
}

/// Carries a verb out.
pub fn run(cx: &Context, command: Command) -> Result<u8> {
    match command {
        Command::Create(args) => create::run(cx, &args),
        Command::Ls(args) => list::run(cx, &args),
        Command::Inspect(args) => list::inspect(cx, &args),
        Command::Rm(args) => remove::run(cx, &args),
        Command::Prune(args) => remove::prune(cx, &args),
    }
}

/// Where all volumes are.
pub fn dir(host: &Host) -> PathBuf {
    host.root.join("volumes")
}

/// What of a volume is bound into containers.
pub fn data(host: &Host, name: &str) -> PathBuf {
    dir(host).join(name).join(DATA)
}

/// The names of all volumes.
fn names(host: &Host) -> Result<Vec<String>> {
    let is_volume = |name: &String| !name.starts_with('.') && !name.contains(INFIX);
    Ok(file::list(&dir(host))?.into_iter().filter(is_volume).collect())
}

/// Finds a volume by its name, or by a beginning of a random one.
fn find(host: &Host, key: &str) -> Result<String> {
    let all = names(host)?;
    if all.iter().any(|name| name == key) {
        return Ok(key.to_owned());
    }
    let random = |name: &&String| name.len() == 64 && key.len() >= 4 && name.starts_with(key);
    match all.iter().filter(random).collect::<Vec<_>>()[..] {
        [one] => Ok(one.clone()),
        [] => Err(Fault::not_found(format!("no volume is named {key}")).hint("rkbox volume ls shows them")),
        _ => Err(Fault::invalid(format!("{key} fits more than one volume")).hint("give more digits")),
    }
}

/// Reads the record of volume `name`.
fn read(host: &Host, name: &str) -> Result<VolumeRecord> {
    let path = dir(host).join(name).join(RECORD);
    let damaged = |fault: Fault| {
        fault
            .of_kind(Kind::DataLoss)
            .doing(format!("reading {}", path.display()))
            .hint(format!("rkbox volume rm {name} removes what is left of it"))
    };
    let content = file::read(&path, LIMIT).map_err(|error| damaged(error.into()))?;
    serde_json::from_slice(&content).map_err(|error| damaged(Fault::from_error(Kind::DataLoss, error)))
}

fn users_dir(volume: &Path) -> PathBuf {
    volume.join(USERS)
}
