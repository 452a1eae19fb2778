//! Containers: run in the foreground, listed, removed.

mod mounts;
mod oci;
mod options;
mod ps;
mod remove;
mod request;
mod run;
mod steps;

use std::path::PathBuf;

use clap::Args;

use super::{PlanArgs, records};
use crate::fault::Result;
use crate::ids::Id;
use crate::sys::Host;

pub use options::{ContainerArgs, GroupArgs, fitting, swap};
pub use ps::run as ps;
pub use remove::{reclaim, remove, run as rm, stop};
pub use run::run;

/// Arguments of `rkbox run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// The container.
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// Arguments of `rkbox ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Also those that do not run
    #[arg(short, long)]
    pub all: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub no_trunc: bool,
}

/// Arguments of `rkbox rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub keys: Vec<String>,
    /// Kill what runs, pass over damage; a missing one is no error
    #[arg(short, long)]
    pub force: bool,
    /// Also the anonymous volumes that only they use
    #[arg(short, long)]
    pub volumes: bool,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// The containers of a sandbox.
pub fn of_sandbox(host: &Host, sandbox: &Id) -> Result<Vec<Id>> {
    let mut members = Vec::new();
    for id in records::ids(host, records::BoxKind::Container)? {
        if records::container(host, &id).is_ok_and(|record| record.sandbox_id.as_ref() == Some(sandbox)) {
            members.push(id);
        }
    }
    Ok(members)
}

/// Where the volatile things of container `id` are.
fn run_dir(host: &Host, id: &Id) -> PathBuf {
    host.run.join("containers").join(id.as_str())
}
