//! Containers: run in the foreground, listed, removed.

mod ps;
mod remove;
mod request;
mod run;
mod steps;

use std::path::PathBuf;

use clap::Args;

use super::{PlanArgs, records};
use crate::fault::Result;
use crate::ids::{Id, Name};
use crate::sys::Host;

pub use ps::run as ps;
pub use remove::{reclaim, remove, run as rm, stop};
pub use run::run;

/// Arguments of `rkbox run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Name; by default the first digits of the id
    #[arg(long)]
    pub name: Option<Name>,
    /// Join the network, IPC and UTS namespaces of a sandbox
    #[arg(long, conflicts_with_all = ["netns", "network", "hostname"])]
    pub sandbox: Option<String>,
    /// Join a network namespace made by somebody else (name or path)
    #[arg(long, value_name = "NETNS", conflicts_with = "network")]
    pub netns: Option<String>,
    /// CNI network of its own; `none` for only lo, `host` for the host's
    #[arg(long = "net", alias = "network", value_name = "NETWORK")]
    pub network: Option<String>,
    /// Environment variable; without a value it comes from the caller
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Instead of the image's entrypoint; repeat it, or give a JSON array
    #[arg(long, value_name = "WORD")]
    pub entrypoint: Vec<String>,
    /// Bind mount
    #[arg(short, long = "volume", value_name = "HOST:CTR[:ro]")]
    pub volumes: Vec<String>,
    /// Host name inside
    #[arg(long, value_parser = crate::cmd::parse::hostname)]
    pub hostname: Option<String>,
    /// Mount the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Label, may be repeated
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = crate::cmd::parse::pair)]
    pub labels: Vec<(String, String)>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Image: a reference, an id or a unique prefix of one
    pub image: String,
    /// Command and arguments, instead of the image's CMD
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
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
