//! `rkbox net connect` and `rkbox net disconnect`: networks of a sandbox that lives.

use clap::Args;

use super::detach::Handle;
use super::{AskedArgs, Attachable, attach, networks};
use crate::cmd::records::{self, BoxKind};
use crate::cmd::{Context, PlanArgs, carry, output};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::{Id, IfName, NetworkName};
use crate::plan::{self, Timings};
use crate::record::SandboxRecord;
use crate::sys::netlink::Netlink;
use crate::sys::{Host, file};

/// Arguments of `rkbox net connect`.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// The network
    #[arg(value_name = "NETWORK")]
    network: NetworkName,
    /// The sandbox: name, id or the beginning of one
    #[arg(value_name = "SANDBOX")]
    sandbox: String,
    /// The interface inside; by default the next ethN
    #[arg(long, value_name = "NAME")]
    ifname: Option<IfName>,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    plan: PlanArgs,
}

/// Arguments of `rkbox net disconnect`.
#[derive(Debug, Args)]
pub struct DisconnectArgs {
    /// The network
    #[arg(value_name = "NETWORK")]
    network: NetworkName,
    /// The sandbox: name, id or the beginning of one
    #[arg(value_name = "SANDBOX")]
    sandbox: String,
}

fn find(host: &Host, key: &str) -> Result<(SandboxRecord, std::path::PathBuf)> {
    let id = records::find(host, BoxKind::Sandbox, key)?;
    let record = records::sandbox(host, &id)?;
    let netns = record.netns.clone().filter(|netns| file::exists(netns).unwrap_or(false));
    let netns = netns.ok_or_else(|| {
        let fault = Fault::new(Kind::FailedPrecondition, format!("sandbox {key} has no network namespace of its own"));
        fault.hint("a sandbox on the host's network, or a stopped one, cannot be connected")
    })?;
    Ok((record, netns))
}

/// Attaches one more interface; prints its addresses.
pub fn connect(cx: &Context, args: &ConnectArgs) -> Result<u8> {
    let mut timings = Timings::start();
    let (record, netns) = find(&cx.host, &args.sandbox)?;
    let ifname = match &args.ifname {
        Some(ifname) => ifname.clone(),
        None => next_interface(&netns)?,
    };
    let handle = Handle { network: args.network.clone(), owner: record.id.to_string(), ifname };
    let what = Attachable { handle: &handle, netns: &netns, asked: &args.asked.read()?, ports: (&[], false), name: record.name.as_ref() };
    let mut made = attach::Attached::default();
    let carried = carry::carry(cx, args.plan, &mut timings, |timings| {
        let (mut plan, attached, _) = super::plan_attachment(cx, &what, args.plan.explain, timings)?;
        let routes = Netlink::open_in(&netns)?.routes()?;
        super::several::yield_default_routes(&mut plan.steps, routes.iter().filter(|route| route.dst.prefix() == 0).count());
        made = attached;
        Ok(plan)
    })?;
    let Some(carried) = carried else { return Ok(0) };
    carried.release();
    super::print_attached(cx, &handle, made)?;
    carry::report(cx, args.plan, timings);
    Ok(0)
}

/// The first of eth0, eth1 … that is not there.
fn next_interface(netns: &std::path::Path) -> Result<IfName> {
    let links = Netlink::open_in(netns)?.links()?;
    let free = (0..256).map(|nth| format!("eth{nth}")).find(|name| !links.iter().any(|link| link.name == *name));
    free.ok_or_else(|| Fault::new(Kind::ResourceExhausted, "eth0 to eth255 are all there"))?.parse()
}

/// Takes back what `net connect` has attached; the networks that the sandbox was made with stay with it.
pub fn disconnect(cx: &Context, args: &DisconnectArgs) -> Result<u8> {
    let host = &cx.host;
    let id = records::find(host, BoxKind::Sandbox, &args.sandbox)?;
    let record = records::sandbox(host, &id)?;
    if record.attachments.iter().any(|attachment| attachment.network == args.network.as_ref()) {
        let fault = Fault::new(Kind::FailedPrecondition, format!("sandbox {} was made with network {}", args.sandbox, args.network));
        return Err(fault.hint("only what rkbox net connect has attached can be disconnected"));
    }
    let gone = release(host, &id, Some(&args.network))?;
    if gone.is_empty() {
        networks::find_network(host, Some(&args.network))?;
        return Err(Fault::not_found(format!("sandbox {} is not connected to {}", args.sandbox, args.network)));
    }
    gone.iter().for_each(|handle| output::line(&format!("{}  {}", handle.network, handle.ifname)));
    Ok(0)
}

/// Takes back the attachments that were connected to a sandbox after it was made: of one network, or all.
pub fn release(host: &Host, id: &Id, network: Option<&NetworkName>) -> Result<Vec<Handle>> {
    let mut gone = Vec::new();
    for name in file::list(&host.journals())? {
        let middle = format!("-{id}-");
        let Some((before, ifname)) = name.strip_suffix(".jsonl").and_then(|name| name.strip_prefix("net-")?.split_once(&middle)) else {
            continue;
        };
        let (Ok(of), Ok(ifname)) = (before.parse::<NetworkName>(), ifname.parse::<IfName>()) else { continue };
        if network.is_some_and(|wanted| *wanted != of) {
            continue;
        }
        let handle = Handle { network: of, owner: id.to_string(), ifname };
        plan::unwind(&handle.box_id(), host, 0).doing(|| format!("disconnecting {} from {}", id.short(), handle.network))?;
        gone.push(handle);
    }
    Ok(gone)
}
