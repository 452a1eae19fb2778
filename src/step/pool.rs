//! Ensures the lease directory of a host-local network.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Tenure, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::script::{Script, quote};
use crate::sys::lock::{self, Lock};
use crate::sys::{Host, file};

/// How long another user of a pool is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Ensures the lease directory of a host-local network.
///
/// Undone only while it holds nothing but the lock and the cursors. *Source:* host-local `disk.New`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pool {
    /// `/var/lib/cni/networks/<network>`.
    pub dir: PathBuf,
}

/// What stood there before a pool.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PoolBefore {
    /// Whether the directory was there.
    pub existed: bool,
    /// The directories above it that were not, highest first.
    pub missing: Vec<PathBuf>,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure the address pool {dir}", dir = self.dir.display())
    }
}

/// Holds the lock that host-local holds too; `None` when the pool is not there.
pub fn hold(dir: &Path) -> Result<Option<Lock>> {
    if !file::exists(dir)? {
        return Ok(None);
    }
    match lock::acquire(&dir.join("lock"), PATIENCE) {
        // Taken away while it was waited for.
        Err(fault) if fault.kind() == Kind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn is_bookkeeping(name: &str) -> bool {
    name == "lock" || name.starts_with("last_reserved_ip.") || name.starts_with(".last_reserved_ip.")
}

impl Action for Pool {
    type Before = PoolBefore;
    const TENURE: Tenure = Tenure::Shared;

    fn look(&self, _host: &Host) -> Result<PoolBefore> {
        if file::is_dir(&self.dir)? {
            return Ok(PoolBefore { existed: true, missing: Vec::new() });
        }
        if file::exists(&self.dir)? {
            return Err(Fault::new(Kind::FailedPrecondition, format!("{} is not a directory", self.dir.display())));
        }
        let mut missing = Vec::new();
        for above in self.dir.ancestors().skip(1) {
            if file::exists(above)? {
                break;
            }
            missing.push(above.to_path_buf());
        }
        missing.reverse();
        Ok(PoolBefore { existed: false, missing })
    }

    fn already(&self, before: &PoolBefore) -> bool {
        before.existed
    }

    fn apply(&self, _before: &PoolBefore, _host: &Host) -> Result<()> {
        file::ensure_dir(&self.dir, 0o755)?;
        // The lock is part of the pool's format; whoever holds it right now has made it.
        lock::find_free(&self.dir.join("lock"))?;
        Ok(())
    }

    fn undo(&self, before: &PoolBefore, _host: &Host) -> Result<Undone> {
        let held = hold(&self.dir)?;
        if held.is_some() {
            let names = file::list(&self.dir)?;
            if !names.iter().all(|name| is_bookkeeping(name)) {
                return Ok(Undone::Kept);
            }
            for name in names.iter().filter(|name| *name != "lock") {
                file::remove_file(&self.dir.join(name))?;
            }
            // The lock goes last: who waits for it finds the name gone and makes a new one.
            file::remove_file(&self.dir.join("lock"))?;
        }
        let mut undone = Undone::Done;
        for dir in [&self.dir].into_iter().chain(before.missing.iter().rev()) {
            if !file::remove_dir_if_empty(dir)? {
                undone = Undone::Kept;
            }
        }
        Ok(undone)
    }

    fn script(&self, way: Way<'_, PoolBefore>, out: &mut Script) {
        let dir = self.dir.to_string_lossy();
        match way {
            Way::Apply => {
                out.run(["mkdir", "-p", &dir]);
                out.raw(&format!("[ -e {lock} ] || install -m 0600 /dev/null {lock}", lock = quote(&format!("{dir}/lock"))));
            }
            Way::Undo(before) => {
                let quoted = quote(&dir);
                out.raw(&format!("if ! ls {quoted} 2>/dev/null | grep -qvE '^(lock|last_reserved_ip[.][0-9]+)$'; then"));
                out.raw(&format!("  rm -f {quoted}/last_reserved_ip.* {quoted}/lock"));
                out.raw("fi");
                for dir in [&self.dir].into_iter().chain(before.missing.iter().rev()) {
                    out.run_ignoring(["rmdir", &dir.to_string_lossy()]);
                }
            }
        }
    }
}
