//! Ensures the directories of rkbox itself, root only (shared: removed again only when empty).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Tenure, Undone, Way};
use crate::fault::Result;
use crate::script::Script;
use crate::sys::{Host, file};

/// Ensures the directories of rkbox itself, root only (shared: removed again only when empty).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Home {
    /// The directories, parents first, each made with mode 0700.
    pub dirs: Vec<PathBuf>,
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.dirs.first().map(|dir| dir.display().to_string()).unwrap_or_default();
        write!(f, "ensure directory {first}")?;
        if self.dirs.len() > 1 { write!(f, " and {} more", self.dirs.len() - 1) } else { Ok(()) }
    }
}

impl Action for Home {
    /// The directories that were not there, missing ancestors included.
    type Before = Vec<PathBuf>;
    const TENURE: Tenure = Tenure::Shared;

    fn look(&self, _host: &Host) -> Result<Vec<PathBuf>> {
        let mut missing: Vec<PathBuf> = Vec::new();
        for dir in &self.dirs {
            let mut chain = Vec::new();
            for ancestor in dir.ancestors() {
                if missing.iter().any(|known| known == ancestor) || file::exists(ancestor)? {
                    break;
                }
                chain.push(ancestor.to_path_buf());
            }
            missing.extend(chain.into_iter().rev());
        }
        Ok(missing)
    }

    fn already(&self, before: &Vec<PathBuf>) -> bool {
        before.is_empty()
    }

    fn apply(&self, before: &Vec<PathBuf>, _host: &Host) -> Result<()> {
        // Another command may make the same directories at the same moment: both are right.
        for dir in before {
            let mode = if self.dirs.contains(dir) { 0o700 } else { 0o755 };
            file::ensure_dir(dir, mode)?;
        }
        Ok(())
    }

    fn undo(&self, before: &Vec<PathBuf>, _host: &Host) -> Result<Undone> {
        Ok(if file::remove_dirs_if_empty(before)? { Undone::Done } else { Undone::Kept })
    }

    fn script(&self, way: Way<'_, Vec<PathBuf>>, out: &mut Script) {
        match way {
            Way::Apply => {
                for dir in &self.dirs {
                    let dir = dir.to_string_lossy();
                    if let Some(parent) = std::path::Path::new(dir.as_ref()).parent() {
                        out.run(["mkdir", "-p", &parent.to_string_lossy()]);
                    }
                    out.raw(&format!("[ -d {dir} ] || mkdir -m 0700 {dir}", dir = crate::script::quote(&dir)));
                }
            }
            Way::Undo(before) => {
                for dir in before.iter().rev() {
                    out.run_ignoring(["rmdir", &dir.to_string_lossy()]);
                }
            }
        }
    }
}
