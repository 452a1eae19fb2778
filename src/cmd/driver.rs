//! The cgroup driver: what the host runs, remembered; and whether others on this node use another.

use std::path::Path;

use super::records::BoxKind;
use super::{Context, output};
use crate::bundle::cgroup;
use crate::bundle::cgroup_peers::{self, Stated};
use crate::fault::{Fault, Kind, Result};
use crate::ids::CgroupDriver;
use crate::record::driver::{DriverRecord, FILE};
use crate::step::{DriverChoice, Step};
use crate::sys::{Host, file, privilege, proc};

/// A driver and where it comes from.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The driver.
    pub driver: CgroupDriver,
    /// What the host is now.
    pub why: &'static str,
    /// Whether the caller named it; then nothing is remembered.
    pub named: bool,
    /// What was remembered.
    remembered: Option<DriverRecord>,
}

impl Default for Choice {
    fn default() -> Self {
        Choice { driver: CgroupDriver::Cgroupfs, why: "", named: true, remembered: None }
    }
}

impl Choice {
    /// Chooses the driver that `said` names, or the one that is remembered below `root`, or the one that fits the host.
    ///
    /// What is remembered stands as long as it can work: a host that changes does not divide its boxes between two drivers.
    pub fn make(root: &Path, said: Option<&str>) -> Result<Self> {
        let (fitting, why) = privilege::cgroup_driver();
        let (driver, named, remembered) = match said {
            None | Some("auto") => {
                let remembered = file::find(&root.join(FILE), 4096).ok().flatten().and_then(|bytes| DriverRecord::parse(&bytes));
                let usable = remembered.as_ref().map(|record| record.driver).filter(|driver| can_work(*driver));
                (usable.unwrap_or(fitting), false, remembered)
            }
            Some("cgroupfs") => (CgroupDriver::Cgroupfs, true, None),
            Some("systemd") => (CgroupDriver::Systemd, true, None),
            Some(other) => {
                return Err(Fault::invalid(format!("cgroup driver {other:?} is not known")).hint("use cgroupfs, systemd or auto"));
            }
        };
        Ok(Choice { driver, why, named, remembered })
    }

    /// Why it was chosen, for people.
    pub fn reason(&self) -> String {
        match &self.remembered {
            _ if self.named => "as asked".to_owned(),
            Some(record) if record.driver == self.driver && record.why != self.why => format!("remembered: {}", record.why),
            _ => self.why.to_owned(),
        }
    }

    /// What to tell when the host is not what it was when its driver was chosen.
    pub fn change(&self, host: &Host) -> Option<String> {
        let record = self.remembered.as_ref().filter(|record| record.why != self.why)?;
        let (old, path) = (record.driver.word(), host.root.join(FILE));
        let then = if record.driver == self.driver {
            format!("new boxes stay with {old}; to choose again: rm {}", path.display())
        } else {
            format!("{old} cannot work, new boxes use {}", self.driver.word())
        };
        Some(format!("this host has changed since its cgroup driver {old} was chosen ({}): {}; {then}", record.why, self.why))
    }

    /// The step that remembers the choice; `None` when it is remembered, or was named.
    fn step(&self, host: &Host) -> Option<Step> {
        if self.named || self.remembered.as_ref().is_some_and(|record| record.driver == self.driver) {
            return None;
        }
        Some(DriverChoice { path: host.root.join(FILE), record: DriverRecord::new(self.driver, self.why) }.into())
    }

    /// Puts the step that remembers the choice behind the first one, which makes our directories; answers how many were put.
    pub fn remember(&self, host: &Host, steps: &mut Vec<Step>) -> usize {
        let step = self.step(host);
        let count = usize::from(step.is_some());
        steps.splice(1..1, step);
        count
    }
}

/// Forgets the choice when no box is left: the list of what is shared, which would see to that, does not outlive a reboot.
pub fn reclaim(host: &Host) -> Result<Vec<String>> {
    for boxes in [BoxKind::Sandbox, BoxKind::Container] {
        if !file::list(&host.root.join(boxes.dir()))?.is_empty() {
            return Ok(Vec::new());
        }
    }
    let was_there = file::remove_file(&host.root.join(FILE))?;
    Ok(was_there.then(|| "the choice of a cgroup driver".to_owned()).into_iter().collect())
}

fn can_work(driver: CgroupDriver) -> bool {
    driver == CgroupDriver::Cgroupfs || privilege::has_systemd()
}

/// Another manager of control groups on this node.
#[derive(Clone, Debug)]
pub struct Peer {
    /// `kubelet`, `containerd`, `cri-o`.
    pub name: &'static str,
    /// What it is configured with.
    pub stated: Stated,
}

impl Peer {
    /// Whether its process runs.
    pub fn runs(&self) -> bool {
        let comm = if self.name == "cri-o" { "crio" } else { self.name };
        proc::find_arguments(comm).is_some()
    }
}

/// Those that are configured here. The processes of a host are looked through only where a kubelet has been.
pub fn peers() -> Vec<Peer> {
    let text = |path: &str| file::read_following(Path::new(path), 1 << 20).map(|text| String::from_utf8_lossy(&text).into_owned()).ok();
    let arguments = if Path::new("/var/lib/kubelet").exists() { proc::find_arguments("kubelet") } else { None };
    let kubelet = cgroup_peers::of_kubelet(text("/var/lib/kubelet/config.yaml").as_deref(), arguments.as_deref());
    let containerd = text("/etc/containerd/config.toml").as_deref().and_then(cgroup_peers::of_containerd);
    let crio = text("/etc/crio/crio.conf").as_deref().and_then(cgroup_peers::of_crio);
    [("kubelet", kubelet), ("containerd", containerd), ("cri-o", crio)]
        .into_iter()
        .filter_map(|(name, stated)| stated.map(|stated| Peer { name, stated }))
        .collect()
}

/// Checks before a box is made that its driver can work, and tells what is odd about it.
///
/// *Errors:* `FailedPrecondition` when systemd is asked for and is not there, and when a manager that runs on this node is configured in
/// words with the other driver: both would write one tree. Who names the driver has his way, with a warning.
pub fn check(cx: &Context) -> Result<()> {
    let (choice, ours) = (&cx.driver, cx.host.cgroup_driver.word());
    // A parent of the other driver is the likelier mistake.
    cgroup::path(cx.host.cgroup_driver, &cx.host.cgroup_parent, "box")?;
    if !can_work(cx.host.cgroup_driver) {
        return Err(Fault::new(
            Kind::FailedPrecondition,
            "the cgroup driver systemd needs systemd as pid 1, which this host does not have",
        )
        .hint("use --cgroup-driver cgroupfs"));
    }
    if let Some(change) = choice.change(&cx.host) {
        output::note(&format!("warning: {change}"));
    }
    let other = |peer: &Peer| peer.stated.written && peer.stated.driver != cx.host.cgroup_driver && peer.runs();
    let Some(peer) = peers().into_iter().find(other) else { return Ok(()) };
    let theirs = peer.stated.driver.word();
    let said = format!("{} runs on this node with the cgroup driver {theirs}, rkbox uses {ours}", peer.name);
    if choice.named {
        output::note(&format!("warning: {said}"));
        return Ok(());
    }
    Err(Fault::new(Kind::FailedPrecondition, format!("{said}: two drivers on one node fight over the tree"))
        .hint(format!("use the same: --cgroup-driver {theirs}, or RKBOX_CGROUP_DRIVER={theirs} for good"))
        .hint(format!("or say that you mean it: --cgroup-driver {ours}")))
}
