//! Tunes an interface that stands in a namespace: kernel parameters, MAC, flags, MTU, queue.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::loopback::in_netns;
use super::{Action, Undone, Way};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::{IfName, Mac};
use crate::script::{Script, quote};
use crate::sys::netlink::{Link, Netlink, Tune};
use crate::sys::ns::{self, NsKind};
use crate::sys::{Errno, Host, file};

/// A backup is a few words.
const LIMIT: u64 = 4096;

/// Tunes an interface that stands in a namespace.
///
/// What it was is kept in a file too, in upstream's format, for a DEL that knows nothing else. *Source:* reference `tuning`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tuning {
    /// The namespace.
    pub netns: PathBuf,
    /// The interface.
    pub ifname: IfName,
    /// Paths below `/proc/sys`, values.
    pub sysctl: BTreeMap<String, String>,
    /// MAC.
    pub mac: Option<Mac>,
    /// Promiscuous mode is set.
    pub promisc: bool,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Whether all multicast frames are received.
    pub allmulti: Option<bool>,
    /// Length of the transmit queue in packets.
    pub tx_queue: Option<u32>,
    /// Where what it was is kept.
    pub backup: PathBuf,
    /// Whether the namespace is made by the same plan.
    #[serde(default)]
    pub own_netns: bool,
}

/// What an interface was, as upstream keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Backup {
    /// MAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Promiscuous mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promisc: Option<bool>,
    /// MTU in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// All multicast frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allmulti: Option<bool>,
    /// Transmit queue.
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    pub tx_queue: Option<u32>,
}

/// What was there before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuningBefore {
    /// Of the interface.
    pub link: Backup,
    /// Kernel parameters.
    pub sysctl: BTreeMap<String, String>,
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tune {} in {}", self.ifname, self.netns.display())
    }
}

impl Tuning {
    fn path(&self, key: &str) -> PathBuf {
        Path::new("/proc/sys").join(key.replace("IFNAME", self.ifname.as_ref()))
    }

    fn wanted(&self) -> Tune {
        let promisc = self.promisc.then_some(true);
        Tune { mac: self.mac, promisc, mtu: self.mtu, allmulti: self.allmulti, tx_queue: self.tx_queue }
    }

    fn changes_link(&self) -> bool {
        self.wanted() != Tune::default()
    }

    /// What the interface is, of those things that are changed.
    fn backup_of(&self, link: &Link) -> Backup {
        Backup {
            mac: link.mac.filter(|_| self.mac.is_some()),
            promisc: self.promisc.then_some(link.promisc),
            mtu: self.mtu.map(|_| link.mtu),
            allmulti: self.allmulti.map(|_| link.allmulti),
            tx_queue: self.tx_queue.map(|_| link.tx_queue),
        }
    }

    fn write_sysctls(&self, values: &BTreeMap<String, String>) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let write = || values.iter().try_for_each(|(key, value)| file::write_kernel(&self.path(key), value));
        Ok(ns::inside(&self.netns, write)??)
    }

    /// What is not as it was tuned.
    ///
    /// *Source:* CHECK of the reference `tuning`.
    pub fn differences(&self, host: &Host) -> Result<Vec<String>> {
        let TuningBefore { link, sysctl } = self.look(host)?;
        let name = &self.ifname;
        let mut found = Vec::new();
        let mut compare = |what: &str, now: Option<String>, wanted: Option<String>| {
            if let (Some(now), Some(wanted)) = (now, wanted)
                && now != wanted
            {
                found.push(format!("{what} of {name} is {now}, not {wanted}"));
            }
        };
        let on = |on: bool| if on { "on" } else { "off" }.to_owned();
        compare("MAC", link.mac.map(|mac| mac.to_string()), self.mac.map(|mac| mac.to_string()));
        compare("promiscuous mode", link.promisc.map(on), self.promisc.then(|| on(true)));
        compare("MTU", link.mtu.map(|mtu| mtu.to_string()), self.mtu.map(|mtu| mtu.to_string()));
        compare("allmulticast mode", link.allmulti.map(on), self.allmulti.map(on));
        compare("transmit queue", link.tx_queue.map(|size| size.to_string()), self.tx_queue.map(|size| size.to_string()));
        // The kernel separates the numbers of a list by tabs.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for (key, wanted) in &self.sysctl {
            let now = sysctl.get(key).map(|now| words(now)).unwrap_or_default();
            if now != words(wanted) {
                found.push(format!("{key} is {now:?}, not {wanted:?}"));
            }
        }
        Ok(found)
    }

    fn kept(&self) -> Result<Backup> {
        let Some(text) = file::find(&self.backup, LIMIT)? else { return Ok(Backup::default()) };
        let parsed = serde_json::from_slice(&text).map_err(|error| Fault::from_error(Kind::DataLoss, error));
        parsed.doing(|| format!("reading {}", self.backup.display()))
    }
}

impl From<&Backup> for Tune {
    fn from(backup: &Backup) -> Tune {
        Tune { mac: backup.mac, promisc: backup.promisc, mtu: backup.mtu, allmulti: backup.allmulti, tx_queue: backup.tx_queue }
    }
}

impl Action for Tuning {
    type Before = TuningBefore;

    /// The interface of a namespace of the same plan is made by an earlier step and goes with it: there is nothing to put back.
    fn look(&self, _: &Host) -> Result<TuningBefore> {
        drop(ns::open_foreign_netns(&self.netns)?);
        let mut inside = Netlink::open_in(&self.netns)?;
        let link = inside.find_link(self.ifname.as_ref())?;
        let Some(link) = link else {
            return Err(Fault::not_found(format!("failed to get {}: Link not found", self.ifname)));
        };
        let read = || {
            let mut values = BTreeMap::new();
            for key in self.sysctl.keys() {
                match file::read_kernel(&self.path(key)) {
                    Ok(value) => drop(values.insert(key.clone(), value)),
                    Err(error) => return Err(error),
                }
            }
            Ok(values)
        };
        let sysctl = if self.sysctl.is_empty() { BTreeMap::new() } else { ns::inside(&self.netns, read)?? };
        Ok(TuningBefore { link: self.backup_of(&link), sysctl })
    }

    fn apply(&self, before: &TuningBefore, _: &Host) -> Result<()> {
        self.write_sysctls(&self.sysctl)?;
        if !self.changes_link() {
            return Ok(());
        }
        if let Some(dir) = self.backup.parent() {
            file::ensure_dir(dir, 0o600)?;
        }
        let text = serde_json::to_string(&before.link).map_err(|error| Fault::from_error(Kind::Internal, error))?;
        file::write_atomic(&self.backup, 0o600, text.as_bytes(), file::Durable::No)?;
        let mut inside = Netlink::open_in(&self.netns)?;
        let link = inside.find_link(self.ifname.as_ref())?;
        let link = link.ok_or_else(|| Fault::not_found(format!("failed to get {}: Link not found", self.ifname)))?;
        Ok(inside.tune(&link, self.wanted())?)
    }

    /// An interface that is gone has nothing to be put back; a namespace of our own goes with all of it.
    fn undo(&self, before: &TuningBefore, _: &Host) -> Result<Undone> {
        let kept = self.kept()?;
        let link = if before.link == Backup::default() { kept } else { before.link.clone() };
        if !self.own_netns && ns::is_namespace(&self.netns, NsKind::Net)? && !ns::is_own_netns(&self.netns)? {
            let mut inside = Netlink::open_in(&self.netns)?;
            if let Some(found) = inside.find_link(self.ifname.as_ref())? {
                if Tune::from(&link) != Tune::default() {
                    match inside.tune(&found, Tune::from(&link)) {
                        Err(error) if error.errno() != Some(Errno::ENODEV) => return Err(error.into()),
                        _ => {}
                    }
                }
                self.write_sysctls(&before.sysctl)?;
            }
        }
        file::remove_file(&self.backup)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, TuningBefore>, out: &mut Script) {
        let (tune, sysctl) = match way {
            Way::Apply => (self.wanted(), &self.sysctl),
            Way::Undo(before) => (Tune::from(&before.link), &before.sysctl),
        };
        for (key, value) in sysctl {
            let line = format!("printf '%s' {} > {}", quote(value), quote(&self.path(key).to_string_lossy()));
            out.run(in_netns(&self.netns, &["sh", "-c", &line]));
        }
        let on = |on: bool| if on { "on".to_owned() } else { "off".to_owned() };
        let words = [
            ("address", tune.mac.map(|mac| mac.to_string())),
            ("mtu", tune.mtu.map(|mtu| mtu.to_string())),
            ("txqueuelen", tune.tx_queue.map(|packets| packets.to_string())),
            ("promisc", tune.promisc.map(on)),
            ("allmulticast", tune.allmulti.map(on)),
        ];
        for (word, value) in words.iter().filter_map(|(word, value)| Some((word, value.as_ref()?))) {
            out.run(in_netns(&self.netns, &["ip", "link", "set", "dev", self.ifname.as_ref(), word, value]));
        }
        if let (Way::Undo(_), true) = (way, self.changes_link()) {
            out.run(["rm", "-f", &self.backup.to_string_lossy()]);
        }
    }
}
