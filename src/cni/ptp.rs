//! The configuration of the `ptp` plugin: a veth pair without a bridge, routes on both ends.

use super::args::CniArgs;
use super::bridge::{read_mtu, refuse_iptables};
use super::ipam::Ipam;
use super::list::Plugin;
use super::resolv_conf::{Dns, read_dns};
use super::version::Version;
use crate::fault::Result;

/// What the `ptp` plugin is told.
#[derive(Clone, Debug, PartialEq)]
pub struct PtpConf {
    /// Traffic that leaves the sandbox is masqueraded.
    pub ip_masq: bool,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Name servers, instead of those of IPAM.
    pub dns: Dns,
    /// Addresses.
    pub ipam: Ipam,
}

impl PtpConf {
    /// Reads a plugin of type `ptp`.
    pub fn read(plugin: &Plugin, version: Version, args: &CniArgs) -> Result<PtpConf> {
        let keys = plugin.keys();
        refuse_iptables(&keys)?;
        let (ip_masq, mtu, dns) = (keys.flag("ipMasq")?, read_mtu(&keys)?, read_dns(&keys)?);
        Ok(PtpConf { ip_masq, mtu, dns, ipam: Ipam::read(&keys, version, args)? })
    }
}
