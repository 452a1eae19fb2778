//! `rkbox net inspect` and `rkbox net conf`.

use clap::Args;
use serde_json::{Value, json};

use super::gc::Lives;
use super::networks;
use crate::cmd::{Context, output};
use crate::fault::{Fault, Kind, Result};
use crate::ids::NetworkName;
use crate::network::lease_book;

/// Arguments of `rkbox net inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The network
    #[arg(value_name = "NETWORK")]
    network: NetworkName,
}

/// Prints a network as JSON: where it comes from, how its plugins are carried out, who is attached.
pub fn run(cx: &Context, args: &InspectArgs) -> Result<u8> {
    let network = networks::find_network(&cx.host, Some(&args.network))?;
    let source = networks::all(&cx.host)?.into_iter().find(|entry| entry.network.as_ref().is_ok_and(|n| n.name == network.name));
    let lives = Lives::read(&cx.host)?;
    let mut leases = Vec::new();
    for dir in network.pools(&cx.host) {
        for held in lease_book::read(&dir)? {
            let netns = lives.of(&network.name, &held).netns().map(std::path::Path::to_path_buf);
            leases.push(json!({"address": held.address, "owner": held.owner, "ifname": held.ifname, "netns": netns}));
        }
    }
    let plugins: Vec<Value> = network
        .members
        .iter()
        .map(|member| json!({"type": member.plugin.kind, "builtin": member.built_in.is_some(), "conf": member.plugin.raw}))
        .collect();
    output::json(&json!({
        "name": network.name.as_ref(),
        "cniVersion": network.version.as_str(),
        "source": source.map_or_else(|| networks::BUILT_IN_SOURCE.to_owned(), |entry| entry.source),
        "disableCheck": network.disable_check,
        "disableGC": network.disable_gc,
        "plugins": plugins,
        "pools": network.pools(&cx.host),
        "leases": leases,
    }))?;
    Ok(0)
}

/// Prints the list of a network as libcni reads it: ready to be a `.conflist`.
pub fn conf(cx: &Context, args: &InspectArgs) -> Result<u8> {
    let network = networks::find_network(&cx.host, Some(&args.network))?;
    let list: Value = serde_json::from_str(&network.text).map_err(|error| Fault::from_error(Kind::Internal, error))?;
    output::json(&list)?;
    Ok(0)
}
