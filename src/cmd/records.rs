//! Finding boxes by id, unique prefix or name, and reading their records.

use std::path::Path;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::bundle::cgroup;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::{CgroupDriver, Id};
use crate::plan::journal;
use crate::record::{ContainerRecord, NAME_FILE, RESTART_FILE, Renewal, RuntimeFacts, SandboxRecord};
use crate::sys::runc::{self, Runc};
use crate::sys::{Host, file, proc, rootless};

/// A record larger than this is not ours.
const LIMIT: u64 = 16 << 20;

/// The fewest digits that count as the beginning of an id: a shorter word is only a name, so that `rm db` cannot take another box once
/// `db` is gone.
const FEWEST_DIGITS: usize = 4;

/// The two kinds of box that have a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoxKind {
    /// `sandboxes/<id>`.
    Sandbox,
    /// `containers/<id>`.
    Container,
}

impl BoxKind {
    /// Directory of the records, below the root.
    pub fn dir(self) -> &'static str {
        match self {
            BoxKind::Sandbox => "sandboxes",
            BoxKind::Container => "containers",
        }
    }

    /// Directory of the name reservations, below the root.
    pub fn names(self) -> &'static str {
        match self {
            BoxKind::Sandbox => "names/sandboxes",
            BoxKind::Container => "names/containers",
        }
    }

    fn word(self) -> &'static str {
        match self {
            BoxKind::Sandbox => "sandbox",
            BoxKind::Container => "container",
        }
    }
}

/// All ids of a kind, damaged records included.
pub fn ids(host: &Host, kind: BoxKind) -> Result<Vec<Id>> {
    Ok(file::list(&host.root.join(kind.dir()))?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Finds a box by name, whole id, or unique prefix of its id, of four digits or more.
///
/// *Errors:* `NotFound`; `InvalidArgument` when a prefix fits several.
pub fn find(host: &Host, kind: BoxKind, key: &str) -> Result<Id> {
    if !key.contains('/')
        && !key.is_empty()
        && let Some(id) = file::find_symlink(&host.root.join(kind.names()).join(key))?.and_then(|target| target.parse::<Id>().ok())
        && file::exists(&host.root.join(kind.dir()).join(id.as_str()))?
    {
        return Ok(id);
    }
    let long_enough = key.len() >= FEWEST_DIGITS;
    let fitting: Vec<Id> = ids(host, kind)?.into_iter().filter(|id| long_enough && id.as_str().starts_with(key)).collect();
    match fitting.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Fault::not_found(format!("no {} is named {key}", kind.word())).hint(match kind {
            BoxKind::Sandbox => "rkbox sandbox ls shows them",
            BoxKind::Container => "rkbox ps shows them",
        })),
        several => {
            let list: Vec<&str> = several.iter().map(Id::short).collect();
            Err(Fault::invalid(format!("{key} fits more than one {}: {}", kind.word(), list.join(", "))).hint("give more digits"))
        }
    }
}

/// Reads the record of sandbox `id`, with what this boot changed of it.
pub fn sandbox(host: &Host, id: &Id) -> Result<SandboxRecord> {
    let dir = host.sandbox_dir(id.as_str());
    let mut record: SandboxRecord = read(host, id, &dir)?;
    if let Some(renewal) = renewal(&dir, &record.boot_id)? {
        (record.boot_id, record.attachments) = (renewal.boot_id, renewal.attachments);
    }
    Ok(record)
}

/// Reads the record of container `id`, with what was changed of it since: its name, its restart policy, its addresses.
pub fn container(host: &Host, id: &Id) -> Result<ContainerRecord> {
    let dir = host.container_dir(id.as_str());
    let mut record: ContainerRecord = read(host, id, &dir)?;
    if let Some(name) = changed(&dir, NAME_FILE)? {
        record.name = name;
    }
    if let Some(policy) = changed(&dir, RESTART_FILE)? {
        record.life.restart = policy;
    }
    if let Some(renewal) = renewal(&dir, &record.boot_id)? {
        (record.boot_id, record.attachments) = (renewal.boot_id, renewal.attachments);
    }
    Ok(record)
}

/// The ids of the containers that were renamed.
pub fn renamed(host: &Host) -> Result<Vec<Id>> {
    let mut found = Vec::new();
    for id in ids(host, BoxKind::Container)? {
        if file::exists(&host.container_dir(id.as_str()).join(NAME_FILE))? {
            found.push(id);
        }
    }
    Ok(found)
}

/// What a file of one line beside a record says instead of it.
fn changed<T: FromStr<Err = Fault>>(dir: &Path, name: &str) -> Result<Option<T>> {
    let Some(text) = file::find(&dir.join(name), 4096)? else { return Ok(None) };
    let damaged = |fault: Fault| fault.of_kind(Kind::DataLoss).doing(format!("reading {}", dir.join(name).display()));
    String::from_utf8_lossy(&text).trim_end_matches('\n').parse().map(Some).map_err(damaged)
}

fn renewal(dir: &Path, made_in: &str) -> Result<Option<Renewal>> {
    let boot = proc::boot_id()?;
    if boot == made_in {
        return Ok(None);
    }
    let path = dir.join(Renewal::file_name(&boot));
    let text = file::find(&path, LIMIT)?;
    text.map(|text| Renewal::parse(&text)).transpose().doing(|| format!("reading {}", path.display()))
}

fn read<T: DeserializeOwned>(host: &Host, id: &Id, dir: &Path) -> Result<T> {
    let path = dir.join("record.json");
    let damaged = |fault: Fault| fault.doing(format!("reading {}", path.display())).hint("rm --force removes what can be found of it");
    let content = file::read(&path, LIMIT).map_err(|error| match Fault::from(error) {
        fault if fault.kind() == Kind::NotFound && is_gone(dir) => Fault::not_found(format!("{} was removed just now", id.short())),
        // Without a journal nobody is making or removing the box: it is left without a record.
        fault if fault.kind() == Kind::NotFound && is_gone(&journal::path(host, id.as_str())) => damaged(fault.of_kind(Kind::DataLoss)),
        fault => fault,
    })?;
    serde_json::from_slice(&content).map_err(|error| damaged(Fault::from_error(Kind::DataLoss, error)))
}

fn is_gone(path: &Path) -> bool {
    file::exists(path).is_ok_and(|there| !there)
}

/// The runtime and control group of a new box; a container of a sandbox lies beside its pause process, whatever the driver is by now.
pub fn runtime_facts(host: &Host, id: &Id, sandbox: Option<&RuntimeFacts>) -> Result<RuntimeFacts> {
    let beside = sandbox.and_then(|facts| Some((facts.cgroup_driver, cgroup::parent(&facts.cgroups_path)?)));
    let (driver, parent) = beside.unwrap_or((host.cgroup_driver, &host.cgroup_parent));
    runtime_facts_below(host, id, driver, parent)
}

/// The runtime and control group of a new box below the control group `parent`.
pub fn runtime_facts_below(host: &Host, id: &Id, cgroup_driver: CgroupDriver, parent: &str) -> Result<RuntimeFacts> {
    Ok(RuntimeFacts {
        path: runc::find(host)?.program().to_path_buf(),
        state: host.runtime_root(),
        cgroup_driver,
        // An ordinary user may write to no control group: the runtime leaves his containers in the one of their command.
        cgroups_path: if rootless::is_rootless() { String::new() } else { cgroup::path(cgroup_driver, parent, id.as_str())? },
    })
}

/// The runtime that a record names.
pub fn runtime(facts: &RuntimeFacts) -> Runc {
    Runc::new(facts.path.clone(), facts.state.clone(), facts.cgroup_driver)
}

/// The first process of a box of this boot; `None` when it does not run.
pub fn running_pid(facts: &RuntimeFacts, boot_id: &str, id: &Id) -> Result<Option<i32>> {
    if boot_id != proc::boot_id()? {
        return Ok(None);
    }
    runtime(facts).running_pid(id.as_str())
}

/// The bytes of a record as `record.json` holds them.
pub fn write(record: &impl serde::Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(record).map_err(|error| Fault::from_error(Kind::Internal, error))?;
    text.push('\n');
    Ok(text)
}
