//! `rkbox wait`: until a container ends, and how.

use std::os::fd::AsFd as _;
use std::time::Duration;

use clap::Args;

use super::{run_dir, state};
use crate::cmd::{Context, carry, output, records};
use crate::fault::Result;
use crate::plan::journal::Journal;
use crate::record::ContainerRecord;
use crate::record::life::{Exit, Reply, Request};
use crate::sys::{Host, control, proc};

/// Arguments of `rkbox wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub keys: Vec<String>,
}

/// Waits for each container named, one after the other, and prints its exit code.
pub fn run(cx: &Context, args: &WaitArgs) -> Result<u8> {
    carry::each(&args.keys, |key| {
        let id = records::find(&cx.host, records::BoxKind::Container, key)?;
        let record = records::container(&cx.host, &id)?;
        output::line(&wait(&cx.host, &record)?.to_string());
        Ok(())
    })
}

/// Waits until a container ends; answers its exit code, 255 when nobody saw it.
pub fn wait(host: &Host, record: &ContainerRecord) -> Result<u8> {
    if let Some(Reply::Exited(exit)) = control::ask(&run_dir(host, &record.id), &Request::Wait, None)? {
        return Ok(exit.exit_code);
    }
    if let Some(process) = records::runtime(&record.runtime).open_process(record.id.as_str())? {
        while !proc::wait_readable(process.as_fd(), Duration::from_secs(60))? {}
        // Whoever runs it in the foreground writes the exit file before it lets go of the journal.
        drop(Journal::open(host, record.id.as_str())?);
    }
    Ok(state::exit(record)?.map_or(Exit::UNKNOWN, |exit| exit.exit_code))
}
