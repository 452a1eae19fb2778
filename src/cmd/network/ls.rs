//! `rkbox net ls`.

use clap::Args;
use serde_json::json;

use super::networks::{self, Entry, Network};
use crate::cmd::{Context, Format, output};
use crate::cni::built_in::BuiltIn;
use crate::cni::config;
use crate::cni::ipam::Ipam;
use crate::fault::Result;

/// Arguments of `rkbox net ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only names
    #[arg(short, long)]
    quiet: bool,
}

/// Lists the networks in libcni's order, the default one first; broken files are shown as such, and on stderr which file wins and why.
pub fn run(cx: &Context, args: &LsArgs) -> Result<u8> {
    let entries = networks::all(&cx.host)?;
    if cx.format == Format::Json {
        output::json(&entries.iter().enumerate().map(|(nth, entry)| as_json(&entries, nth, entry)).collect::<Vec<_>>())?;
        return Ok(0);
    }
    if args.quiet {
        entries.iter().filter_map(|entry| entry.network.as_ref().ok()).for_each(|network| output::line(network.name.as_ref()));
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = entries.iter().enumerate().map(|(nth, entry)| row(&entries, nth, entry)).collect();
    output::table(&["NETWORK", "VERSION", "PLUGINS", "BRIDGE", "RANGES", "SOURCE"], &rows);
    explain(cx, &entries)?;
    Ok(0)
}

fn as_json(entries: &[Entry], nth: usize, entry: &Entry) -> serde_json::Value {
    match &entry.network {
        Ok(network) => json!({
            "name": network.name.as_ref(), "cniVersion": network.version.as_str(), "source": entry.source,
            "plugins": network.members.iter().map(|member| member.plugin.kind.clone()).collect::<Vec<_>>(),
            "bridge": bridge_of(network), "ranges": ranges_of(network),
            "default": nth == 0, "shadowed_by": shadow_of(entries, nth, network),
        }),
        Err(fault) => json!({"source": entry.source, "error": fault.to_string()}),
    }
}

fn row(entries: &[Entry], nth: usize, entry: &Entry) -> Vec<String> {
    match &entry.network {
        Ok(network) => {
            let kind = |member: &config::Member| match &member.built_in {
                Some(_) => member.plugin.kind.clone(),
                None => format!("{}*", member.plugin.kind),
            };
            let shadow = shadow_of(entries, nth, network).map_or(String::new(), |by| format!(" (shadowed by {by})"));
            vec![
                network.name.to_string(),
                network.version.to_string(),
                network.members.iter().map(kind).collect::<Vec<_>>().join(","),
                bridge_of(network),
                ranges_of(network).join(" "),
                format!("{}{shadow}", entry.source),
            ]
        }
        Err(fault) => vec!["-".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned(), fault.to_string(), entry.source.clone()],
    }
}

/// The earlier file that has the same name.
fn shadow_of(entries: &[Entry], nth: usize, network: &Network) -> Option<String> {
    let same = |entry: &&Entry| entry.network.as_ref().is_ok_and(|other| other.name == network.name);
    entries[..nth].iter().find(same).map(|entry| entry.source.clone())
}

fn explain(cx: &Context, entries: &[Entry]) -> Result<()> {
    let files = networks::read_files(&cx.host)?;
    if let (Some(first), Some(file)) = (entries.first(), files.first()) {
        let name = first.network.as_ref().map_or_else(|_| "broken".to_owned(), |network| network.name.to_string());
        let why = if file.name.ends_with(".conflist") {
            "lists (.conflist) come before single plugins (.conf, .json), each by name"
        } else {
            "there is no list (.conflist), and it is the first single plugin by name"
        };
        output::note(&format!("default: {name} of {}: {why}", first.source));
        if let Some(other) = config::containerd_choice(&files) {
            let name = config::parse_file(other).and_then(Result::ok).map_or_else(|| "broken".to_owned(), |list| list.name.to_string());
            output::note(&format!("containerd takes {name} of {} instead: it sorts all files by name", other.name));
        }
    }
    let foreign =
        |entry: &Entry| entry.network.as_ref().is_ok_and(|network| network.members.iter().any(|member| member.built_in.is_none()));
    if entries.iter().any(foreign) {
        output::note(&format!("*: another program, from {}", cx.host.plugins.path));
    }
    Ok(())
}

fn bridge_of(network: &Network) -> String {
    let bridge = |built_in: &BuiltIn| match built_in {
        BuiltIn::Bridge(conf) => Some(conf.bridge.to_string()),
        _ => None,
    };
    network.built_in().find_map(bridge).unwrap_or_else(|| "-".to_owned())
}

fn ranges_of(network: &Network) -> Vec<String> {
    let ranges = |built_in: &BuiltIn| match built_in.ipam() {
        Ipam::HostLocal(conf) => conf.sets.iter().map(ToString::to_string).collect(),
        Ipam::Static(conf) => conf.addresses.iter().map(|(address, _)| address.to_string()).collect(),
        Ipam::None | Ipam::Foreign(_) => Vec::new(),
    };
    network.built_in().flat_map(ranges).collect()
}
