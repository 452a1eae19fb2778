//! The `ipam` part of a configuration: addresses that stand in it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::args::CniArgs;
use super::host_local::read_routes;
use super::inject::runtime_config;
use super::keys::Keys;
use super::ranges::{parse_address, parse_cidr};
use super::resolv_conf::{Dns, read_dns};
use super::result::{CniResult, Ip, Route};
use super::version::Version;
use crate::fault::{Fault, Result};

/// What the `static` plugin is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StaticIpam {
    /// Addresses with their gateways.
    pub addresses: Vec<(IpNetwork, Option<IpAddr>)>,
    /// Routes, handed on as they are.
    pub routes: Vec<Route>,
    /// Name servers, handed on as they are.
    pub dns: Dns,
}

impl StaticIpam {
    /// Reads the `ipam` of a plugin.
    ///
    /// *Errors:* in the words of upstream. *Source:* reference `static` `LoadIPAMConfig`: `CNI_ARGS` adds addresses, `args.cni.ips`
    /// and then `runtimeConfig.ips` take the place of all others.
    pub fn read(plugin: &Keys<'_>, version: Version, args: &CniArgs) -> Result<StaticIpam> {
        let ipam = plugin.object("ipam")?.ok_or_else(|| Fault::invalid("IPAM config missing 'ipam' key"))?;
        args.refuse_unknown(&["IP", "GATEWAY"])?;
        let mut addresses = Vec::new();
        for entry in ipam.array("addresses")? {
            let map = entry.as_object().ok_or_else(|| Fault::invalid("an address of ipam must be an object"))?;
            let keys = Keys::new(map, "address");
            addresses.push((read_address(keys.text("address")?)?, parse_address(keys.text("gateway")?)?));
        }
        from_environment(args, &mut addresses)?;
        let told = match (plugin.object("args")?, runtime_config(plugin)?) {
            (_, Some(told)) if !told.array("ips")?.is_empty() => told.texts("ips")?,
            (Some(args), _) => args.object("cni")?.map_or(Ok(Vec::new()), |cni| cni.texts("ips"))?,
            _ => Vec::new(),
        };
        if !told.is_empty() {
            addresses = told.iter().map(|text| Ok((read_address(text)?, None))).collect::<Result<Vec<_>>>()?;
        }
        let v4 = addresses.iter().filter(|(address, _)| address.is_ipv4()).count();
        if version < Version::V0_3_0 && (v4 > 1 || addresses.len() - v4 > 1) {
            return Err(Fault::invalid(format!("CNI version {version} does not support more than 1 address per family")));
        }
        Ok(StaticIpam { addresses, routes: read_routes(&ipam)?, dns: read_dns(&ipam)? })
    }

    /// The result of its ADD.
    pub fn result(&self) -> CniResult {
        let ips = self.addresses.iter().map(|&(address, gateway)| Ip { interface: None, address, gateway });
        CniResult { ips: ips.collect(), routes: self.routes.clone(), dns: self.dns.clone(), ..CniResult::default() }
    }
}

fn read_address(text: &str) -> Result<IpNetwork> {
    parse_cidr(text).map_err(|_| Fault::invalid(format!("the 'address' field is expected to be in CIDR notation, got: '{text}'")))
}

fn from_environment(args: &CniArgs, addresses: &mut Vec<(IpNetwork, Option<IpAddr>)>) -> Result<()> {
    for text in args.find("IP").iter().flat_map(|list| list.split(',')).map(str::trim) {
        let address = parse_cidr(text);
        let address = address.map_err(|_| Fault::invalid(format!("the 'ip' field is expected to be in CIDR notation, got: '{text}'")))?;
        addresses.push((address, None));
    }
    for text in args.find("GATEWAY").iter().flat_map(|list| list.split(',')).map(str::trim) {
        let bad = || Fault::invalid(format!("the gateway is not a valid IP address: '{text}'"));
        let gateway = parse_address(text).ok().flatten().ok_or_else(bad)?;
        for (address, of) in addresses.iter_mut() {
            if address.contains(gateway) {
                *of = Some(gateway);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::list::Plugin;

    fn read(json: &str, args: &str) -> Result<StaticIpam> {
        let plugin = Plugin::parse(json.as_bytes()).unwrap();
        StaticIpam::read(&plugin.keys(), Version::V1_0_0, &CniArgs::parse(args).unwrap())
    }

    const TWO: &str = r#"{"type":"x","ipam":{"type":"static","addresses":[{"address":"10.1.1.5/24","gateway":"10.1.1.1"},{"address":"fd00::5/64"}],
        "routes":[{"dst":"0.0.0.0/0"}],"dns":{"nameservers":["1.1.1.1"]}}"#;

    #[test]
    fn addresses_come_from_where_upstream_takes_them() {
        let whole = read(&format!("{TWO}}}"), "").unwrap();
        assert_eq!((whole.addresses.len(), whole.routes.len(), whole.dns.nameservers.len()), (2, 1, 1));
        let more = read(&format!("{TWO}}}"), "IP=10.9.0.2/24, 10.8.0.2/24;GATEWAY=10.8.0.1,10.1.1.9").unwrap();
        let gateways: Vec<String> = more.addresses.iter().filter_map(|(_, gateway)| gateway.map(|gw| gw.to_string())).collect();
        assert_eq!((more.addresses.len(), gateways), (4, vec!["10.1.1.9".to_owned(), "10.8.0.1".to_owned()]));
        let told = read(&format!(r#"{TWO},"args":{{"cni":{{"ips":["10.7.0.2/24"]}}}}}}"#), "").unwrap();
        assert_eq!(told.addresses, [("10.7.0.2/24".parse().unwrap(), None)]);
        let runtime = format!(r#"{TWO},"args":{{"cni":{{"ips":["10.7.0.2/24"]}}}},"runtimeConfig":{{"ips":["10.6.0.2/24"]}}}}"#);
        assert_eq!(read(&runtime, "").unwrap().addresses, [("10.6.0.2/24".parse().unwrap(), None)]);
    }

    #[test]
    fn what_is_no_address_is_refused_in_upstream_words() {
        let none = r#"{"type":"x","ipam":{"type":"static","addresses":[{"address":"10.1.1.5"}]}}"#;
        assert!(
            read(none, "").unwrap_err().to_string().contains("the 'address' field is expected to be in CIDR notation, got: '10.1.1.5'")
        );
        let whole = format!("{TWO}}}");
        assert!(read(&whole, "IP=10.0.0.1").unwrap_err().to_string().contains("the 'ip' field is expected to be in CIDR notation"));
        assert!(read(&whole, "GATEWAY=x").unwrap_err().to_string().contains("'x'"));
        assert!(read(&whole, "MAC=x").unwrap_err().to_string().contains("unknown args"));
    }
}
