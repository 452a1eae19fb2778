//! Planning a container: network, record, files, steps; shared by `run` and `create`.

use super::request::{self, Facts, Net};
use super::{launch, oci, rename, steps};
use crate::cmd::network::{attach, networks};
use crate::cmd::{Context, network, publish, records, sandbox};
use crate::cni::inject::Asked;
use crate::cni::ports::PortAsk;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::IfName;
use crate::plan::{Keep, Plan, Timings};
use crate::record::life::Launch;
use crate::record::{Attachment, ContainerRecord, SandboxRecord};
use crate::step::Watched;
use crate::sys::{Host, ns, proc};

/// The sandbox to be joined, whose pause process runs.
pub fn ready_sandbox(host: &Host, key: &str) -> Result<SandboxRecord> {
    let id = records::find(host, records::BoxKind::Sandbox, key)?;
    let record = records::sandbox(host, &id)?;
    if sandbox::state(&record)?.pid().is_none() {
        let fault = Fault::new(Kind::FailedPrecondition, format!("sandbox {key} is not ready: its pause process does not run"));
        return Err(fault.hint(match record.boot_id == proc::boot_id()? {
            true => format!("make it again: rkbox sandbox rm {key} && rkbox sandbox create {key}"),
            false => format!("make it ready again after the reboot: rkbox sandbox start {key}"),
        }));
    }
    Ok(record)
}

/// Plans a container: its record and the steps that make it.
pub fn plan(cx: &Context, facts: &Facts<'_>, timings: &mut Timings) -> Result<(Plan, ContainerRecord)> {
    let host = &cx.host;
    let mut attached = attach::Attached::default();
    let net = network(cx, facts, &mut attached).doing(|| "planning the network")?;
    if let Some(lock) = &attached.lock {
        timings.waited(lock.waited());
    }
    let record = request::record(cx, facts, net)?;
    let texts = oci::texts(host, facts, &record)?;
    let (mut all, network_end) = steps::steps(host, &record, texts, std::mem::take(&mut attached.steps));
    let network_end = network_end + cx.driver.remember(host, &mut all);
    if let Some(launch) = facts.launch {
        all.push(Watched { order: Box::new(launch::order(host, &record, launch, facts.awaits_client)) }.into());
    }
    // One with a monitor outlives the command; the monitor sees to its removal.
    let keep = if record.auto_remove && facts.launch.is_none() { Keep::WhileOwned } else { Keep::UntilRemoved };
    let verb = if facts.launch == Some(Launch::Create) { "create a container of" } else { "run" };
    let mut plan = Plan::new(record.id.as_str(), format!("{verb} {} in {}", facts.image_name(), record.name), all).kept(keep);
    if let Some(lock) = attached.lock {
        plan = plan.release_after(network_end, lock);
    }
    Ok((plan, record))
}

fn network(cx: &Context, facts: &Facts<'_>, attached: &mut attach::Attached) -> Result<Net> {
    let (host, args) = (&cx.host, facts.args);
    let joined = |path| Net { path, owned: false, attachments: Vec::new() };
    if let Some(sandbox) = facts.sandbox {
        return Ok(joined(sandbox.netns.clone()));
    }
    if let Some(netns) = &args.network.netns {
        let path = host.netns_path(netns);
        require_netns(&path)?;
        return Ok(joined(Some(path)));
    }
    args.network.ports.refuse_without_network(args.network.publish_all, args.network.network.as_deref())?;
    if args.network.network.as_deref() == Some("host") {
        return Ok(joined(None));
    }
    let name = args.name.as_ref().map_or(facts.id.short(), AsRef::as_ref);
    let netns = rename::netns_path(host, &facts.id, name)?;
    if args.network.network.as_deref() == Some("none") {
        attached.steps.push(crate::step::Loopback { netns: netns.clone(), own_netns: true }.into());
        return Ok(Net { path: Some(netns), owned: true, attachments: Vec::new() });
    }
    let wanted = args.network.network.as_deref().map(str::parse).transpose()?;
    let conf = networks::find_network(host, wanted.as_ref())?;
    let ifname: IfName = "eth0".parse()?;
    let wanted = publish::hand_over(&conf, &Asked::default(), (&port_asks(facts)?, args.network.ports.force_publish))?;
    let ask = attach::Attach {
        network: &conf,
        owner: facts.id.as_str(),
        ifname: &ifname,
        netns: &netns,
        own_netns: true,
        acting: facts.acting,
        asked: &wanted.asked,
        published: None,
        preferred: &[],
    };
    *attached = attach::plan_attach(host, &ask)?;
    network::tell(attached);
    let ports = publish::secure(cx, &conf, attached, facts.id.as_str(), &wanted)?;
    let attachment = Attachment {
        network: conf.name.to_string(),
        ifname: ifname.to_string(),
        owner: facts.id.to_string(),
        addresses: attached.addresses.clone(),
        gateway: attached.gateway,
        result: attached.result.clone(),
        ports,
    };
    Ok(Net { path: Some(netns), owned: true, attachments: vec![attachment] })
}

/// What `-p` and `-P` ask for.
fn port_asks(facts: &Facts<'_>) -> Result<Vec<PortAsk>> {
    let mut asks = facts.args.network.ports.publish.clone();
    if facts.args.network.publish_all {
        let config = facts.image.config.config().as_ref();
        let exposed = config.and_then(|config| config.exposed_ports().clone()).unwrap_or_default();
        asks.extend(publish::exposed(&exposed)?);
    }
    Ok(asks)
}

/// Checks that a namespace made by somebody else is there and is one.
fn require_netns(path: &std::path::Path) -> Result<()> {
    ns::open(path, ns::NsKind::Net).doing(|| "joining a network namespace")?;
    Ok(())
}
