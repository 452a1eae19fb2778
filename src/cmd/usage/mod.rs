//! What containers use and may use: `rkbox stats`, `top`, `update`.

mod stats;
mod top;
mod update;

use clap::Args;

use super::PlanArgs;
use super::container::GroupArgs;
use crate::record::life::RestartPolicy;

pub use stats::run as stats;
pub use top::run as top;
pub use update::run as update;

/// Arguments of `rkbox stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Names, ids or unique prefixes of ids; by default all that run
    #[arg(value_name = "CONTAINER")]
    pub keys: Vec<String>,
    /// Print once
    #[arg(long)]
    pub no_stream: bool,
    /// Print whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
}

/// Arguments of `rkbox top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Name, id or unique prefix of an id
    #[arg(value_name = "CONTAINER")]
    pub key: String,
}

/// Arguments of `rkbox update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub keys: Vec<String>,
    /// When it ends: no, on-failure or on-failure:TIMES, always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<RestartPolicy>,
    /// The new bounds; what is not named stays.
    #[command(flatten)]
    pub bounds: GroupArgs,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}
