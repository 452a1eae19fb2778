//! `rkbox sandbox create`.

use std::collections::BTreeMap;

use clap::Args;

use super::steps::{self, Texts};
use crate::bundle::pause;
use crate::cmd::names::{NamesArgs, Reach};
use crate::cmd::network::several;
use crate::cmd::publish::PortArgs;
use crate::cmd::{Context, Format, PlanArgs, carry, driver, output, records};
use crate::fault::{Fault, Result};
use crate::ids::{Id, Name};
use crate::plan::{Plan, Timings};
use crate::record::{Attachment, Metadata, Pairs, RawConfig, SandboxRecord, VERSION};
use crate::sys::{privilege, proc, security};

/// Arguments of `rkbox sandbox create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the sandbox, and of its namespace for `ip -n`
    pub name: Name,
    /// CNI network to attach to, may be repeated: NAME[:ip=,mac=,ifname=];
    /// `none` for only lo, `host` for the host's
    #[arg(long = "net", alias = "network", value_name = "NETWORK")]
    pub networks: Vec<String>,
    /// What of it is reachable from outside.
    #[command(flatten)]
    pub ports: PortArgs,
    /// Host name inside; by default the sandbox's name
    #[arg(long, value_parser = crate::cmd::parse::hostname)]
    pub hostname: Option<String>,
    /// What it knows by name.
    #[command(flatten)]
    pub names: NamesArgs,
    /// Label, may be repeated
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = crate::cmd::parse::pair)]
    pub labels: Vec<(String, String)>,
    /// Annotation, may be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = crate::cmd::parse::pair)]
    pub annotations: Vec<(String, String)>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

impl CreateArgs {
    /// Whether the sandbox is on the host's own network.
    fn is_on_host(&self) -> Result<bool> {
        let special = self.networks.iter().find(|name| matches!(name.as_str(), "host" | "none"));
        match special {
            Some(name) if self.networks.len() > 1 => Err(Fault::invalid(format!("--net {name} stands alone"))),
            other => Ok(other.is_some_and(|name| name == "host")),
        }
    }
}

/// Makes a sandbox; prints its id.
pub fn run(cx: &Context, args: &CreateArgs) -> Result<u8> {
    let mut timings = Timings::start();
    privilege::require()?;
    driver::check(cx)?;
    let mut made = None;
    let carried = carry::carry(cx, args.plan, &mut timings, |timings| {
        let (plan, record) = plan(cx, args, timings)?;
        made = Some(record);
        Ok(plan)
    })?;
    let (Some(carried), Some(record)) = (carried, made) else { return Ok(0) };
    carried.release();
    match cx.format {
        Format::Json => output::json(&record)?,
        Format::Table => output::line(record.id.as_str()),
    }
    carry::report(cx, args.plan, timings);
    Ok(0)
}

fn plan(cx: &Context, args: &CreateArgs, timings: &mut Timings) -> Result<(Plan, SandboxRecord)> {
    let host = &cx.host;
    let id = Id::from_bytes(proc::random::<32>()?);
    let netns = (!args.is_on_host()?).then(|| host.netns_path(args.name.as_ref()));
    let mut network = several::Several::default();
    args.ports.refuse_without_network(args.networks.first().map(String::as_str))?;
    if let Some(netns) = &netns {
        if args.networks == ["none"] {
            network.steps.push(crate::step::Loopback { netns: netns.clone(), own_netns: true }.into());
        } else {
            let named = args.networks.iter().map(|text| several::read(text)).collect::<Result<Vec<_>>>()?;
            let wishes = if named.is_empty() { vec![several::read("")?] } else { named };
            let of = several::Box { owner: id.as_str(), netns, acting: !args.plan.explain };
            network = several::plan(cx, &wishes, of, (&args.ports.publish, args.ports.force_publish))?;
        }
    }
    network.locks.iter().for_each(|lock| timings.waited(lock.waited()));
    let attachments = std::mem::take(&mut network.attachments);
    let record = record(cx, args, id, attachments)?;
    let reach = if record.netns.is_some() { Reach::Own(&record.attachments) } else { Reach::Host };
    let texts = Texts {
        record: records::write(&record)?,
        config: pause_config(&record)?,
        hosts: args.names.hosts(&record.hostname, reach)?,
        resolv_conf: args.names.resolv_conf(reach)?,
    };
    let mut steps = steps::steps(host, &record, texts, std::mem::take(&mut network.steps))?;
    steps.network_end += cx.driver.remember(host, &mut steps.all);
    let mut plan = Plan::new(record.id.as_str(), format!("create sandbox {}", record.name), steps.all);
    for lock in network.locks {
        plan = plan.release_after(steps.network_end, lock);
    }
    Ok((plan, record))
}

fn record(cx: &Context, args: &CreateArgs, id: Id, attachments: Vec<Attachment>) -> Result<SandboxRecord> {
    let host = &cx.host;
    let run = steps::run_dir(host, id.as_str());
    let pairs = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<Pairs>();
    Ok(SandboxRecord {
        v: VERSION,
        name: args.name.clone(),
        metadata: Metadata { name: args.name.to_string(), ..Metadata::default() },
        labels: pairs(&args.labels),
        annotations: pairs(&args.annotations),
        hostname: args.hostname.clone().unwrap_or_else(|| args.name.to_string()),
        owner: "cli".to_owned(),
        created_at: proc::now_rfc3339(),
        boot_id: proc::boot_id()?,
        rkbox: env!("CARGO_PKG_VERSION").to_owned(),
        netns: (args.networks != ["host"]).then(|| host.netns_path(args.name.as_ref())),
        ipcns: run.join("ipc"),
        utsns: run.join("uts"),
        shm: run.join("shm"),
        files: host.sandbox_dir(id.as_str()),
        attachments,
        runtime: records::runtime_facts(host, &id, None)?,
        config: RawConfig { kind: "rkbox.v1".to_owned(), raw: crate::cmd::parse::command_line() },
        id,
        extra: serde_json::Map::new(),
    })
}

fn pause_config(record: &SandboxRecord) -> Result<String> {
    let request = pause::PauseRequest {
        rootfs: "rootfs".into(),
        network: record.netns.clone(),
        ipc: Some(record.ipcns.clone()),
        uts: Some(record.utsns.clone()),
        sysctls: if record.netns.is_some() { security::network_sysctls() } else { BTreeMap::new() },
        cgroups_path: record.runtime.cgroups_path.clone(),
        annotations: [("org.rkbox.id".to_owned(), record.id.to_string())].into(),
    };
    String::from_utf8(pause::json(&request)?).map_err(|error| Fault::internal(error.to_string()))
}
