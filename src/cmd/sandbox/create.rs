//! `rkbox sandbox create`.

use std::path::PathBuf;

use clap::Args;

use super::steps::{self, Texts};
use super::wishes::Wishes;
use crate::bundle::pause;
use crate::bundle::spec::{Namespace, UserIds};
use crate::cmd::names::{NamesArgs, Reach};
use crate::cmd::network::several;
use crate::cmd::publish::PortArgs;
use crate::cmd::{Context, Format, PlanArgs, carry, driver, output, records, userns};
use crate::fault::{Fault, Result};
use crate::ids::{Id, Name};
use crate::plan::{Plan, Timings};
use crate::record::{Attachment, SandboxRecord, UserNs, VERSION};
use crate::sys::{privilege, proc, security};

/// Arguments of `rkbox sandbox create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the sandbox, and of its namespace for `ip -n`
    #[arg(required_unless_present = "config")]
    pub name: Option<Name>,
    /// All of it from a file, a PodSandboxConfig as `crictl runp` takes it
    /// (JSON or YAML); its name is NAME_NAMESPACE_UID_ATTEMPT
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["name", "PortArgs", "hostname", "userns", "NamesArgs", "labels", "annotations"])]
    pub config: Option<PathBuf>,
    /// CNI network to attach to, may be repeated: NAME[:ip=,mac=,ifname=];
    /// `none` for only lo, `host` for the host's; -p leads to the first
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
    /// Whose user ids its containers have: host, auto (a range of its own),
    /// keep-id, CONTAINER:HOST:SIZE
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

impl CreateArgs {
    /// Whether the sandbox is on the host's own network.
    pub(super) fn is_on_host(&self) -> Result<bool> {
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
    let wishes = Wishes::read(cx, args)?;
    let mut made = None;
    let carried = carry::carry(cx, args.plan, &mut timings, |timings| {
        let (plan, record) = plan(cx, args, &wishes, timings)?;
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

fn plan(cx: &Context, args: &CreateArgs, wishes: &Wishes, timings: &mut Timings) -> Result<(Plan, SandboxRecord)> {
    let host = &cx.host;
    let id = Id::from_bytes(proc::random::<32>()?);
    let netns = (!wishes.modes.host_network).then(|| host.netns_path(wishes.name.as_ref()));
    let mut network = several::Several::default();
    if let Some(netns) = &netns {
        if wishes.networks == ["none"] {
            network.steps.push(crate::step::Loopback { netns: netns.clone(), own_netns: true }.into());
        } else {
            let named = wishes.networks.iter().map(|text| several::read(text)).collect::<Result<Vec<_>>>()?;
            let asked = if named.is_empty() { vec![several::read("")?] } else { named };
            let of = several::Box { owner: id.as_str(), netns, acting: !args.plan.explain };
            network = several::plan(cx, &asked, of, (&wishes.ports.publish, wishes.ports.force_publish))?;
        }
    }
    network.locks.iter().for_each(|lock| timings.waited(lock.waited()));
    let attachments = std::mem::take(&mut network.attachments);
    let record = record(cx, wishes, id, attachments)?;
    let reach = if record.netns.is_some() { Reach::Own(&record.attachments) } else { Reach::Host };
    let texts = Texts {
        record: records::write(&record)?,
        config: pause_config(wishes, &record)?,
        hosts: wishes.names.hosts(&record.hostname, reach)?,
        resolv_conf: wishes.resolv_conf.clone().map_or_else(|| wishes.names.resolv_conf(reach), Ok)?,
    };
    let mut steps = steps::steps(host, &record, texts, std::mem::take(&mut network.steps))?;
    steps.network_end += cx.driver.remember(host, &mut steps.all);
    let mut plan = Plan::new(record.id.as_str(), format!("create sandbox {}", record.name), steps.all);
    for lock in network.locks {
        plan = plan.release_after(steps.network_end, lock);
    }
    Ok((plan, record))
}

fn record(cx: &Context, wishes: &Wishes, id: Id, attachments: Vec<Attachment>) -> Result<SandboxRecord> {
    let host = &cx.host;
    let run = steps::run_dir(host, id.as_str());
    let userns = userns::settle(host, wishes.userns.as_deref(), &id, &run)?;
    let own_ipc = !wishes.modes.host_ipc;
    let parent = wishes.cgroup_parent.as_ref().unwrap_or(&host.cgroup_parent);
    Ok(SandboxRecord {
        v: VERSION,
        name: wishes.name.clone(),
        metadata: wishes.metadata.clone(),
        labels: wishes.labels.clone(),
        annotations: wishes.annotations.clone(),
        hostname: wishes.hostname.clone(),
        owner: "cli".to_owned(),
        created_at: proc::now_rfc3339(),
        boot_id: proc::boot_id()?,
        rkbox: env!("CARGO_PKG_VERSION").to_owned(),
        userns,
        netns: (!wishes.modes.host_network).then(|| host.netns_path(wishes.name.as_ref())),
        ipcns: own_ipc.then(|| run.join("ipc")),
        utsns: run.join("uts"),
        shm: if own_ipc { run.join("shm") } else { "/dev/shm".into() },
        files: host.sandbox_dir(id.as_str()),
        attachments,
        runtime: records::runtime_facts_below(host, &id, host.cgroup_driver, parent)?,
        config: wishes.config.clone(),
        id,
        extra: serde_json::Map::new(),
    })
}

fn pause_config(wishes: &Wishes, record: &SandboxRecord) -> Result<String> {
    let mut identity = wishes.identity.clone();
    userns::fit_identity(record.userns.as_ref(), &mut identity)?;
    let request = pause::PauseRequest {
        rootfs: record.userns.as_ref().map_or_else(|| "rootfs".into(), UserNs::rootfs),
        user: record.userns.as_ref().map(|userns| UserIds { path: userns.pin.clone(), map: userns.map.clone() }),
        network: record.netns.clone(),
        ipc: record.ipcns.clone(),
        uts: Some(record.utsns.clone()),
        pid: if wishes.modes.host_pid { Namespace::Host } else { Namespace::New },
        identity,
        confinement: wishes.confinement.clone(),
        sysctls: security::within(wishes.sysctls.clone(), record.userns.as_ref().map(|userns| &userns.map)),
        cgroups_path: record.runtime.cgroups_path.clone(),
        annotations: [("org.rkbox.id".to_owned(), record.id.to_string())].into(),
    };
    String::from_utf8(pause::json(&request)?).map_err(|error| Fault::internal(error.to_string()))
}
