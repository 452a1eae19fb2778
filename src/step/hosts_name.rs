//! Tells the sandboxes of a network each other's names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Context, Fault, Kind, Result};
use crate::ids::Id;
use crate::script::{Script, quote};
use crate::sys::dir_lock::{self, Beside};
use crate::sys::file::{self, Durable};
use crate::sys::Host;

/// A hosts file larger than this was filled by somebody else, and is left alone.
const LIMIT: u64 = 1 << 20;
/// The sandboxes of one network that are told each other's names, at most: each new one is written into the file of every other.
const MOST: usize = 512;

/// Tells the sandboxes of a network the name of a new one, and the new one theirs, in `/etc/hosts`; the undo makes all forget it.
///
/// Files are changed in place, so that containers that have them mounted see it. *Shape:* a directory for the network, a file in it for
/// each sandbox: the path of its hosts file, then lines such as `10.88.0.2<TAB>web<TAB># rkbox:0123456789ab`. *Source:* nerdctl's hostsstore.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostsName {
    /// The directory of the network; it is there.
    pub network: PathBuf,
    /// The sandbox.
    pub id: Id,
    /// Its hosts file.
    pub hosts: PathBuf,
    /// `ADDRESS<TAB>NAMES`, one for each address.
    pub lines: Vec<String>,
}

impl fmt::Display for HostsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.network.file_name().unwrap_or_default().to_string_lossy();
        write!(f, "tell the sandboxes of network {network} the name of {}", self.id)
    }
}

/// One sandbox of the network.
struct Entry {
    hosts: PathBuf,
    lines: String,
}

impl HostsName {
    fn mark(&self) -> String {
        format!("# rkbox:{}", self.id.short())
    }

    fn entry(&self) -> PathBuf {
        self.network.join(self.id.as_str())
    }

    fn own_lines(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\t{}\n", self.mark())).collect()
    }

    fn others(&self) -> Result<Vec<Entry>> {
        let mut others = Vec::new();
        for name in file::list(&self.network)?.into_iter().filter(|name| !name.starts_with('.') && name != self.id.as_str()) {
            let Some(content) = file::find(&self.network.join(name), LIMIT)? else { continue };
            let content = String::from_utf8_lossy(&content).into_owned();
            if let Some((hosts, lines)) = content.split_once('\n') {
                others.push(Entry { hosts: PathBuf::from(hosts), lines: lines.to_owned() });
            }
        }
        Ok(others)
    }

    /// Runs `act` while nobody else changes the files of this network.
    fn locked<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let held = dir_lock::acquire(&self.network, Beside::Nobody, Duration::from_secs(30)).doing(|| "waiting for the names of the network")?;
        match held {
            Some(_held) => act().map(Some),
            None => Ok(None),
        }
    }
}

/// Appends lines to a hosts file, in place.
fn append(hosts: &Path, lines: &str) -> Result<()> {
    match file::find(hosts, LIMIT) {
        Ok(Some(text)) => {
            let gap = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
            Ok(file::append(hosts, &format!("{gap}{lines}"))?)
        }
        _ => Ok(()),
    }
}

/// Takes the lines that `is_of` accepts out of a hosts file, in place.
fn forget(hosts: &Path, is_of: impl Fn(&str) -> bool) -> Result<()> {
    let Ok(Some(text)) = file::find(hosts, LIMIT) else { return Ok(()) };
    let text = String::from_utf8_lossy(&text);
    let kept: String = text.split_inclusive('\n').filter(|line| !is_of(line.trim_end())).collect();
    if kept != text { Ok(file::write_in_place(hosts, kept.as_bytes())?) } else { Ok(()) }
}

impl Action for HostsName {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if file::exists(&self.entry())? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is there already", self.entry().display())));
        }
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let told = self.locked(|| {
            let others = self.others()?;
            let content = format!("{}\n{}", self.hosts.display(), self.own_lines());
            file::create_atomic(&self.entry(), 0o600, content.as_bytes(), Durable::No)?;
            for other in others.iter().take(MOST) {
                append(&other.hosts, &self.own_lines())?;
            }
            append(&self.hosts, &others.iter().take(MOST).map(|other| other.lines.as_str()).collect::<String>())
        })?;
        told.ok_or_else(|| Fault::new(Kind::Conflict, format!("{} was just removed", self.network.display())))
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        let mark = self.mark();
        self.locked(|| {
            for other in self.others()? {
                forget(&other.hosts, |line| line.ends_with(&mark))?;
            }
            forget(&self.hosts, |line| line.contains("\t# rkbox:"))?;
            file::remove_file(&self.entry())?;
            Ok(())
        })?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let (network, entry, hosts) = (self.network.to_string_lossy(), self.entry(), quote(&self.hosts.to_string_lossy()));
        let entry = quote(&entry.to_string_lossy());
        let each = format!("for other in {}/*; do [ -e \"$other\" ] && [ \"$other\" != {entry} ] || continue; hosts=$(head -n 1 \"$other\")", quote(&network));
        match way {
            Way::Apply => {
                out.write_file(&self.entry().to_string_lossy(), 0o600, format!("{}\n{}", self.hosts.display(), self.own_lines()).as_bytes());
                out.raw(&format!("{each}; tail -n +2 {entry} >>\"$hosts\"; tail -n +2 \"$other\" >>{hosts}; done"));
            }
            Way::Undo(()) => {
                let mark = self.mark();
                out.raw("# in place: containers have the files mounted");
                out.raw(&format!("{each}; kept=$(grep -v '{mark}$' \"$hosts\"); printf '%s\\n' \"$kept\" >\"$hosts\"; done"));
                out.raw(&format!("if [ -e {hosts} ]; then kept=$(grep -v '\t# rkbox:' {hosts}); printf '%s\\n' \"$kept\" >{hosts}; fi"));
                out.raw(&format!("rm -f {entry}"));
            }
        }
    }
}
