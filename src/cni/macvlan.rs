//! The configuration of the `macvlan` plugin.

use serde::{Deserialize, Serialize};

use super::args::CniArgs;
use super::bridge::{read_mac, read_mtu};
use super::ipam::Ipam;
use super::list::Plugin;
use super::resolv_conf::{Dns, read_dns};
use super::version::Version;
use crate::fault::{Fault, Result};
use crate::ids::{IfName, Mac};

/// How macvlan interfaces of one master reach each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// By way of the switch that the master is plugged into.
    Vepa,
    /// There is only one, which takes the master over.
    Passthru,
}

impl Mode {
    /// The word that the configuration and `ip link` use.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Bridge => "bridge",
            Mode::Private => "private",
            Mode::Vepa => "vepa",
            Mode::Passthru => "passthru",
        }
    }
}

/// What the `macvlan` plugin is told.
#[derive(Clone, Debug, PartialEq)]
pub struct MacvlanConf {
    /// The link that carries the traffic; none is that of the default route.
    pub master: Option<IfName>,
    /// Whether the master is in the sandbox already.
    pub inside: bool,
    /// How neighbours reach each other.
    pub mode: Mode,
    /// MTU in bytes; none is the master's.
    pub mtu: Option<u32>,
    /// The MAC of the interface.
    pub mac: Option<Mac>,
    /// Name servers, instead of those of IPAM.
    pub dns: Dns,
    /// Addresses.
    pub ipam: Ipam,
}

impl MacvlanConf {
    /// Reads a plugin of type `macvlan`.
    ///
    /// *Errors:* `Unimplemented` for `bcqueuelen`, named. *Source:* reference `macvlan` `loadConf`.
    pub fn read(plugin: &Plugin, version: Version, args: &CniArgs) -> Result<MacvlanConf> {
        let keys = plugin.keys();
        keys.refuse(&["bcqueuelen"])?;
        let mode = match keys.text("mode")? {
            "" | "bridge" => Mode::Bridge,
            "private" => Mode::Private,
            "vepa" => Mode::Vepa,
            "passthru" => Mode::Passthru,
            other => return Err(Fault::invalid(format!("unknown macvlan mode: {other:?}")).hint("use bridge, private, vepa or passthru")),
        };
        let master = keys.text("master")?;
        let mac = match read_mac(&keys, args, &["MAC"])? {
            Some(mac) => Some(mac),
            None => Some(keys.text("mac")?).filter(|text| !text.is_empty()).map(str::parse).transpose()?,
        };
        Ok(MacvlanConf {
            master: (!master.is_empty()).then(|| master.parse()).transpose()?,
            inside: keys.flag("linkInContainer")?,
            mode,
            mtu: read_mtu(&keys)?,
            mac,
            dns: read_dns(&keys)?,
            ipam: Ipam::read(&keys, version, args)?,
        })
    }
}
