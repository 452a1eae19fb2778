//! The commands: arguments → facts → plan → run. No system calls here.

pub mod bundle;
pub mod carry;
pub mod cli;
pub mod cni;
pub mod container;
mod cri;
pub mod doctor;
pub mod driver;
pub mod gc;
pub mod image;
pub mod names;
pub mod network;
pub mod output;
pub mod parse;
pub mod port;
pub mod port_forward;
pub mod publish;
mod records;
mod renewal;
pub mod repair;
pub mod salvage;
pub mod sandbox;
pub mod seccomp;
pub mod transfer;
pub mod unit;
pub mod usage;
mod userns;
pub mod volume;

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
    /// How its cgroup driver was chosen.
    pub driver: driver::Choice,
}
