//! Ensures the parent control group of boxes in every hierarchy (shared).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Tenure, Undone, Way};
use crate::fault::Result;
use crate::script::{Script, quote};
use crate::sys::{Host, cgroup, file};

/// Ensures the parent control group of boxes in every hierarchy (shared).
///
/// The runtime would make it too, but nobody would take it away again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CgroupParent {
    /// From the mount: `/rkbox`.
    pub parent: String,
}

impl fmt::Display for CgroupParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure control group {}", self.parent)
    }
}

impl Action for CgroupParent {
    /// The directories that were not there, parents first.
    type Before = Vec<PathBuf>;
    const TENURE: Tenure = Tenure::Shared;

    fn look(&self, _host: &Host) -> Result<Vec<PathBuf>> {
        let mut missing = Vec::new();
        for hierarchy in cgroup::hierarchies() {
            let mut dir = hierarchy;
            for part in self.parent.split('/').filter(|part| !part.is_empty()) {
                dir.push(part);
                if !file::exists(&dir)? {
                    missing.push(dir.clone());
                }
            }
        }
        Ok(missing)
    }

    fn already(&self, before: &Vec<PathBuf>) -> bool {
        before.is_empty()
    }

    fn apply(&self, before: &Vec<PathBuf>, _host: &Host) -> Result<()> {
        for dir in before {
            file::ensure_dir(dir, 0o755)?;
        }
        Ok(())
    }

    fn undo(&self, before: &Vec<PathBuf>, _host: &Host) -> Result<Undone> {
        Ok(if file::remove_dirs_if_empty(before)? { Undone::Done } else { Undone::Kept })
    }

    fn script(&self, way: Way<'_, Vec<PathBuf>>, out: &mut Script) {
        match way {
            Way::Apply => {
                let parent = quote(self.parent.trim_matches('/'));
                out.raw("hierarchies=/sys/fs/cgroup");
                out.raw("[ -e /sys/fs/cgroup/cgroup.procs ] || hierarchies=$(echo /sys/fs/cgroup/*)");
                out.raw("for hierarchy in $hierarchies; do");
                out.raw(&format!("    if [ -e \"$hierarchy/cgroup.procs\" ] && [ ! -L \"$hierarchy\" ]; then mkdir -p \"$hierarchy\"/{parent}; fi"));
                out.raw("done");
            }
            Way::Undo(before) => before.iter().rev().for_each(|dir| out.run_ignoring(["rmdir", &dir.to_string_lossy()])),
        }
    }
}
