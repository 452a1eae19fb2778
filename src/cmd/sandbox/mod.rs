//! `rkbox sandbox`: a pause process that holds the namespaces of a pod.

mod create;
mod ls;
mod remove;
mod renew;
mod steps;
mod wishes;

use clap::{Args, Subcommand};

use super::{Context, PlanArgs, carry, output, records};
use crate::fault::{Context as _, Result};
use crate::script::Script;

pub use create::CreateArgs;
pub use ls::{State, state};
pub use remove::{reclaim, remove};
pub use renew::{renew, tell_renewal};
pub use steps::cgroup_parent;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a sandbox: namespaces, network, pause process
    Create(Box<CreateArgs>),
    /// List sandboxes
    Ls(LsArgs),
    /// Print everything known of sandboxes as JSON
    Inspect(KeysArgs),
    /// Make sandboxes ready again after a reboot; one that is ready is fine
    Start(StartArgs),
    /// End the processes and free the network; the record stays
    Stop(RemoveArgs),
    /// Remove sandboxes
    Rm(RemoveArgs),
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub no_trunc: bool,
}

/// Names or ids.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SANDBOX")]
    pub keys: Vec<String>,
}

/// Arguments of `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SANDBOX")]
    pub keys: Vec<String>,
    /// Print a POSIX shell script that does the same, and do nothing
    #[arg(long)]
    pub explain: bool,
}

/// Arguments of `stop` and `rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SANDBOX")]
    pub keys: Vec<String>,
    /// Also its containers, pass over damage; a missing one is no error
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
        Command::Ls(args) => ls::run(cx, &args),
        Command::Inspect(args) => inspect(cx, &args),
        Command::Start(args) => start(cx, &args),
        Command::Stop(args) => remove::run(cx, &args, remove::Extent::Stop),
        Command::Rm(args) => remove::run(cx, &args, remove::Extent::All),
    }
}

/// Makes each sandbox named ready again, with its names, its ports and, where they are free, its addresses; its containers are started
/// by themselves.
fn start(cx: &Context, args: &StartArgs) -> Result<u8> {
    carry::each(&args.keys, |key| {
        let id = records::find(&cx.host, records::BoxKind::Sandbox, key)?;
        if args.explain {
            let mut script = Script::new();
            tell_renewal(cx, &id, &mut script).doing(|| format!("cannot start sandbox {key}"))?;
            carry::show(&script);
            return Ok(());
        }
        renew(cx, &id).doing(|| format!("cannot start sandbox {key}"))?;
        output::line(key);
        Ok(())
    })
}

fn inspect(cx: &Context, args: &KeysArgs) -> Result<u8> {
    let mut all = Vec::new();
    for key in &args.keys {
        let id = records::find(&cx.host, records::BoxKind::Sandbox, key)?;
        let record = records::sandbox(&cx.host, &id)?;
        let state = state(&record)?;
        all.push(serde_json::json!({ "state": state.word(), "pid": state.pid(), "record": record }));
    }
    output::json(&all)?;
    Ok(0)
}
