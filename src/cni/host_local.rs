//! The `ipam` part of a configuration: host-local.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::args::CniArgs;
use super::inject::runtime_config;
use super::keys::Keys;
use super::ranges::{RangeSet, RangeText, parse_address, parse_cidr, parse_sets};
use super::result::{Metrics, Route};
use super::version::Version;
use crate::fault::{Fault, Result};

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
    /// Addresses asked for by `CNI_ARGS`, `args.cni.ips` and `runtimeConfig.ips`.
    pub requested: Vec<IpAddr>,
}

impl HostLocal {
    /// Reads the `ipam` of a plugin.
    ///
    /// *Errors:* `InvalidArgument` in host-local's words. *Source:* host-local `LoadIPAMConfig`: a top-level `subnet` becomes the
    /// first set, and those of `runtimeConfig.ipRanges` go before it.
    pub fn read(plugin: &Keys<'_>, version: Version, args: &CniArgs) -> Result<HostLocal> {
        let ipam = plugin.object("ipam")?.ok_or_else(|| Fault::invalid("IPAM config missing 'ipam' key"))?;
        args.refuse_unknown(&["IP", "GATEWAY"])?;
        let mut texts = Vec::new();
        if let Some(told) = runtime_config(plugin)? {
            read_sets(told.array("ipRanges")?, "ipRanges", &mut texts)?;
        }
        if !ipam.text("subnet")?.is_empty() {
            texts.push(vec![range_text(&ipam)?]);
        }
        read_sets(ipam.array("ranges")?, "ranges", &mut texts)?;
        let sets = parse_sets(&texts, (version < Version::V0_3_0).then(|| version.as_str()))?;
        let (data_dir, resolv_conf) = (path(&ipam, "dataDir")?, path(&ipam, "resolvConf")?);
        Ok(HostLocal { sets, routes: read_routes(&ipam)?, data_dir, resolv_conf, requested: requested(plugin, args)? })
    }
}

fn read_sets(sets: &[Value], key: &str, into: &mut Vec<Vec<RangeText>>) -> Result<()> {
    for set in sets {
        let ranges = set.as_array().ok_or_else(|| Fault::invalid(format!("{key:?} of ipam must be an array of arrays")))?;
        into.push(ranges.iter().map(|range| range_text(&object(range, "range")?)).collect::<Result<Vec<_>>>()?);
    }
    Ok(())
}

fn object<'a>(value: &'a Value, of: &'a str) -> Result<Keys<'a>> {
    value.as_object().map(|map| Keys::new(map, of)).ok_or_else(|| Fault::invalid(format!("a {of} of ipam must be an object")))
}

fn range_text(keys: &Keys<'_>) -> Result<RangeText> {
    let text = |key| keys.text(key).map(str::to_owned);
    Ok(RangeText { subnet: text("subnet")?, start: text("rangeStart")?, end: text("rangeEnd")?, gateway: text("gateway")? })
}

/// The `routes` of an `ipam`.
pub fn read_routes(ipam: &Keys<'_>) -> Result<Vec<Route>> {
    ipam.array("routes")?.iter().map(|route| read_route(&object(route, "route")?)).collect()
}

fn read_route(keys: &Keys<'_>) -> Result<Route> {
    let dst = parse_cidr(keys.text("dst")?)?;
    let gw = parse_address(keys.text("gw")?)?;
    if dst.is_ipv6() && gw.is_some_and(|gw| gw.is_ipv4()) {
        return Err(Fault::invalid(format!("the gateway of the route to {dst} is not an IPv6 address")));
    }
    let dst = IpNetwork::new(dst.network(), dst.prefix()).unwrap_or(dst);
    Ok(Route { dst, gw, metrics: Metrics::read(keys)? })
}

fn path(keys: &Keys<'_>, key: &str) -> Result<Option<PathBuf>> {
    let text = keys.text(key)?;
    if !text.is_empty() && !text.starts_with('/') {
        return Err(Fault::invalid(format!("{key:?} of ipam must be an absolute path, not {text:?}")));
    }
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// The addresses asked for, whose prefix lengths do not count.
fn requested(plugin: &Keys<'_>, args: &CniArgs) -> Result<Vec<IpAddr>> {
    let parse = |text: &str| match text.split_once('/') {
        Some(_) => parse_cidr(text).map(|cidr| cidr.ip().to_canonical()),
        None => parse_address(text)?.ok_or_else(|| Fault::invalid("invalid IP address: ")),
    };
    let mut all: Vec<String> = args.find("IP").map(str::to_owned).into_iter().collect();
    if let Some(cni) = plugin.object("args")?.map(|args| args.object("cni")).transpose()?.flatten() {
        all.extend(cni.texts("ips")?);
    }
    if let Some(told) = runtime_config(plugin)? {
        all.extend(told.texts("ips")?);
    }
    all.iter().map(|text| parse(text)).collect()
}
