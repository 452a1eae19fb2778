//! `rkbox kill`, `pause` and `unpause`.

use std::os::fd::AsFd as _;

use clap::Args;

use super::state::{self, Phase};
use super::{events, run_dir, stop};
use crate::cmd::{Context, carry, output, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Id;
use crate::record::ContainerRecord;
use crate::record::life::{EventKind, parse_signal};
use crate::sys::{Host, proc};

/// Arguments of `rkbox kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// Signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub keys: Vec<String>,
}

/// Arguments of `rkbox pause` and `unpause`.
#[derive(Debug, Args)]
pub struct FreezeArgs {
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub keys: Vec<String>,
}

/// Sends a signal to the first process of each container named.
pub fn run(cx: &Context, args: &KillArgs) -> Result<u8> {
    let signal = parse_signal(&args.signal)?;
    carry::each(&args.keys, |key| {
        let record = found(&cx.host, key)?;
        send(&cx.host, &record, signal).doing(|| format!("cannot kill container {key}"))?;
        output::line(key);
        Ok(())
    })
}

fn found(host: &Host, key: &str) -> Result<ContainerRecord> {
    let id: Id = records::find(host, records::BoxKind::Container, key)?;
    records::container(host, &id)
}

fn send(host: &Host, record: &ContainerRecord, signal: i32) -> Result<()> {
    let runtime = records::runtime(&record.runtime);
    let process = runtime.open_attentive(record.id.as_str(), signal)?.ok_or_else(|| not_running(record))?;
    // As with Docker: what is meant to end it ends it for good, whatever its restart policy.
    if signal == parse_signal("KILL")? || Ok(signal) == parse_signal(&record.stop_signal).map_err(drop) {
        drop(stop::hold(&run_dir(host, &record.id))?);
    }
    proc::send_signal(process.as_fd(), signal)?;
    Ok(())
}

fn not_running(record: &ContainerRecord) -> Fault {
    Fault::new(Kind::FailedPrecondition, format!("container {} does not run", record.name))
}

/// Freezes the processes of each container named; one that is frozen is an error, as with the peers.
pub fn pause(cx: &Context, args: &FreezeArgs) -> Result<u8> {
    carry::each(&args.keys, |key| {
        let record = found(&cx.host, key)?;
        match state::of(&cx.host, &record)?.phase {
            Phase::Running => {}
            Phase::Paused => return Err(Fault::new(Kind::FailedPrecondition, format!("container {key} is paused already"))),
            _ => return Err(not_running(&record)),
        }
        records::runtime(&record.runtime).pause(record.id.as_str())?;
        events::tell(&cx.host, &record, EventKind::Pause);
        output::line(key);
        Ok(())
    })
}

/// Lets the processes of each container named go on.
pub fn unpause(cx: &Context, args: &FreezeArgs) -> Result<u8> {
    carry::each(&args.keys, |key| {
        let record = found(&cx.host, key)?;
        if state::of(&cx.host, &record)?.phase != Phase::Paused {
            return Err(Fault::new(Kind::FailedPrecondition, format!("container {key} is not paused")));
        }
        records::runtime(&record.runtime).resume(record.id.as_str())?;
        events::tell(&cx.host, &record, EventKind::Unpause);
        output::line(key);
        Ok(())
    })
}
