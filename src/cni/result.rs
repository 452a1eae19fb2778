//! The result of an ADD, in every version of the specification.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::keys::Keys;
use super::ranges::{parse_address, parse_cidr};
use super::resolv_conf::Dns;
use super::version::Version;
use crate::fault::{Fault, Kind, Result};

/// What an ADD made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CniResult {
    /// The interfaces; of a bridge network: bridge, link on the host, interface in the sandbox.
    pub interfaces: Vec<Interface>,
    /// The addresses.
    pub ips: Vec<Ip>,
    /// The routes.
    pub routes: Vec<Route>,
    /// The name servers.
    pub dns: Dns,
    /// Keys that the specification does not know, handed on as they are.
    pub extra: Map<String, Value>,
}

/// An interface of a result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC; empty when not known.
    pub mac: String,
    /// The path of its namespace; empty for the host's.
    pub sandbox: String,
    /// What other plugins say besides: `mtu`, `socketPath`, `pciID`.
    pub extra: Map<String, Value>,
}

/// An address of a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ip {
    /// Index into the interfaces.
    pub interface: Option<usize>,
    /// The address with its prefix.
    pub address: IpNetwork,
    /// The gateway.
    pub gateway: Option<IpAddr>,
}

/// A route of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination, without host bits.
    pub dst: IpNetwork,
    /// The next hop; none means the gateway of the address.
    pub gw: Option<IpAddr>,
    /// What else is said of it.
    pub metrics: Metrics,
}

/// What a route says besides destination and next hop; zero and none are the kernel's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// MTU in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// Advertised MSS in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub advmss: u32,
    /// Priority; the lower wins.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// Routing table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope (0 universe, 253 link, 254 host).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Metrics {
    /// Reads them from a route.
    pub fn read(route: &Keys<'_>) -> Result<Metrics> {
        let table = route.find("table").map(|_| route.number("table")).transpose()?;
        let scope = route.find("scope").map(|_| route.number("scope")).transpose()?;
        let scope = scope.map(|scope| u8::try_from(scope).map_err(|_| Fault::invalid(format!("scope {scope} of a route is above 255"))));
        let scope = scope.transpose()?;
        Ok(Metrics { mtu: route.number("mtu")?, advmss: route.number("advmss")?, priority: route.number("priority")?, table, scope })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl CniResult {
    /// Writes the result as documents of `version` do.
    ///
    /// *Errors:* below 0.3.0 a result without an address. *Source:* cni `pkg/types/{100,040,020}`: 0.3.0 to 0.4.0 say the family
    /// of each address, below 0.3.0 the first address of each family stays and interfaces are lost.
    pub fn to_json(&self, version: Version) -> Result<Value> {
        let mut out = Map::new();
        out.insert("cniVersion".into(), version.as_str().into());
        if version < Version::V0_3_0 {
            self.write_old(&mut out)?;
        } else {
            self.write_new(&mut out, version);
        }
        let dns = serde_json::to_value(&self.dns).map_err(|error| Fault::from_error(Kind::Internal, error))?;
        out.insert("dns".into(), dns);
        out.extend(self.extra.clone());
        Ok(Value::Object(out))
    }

    fn write_new(&self, out: &mut Map<String, Value>, version: Version) {
        let interfaces = self.interfaces.iter().map(|interface| {
            let pairs = [("name", &interface.name), ("mac", &interface.mac), ("sandbox", &interface.sandbox)];
            let told = pairs.into_iter().filter(|(key, value)| *key == "name" || !value.is_empty());
            let told = told.map(|(key, value)| (key.to_owned(), Value::from(value.as_str())));
            Value::Object(told.chain(interface.extra.clone()).collect())
        });
        let ips = self.ips.iter().map(|ip| {
            let mut entry = json!({ "address": ip.address.to_string() });
            if version < Version::V1_0_0 {
                entry["version"] = if ip.address.is_ipv4() { "4" } else { "6" }.into();
            }
            if let Some(interface) = ip.interface {
                entry["interface"] = interface.into();
            }
            if let Some(gateway) = ip.gateway {
                entry["gateway"] = gateway.to_string().into();
            }
            entry
        });
        let lists = [
            ("interfaces", interfaces.collect::<Vec<_>>()),
            ("ips", ips.collect()),
            ("routes", self.routes.iter().map(route_json).collect()),
        ];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            out.insert(key.into(), list.into());
        }
    }

    fn write_old(&self, out: &mut Map<String, Value>) -> Result<()> {
        for (key, is_ipv4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.is_ipv4() == is_ipv4) else { continue };
            let mut entry = json!({ "ip": ip.address.to_string() });
            if let Some(gateway) = ip.gateway {
                entry["gateway"] = gateway.to_string().into();
            }
            let routes: Vec<Value> = self.routes.iter().filter(|route| route.dst.is_ipv4() == is_ipv4).map(route_json).collect();
            if !routes.is_empty() {
                entry["routes"] = routes.into();
            }
            out.insert(key.into(), entry);
        }
        if self.ips.is_empty() {
            return Err(Fault::invalid("cannot convert: no valid IP addresses").hint("a result below version 0.3.0 needs an address"));
        }
        Ok(())
    }

    /// Reads a result of any version.
    pub fn from_json(value: &Value) -> Result<CniResult> {
        let map = value.as_object().ok_or_else(|| Fault::invalid("a CNI result must be an object"))?;
        let keys = Keys::new(map, "the result");
        let mut result = CniResult { dns: read_dns(&keys)?, ..CniResult::default() };
        for key in ["ip4", "ip6"] {
            let Some(old) = keys.object(key)? else { continue };
            let ip = Ip { interface: None, address: parse_cidr(old.text("ip")?)?, gateway: parse_address(old.text("gateway")?)? };
            result.ips.push(ip);
            read_routes(&old, &mut result.routes)?;
        }
        for interface in objects(&keys, "interfaces")? {
            let text = |key| interface.text(key).map(str::to_owned);
            let extra = interface.others(&["name", "mac", "sandbox"]);
            result.interfaces.push(Interface { name: text("name")?, mac: text("mac")?, sandbox: text("sandbox")?, extra });
        }
        for ip in objects(&keys, "ips")? {
            let interface = ip.find("interface").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
            let address = parse_cidr(ip.text("address")?)?;
            result.ips.push(Ip { interface, address, gateway: parse_address(ip.text("gateway")?)? });
        }
        read_routes(&keys, &mut result.routes)?;
        result.extra = keys.others(&["cniVersion", "interfaces", "ips", "ip4", "ip6", "routes", "dns"]);
        Ok(result)
    }
}

fn route_json(route: &Route) -> Value {
    let mut entry = json!({ "dst": route.dst.to_string() });
    if let Some(gw) = route.gw {
        entry["gw"] = gw.to_string().into();
    }
    if let (Some(entry), Ok(Value::Object(metrics))) = (entry.as_object_mut(), serde_json::to_value(route.metrics)) {
        entry.extend(metrics);
    }
    entry
}

fn objects<'a>(keys: &Keys<'a>, key: &'a str) -> Result<Vec<Keys<'a>>> {
    let read = |value: &'a Value| {
        value.as_object().map(|map| Keys::new(map, key)).ok_or_else(|| Fault::invalid(format!("{key:?} must be an array of objects")))
    };
    keys.array(key)?.iter().map(read).collect()
}

fn read_routes(keys: &Keys<'_>, routes: &mut Vec<Route>) -> Result<()> {
    for route in objects(keys, "routes")? {
        let (dst, gw) = (parse_cidr(route.text("dst")?)?, parse_address(route.text("gw")?)?);
        routes.push(Route { dst, gw, metrics: Metrics::read(&route)? });
    }
    Ok(())
}

fn read_dns(keys: &Keys<'_>) -> Result<Dns> {
    match keys.find("dns") {
        None => Ok(Dns::default()),
        Some(value) => serde_json::from_value(value.clone()).map_err(|error| Fault::from_error(Kind::InvalidArgument, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> CniResult {
        let interface = |name: &str, mac: &str, sandbox: &str| Interface {
            name: name.into(),
            mac: mac.into(),
            sandbox: sandbox.into(),
            ..Interface::default()
        };
        CniResult {
            interfaces: vec![interface("cni0", "", ""), interface("rk1", "02:00:00:00:00:01", ""), interface("eth0", "", "/run/netns/a")],
            ips: vec![Ip { interface: Some(2), address: "10.88.0.2/16".parse().unwrap(), gateway: Some("10.88.0.1".parse().unwrap()) }],
            routes: vec![Route { dst: "0.0.0.0/0".parse().unwrap(), gw: Some("10.88.0.1".parse().unwrap()), metrics: Metrics::default() }],
            ..CniResult::default()
        }
    }

    #[test]
    fn each_generation_has_its_shape() {
        let new = example().to_json(Version::V1_1_0).unwrap();
        assert_eq!(new["ips"][0], json!({"interface": 2, "address": "10.88.0.2/16", "gateway": "10.88.0.1"}));
        assert_eq!(new["interfaces"][0], json!({"name": "cni0"}));
        let middle = example().to_json(Version::V0_3_0).unwrap();
        assert_eq!((&middle["ips"][0]["version"], &middle["cniVersion"]), (&json!("4"), &json!("0.3.0")));
        let old = example().to_json(Version::V0_1_0).unwrap();
        let ip4 = json!({"ip": "10.88.0.2/16", "gateway": "10.88.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.88.0.1"}]});
        assert_eq!(old, json!({"cniVersion": "0.1.0", "ip4": ip4, "dns": {}}));
        assert!(CniResult::default().to_json(Version::V0_2_0).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0] {
            assert_eq!(CniResult::from_json(&example().to_json(version).unwrap()).unwrap(), example(), "{version}");
        }
        let old = CniResult::from_json(&example().to_json(Version::V0_2_0).unwrap()).unwrap();
        assert_eq!((old.ips[0].address, old.routes, old.interfaces.len()), (example().ips[0].address, example().routes, 0));
    }

    #[test]
    fn what_others_say_is_handed_on() {
        let theirs = json!({
            "cniVersion": "1.1.0", "vendor": {"x": [1]},
            "interfaces": [{"name": "eth0", "mtu": 1400, "sandbox": "/run/netns/a", "socketPath": "/s", "pciID": "0000:00:1f.6"}],
            "ips": [{"address": "10.0.0.2/24", "interface": 0}],
            "routes": [{"dst": "10.9.0.0/16", "mtu": 1300, "advmss": 1260, "priority": 7, "table": 100, "scope": 253}],
            "dns": {"nameservers": ["1.1.1.1"]},
        });
        assert_eq!(CniResult::from_json(&theirs).unwrap().to_json(Version::V1_1_0).unwrap(), theirs);
    }
}
