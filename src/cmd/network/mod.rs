//! `rkbox net`: attaches network namespaces to CNI networks, in the files and formats of libcni and the reference plugins.

mod add;
mod asked;
mod check;
mod connect;
mod create;
mod del;
mod gc;
mod inspect;
mod leases;
mod ls;
mod reclaim;
mod repair;
pub mod several;
mod status;

use std::path::PathBuf;

pub use crate::network::{attach, detach, networks};
use add::{Attachable, plan_attachment, print_attached};
pub use asked::AskedArgs;
pub use connect::release;
pub use reclaim::reclaim;

use clap::{Args, Subcommand};

use super::Context;
use crate::cni::attachment_id::{attachment_id, clean};
use crate::fault::{Fault, Result};
use crate::ids::{IfName, NetworkName};
use crate::sys::Host;

/// Commands of `rkbox net`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach a network namespace to a network
    Add(add::AddArgs),
    /// Detach a network namespace from a network
    Del(del::DelArgs),
    /// Compare an attachment with what it was when it was made
    Check(check::CheckArgs),
    /// Restore the firewall rules that somebody flushed
    Repair(repair::RepairArgs),
    /// List the networks
    Ls(ls::LsArgs),
    /// Tell how many addresses a network has left
    Status(status::StatusArgs),
    /// Take back attachments and leases whose owners are gone
    Gc(gc::GcArgs),
    /// Show a network, its plugins and its leases
    Inspect(inspect::InspectArgs),
    /// Print the configuration list of a network
    Conf(inspect::InspectArgs),
    /// List who holds which address
    Leases(leases::LeasesArgs),
    /// Write the configuration of a new network
    Create(create::CreateArgs),
    /// Remove networks that rkbox has created
    Rm(create::RmArgs),
    /// Attach a sandbox that lives to one more network
    Connect(connect::ConnectArgs),
    /// Detach it again
    Disconnect(connect::DisconnectArgs),
}

impl Command {
    /// Whether it only reads.
    pub fn only_reads(&self) -> bool {
        matches!(self, Command::Ls(_) | Command::Status(_) | Command::Inspect(_) | Command::Conf(_) | Command::Leases(_))
    }
}

/// Carries a command out; answers the exit status.
pub fn run(cx: &Context, command: Command) -> Result<u8> {
    match command {
        Command::Add(args) => add::run(cx, &args),
        Command::Del(args) => del::run(cx, &args),
        Command::Check(args) => check::run(cx, &args),
        Command::Repair(args) => repair::run(cx, &args),
        Command::Ls(args) => ls::run(cx, &args),
        Command::Status(args) => status::run(cx, &args),
        Command::Gc(args) => gc::run(cx, &args),
        Command::Inspect(args) => inspect::run(cx, &args),
        Command::Conf(args) => inspect::conf(cx, &args),
        Command::Leases(args) => leases::run(cx, &args),
        Command::Create(args) => create::create(cx, &args),
        Command::Rm(args) => create::rm(cx, &args),
        Command::Connect(args) => connect::connect(cx, &args),
        Command::Disconnect(args) => connect::disconnect(cx, &args),
    }
}

/// Prints what planning an attachment found that people should hear of.
pub fn tell(attached: &attach::Attached) {
    attached.notes.iter().for_each(|note| super::output::note(&format!("rkbox: {note}")));
}

/// Which interface of which namespace is meant.
#[derive(Debug, Args)]
pub struct Target {
    /// The network
    #[arg(value_name = "NETWORK")]
    pub network: NetworkName,
    /// The namespace: a name under /run/netns, or a path
    #[arg(value_name = "NETNS")]
    pub netns: String,
    /// The interface inside
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    pub ifname: IfName,
}

impl Target {
    /// The namespace as an absolute path.
    fn netns_path(&self, host: &Host) -> Result<PathBuf> {
        if self.netns.is_empty() || matches!(self.netns.as_str(), "." | "..") || self.netns.contains('\0') {
            return Err(Fault::invalid(format!("network namespace {:?} is neither a name nor a path", self.netns)));
        }
        let path = host.netns_path(&self.netns);
        let absolute = std::path::absolute(&path).map_err(|error| Fault::invalid(format!("{}: {error}", path.display())))?;
        Ok(clean(&absolute))
    }

    /// The attachment, under the id that `cnitool` gives it.
    fn handle(&self, host: &Host) -> Result<detach::Handle> {
        let owner = attachment_id(&self.netns_path(host)?);
        Ok(detach::Handle { network: self.network.clone(), owner, ifname: self.ifname.clone() })
    }
}
