//! The monitor: the parent of one container, the keeper of its streams, the writer of its log and of its exit file.
//!
//! The same binary executed again, one process and one thread for each container. It imports doors and words, never the plan, and never
//! changes what a plan made. It sleeps in epoll until something comes about; nothing wakes it when nothing happens.

mod checks;
mod clients;
mod ending;
mod loops;
mod output;
mod process;
mod requests;
mod streams;

use std::io::Read as _;
use std::process::ExitCode;

use crate::fault::{Fault, Kind, Result};
use crate::record::life::{Answer, Order};
use crate::sys::{monitor, reaper};

/// What a container's monitor is: reads its order from standard input, answers on standard output, watches until the container is over.
pub fn main() -> ExitCode {
    let begun = read_order().and_then(|order| {
        reaper::set_name(c"rkbox-monitor");
        reaper::become_subreaper()?;
        loops::Monitor::begin(order)
    });
    match begun {
        Ok(mut watcher) => {
            watcher.run();
            ExitCode::SUCCESS
        }
        Err(fault) => {
            let _ = monitor::send_answer(&Answer::Failed { kind: fault.kind(), message: fault.to_string() });
            ExitCode::FAILURE
        }
    }
}

fn read_order() -> Result<Order> {
    let mut text = Vec::new();
    std::io::stdin().take(16 << 20).read_to_end(&mut text).map_err(|error| Fault::internal(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| Fault::from_error(Kind::InvalidArgument, error).doing("reading the order of a monitor"))
}
