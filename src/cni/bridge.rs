//! The configuration of the `bridge` plugin.

use super::host_local::HostLocal;
use super::keys::Keys;
use super::list::Plugin;
use super::resolv_conf::Dns;
use super::version::Version;
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, Mac};

/// The default of `bridge`.
const DEFAULT_BRIDGE: &str = "cni0";

/// Keys of the reference plugin that rkbox does not honour.
const REFUSED: [&str; 6] = ["vlan", "vlanTrunk", "macspoofchk", "disableContainerInterface", "portIsolation", "runtimeConfig"];

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
    /// The MAC of the inner interface, from `args.cni.mac`.
    pub mac: Option<Mac>,
    /// Name servers, instead of those of IPAM.
    pub dns: Dns,
    /// Addresses; none for layer 2 only.
    pub ipam: Option<HostLocal>,
}

impl BridgeConf {
    /// Reads a plugin of type `bridge`.
    ///
    /// *Errors:* `Unimplemented` for keys not honoured, named; `InvalidArgument` for the rest. *Source:* reference `bridge`,
    /// `loadNetConf` and `cmdAdd`. `preserveDefaultVlan` and `enabledad` mean nothing without VLANs and IPv6 and are let through.
    pub fn read(plugin: &Plugin, version: Version) -> Result<BridgeConf> {
        let keys = plugin.keys();
        keys.refuse(&REFUSED)?;
        refuse_iptables(&keys)?;
        let bridge = keys.text("bridge")?;
        let bridge: IfName = if bridge.is_empty() { DEFAULT_BRIDGE } else { bridge }.parse()?;
        let is_default_gateway = keys.flag("isDefaultGateway")?;
        let (hairpin, promisc) = (keys.flag("hairpinMode")?, keys.flag("promiscMode")?);
        if hairpin && promisc {
            return Err(Fault::invalid("cannot set hairpin mode and promiscuous mode at the same time"));
        }
        Ok(BridgeConf {
            bridge,
            is_gateway: is_default_gateway || keys.flag("isGateway")?,
            is_default_gateway,
            force_address: keys.flag("forceAddress")?,
            ip_masq: keys.flag("ipMasq")?,
            mtu: read_mtu(&keys)?,
            hairpin,
            promisc,
            mac: read_mac(&keys)?,
            dns: read_dns(&keys)?,
            ipam: HostLocal::read(&keys, version)?,
        })
    }
}

/// rkbox masquerades in its own nftables table: `nftables` is met by that, `iptables` is not.
fn refuse_iptables(keys: &Keys<'_>) -> Result<()> {
    match keys.text("ipMasqBackend")? {
        "" | "nftables" => Ok(()),
        other => Err(Fault::new(Kind::Unimplemented, format!("\"ipMasqBackend\": {other:?} of bridge is not supported"))
            .hint("leave it out or use \"nftables\"")),
    }
}

fn read_mtu(keys: &Keys<'_>) -> Result<Option<u32>> {
    match keys.number("mtu")? {
        0 => Ok(None),
        mtu @ 68..=65535 => Ok(Some(mtu)),
        mtu => Err(Fault::invalid(format!("\"mtu\" of bridge must be 68 to 65535, not {mtu}"))),
    }
}

fn read_mac(keys: &Keys<'_>) -> Result<Option<Mac>> {
    let Some(args) = keys.object("args")? else { return Ok(None) };
    let Some(cni) = args.object("cni")? else { return Ok(None) };
    match cni.text("mac")? {
        "" => Ok(None),
        text => text.parse().map(Some),
    }
}

fn read_dns(keys: &Keys<'_>) -> Result<Dns> {
    let Some(dns) = keys.object("dns")? else { return Ok(Dns::default()) };
    let domain = dns.text("domain")?.to_owned();
    Ok(Dns { nameservers: dns.texts("nameservers")?, domain, search: dns.texts("search")?, options: dns.texts("options")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<BridgeConf> {
        BridgeConf::read(&Plugin::parse(json.as_bytes()).unwrap(), Version::V1_0_0)
    }

    #[test]
    fn defaults_and_case_are_those_of_the_reference_plugin() {
        let conf = read(r#"{"type":"bridge","ISDEFAULTGATEWAY":true,"mtu":0,"vlan":0,"vlanTrunk":null,"_comment":"x"}"#).unwrap();
        assert!(conf.is_gateway && conf.is_default_gateway && !conf.ip_masq);
        assert_eq!((conf.bridge.as_ref(), conf.mtu, &conf.ipam), ("cni0", None, &None));
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        let cases = [
            (r#"{"type":"bridge","vlan":7}"#, "\"vlan\""),
            (r#"{"type":"bridge","Vlan":7}"#, "\"vlan\""),
            (r#"{"type":"bridge","vlanTrunk":[{"id":1}]}"#, "\"vlanTrunk\""),
            (r#"{"type":"bridge","macspoofchk":true}"#, "\"macspoofchk\""),
            (r#"{"type":"bridge","portIsolation":true}"#, "\"portIsolation\""),
            (r#"{"type":"bridge","disableContainerInterface":true}"#, "\"disableContainerInterface\""),
            (r#"{"type":"bridge","ipMasqBackend":"iptables"}"#, "\"ipMasqBackend\""),
            (r#"{"type":"bridge","ipam":{"type":"dhcp"}}"#, "\"dhcp\""),
            (r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"fd00::/64"}}"#, "IPv6 range fd00::1-"),
            (r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/24","routes":[{"dst":"::/0"}]}}"#, "IPv6 route"),
            (r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.0.0.0/24","routes":[{"dst":"0.0.0.0/0","mtu":9}]}}"#, "\"mtu\""),
        ];
        for (json, expected) in cases {
            let fault = read(json).unwrap_err();
            assert_eq!(fault.kind(), Kind::Unimplemented, "{json}");
            assert!(fault.to_string().contains(expected), "{json}: {fault}");
        }
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
            (r#"{"type":"bridge","dns":{"nameservers":"1.1.1.1"}}"#, "\"nameservers\" of dns must be an array"),
        ];
        for (json, expected) in cases {
            let fault = read(json).unwrap_err();
            assert_eq!(fault.kind(), Kind::InvalidArgument, "{json}");
            assert!(fault.to_string().contains(expected), "{json}: {fault}");
        }
    }
}
