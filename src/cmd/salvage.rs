//! What `rm --force` goes by when a journal or a record is damaged: whatever on the host still bears the id.

use std::path::PathBuf;

use super::records::{self, BoxKind};
use super::{container as boxes, userns};
use crate::cni::cache;
use crate::fault::{Fault, Kind, Result};
use crate::ids::{Id, Name};
use crate::plan::journal::Journal;
use crate::record::life::Life;
use crate::record::{Attachment, ContainerRecord, ImageUsed, Metadata, RawConfig, RuntimeFacts, SandboxRecord, VERSION};
use crate::sys::{Host, file, proc};

/// A cache file larger than this is not one.
const LIMIT: u64 = 4 << 20;

/// What a damaged journal or record means to a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It fails.
    Refuse,
    /// It goes by what it can find.
    Salvage,
}

/// Whether a box was taken back by its journal.
#[derive(Debug)]
pub enum Unwound {
    /// It was.
    Yes,
    /// There is no journal, or a damaged one: it is held, to be removed when the box is gone.
    No(Option<Journal>),
}

/// Reads what an unwinding by the journal answered; a damaged journal is a fault unless that is allowed for.
pub fn after(host: &Host, id: &Id, outcome: Result<bool>, damage: Damage) -> Result<Unwound> {
    match outcome {
        Ok(true) => Ok(Unwound::Yes),
        Ok(false) => Ok(Unwound::No(None)),
        Err(fault) if fault.kind() == Kind::DataLoss && damage == Damage::Salvage => Ok(Unwound::No(Journal::open(host, id.as_str())?)),
        Err(fault) => Err(fault),
    }
}

/// Adds the way out of a damaged journal or record to a fault that names none.
pub fn point_out(fault: Fault, command: &str) -> Fault {
    if fault.kind() == Kind::DataLoss && fault.hints().is_empty() {
        return fault.hint(format!("take it back from its record and what else is found: {command}"));
    }
    fault
}

/// What is known of a box without its record.
struct Traces {
    name: Name,
    attachments: Vec<Attachment>,
    /// The namespace that libcni's cache names.
    netns: Option<PathBuf>,
    runtime: RuntimeFacts,
}

fn traces(host: &Host, kind: BoxKind, id: &Id) -> Result<Traces> {
    let names = host.root.join(kind.names());
    let reserved = |name: &String| file::find_symlink(&names.join(name)).ok().flatten().is_some_and(|target| target == id.as_str());
    let name = file::list(&names)?.into_iter().find(reserved).and_then(|name| name.parse().ok());
    let results = host.cni_state.join("results");
    let (mut attachments, mut netns) = (Vec::new(), None);
    for entry in file::list(&results)?.iter().filter(|entry| entry.contains(id.as_str())) {
        let text = file::find(&results.join(entry), LIMIT)?;
        let Some(cached) = text.and_then(|text| cache::Attachment::parse(&text).ok()) else { continue };
        if cached.container_id != id.as_str() {
            continue;
        }
        netns = Some(PathBuf::from(&cached.netns));
        attachments.push(Attachment {
            network: cached.network_name,
            ifname: cached.if_name,
            owner: cached.container_id,
            addresses: Vec::new(),
            gateway: None,
            result: cached.result,
            ports: Vec::new(),
        });
    }
    let runtime = records::runtime_facts(host, id, None)?;
    let name = name.map_or_else(|| id.short().parse(), Ok::<Name, Fault>)?;
    Ok(Traces { name, attachments, netns, runtime })
}

fn no_request() -> RawConfig {
    RawConfig { kind: "rkbox.v1".to_owned(), raw: serde_json::Value::Null }
}

/// A record of a sandbox as its removal needs it, from its traces.
pub fn sandbox(host: &Host, id: &Id) -> Result<SandboxRecord> {
    let Traces { name, attachments, netns, runtime } = traces(host, BoxKind::Sandbox, id)?;
    let run = host.run.join("sandboxes").join(id.as_str());
    Ok(SandboxRecord {
        v: VERSION,
        metadata: Metadata::default(),
        labels: Default::default(),
        annotations: Default::default(),
        hostname: name.to_string(),
        owner: String::new(),
        created_at: String::new(),
        boot_id: proc::boot_id()?,
        rkbox: String::new(),
        netns: Some(netns.unwrap_or_else(|| host.netns_path(name.as_ref()))),
        userns: userns::salvage(host, id, &run)?,
        ipcns: Some(run.join("ipc")),
        utsns: run.join("uts"),
        shm: run.join("shm"),
        files: host.sandbox_dir(id.as_str()),
        attachments,
        runtime,
        config: no_request(),
        extra: serde_json::Map::new(),
        id: id.clone(),
        name,
    })
}

/// A record of a container as its removal needs it, from its traces. A namespace without an attachment may be a sandbox's: it stays.
pub fn container(host: &Host, id: &Id) -> Result<ContainerRecord> {
    let Traces { name, attachments, netns, runtime } = traces(host, BoxKind::Container, id)?;
    let nothing = String::new;
    Ok(ContainerRecord {
        v: VERSION,
        sandbox_id: None,
        metadata: Metadata::default(),
        labels: Default::default(),
        annotations: Default::default(),
        image: ImageUsed { requested: nothing(), reference: nothing(), id: nothing(), manifest: nothing(), chain: Vec::new() },
        image_id: nothing(),
        args: Vec::new(),
        env: Vec::new(),
        cwd: nothing(),
        mounts: Vec::new(),
        resources: serde_json::Value::Null,
        tty: false,
        init: false,
        stdin: false,
        stop_signal: nothing(),
        user: (0, 0, Vec::new()),
        auto_remove: false,
        owner: nothing(),
        created_at: nothing(),
        boot_id: proc::boot_id()?,
        rkbox: nothing(),
        userns: userns::salvage(host, id, &boxes::run_dir(host, id))?,
        owns_netns: !attachments.is_empty(),
        netns,
        pid_namespace_of: None,
        attachments,
        bundle: host.container_dir(id.as_str()),
        root_attributes: (0o755, (0, 0)),
        lowers: Vec::new(),
        runtime,
        life: Life::default(),
        config: no_request(),
        extra: serde_json::Map::new(),
        id: id.clone(),
        name,
    })
}
