//! `rkbox net create` and `rkbox net rm`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};

use super::gc::Lives;
use super::networks::{self, Network};
use crate::cmd::{Context, PlanArgs, carry, output};
use crate::cni::built_in::BuiltIn;
use crate::cni::draft::{self, Draft, Subnet};
use crate::cni::ipam::Ipam;
use crate::cni::list::List;
use crate::cni::ranges::parse_cidr;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::{IfName, NetworkName, hex};
use crate::network::lease_book;
use crate::plan::{self, Keep, Plan, Timings};
use crate::step::{File, Home, Step};
use crate::sys::netlink::Netlink;
use crate::sys::{Host, file};

/// Arguments of `rkbox net create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The name of the network
    #[arg(value_name = "NETWORK")]
    name: NetworkName,
    /// Subnet, one of each family; by default a /24 that nobody uses
    #[arg(long = "subnet", value_name = "CIDR")]
    subnets: Vec<String>,
    /// Gateway of the subnet of its family
    #[arg(long = "gateway", value_name = "ADDRESS")]
    gateways: Vec<IpAddr>,
    /// Addresses to give out: CIDR or FIRST-LAST
    #[arg(long = "ip-range", value_name = "RANGE")]
    ranges: Vec<String>,
    /// An IPv6 subnet besides, chosen when none is named
    #[arg(long)]
    ipv6: bool,
    /// No way out: no gateway, no masquerade
    #[arg(long)]
    internal: bool,
    /// Members do not reach each other
    #[arg(long)]
    isolated: bool,
    /// MTU in bytes
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(68..=65535))]
    mtu: Option<u32>,
    /// The bridge; by default one of its own
    #[arg(long, value_name = "NAME")]
    bridge: Option<IfName>,
    /// Take a subnet that something else uses
    #[arg(long)]
    allow_overlap: bool,
    #[command(flatten)]
    plan: PlanArgs,
}

/// Arguments of `rkbox net rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The networks
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<NetworkName>,
    /// Remove it also while somebody is attached
    #[arg(short, long)]
    force: bool,
}

fn path_of(host: &Host, name: &NetworkName) -> PathBuf {
    host.cni_conf.join(format!("80-{name}.conflist"))
}

/// Writes the configuration of a new network; prints its name.
///
/// *Errors:* `AlreadyExists` for a name that is taken, `FailedPrecondition` for a subnet that something else uses.
pub fn create(cx: &Context, args: &CreateArgs) -> Result<u8> {
    let mut timings = Timings::start();
    let carried = carry::carry(cx, args.plan, &mut timings, |_| plan(cx, args))?;
    let Some(carried) = carried else { return Ok(0) };
    carried.release();
    output::line(args.name.as_ref());
    if networks::all(&cx.host)?.first().is_some_and(|entry| entry.network.as_ref().is_ok_and(|network| network.name == args.name)) {
        output::note(&format!("rkbox: {} is the default network now: it is the first of {}", args.name, cx.host.cni_conf.display()));
    }
    carry::report(cx, args.plan, timings);
    Ok(0)
}

fn plan(cx: &Context, args: &CreateArgs) -> Result<Plan> {
    let host = &cx.host;
    let others: Vec<Network> = networks::all(host)?.into_iter().filter_map(|entry| entry.network.ok()).collect();
    if others.iter().any(|network| network.name == args.name) {
        return Err(Fault::new(Kind::AlreadyExists, format!("there is a network {} already", args.name)).hint("rkbox net ls lists them"));
    }
    let mut used = used(&others)?;
    if host.rootless_netns.is_some() {
        used.extend(host.at_bridges(routes)?);
    }
    let draft = draft(args, &used)?;
    let text = serde_json::to_string_pretty(&draft.list()).map_err(|error| Fault::from_error(Kind::Internal, error))?;
    // What is written must mean what was asked: the reader has the last word.
    networks::interpret(host, List::parse(text.as_bytes())?)?;
    let steps: Vec<Step> = vec![
        Home { dirs: vec![host.cni_conf.clone()] }.into(),
        File { path: path_of(host, &args.name), mode: 0o644, content: text + "\n", durable: true, owner: (0, 0) }.into(),
    ];
    Ok(Plan::new(format!("net-create-{}", args.name), format!("create network {}", args.name), steps).kept(Keep::Result))
}

/// What the routes of this thread's network namespace lead to, and by which link each.
fn routes() -> Result<Vec<(IpNetwork, String)>> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let name =
        |index: Option<u32>| links.iter().find(|link| Some(link.index) == index).map_or("a route".to_owned(), |link| link.name.clone());
    Ok(netlink.routes()?.into_iter().filter(|route| route.dst.prefix() > 0).map(|route| (route.dst, name(route.index))).collect())
}

/// What a new subnet must not overlap, and whose each is.
fn used(others: &[Network]) -> Result<Vec<(IpNetwork, String)>> {
    let mut used = routes()?;
    for network in others {
        for built_in in network.built_in() {
            match built_in.ipam() {
                Ipam::HostLocal(conf) => {
                    let subnets = conf.sets.iter().flat_map(|set| &set.0).map(|range| range.subnet);
                    used.extend(subnets.map(|subnet| (subnet, format!("network {}", network.name))));
                }
                Ipam::Static(conf) => {
                    used.extend(conf.addresses.iter().map(|(address, _)| (*address, format!("network {}", network.name))));
                }
                Ipam::None | Ipam::Foreign(_) => {}
            }
        }
    }
    Ok(used)
}

fn draft(args: &CreateArgs, used: &[(IpNetwork, String)]) -> Result<Draft> {
    let mut subnets = args.subnets.iter().map(|text| parse_cidr(text)).collect::<Result<Vec<IpNetwork>>>()?;
    let networks: Vec<IpNetwork> = used.iter().map(|(network, _)| *network).collect();
    for subnet in &subnets {
        if let Some((other, whose)) = used.iter().find(|(other, _)| draft::overlap(other, subnet)).filter(|_| !args.allow_overlap) {
            let message = format!("subnet {subnet} overlaps {other} of {whose}");
            return Err(Fault::new(Kind::FailedPrecondition, message).hint("name another --subnet, or --allow-overlap"));
        }
    }
    if !subnets.iter().any(IpNetwork::is_ipv4) && (!args.ipv6 || subnets.is_empty()) && args.subnets.is_empty() {
        let (chosen, avoided) = draft::choose_v4(&networks)?;
        if !avoided.is_empty() {
            let list = avoided.iter().map(|network| {
                let whose = used.iter().find(|(known, _)| known == network).map_or("", |(_, whose)| whose.as_str());
                format!("{network} ({whose})")
            });
            output::note(&format!("rkbox: {chosen} it is; avoided {}", list.collect::<Vec<_>>().join(", ")));
        }
        subnets.push(chosen);
    }
    if args.ipv6 && !subnets.iter().any(IpNetwork::is_ipv6) {
        subnets.push(draft::choose_v6(&args.name, &networks)?);
    }
    let ranges = args.ranges.iter().map(|text| draft::read_range(text)).collect::<Result<Vec<_>>>()?;
    let whole = |subnet: IpNetwork| Subnet {
        subnet,
        gateway: args.gateways.iter().copied().find(|gateway| subnet.contains(*gateway)),
        range: ranges.iter().copied().find(|(start, _)| subnet.contains(*start)).map(|(start, end)| usable(subnet, start, end)),
    };
    let outside = args.gateways.iter().find(|gateway| !subnets.iter().any(|subnet| subnet.contains(**gateway)));
    if let Some(gateway) = outside {
        return Err(Fault::invalid(format!("gateway {gateway} is in no subnet of the network")));
    }
    if let Some((start, end)) = ranges.iter().find(|(start, _)| !subnets.iter().any(|subnet| subnet.contains(*start))) {
        return Err(Fault::invalid(format!("range {start}-{end} is in no subnet of the network")));
    }
    let bridge = args.bridge.clone().map_or_else(|| default_bridge(&args.name), Ok)?;
    let subnets = subnets.into_iter().map(whole).collect();
    Ok(Draft { name: args.name.clone(), bridge, subnets, internal: args.internal, isolated: args.isolated, mtu: args.mtu })
}

/// A range that begins with the subnet begins with its first address, and one that ends with it ends before the broadcast.
fn usable(subnet: IpNetwork, start: IpAddr, end: IpAddr) -> (IpAddr, IpAddr) {
    let start = if start == subnet.network() { crate::cni::ranges::after(start) } else { start };
    let last = match (end, subnet) {
        (IpAddr::V4(v4), IpNetwork::V4(net)) if v4 == net.broadcast() => IpAddr::from((v4.to_bits() - 1).to_be_bytes()),
        _ => end,
    };
    (start, last)
}

/// `br-NAME` where that fits, else a digest of the name.
fn default_bridge(name: &NetworkName) -> Result<IfName> {
    let whole = format!("br-{name}");
    if whole.len() <= 15 {
        return whole.parse();
    }
    format!("br-{}", &hex(&Sha256::digest(name.as_ref().as_bytes()))[..12]).parse()
}

/// Removes the configuration of networks that rkbox has created.
///
/// *Errors:* `FailedPrecondition` while somebody is attached, and for a file that somebody else has written.
pub fn rm(cx: &Context, args: &RmArgs) -> Result<u8> {
    let keys: Vec<String> = args.names.iter().map(ToString::to_string).collect();
    carry::remove_each(&keys, args.force, PlanArgs::default(), |key| remove(cx, &key.parse()?, args.force))
}

fn remove(cx: &Context, name: &NetworkName, force: bool) -> Result<()> {
    let host = &cx.host;
    let network = networks::find_network(host, Some(name))?;
    let path = path_of(host, name);
    let is_ours = |path: &Path| -> Result<bool> {
        let Some(text) = file::find(path, 1 << 20)? else { return Ok(false) };
        let list: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        Ok(list.get("name").and_then(|known| known.as_str()) == Some(name.as_ref()) && list.get(draft::MARK).is_some())
    };
    if !is_ours(&path)? {
        return Err(Fault::new(Kind::FailedPrecondition, format!("network {name} was not made by rkbox net create"))
            .hint(format!("its file is one of {}; rkbox net ls tells which", host.cni_conf.display())));
    }
    let lives = Lives::read(host)?;
    let mut attached = Vec::new();
    for dir in network.pools(host) {
        let alive = lease_book::read(&dir)?.into_iter().filter(|held| lives.of(name, held).netns().is_some() || !held.owner.is_empty());
        attached.extend(alive.map(|held| held.address.to_string()));
    }
    if !attached.is_empty() && !force {
        return Err(Fault::new(Kind::FailedPrecondition, format!("network {name} is in use: {}", attached.join(", ")))
            .hint(format!("detach them, or rkbox net rm --force {name}; rkbox net leases {name} tells whose they are")));
    }
    let step = File { path, mode: 0o644, content: String::new(), durable: false, owner: (0, 0) };
    plan::unwind_plan(Plan::new(format!("net-create-{name}"), format!("remove network {name}"), vec![step.into()]), host)
        .doing(|| format!("cannot remove network {name}"))?;
    tidy(host, &network);
    Ok(())
}

/// Takes the bridge and the empty pool with it, where nobody uses them; what cannot go now goes with `gc`, or is left to its user.
fn tidy(host: &Host, network: &Network) {
    for dir in network.pools(host) {
        let pool: Step = crate::step::Pool { dir }.into();
        let _ = pool.before_nothing().and_then(|before| pool.undo(&before, host));
    }
    for built_in in network.built_in() {
        let BuiltIn::Bridge(conf) = built_in else { continue };
        let bridge: Step = crate::step::Bridge { name: conf.bridge.clone(), mtu: None, promisc: false }.into();
        let _ = bridge.before_nothing().and_then(|before| bridge.undo(&before, host));
    }
}
