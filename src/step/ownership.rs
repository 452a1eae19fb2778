//! Gives the source of a mount to the user of a container (`U`).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Tenure, Undone, Way};
use crate::fault::Result;
use crate::script::Script;
use crate::sys::tree_owner::{self, Owned};
use crate::sys::{Host, file};

/// Gives the source of a mount, and all below it, to the user of a container (shared: only a plan that fails gives it back).
///
/// Links are not followed and other file systems not entered. *Source:* podman's `:U`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ownership {
    /// The source.
    pub path: PathBuf,
    /// Owner and group.
    pub owner: (u32, u32),
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "give {} to {}:{}", self.path.display(), self.owner.0, self.owner.1)
    }
}

impl Action for Ownership {
    /// What belonged to others.
    type Before = Vec<Owned>;
    const TENURE: Tenure = Tenure::Shared;
    const RECLAIMED: bool = false;

    fn look(&self, _: &Host) -> Result<Vec<Owned>> {
        if !file::exists(&self.path)? {
            // The same plan will make it.
            return Ok(vec![Owned { path: String::new(), owner: (0, 0) }]);
        }
        tree_owner::others(&self.path, self.owner)
    }

    fn already(&self, before: &Vec<Owned>) -> bool {
        before.is_empty()
    }

    fn apply(&self, before: &Vec<Owned>, _: &Host) -> Result<()> {
        tree_owner::give(&self.path, before, |_| self.owner)
    }

    fn undo(&self, before: &Vec<Owned>, _: &Host) -> Result<Undone> {
        tree_owner::give(&self.path, before, |file| file.owner)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, Vec<Owned>>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        match way {
            Way::Apply => {
                let owner = format!("{}:{}", self.owner.0, self.owner.1);
                out.run(["find", &path, "-xdev", "-exec", "chown", "-h", &owner, "{}", "+"]);
            }
            Way::Undo(before) => {
                for file in before {
                    let bytes: Vec<u8> = file.path.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect();
                    let whole = if file.path.is_empty() { path.to_string() } else { format!("{path}/{}", String::from_utf8_lossy(&bytes)) };
                    out.run(["chown", "-h", &format!("{}:{}", file.owner.0, file.owner.1), &whole]);
                }
            }
        }
    }
}
