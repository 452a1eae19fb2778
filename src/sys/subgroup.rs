//! A control group below a container's own, for one more process and all that it starts: so that all of them can be ended.

use std::path::PathBuf;
use std::time::Duration;

use super::{cgroup, file};
use crate::fault::{Fault, Kind, Result};

/// The hierarchy of version 1 in which the group is made: it bounds nothing there, and every host has it.
const CONTROLLER: &str = "pids";

/// A group below the group of a container; removed when dropped and empty.
#[derive(Debug)]
pub struct Subgroup {
    dir: PathBuf,
    word: String,
}

impl Subgroup {
    /// Makes the group `name` below `cgroups_path`, which must be there.
    pub fn make(cgroups_path: &str, name: &str) -> Result<Self> {
        if cgroups_path.is_empty() {
            return Err(Fault::new(Kind::Unimplemented, "a limit of time needs control groups, which an ordinary user does not have")
                .hint("leave it out, or run rkbox as root"));
        }
        let absent = || Fault::new(Kind::FailedPrecondition, format!("control group {cgroups_path} is not there"));
        let directories = cgroup::directories(cgroups_path);
        let (above, word) = if cgroup::layout() == cgroup::Layout::V2 {
            (directories.into_iter().next().ok_or_else(absent)?, name.to_owned())
        } else {
            let root = PathBuf::from(cgroup::ROOT).join(CONTROLLER);
            (directories.into_iter().find(|dir| dir.starts_with(&root)).ok_or_else(absent)?, format!("{CONTROLLER}:{name}"))
        };
        let dir = above.join(name);
        file::ensure_dir(&dir, 0o755)?;
        Ok(Subgroup { dir, word })
    }

    /// As `runc exec --cgroup` takes it.
    pub fn word(&self) -> &str {
        &self.word
    }

    /// Kills everybody in it.
    pub fn kill(&self, limit: Duration) -> Result<()> {
        cgroup::kill_in(std::slice::from_ref(&self.dir), limit)
    }
}

impl Drop for Subgroup {
    fn drop(&mut self) {
        let _ = file::remove_dir_if_empty(&self.dir);
    }
}
