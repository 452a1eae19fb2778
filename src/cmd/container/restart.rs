//! `rkbox restart`: stop, then start.

use super::start::start;
use super::stop::{StopArgs, stop};
use crate::cmd::{Context, carry, output, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::record::life::parse_signal;

/// Stops each container named, when it runs, and starts it again with its files, its network and a new monitor.
///
/// *Errors:* `FailedPrecondition` for one that is removed when it ends, before anything is done to it.
pub fn run(cx: &Context, args: &StopArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(parse_signal).transpose()?;
    carry::each(&args.keys, |key| {
        let id = records::find(&cx.host, records::BoxKind::Container, key)?;
        let record = records::container(&cx.host, &id)?;
        if record.auto_remove {
            let message = format!("cannot restart container {key}: it is removed when it ends (--rm)");
            return Err(Fault::new(Kind::FailedPrecondition, message).hint("stop it and run it again, without --rm if it is to stay"));
        }
        stop(&cx.host, &id, signal, args.time).doing(|| format!("cannot stop container {key}"))?;
        start(cx, &id).doing(|| format!("cannot start container {key}"))?;
        output::line(key);
        Ok(())
    })
}
