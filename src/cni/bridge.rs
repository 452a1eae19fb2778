//! The configuration of the `bridge` plugin.

use super::args::CniArgs;
use super::inject::runtime_config;
use super::ipam::Ipam;
use super::keys::Keys;
use super::list::Plugin;
use super::resolv_conf::{Dns, read_dns};
use super::version::Version;
use super::vlan::{self, Vlans};
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, Mac};

/// The default of `bridge`.
const DEFAULT_BRIDGE: &str = "cni0";

/// What the `bridge` plugin is told.
#[derive(Clone, Debug, PartialEq)]
pub struct BridgeConf {
    /// The bridge.
    pub bridge: IfName,
    /// The bridge gets the gateway address.
    pub is_gateway: bool,
    /// The gateway is the default route; implies `is_gateway`.
    pub is_default_gateway: bool,
    /// Another address of the bridge is replaced.
    pub force_address: bool,
    /// Traffic that leaves the network is masqueraded.
    pub ip_masq: bool,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Hairpin mode of the ports.
    pub hairpin: bool,
    /// Promiscuous mode of the bridge.
    pub promisc: bool,
    /// VLANs of the ports.
    pub vlans: Vlans,
    /// A port sends only frames with its own MAC.
    pub mac_spoof_check: bool,
    /// Duplicate address detection in the sandbox.
    pub dad: bool,
    /// The interface in the sandbox stays down.
    pub disable_interface: bool,
    /// Ports do not reach each other.
    pub isolated: bool,
    /// The MAC of the inner interface.
    pub mac: Option<Mac>,
    /// Name servers, instead of those of IPAM.
    pub dns: Dns,
    /// Addresses.
    pub ipam: Ipam,
}

impl BridgeConf {
    /// Reads a plugin of type `bridge`.
    ///
    /// *Errors:* `Unimplemented` for what is not honoured, named; `InvalidArgument` for the rest. *Source:* reference `bridge`,
    /// `loadNetConf`, `cmdAdd` and `cmdCheck`.
    pub fn read(plugin: &Plugin, version: Version, args: &CniArgs) -> Result<BridgeConf> {
        let keys = plugin.keys();
        refuse_iptables(&keys)?;
        let bridge = keys.text("bridge")?;
        let bridge: IfName = if bridge.is_empty() { DEFAULT_BRIDGE } else { bridge }.parse()?;
        let is_default_gateway = keys.flag("isDefaultGateway")?;
        let (hairpin, promisc) = (keys.flag("hairpinMode")?, keys.flag("promiscMode")?);
        if hairpin && promisc {
            return Err(Fault::invalid("cannot set hairpin mode and promiscuous mode at the same time"));
        }
        // In this order: the keys of the plugin itself are refused before those of its IPAM.
        let mac = read_mac(&keys, args, &["MAC"])?;
        let vlans = vlan::read(&keys)?;
        // Needs CONFIG_BRIDGE_VLAN_FILTERING, which is not there to be tried.
        keys.refuse(&["vlan", "vlanTrunk"])?;
        let (mtu, disable_interface) = (read_mtu(&keys)?, keys.flag("disableContainerInterface")?);
        let ipam = Ipam::read(&keys, version, args)?;
        if keys.flag("macspoofchk")? && ipam == Ipam::None {
            let fault = Fault::new(Kind::Unimplemented, "\"macspoofchk\" of bridge without \"ipam\" is not supported");
            return Err(fault.hint("the guard binds a port to its addresses too, and here it has none"));
        }
        if disable_interface && ipam != Ipam::None {
            return Err(Fault::invalid("cannot use IPAM when DisableContainerInterface flag is set"));
        }
        Ok(BridgeConf {
            bridge,
            is_gateway: is_default_gateway || keys.flag("isGateway")?,
            is_default_gateway,
            force_address: keys.flag("forceAddress")?,
            ip_masq: keys.flag("ipMasq")?,
            mtu,
            hairpin,
            promisc,
            vlans,
            mac_spoof_check: keys.flag("macspoofchk")?,
            dad: keys.flag("enabledad")?,
            disable_interface,
            isolated: keys.flag("portIsolation")?,
            mac,
            dns: read_dns(&keys)?,
            ipam,
        })
    }
}

/// rkbox masquerades in its own nftables table: `nftables` is met by that, `iptables` is not.
pub fn refuse_iptables(keys: &Keys<'_>) -> Result<()> {
    match keys.text("ipMasqBackend")? {
        "" | "nftables" => Ok(()),
        other => Err(Fault::new(Kind::Unimplemented, format!("\"ipMasqBackend\": {other:?} is not supported"))
            .hint("leave it out or use \"nftables\"")),
    }
}

/// The `mtu` of a plugin; zero is the kernel's choice.
pub fn read_mtu(keys: &Keys<'_>) -> Result<Option<u32>> {
    match keys.number("mtu")? {
        0 => Ok(None),
        mtu @ 68..=65535 => Ok(Some(mtu)),
        mtu => Err(Fault::invalid(format!("\"mtu\" of bridge must be 68 to 65535, not {mtu}")).hint("0 leaves it to the kernel")),
    }
}

/// The MAC of the inner interface: `runtimeConfig.mac`, else `args.cni.mac`, else the configuration's own `mac` where a plugin has
/// one, else `MAC` of `CNI_ARGS`.
///
/// *Source:* reference `bridge` and `macvlan`, `loadNetConf`.
pub fn read_mac(keys: &Keys<'_>, args: &CniArgs, known: &[&str]) -> Result<Option<Mac>> {
    args.refuse_unknown(known)?;
    let cni = keys.object("args")?.map(|args| args.object("cni")).transpose()?.flatten();
    let told = runtime_config(keys)?.map_or(Ok(""), |told| told.text("mac"))?;
    let in_args = cni.map_or(Ok(""), |cni| cni.text("mac"))?;
    let candidates = [told, in_args, args.find("MAC").unwrap_or_default()];
    candidates.into_iter().find(|text| !text.is_empty()).map(str::parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<BridgeConf> {
        BridgeConf::read(&Plugin::parse(json.as_bytes()).unwrap(), Version::V1_0_0, &CniArgs::default())
    }

    #[test]
    fn defaults_and_case_are_those_of_the_reference_plugin() {
        let conf = read(r#"{"type":"bridge","ISDEFAULTGATEWAY":true,"mtu":0,"vlan":0,"vlanTrunk":null,"_comment":"x"}"#).unwrap();
        assert!(conf.is_gateway && conf.is_default_gateway && !conf.ip_masq);
        assert_eq!((conf.bridge.as_ref(), conf.mtu, &conf.ipam), ("cni0", None, &Ipam::None));
        assert!(conf.vlans.is_none() && !conf.mac_spoof_check);
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        let fault = read(r#"{"type":"bridge","ipMasqBackend":"iptables"}"#).unwrap_err();
        assert_eq!(fault.kind(), Kind::Unimplemented);
        assert!(fault.to_string().contains("\"ipMasqBackend\""), "{fault}");
    }

    #[test]
    fn the_mac_comes_from_the_nearest_to_the_runtime() {
        let read = |more: &str, args: &str| {
            let plugin = Plugin::parse(format!(r#"{{"type":"bridge"{more}}}"#).as_bytes()).unwrap();
            let mac = BridgeConf::read(&plugin, Version::V1_0_0, &CniArgs::parse(args).unwrap()).unwrap().mac;
            mac.map(|mac| mac.to_string())
        };
        let (in_args, told) = (r#","args":{"cni":{"mac":"02:00:00:00:00:02"}}"#, r#","runtimeConfig":{"mac":"02:00:00:00:00:03"}"#);
        assert_eq!(read("", "MAC=02:00:00:00:00:01").as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!(read(in_args, "MAC=02:00:00:00:00:01").as_deref(), Some("02:00:00:00:00:02"));
        assert_eq!(read(&format!("{in_args}{told}"), "MAC=02:00:00:00:00:01").as_deref(), Some("02:00:00:00:00:03"));
    }

    #[test]
    fn wrong_types_and_values_are_refused_by_name() {
        let cases = [
            (r#"{"type":"bridge","hairpinMode":true,"promiscMode":true}"#, "hairpin mode and promiscuous mode"),
            (r#"{"type":"bridge","ipMasq":"true"}"#, "\"ipMasq\" of bridge must be a bool, not a string"),
            (r#"{"type":"bridge","mtu":-1}"#, "\"mtu\""),
            (r#"{"type":"bridge","mtu":1e99}"#, "\"mtu\""),
            (r#"{"type":"bridge","mtu":7}"#, "68 to 65535"),
            (r#"{"type":"bridge","bridge":"../../etc"}"#, "interface name"),
            (r#"{"type":"bridge","bridge":"a-name-that-is-too-long"}"#, "interface name"),
            (r#"{"type":"bridge","ipam":[]}"#, "\"ipam\" of bridge must be an object"),
            (r#"{"type":"bridge","ipam":{"type":"/bin/sh"}}"#, "\"/bin/sh\" is not the name of a program"),
            (r#"{"type":"bridge","ipam":{"type":"host-local"}}"#, "no IP ranges specified"),
            (r#"{"type":"bridge","ipam":{"type":"host-local","ranges":[{}]}}"#, "array of arrays"),
            (r#"{"type":"bridge","ipam":{"type":"host-local","ranges":[[7]]}}"#, "must be an object"),
            (r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/24","dataDir":"x"}}"#, "absolute path"),
            (r#"{"type":"bridge","args":{"cni":{"mac":"zz"}}}"#, "MAC"),
            (r#"{"type":"bridge","vlan":4095}"#, "invalid VLAN ID 4095 (must be between 0 and 4094)"),
            (r#"{"type":"bridge","disableContainerInterface":true,"ipam":{"type":"static"}}"#, "cannot use IPAM"),
            (r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/24","routes":[{"dst":"::/0","gw":"10.0.0.1"}]}}"#, "IPv6"),
            (r#"{"type":"bridge","dns":{"nameservers":"1.1.1.1"}}"#, "\"nameservers\" of dns must be an array"),
        ];
        for (json, expected) in cases {
            let fault = read(json).unwrap_err();
            assert_eq!(fault.kind(), Kind::InvalidArgument, "{json}");
            assert!(fault.to_string().contains(expected), "{json}: {fault}");
        }
    }
}
