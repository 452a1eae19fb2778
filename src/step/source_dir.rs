//! Makes the missing source of a bind mount.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Tenure, Undone, Way};
use crate::fault::Result;
use crate::script::Script;
use crate::sys::{Host, file};

/// Makes the missing source of a bind mount, a directory of root's (shared: it stays when the container goes, for it may hold data by then).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceDir {
    /// Where, absolute.
    pub path: PathBuf,
}

impl fmt::Display for SourceDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make the missing source {} of a mount", self.path.display())
    }
}

impl Action for SourceDir {
    /// The directories that were not there, parents first.
    type Before = Vec<PathBuf>;
    const TENURE: Tenure = Tenure::Shared;
    const RECLAIMED: bool = false;

    fn look(&self, _: &Host) -> Result<Vec<PathBuf>> {
        let mut missing = Vec::new();
        for dir in self.path.ancestors() {
            if file::exists(dir)? {
                break;
            }
            missing.insert(0, dir.to_path_buf());
        }
        Ok(missing)
    }

    fn already(&self, before: &Vec<PathBuf>) -> bool {
        before.is_empty()
    }

    fn apply(&self, _: &Vec<PathBuf>, _: &Host) -> Result<()> {
        Ok(file::ensure_dir(&self.path, 0o755)?)
    }

    fn undo(&self, before: &Vec<PathBuf>, _: &Host) -> Result<Undone> {
        Ok(if file::remove_dirs_if_empty(before)? { Undone::Done } else { Undone::Kept })
    }

    fn script(&self, way: Way<'_, Vec<PathBuf>>, out: &mut Script) {
        match way {
            Way::Apply => out.run(["mkdir", "-p", "--", &self.path.to_string_lossy()]),
            Way::Undo(before) => {
                for dir in before.iter().rev() {
                    out.run_ignoring(["rmdir", "--", &dir.to_string_lossy()]);
                }
            }
        }
    }
}
