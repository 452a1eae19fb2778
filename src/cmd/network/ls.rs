//! `rkbox net ls`.

use clap::Args;
use serde_json::json;

use super::networks::{self, Network};
use crate::cmd::{Context, Format, output};
use crate::cni::config::Plane;
use crate::fault::Result;

/// Arguments of `rkbox net ls`.
#[derive(Debug, Args)]
pub struct LsArgs {}

/// Lists the networks in libcni's order, the default one first; broken files are shown as such.
pub fn run(cx: &Context, _args: &LsArgs) -> Result<u8> {
    let entries = networks::all(&cx.host)?;
    if cx.format == Format::Json {
        let rows: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.network {
                Ok(network) => json!({
                    "name": network.name.as_ref(), "cniVersion": network.version.as_str(), "source": entry.source,
                    "bridge": bridge_of(network), "ranges": ranges_of(network),
                }),
                Err(fault) => json!({"source": entry.source, "error": fault.to_string()}),
            })
            .collect();
        output::json(&rows)?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| match &entry.network {
            Ok(network) => vec![
                network.name.to_string(),
                network.version.to_string(),
                bridge_of(network),
                ranges_of(network).join(" "),
                entry.source.clone(),
            ],
            Err(fault) => vec!["-".to_owned(), "-".to_owned(), "-".to_owned(), fault.to_string(), entry.source.clone()],
        })
        .collect();
    output::table(&["NETWORK", "VERSION", "BRIDGE", "RANGES", "SOURCE"], &rows);
    Ok(0)
}

fn bridge_of(network: &Network) -> String {
    match &network.plane {
        Plane::Bridge(conf) => conf.bridge.to_string(),
        Plane::Loopback => "-".to_owned(),
    }
}

fn ranges_of(network: &Network) -> Vec<String> {
    match &network.plane {
        Plane::Bridge(conf) => conf.ipam.iter().flat_map(|ipam| ipam.sets.iter().map(ToString::to_string)).collect(),
        Plane::Loopback => Vec::new(),
    }
}
