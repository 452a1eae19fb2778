//! Makes a volume.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Tenure, Undone, Way};
use crate::fault::{Context, Fault, Kind, Result};
use crate::script::{Script, quote};
use crate::sys::dir_lock::{self, Beside, DirLock};
use crate::sys::file::{self, Durable};
use crate::sys::tree_partial::{self, Committed, Partial};
use crate::sys::Host;

/// What is bound into containers.
pub const DATA: &str = "data";
/// One file for each container that has it mounted.
pub const USERS: &str = "users";
/// There until a container had the volume for the first time: then what the image has at its place is copied in.
pub const FRESH: &str = "fresh";
/// What was asked.
pub const RECORD: &str = "record.json";
/// A record larger than this is not ours.
const LIMIT: u64 = 1 << 20;
/// How long a volume may be held by another command (a copy of much data).
const LOCK_LIMIT: Duration = Duration::from_secs(120);

/// Makes a volume, whole or not at all (shared: only a plan that fails takes back the one that it made, and only while nobody uses it).
///
/// *Shape:* a directory (0700) with `record.json`, `data`, `users` and, until its first use, `fresh`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// `volumes/NAME`.
    pub path: PathBuf,
    /// What `record.json` holds: our mark.
    pub record: String,
    /// Whether it must survive a power cut.
    pub durable: bool,
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make volume {}", name_of(&self.path))
    }
}

/// The name of the volume at `path`.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Locks the volume at `path`; `None` when there is none, or it was removed while it was waited for.
pub(super) fn lock(path: &Path) -> Result<Option<DirLock>> {
    let held = dir_lock::acquire(path, Beside::Nobody, LOCK_LIMIT).doing(|| format!("waiting for volume {}", name_of(path)))?;
    Ok(held.filter(|_| file::exists(&path.join(USERS)).unwrap_or(false)))
}

/// The ids of the containers that have the volume at `path` mounted.
pub fn users(path: &Path) -> Result<Vec<String>> {
    Ok(file::list(&path.join(USERS))?.into_iter().filter(|name| !name.starts_with('.')).collect())
}

/// What stood there before.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct VolumeBefore {
    /// Whether there is a volume of this name.
    pub there: bool,
}

impl Action for Volume {
    type Before = VolumeBefore;
    const TENURE: Tenure = Tenure::Shared;
    const RECLAIMED: bool = false;

    fn look(&self, _: &Host) -> Result<VolumeBefore> {
        Ok(VolumeBefore { there: file::exists(&self.path)? })
    }

    fn already(&self, before: &VolumeBefore) -> bool {
        before.there
    }

    fn apply(&self, _: &VolumeBefore, _: &Host) -> Result<()> {
        let partial = Partial::create(&self.path)?;
        let at = |name: &str| partial.path().join(name);
        file::create_dir(&at(DATA), 0o755)?;
        file::create_dir(&at(USERS), 0o700)?;
        file::create_atomic(&at(FRESH), 0o600, b"", Durable::No)?;
        file::create_atomic(&at(RECORD), 0o600, self.record.as_bytes(), Durable::No)?;
        match partial.name()? {
            Committed::Ours => Ok(()),
            Committed::Theirs => Err(Fault::new(Kind::Conflict, format!("volume {} was just made by somebody else", name_of(&self.path)))),
        }
    }

    fn durable(&self) -> Option<PathBuf> {
        self.durable.then(|| self.path.join(RECORD))
    }

    fn undo(&self, before: &VolumeBefore, _: &Host) -> Result<Undone> {
        tree_partial::remove_dead_of(&self.path)?;
        if before.there || file::find(&self.path.join(RECORD), LIMIT)?.is_none_or(|found| found != self.record.as_bytes()) {
            return Ok(Undone::Done);
        }
        let Some(_held) = lock(&self.path)? else { return Ok(Undone::Done) };
        if !users(&self.path)?.is_empty() {
            return Ok(Undone::Kept);
        }
        tree_partial::discard(&self.path)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, VolumeBefore>, out: &mut Script) {
        let at = |name: &str| self.path.join(name).to_string_lossy().into_owned();
        let path = self.path.to_string_lossy();
        match way {
            Way::Apply => {
                out.run(["mkdir", "-m", "0700", &path]);
                out.run(["mkdir", "-m", "0755", &at(DATA)]);
                out.run(["mkdir", "-m", "0700", &at(USERS)]);
                out.write_file(&at(FRESH), 0o600, b"");
                out.write_file(&at(RECORD), 0o600, self.record.as_bytes());
            }
            Way::Undo(before) if before.there => {}
            Way::Undo(_) => {
                out.raw(&format!("[ -n \"$(ls {} 2>/dev/null)\" ] || rm -rf --one-file-system {}", quote(&at(USERS)), quote(&path)));
            }
        }
    }
}
