//! The `ipam` part of a configuration: who gives addresses.

use super::args::CniArgs;
use super::host_local::HostLocal;
use super::keys::Keys;
use super::static_ipam::StaticIpam;
use super::version::Version;
use crate::fault::{Fault, Result};

/// Who gives addresses.
#[derive(Clone, Debug, PartialEq)]
pub enum Ipam {
    /// Nobody: layer 2 only.
    None,
    /// host-local.
    HostLocal(Box<HostLocal>),
    /// The configuration itself.
    Static(StaticIpam),
    /// Another program, by its name.
    Foreign(String),
}

impl Ipam {
    /// Reads the `ipam` of a plugin.
    pub fn read(plugin: &Keys<'_>, version: Version, args: &CniArgs) -> Result<Ipam> {
        let Some(ipam) = plugin.object("ipam")? else { return Ok(Ipam::None) };
        match ipam.text("type")? {
            "" => Ok(Ipam::None),
            "host-local" => HostLocal::read(plugin, version, args).map(|ipam| Ipam::HostLocal(Box::new(ipam))),
            "static" => StaticIpam::read(plugin, version, args).map(Ipam::Static),
            kind if kind.contains(['/', '\0']) || matches!(kind, "." | "..") => {
                Err(Fault::invalid(format!("ipam type {kind:?} is not the name of a program")))
            }
            kind => Ok(Ipam::Foreign(kind.to_owned())),
        }
    }

    /// Whether it can be asked without another program.
    pub fn is_built_in(&self) -> bool {
        !matches!(self, Ipam::Foreign(_))
    }
}
