//! `rkbox restart`: stop, then start.

use clap::Args;

use super::start::start;
use super::stop::stop;
use crate::cmd::{Context, carry, output, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::record::life::parse_signal;

/// Arguments of `rkbox restart`.
#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Seconds until SIGKILL; by default the container's own, or 10
    #[arg(short, long, value_name = "SECONDS")]
    pub time: Option<u32>,
    /// Instead of the container's own stop signal
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub keys: Vec<String>,
}

/// Stops each container named, when it runs, and starts it again with its files, its network and a new monitor.
///
/// *Errors:* `FailedPrecondition` for one that is removed when it ends, before anything is done to it.
pub fn run(cx: &Context, args: &RestartArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(parse_signal).transpose()?;
    carry::each(&args.keys, |key| {
        let id = records::find(&cx.host, records::BoxKind::Container, key)?;
        let record = records::container(&cx.host, &id)?;
        if record.auto_remove {
            let message = format!("cannot restart container {key}: it is removed when it ends (--rm)");
            return Err(Fault::new(Kind::FailedPrecondition, message).hint("stop it and run it again, without --rm if it is to stay"));
        }
        stop(&cx.host, &id, signal, args.time).doing(|| format!("cannot stop container {key}"))?;
        start(&cx.host, &id).doing(|| format!("cannot start container {key}"))?;
        output::line(key);
        Ok(())
    })
}
