//! `rkbox net leases`: who holds which address.

use clap::Args;
use serde_json::json;

use super::gc::{Life, Lives};
use super::networks;
use crate::cmd::{Context, Format, output};
use crate::fault::Result;
use crate::ids::NetworkName;
use crate::network::lease_book;

/// Arguments of `rkbox net leases`.
#[derive(Debug, Args)]
pub struct LeasesArgs {
    /// The network; all by default
    #[arg(value_name = "NETWORK")]
    network: Option<NetworkName>,
}

/// Prints the leases of the pools, and what is known of each owner.
pub fn run(cx: &Context, args: &LeasesArgs) -> Result<u8> {
    let networks = match &args.network {
        Some(name) => vec![networks::find_network(&cx.host, Some(name))?],
        None => networks::all(&cx.host)?.into_iter().filter_map(|entry| entry.network.ok()).collect(),
    };
    let lives = Lives::read(&cx.host)?;
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for network in &networks {
        for dir in network.pools(&cx.host) {
            for held in lease_book::read(&dir)? {
                let life = lives.of(&network.name, &held);
                let (ifname, address) = (held.ifname.clone().unwrap_or_default(), held.address.to_string());
                values.push(json!({
                    "network": network.name.as_ref(), "address": address, "owner": held.owner, "ifname": ifname,
                    "state": life.word(), "netns": life.netns(),
                }));
                let place = life.netns().map_or(String::new(), |netns| netns.display().to_string());
                let owner = if held.owner.is_empty() { "-".to_owned() } else { held.owner.clone() };
                rows.push(vec![network.name.to_string(), address, life.word().to_owned(), ifname, owner, place]);
            }
        }
    }
    match cx.format {
        Format::Json => output::json(&values)?,
        Format::Table => output::table(&["NETWORK", "ADDRESS", "STATE", "IFNAME", "OWNER", "NETNS"], &rows),
    }
    Ok(0)
}

impl Life {
    /// The state in one word.
    fn word(&self) -> &'static str {
        match self {
            Life::Live(_) => "live",
            Life::Dead(_) => "dead",
            Life::FormerBoot => "former-boot",
            Life::Empty => "empty",
            Life::Unknown => "unknown",
        }
    }
}
