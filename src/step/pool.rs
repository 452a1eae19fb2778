//! Ensures the lease directory of a host-local network.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Lease, Tenure, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::script::{Script, quote};
use crate::cni::lease_index::line;
use crate::sys::lease_index::{self, LeaseIndex};
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

/// A pool that nobody else changes; dropping it frees the pool and leaves its index, if it has one, valid.
#[derive(Debug)]
pub struct Hold {
    lock: Lock,
    index: Option<LeaseIndex>,
    added: String,
}

/// Holds the lock that host-local holds too; `None` when the pool is not there.
pub fn hold(host: &Host, dir: &Path) -> Result<Option<Hold>> {
    if !file::exists(dir)? {
        return Ok(None);
    }
    match lock::acquire(&dir.join("lock"), PATIENCE) {
        // Taken away while it was waited for.
        Err(fault) if fault.kind() == Kind::NotFound => Ok(None),
        lock => Ok(Some(Hold { lock: lock?, index: lease_index::find_valid(&host.run, dir), added: String::new() })),
    }
}

impl Hold {
    /// How long the holder before was waited for.
    pub fn waited(&self) -> Duration {
        self.lock.waited()
    }

    /// The index of the pool, valid before anything is changed.
    pub fn index(&self) -> Option<&LeaseIndex> {
        self.index.as_ref()
    }

    /// Has the pool an index built out of the lines of all its leases, read under this hold.
    pub fn build_index(&mut self, host: &Host, dir: &Path, lines: &str) {
        self.index = lease_index::build(&host.run, dir, lines).ok().flatten();
    }

    /// Tells of a lease that is written before the pool is free again; without that an index would not know it.
    pub fn adds(&mut self, lease: &Lease) {
        self.added.extend(line(lease.address, lease.content().as_bytes()));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(index) = self.index.take() {
            index.seal(&self.added);
        }
    }
}

/// Whether a name is that of a file which its writer had not finished; under the lock that writer is dead.
pub fn is_half_written(name: &str) -> bool {
    name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")).is_some()
}

fn is_bookkeeping(name: &str) -> bool {
    name == "lock" || name.starts_with("last_reserved_ip.") || is_half_written(name)
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

    fn undo(&self, before: &PoolBefore, host: &Host) -> Result<Undone> {
        let held = hold(host, &self.dir)?;
        if held.is_some() {
            let names = file::list(&self.dir)?;
            if !names.iter().all(|name| is_bookkeeping(name)) {
                return Ok(Undone::Kept);
            }
            for name in names.iter().filter(|name| *name != "lock") {
                file::remove_file(&self.dir.join(name))?;
            }
            lease_index::forget(&host.run, &self.dir)?;
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
