//! `rkbox net gc`: takes back attachments and leases whose owners are gone; a live attachment is never touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::del;
use super::detach::Handle;
use super::networks::{self, Network};
use crate::cmd::records::BoxKind;
use crate::cmd::{Context, Format, output};
use crate::cni::cache::Attachment;
use crate::cni::config::Member;
use crate::cni::inject::Asked;
use crate::cni::version::Version;
use crate::fault::{Context as _, Faults, Result};
use crate::ids::NetworkName;
use crate::network::foreign::Chain;
use crate::network::lease_book::{self, Held};
use crate::plan;
use crate::sys::ns::{self, NsKind};
use crate::sys::{Host, file};

/// A cache file larger than this is not one.
const LIMIT: u64 = 4 << 20;

/// Arguments of `rkbox net gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// The network; all by default
    #[arg(value_name = "NETWORK")]
    network: Option<NetworkName>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Free also leases whose owner nobody knows
    #[arg(long)]
    unknown: bool,
}

/// What is known of the owner of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its namespace is there, or a box of rkbox has that id.
    Live(Option<PathBuf>),
    /// Its namespace is gone.
    Dead(PathBuf),
    /// It is older than the boot, and nobody knows the owner.
    FormerBoot,
    /// It names nobody, and nobody writes it.
    Empty,
    /// Another tool may know the owner.
    Unknown,
}

impl Life {
    /// The namespace, where it is known.
    pub fn netns(&self) -> Option<&Path> {
        match self {
            Life::Live(netns) => netns.as_deref(),
            Life::Dead(netns) => Some(netns),
            _ => None,
        }
    }
}

/// Who is alive: the namespaces of libcni's cache, and the boxes of rkbox.
#[derive(Debug)]
pub struct Lives {
    cached: BTreeMap<(String, String, String), Attachment>,
    boxes: Vec<String>,
    uptime: Duration,
}

impl Lives {
    /// Reads the cache and the records.
    pub fn read(host: &Host) -> Result<Lives> {
        let results = host.cni_state.join("results");
        let mut cached = BTreeMap::new();
        for name in file::list(&results)? {
            let text = file::find(&results.join(&name), LIMIT).ok().flatten();
            let Some(entry) = text.and_then(|text| Attachment::parse(&text).ok()) else { continue };
            cached.insert((entry.network_name.clone(), entry.container_id.clone(), entry.if_name.clone()), entry);
        }
        let mut boxes = Vec::new();
        for kind in [BoxKind::Sandbox, BoxKind::Container] {
            boxes.extend(file::list(&host.root.join(kind.dir()))?);
        }
        Ok(Lives { cached, boxes, uptime: lease_book::uptime()? })
    }

    fn is_live(entry: &Attachment) -> bool {
        ns::is_namespace(entry.netns.as_ref(), NsKind::Net).unwrap_or(true)
    }

    /// What is known of the owner of a lease.
    pub fn of(&self, network: &NetworkName, held: &Held) -> Life {
        if held.owner.is_empty() {
            return Life::Empty;
        }
        let same = |(of, owner, ifname): &&(String, String, String)| {
            of == network.as_ref() && *owner == held.owner && held.ifname.as_ref().is_none_or(|known| known == ifname)
        };
        let entry = self.cached.iter().find(|(key, _)| same(key)).map(|(_, entry)| entry);
        match entry {
            Some(entry) if Lives::is_live(entry) => Life::Live(Some(PathBuf::from(&entry.netns))),
            _ if self.boxes.contains(&held.owner) => Life::Live(None),
            Some(entry) => Life::Dead(PathBuf::from(&entry.netns)),
            None if held.is_of_former_boot(self.uptime) => Life::FormerBoot,
            None => Life::Unknown,
        }
    }
}

/// Takes back what is dead; prints each.
pub fn run(cx: &Context, args: &GcArgs) -> Result<u8> {
    let networks: Vec<Network> = match &args.network {
        Some(name) => vec![networks::find_network(&cx.host, Some(name))?],
        None => networks::all(&cx.host)?.into_iter().filter_map(|entry| entry.network.ok()).collect(),
    };
    let lives = Lives::read(&cx.host)?;
    let (mut gone, mut faults) = (Vec::new(), Faults::default());
    for entry in lives.cached.values().filter(|entry| !Lives::is_live(entry) && !lives.boxes.contains(&entry.container_id)) {
        if args.network.as_ref().is_some_and(|name| name.as_ref() != entry.network_name) {
            continue;
        }
        let took = take_attachment(cx, args, entry).doing(|| format!("taking back the attachment of {}", entry.netns));
        gone.extend(faults.keep(took).flatten());
    }
    for network in networks.iter().filter(|network| !network.disable_gc) {
        gone.extend(faults.keep(free_leases(cx, args, &lives, network)).into_iter().flatten());
        if !args.dry_run {
            faults.keep(ask_others(cx, &lives, network).doing(|| format!("network {}", network.name)));
        }
    }
    match cx.format {
        Format::Json => output::json(&gone)?,
        Format::Table => {
            let verb = if args.dry_run { "would take back" } else { "taken back" };
            gone.iter().for_each(|what| output::line(&format!("{verb}: {what}")));
        }
    }
    faults.or(0)
}

fn take_attachment(cx: &Context, args: &GcArgs, entry: &Attachment) -> Result<Option<String>> {
    let handle = Handle { network: entry.network_name.parse()?, owner: entry.container_id.clone(), ifname: entry.if_name.parse()? };
    if !args.dry_run && !plan::unwind(&handle.box_id(), &cx.host, 0)? {
        let steps = del::told_by(&cx.host, &handle, entry)?;
        del::take_back(&cx.host, &handle, "take back an attachment", steps)?;
    }
    Ok(Some(format!("attachment of {} to {}, whose namespace is gone", entry.netns, handle.network)))
}

/// Frees leases of no attachment: those of a former boot and empty ones, and when asked those that nobody knows.
fn free_leases(cx: &Context, args: &GcArgs, lives: &Lives, network: &Network) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for dir in network.pools(&cx.host) {
        let stale = |held: &Held| match lives.of(&network.name, held) {
            Life::FormerBoot => true,
            Life::Unknown => args.unknown,
            Life::Empty | Life::Live(_) | Life::Dead(_) => false,
        };
        let all = lease_book::read(&dir)?;
        let unknown = all.iter().filter(|held| lives.of(&network.name, held) == Life::Unknown).count();
        if unknown > 0 && !args.unknown {
            let count = if unknown == 1 { "1 lease".to_owned() } else { format!("{unknown} leases") };
            output::note(&format!("rkbox: {count} of {} left alone: another tool may know the owner (--unknown frees them)", network.name));
        }
        let doomed: Vec<Held> = all.into_iter().filter(stale).collect();
        let is_doomed =
            |owner: &str, ifname: Option<&str>| doomed.iter().any(|held| held.owner == owner && held.ifname.as_deref() == ifname);
        let freed =
            if args.dry_run { doomed.clone() } else { lease_book::free_unless(&cx.host, &dir, |owner, ifname| !is_doomed(owner, ifname))? };
        gone.extend(freed.iter().map(|held| {
            let owner = if held.owner.is_empty() { "nobody" } else { &held.owner };
            format!("lease of {} in {}, held by {owner}", held.address, network.name)
        }));
    }
    Ok(gone)
}

/// Hands the live attachments to plugins that are other programs and know GC.
fn ask_others(cx: &Context, lives: &Lives, network: &Network) -> Result<()> {
    let others = network.members.iter().filter(|member| member.built_in.is_none() && network.version >= Version::V1_1_0);
    let of_network = lives.cached.values().filter(|entry| entry.network_name == network.name.as_ref());
    let live = of_network.filter(|entry| Lives::is_live(entry) || lives.boxes.contains(&entry.container_id));
    let valid: Vec<Value> = live.map(|entry| json!({"containerID": entry.container_id, "ifname": entry.if_name})).collect();
    let (asked, ifname) = (Asked::default(), "eth0".parse()?);
    let chain = Chain { host: &cx.host, network, owner: "gc", ifname: &ifname, netns: Path::new(""), asked: &asked };
    for member in others {
        let mut member = Member { plugin: member.plugin.clone(), built_in: None };
        // libcni sends the key that it had before the specification was out as well.
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            member.plugin.raw.insert(key.to_owned(), Value::from(valid.clone()));
        }
        chain.ask(&member, "GC", None)?;
    }
    Ok(())
}
