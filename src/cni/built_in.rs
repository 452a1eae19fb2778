//! The plugins that are built in, and what each is told.

use super::args::CniArgs;
use super::bandwidth::BandwidthConf;
use super::bridge::BridgeConf;
use super::firewall::FirewallConf;
use super::ipam::Ipam;
use super::list::Plugin;
use super::macvlan::MacvlanConf;
use super::portmap::PortmapConf;
use super::ptp::PtpConf;
use super::tuning::TuningConf;
use super::version::Version;
use crate::fault::{Fault, Result};

/// Types of the plugins that make or change interfaces, and are built in.
pub const INTERFACE_PLUGINS: [&str; 8] = ["bridge", "ptp", "macvlan", "loopback", "tuning", "bandwidth", "firewall", "portmap"];
/// Types of the plugins that give addresses, and are built in.
pub const IPAM_PLUGINS: [&str; 2] = ["host-local", "static"];

/// The names of all plugins that are built in, as `rkbox cni install` links them.
pub fn names() -> impl Iterator<Item = &'static str> {
    INTERFACE_PLUGINS.into_iter().chain(IPAM_PLUGINS)
}

/// Whether a plugin of a list is carried out by rkbox or by another program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Only what is built in.
    Always,
    /// What is built in; another program for the rest.
    #[default]
    Prefer,
    /// Always another program.
    Never,
}

/// What a built-in plugin is told.
#[derive(Clone, Debug, PartialEq)]
pub enum BuiltIn {
    /// `bridge`.
    Bridge(Box<BridgeConf>),
    /// `ptp`.
    Ptp(Box<PtpConf>),
    /// `macvlan`.
    Macvlan(Box<MacvlanConf>),
    /// `loopback`.
    Loopback,
    /// `tuning`.
    Tuning(Box<TuningConf>),
    /// `bandwidth`.
    Bandwidth(BandwidthConf),
    /// `firewall`.
    Firewall(FirewallConf),
    /// `portmap`.
    Portmap(PortmapConf),
}

impl BuiltIn {
    /// Whether plugins of this type are built in.
    pub fn is_known(kind: &str) -> bool {
        INTERFACE_PLUGINS.contains(&kind)
    }

    /// Reads the configuration of a plugin, as it would be handed over by a runtime.
    ///
    /// *Errors:* `Unimplemented` for a type that is not built in or a key that is not honoured, named.
    pub fn read(plugin: &Plugin, version: Version, args: &CniArgs) -> Result<BuiltIn> {
        match plugin.kind.as_str() {
            "bridge" => BridgeConf::read(plugin, version, args).map(|conf| BuiltIn::Bridge(Box::new(conf))),
            "ptp" => PtpConf::read(plugin, version, args).map(|conf| BuiltIn::Ptp(Box::new(conf))),
            "macvlan" => MacvlanConf::read(plugin, version, args).map(|conf| BuiltIn::Macvlan(Box::new(conf))),
            "loopback" => Ok(BuiltIn::Loopback),
            "tuning" => TuningConf::read(plugin, args).map(|conf| BuiltIn::Tuning(Box::new(conf))),
            "bandwidth" => BandwidthConf::read(plugin).map(BuiltIn::Bandwidth),
            "firewall" => FirewallConf::read(plugin, version).map(BuiltIn::Firewall),
            "portmap" => PortmapConf::read(plugin).map(BuiltIn::Portmap),
            kind => Err(Plugin::foreign(kind)),
        }
    }

    /// Who gives addresses; nobody for a plugin without `ipam`.
    pub fn ipam(&self) -> &Ipam {
        match self {
            BuiltIn::Bridge(conf) => &conf.ipam,
            BuiltIn::Ptp(conf) => &conf.ipam,
            BuiltIn::Macvlan(conf) => &conf.ipam,
            BuiltIn::Loopback | BuiltIn::Tuning(_) | BuiltIn::Bandwidth(_) | BuiltIn::Firewall(_) | BuiltIn::Portmap(_) => &Ipam::None,
        }
    }

    /// Whether it changes an interface that another plugin has made, and so needs that one's result.
    pub fn is_chained(&self) -> bool {
        matches!(self, BuiltIn::Tuning(_) | BuiltIn::Bandwidth(_) | BuiltIn::Firewall(_) | BuiltIn::Portmap(_))
    }
}

/// The fault of a chained plugin that is the first of its list.
///
/// *Source:* the reference plugins say it of themselves.
pub fn without_previous(kind: &str) -> Fault {
    Fault::invalid(format!("plugin {kind:?} must be called as chained plugin")).hint("put it after the plugin that makes the interface")
}
