//! The `ipam` part of a configuration: host-local.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::keys::Keys;
use super::list::Plugin;
use super::ranges::{RangeSet, RangeText, parse_address, parse_cidr, parse_sets};
use super::result::Route;
use super::version::Version;
use crate::fault::{Fault, Kind, Result};

/// What host-local is told.
#[derive(Clone, Debug, PartialEq)]
pub struct HostLocal {
    /// Each set gives one address.
    pub sets: Vec<RangeSet>,
    /// Routes, handed on as they are.
    pub routes: Vec<Route>,
    /// Where the pools are, when not in `/var/lib/cni/networks`.
    pub data_dir: Option<PathBuf>,
    /// The file that name servers are read from.
    pub resolv_conf: Option<PathBuf>,
    /// Addresses asked for by `args.cni.ips`.
    pub requested: Vec<IpAddr>,
}

impl HostLocal {
    /// Reads the `ipam` of a plugin; `None` when it has none (layer 2 only).
    ///
    /// *Errors:* `Unimplemented` for another IPAM plugin, a route attribute or IPv6, all named; `InvalidArgument` for the rest.
    /// *Source:* host-local `LoadIPAMConfig`: a top-level `subnet` becomes set 0.
    pub fn read(plugin: &Keys<'_>, version: Version) -> Result<Option<HostLocal>> {
        let Some(ipam) = plugin.object("ipam")? else { return Ok(None) };
        match ipam.text("type")? {
            "" => return Ok(None),
            "host-local" => {}
            kind if kind.contains('/') => return Err(Fault::invalid(format!("ipam type {kind:?} is not the name of a program"))),
            kind => return Err(Plugin::foreign(kind)),
        }
        let mut texts = Vec::new();
        if !ipam.text("subnet")?.is_empty() {
            texts.push(vec![range_text(&ipam)?]);
        }
        for set in ipam.array("ranges")? {
            let ranges = set.as_array().ok_or_else(|| Fault::invalid("\"ranges\" of ipam must be an array of arrays"))?;
            texts.push(ranges.iter().map(|range| range_text(&object(range, "range")?)).collect::<Result<Vec<_>>>()?);
        }
        let sets = parse_sets(&texts, (version < Version::V0_3_0).then(|| version.as_str()))?;
        if let Some(set) = sets.iter().find(|set| !set.is_ipv4()) {
            return Err(Fault::new(Kind::Unimplemented, format!("IPv6 range {set} is not supported")).hint("leave it out of \"ranges\""));
        }
        let routes = ipam.array("routes")?.iter().map(|route| read_route(&object(route, "route")?)).collect::<Result<Vec<_>>>()?;
        let requested = requested(plugin)?;
        let (data_dir, resolv_conf) = (path(&ipam, "dataDir")?, path(&ipam, "resolvConf")?);
        Ok(Some(HostLocal { sets, routes, data_dir, resolv_conf, requested }))
    }
}

fn object<'a>(value: &'a Value, of: &'a str) -> Result<Keys<'a>> {
    value.as_object().map(|map| Keys::new(map, of)).ok_or_else(|| Fault::invalid(format!("a {of} of ipam must be an object")))
}

fn range_text(keys: &Keys<'_>) -> Result<RangeText> {
    let text = |key| keys.text(key).map(str::to_owned);
    Ok(RangeText { subnet: text("subnet")?, start: text("rangeStart")?, end: text("rangeEnd")?, gateway: text("gateway")? })
}

fn read_route(keys: &Keys<'_>) -> Result<Route> {
    keys.refuse(&["mtu", "advmss", "priority", "table", "scope"])?;
    let dst = parse_cidr(keys.text("dst")?)?;
    let gw = parse_address(keys.text("gw")?)?;
    if dst.is_ipv6() {
        return Err(Fault::new(Kind::Unimplemented, format!("IPv6 route to {dst} is not supported")).hint("leave it out of \"routes\""));
    }
    if gw.is_some_and(|gw| gw.is_ipv6()) {
        return Err(Fault::invalid(format!("the gateway of the route to {dst} is not an IPv4 address")));
    }
    let dst = IpNetwork::new(dst.network(), dst.prefix()).unwrap_or(dst);
    Ok(Route { dst, gw })
}

fn path(keys: &Keys<'_>, key: &str) -> Result<Option<PathBuf>> {
    let text = keys.text(key)?;
    if !text.is_empty() && !text.starts_with('/') {
        return Err(Fault::invalid(format!("{key:?} of ipam must be an absolute path, not {text:?}")));
    }
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// The addresses of `args.cni.ips`, whose prefix lengths do not count.
fn requested(plugin: &Keys<'_>) -> Result<Vec<IpAddr>> {
    let Some(args) = plugin.object("args")? else { return Ok(Vec::new()) };
    let Some(cni) = args.object("cni")? else { return Ok(Vec::new()) };
    let parse = |text: &String| match text.split_once('/') {
        Some(_) => parse_cidr(text).map(|cidr| cidr.ip().to_canonical()),
        None => parse_address(text)?.ok_or_else(|| Fault::invalid("empty address in args.cni.ips")),
    };
    cni.texts("ips")?.iter().map(parse).collect()
}
