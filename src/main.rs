//! The table: arguments in, one fault out, an exit status.
#![deny(unsafe_code)]

use std::error::Error as _;
use std::process::ExitCode;

use clap::Parser as _;
use rkbox::cmd::{cli::Cli, output};
use rkbox::cni_plugin;
use rkbox::fault::{Fault, Kind};
use rkbox::sys::{monitor, nft, port_relay, signal};

/// What `docker run` and its kin answer when the tool itself failed.
const TOOL_FAILED: u8 = 125;

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == monitor::PROGRAM) {
        return rkbox::monitor::main();
    }
    if std::env::args_os().next().is_some_and(|name| name == port_relay::PROGRAM) {
        return port_relay::main();
    }
    // By the name of a CNI plugin it is one, and nothing of the command line is needed.
    if let Some(status) = cni_plugin::entry() {
        nft::part();
        return status;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            if let Some(fault) = error.source().and_then(|source| source.downcast_ref::<Fault>()) {
                output::hints(fault);
            }
            let first = std::env::args().nth(1);
            let usage = if matches!(first.as_deref(), Some("run" | "exec")) { TOOL_FAILED } else { 2 };
            return ExitCode::from(if error.use_stderr() { usage } else { 0 });
        }
    };
    if let Err(fault) = signal::install() {
        output::fault(&fault);
        return ExitCode::from(fault.kind().exit_code());
    }
    let runs_a_container = cli.runs_a_container();
    let outcome = cli.run();
    nft::part();
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(fault) => {
            output::fault(&fault);
            ExitCode::from(if runs_a_container { TOOL_FAILED } else { status_of(&fault) })
        }
    }
}

/// 128+n for a command that signal n stopped, else by kind.
fn status_of(fault: &Fault) -> u8 {
    let signal = signal::pending().filter(|_| fault.kind() == Kind::Cancelled);
    signal.and_then(|signal| u8::try_from(128 + signal).ok()).unwrap_or(fault.kind().exit_code())
}
