//! The commands: arguments → facts → plan → run. No system calls here.

pub mod carry;
pub mod output;
pub mod parse;
pub mod records;

use crate::sys::Host;

pub use carry::PlanArgs;
pub use output::Format;

/// What every command is given: the host's roots and settings, and how to print.
#[derive(Clone, Debug)]
pub struct Context {
    /// The host.
    pub host: Host,
    /// `--format`.
    pub format: Format,
}
