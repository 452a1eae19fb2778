//! Ensures a directory of the system that boxes share.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Tenure, Undone, Way};
use crate::fault::Result;
use crate::script::{Script, quote};
use crate::sys::{Host, file};

/// Ensures a directory of the system that boxes share (shared: removed again only when empty).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SharedDir {
    /// Where; its parent is there.
    pub path: PathBuf,
    /// Permission bits of a new one.
    pub mode: u32,
}

impl fmt::Display for SharedDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure directory {}", self.path.display())
    }
}

impl Action for SharedDir {
    /// Whether it was there.
    type Before = bool;
    const TENURE: Tenure = Tenure::Shared;

    fn look(&self, _: &Host) -> Result<bool> {
        Ok(file::exists(&self.path)?)
    }

    fn already(&self, there: &bool) -> bool {
        *there
    }

    fn apply(&self, _: &bool, _: &Host) -> Result<()> {
        // Another command may make it at the same moment: both are right.
        Ok(file::ensure_dir(&self.path, self.mode)?)
    }

    fn undo(&self, there: &bool, _: &Host) -> Result<Undone> {
        Ok(if *there || file::remove_dir_if_empty(&self.path)? { Undone::Done } else { Undone::Kept })
    }

    fn script(&self, way: Way<'_, bool>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        match way {
            Way::Apply => out.run(["mkdir", "-p", "-m", &format!("{:04o}", self.mode), &path]),
            Way::Undo(true) => {}
            Way::Undo(false) => out.raw(&format!("[ -n \"$(ls -A {0} 2>/dev/null)\" ] || rmdir {0}", quote(&path))),
        }
    }
}
