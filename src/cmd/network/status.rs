//! `rkbox net status`: whether a network can serve an ADD, with numbers.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::networks::{self, Network};
use crate::cmd::{Context, Format, output};
use crate::cni::inject::Asked;
use crate::cni::ipam::Ipam;
use crate::cni::version::Version;
use crate::fault::{Faults, Result};
use crate::ids::NetworkName;
use crate::network::addresses::pool_dir;
use crate::network::foreign::Chain;
use crate::network::lease_book;

/// Arguments of `rkbox net status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The network; all by default
    #[arg(value_name = "NETWORK")]
    network: Option<NetworkName>,
}

/// Prints how many addresses are left of each range set.
///
/// *Errors:* `ResourceExhausted` when none is, and whatever another program answers to STATUS. *Source:* CNI specification 1.1.0.
pub fn run(cx: &Context, args: &StatusArgs) -> Result<u8> {
    let networks = match &args.network {
        Some(name) => vec![networks::find_network(&cx.host, Some(name))?],
        None => networks::all(&cx.host)?.into_iter().filter_map(|entry| entry.network.ok()).collect(),
    };
    let (mut rows, mut values, mut faults) = (Vec::new(), Vec::new(), Faults::default());
    for network in &networks {
        for built_in in network.built_in() {
            let Ipam::HostLocal(conf) = built_in.ipam() else { continue };
            let dir = pool_dir(&cx.host, &network.name, conf);
            for (index, set) in conf.sets.iter().enumerate() {
                let usage = lease_book::usage(&dir, set)?;
                let free = usage.all.saturating_sub(usage.held);
                rows.push([network.name.to_string(), set.to_string(), usage.held.to_string(), free.to_string()].to_vec());
                values.push(json!({
                    "network": network.name.as_ref(), "ranges": set.to_string(),
                    "held": usage.held.to_string(), "free": free.to_string(),
                }));
                faults.keep(usage.require_room(index, set).map_err(|fault| fault.doing(format!("network {}", network.name))));
            }
        }
        faults.keep(ask_others(cx, network));
    }
    match cx.format {
        Format::Json => output::json(&values)?,
        Format::Table => output::table(&["NETWORK", "RANGES", "HELD", "FREE"], &rows),
    }
    faults.or(0)
}

fn ask_others(cx: &Context, network: &Network) -> Result<()> {
    let (asked, ifname) = (Asked::default(), "eth0".parse()?);
    let chain = Chain { host: &cx.host, network, owner: "status", ifname: &ifname, netns: Path::new(""), asked: &asked };
    for member in network.members.iter().filter(|member| member.built_in.is_none() && network.version >= Version::V1_1_0) {
        chain.ask(member, "STATUS", None)?;
    }
    Ok(())
}
