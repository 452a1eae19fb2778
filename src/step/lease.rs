//! Claims one address of a pool.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Action, Undone, Way, pool};
use crate::cni::lease_file::{self, Match};
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, hex};
use crate::script::{Script, quote};
use crate::sys::file::{self, FileError};
use crate::sys::Host;

/// A lease is a container id and an interface name; what is larger is somebody else's.
const LIMIT: u64 = 4096;
/// An empty file older than this has no writer: upstream writes it within microseconds, with the lock in hand.
const WRITTEN_BY_NOW: Duration = Duration::from_secs(60);

/// Claims one address of a pool, in host-local's format.
///
/// Differs from host-local in that the file appears complete or not at all, so that a killed command leaks no empty file
/// (containernetworking/plugins#498). The mark is its content: the owner and the interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// The pool.
    pub dir: PathBuf,
    /// The address.
    pub address: IpAddr,
    /// CNI container id.
    pub owner: String,
    /// Interface.
    pub ifname: IfName,
    /// Whether the plan makes the pool too: nobody could hold it while planning, so the claim does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_new_pool: bool,
}

/// What stood there before a lease.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct LeaseBefore {
    /// An empty file without a writer, which is replaced and not put back.
    pub leaked: bool,
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {address} to {ifname}", address = self.address, ifname = self.ifname)
    }
}

/// Whether a lease file is empty and its writer is gone: older than the boot, or than a minute.
pub fn is_leaked(path: &Path) -> Result<bool> {
    let Some((age, 0)) = file::find_age(path)? else { return Ok(false) };
    let uptime = file::read_kernel(Path::new("/proc/uptime"))?;
    let up = uptime.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).map_or(WRITTEN_BY_NOW, Duration::from_secs_f64);
    Ok(age > up.min(WRITTEN_BY_NOW))
}

impl Lease {
    fn path(&self) -> PathBuf {
        self.dir.join(self.address.to_string())
    }

    /// The name under which the content is written before it is linked: no address, and the same after a crash.
    fn temporary(&self) -> PathBuf {
        let digest = Sha256::digest(format!("{}\0{}", self.owner, self.ifname).as_bytes());
        self.dir.join(format!(".{}.{}.tmp", self.address, &hex(&digest)[..12]))
    }

    pub(super) fn content(&self) -> String {
        lease_file::content(&self.owner, &self.ifname)
    }

    fn taken(&self) -> Fault {
        Fault::new(Kind::Conflict, format!("the address {} was just taken", self.address))
    }
}

impl Action for Lease {
    type Before = LeaseBefore;

    fn look(&self, _host: &Host) -> Result<LeaseBefore> {
        let path = self.path();
        match file::find(&path, LIMIT) {
            Ok(None) => Ok(LeaseBefore::default()),
            Ok(Some(content)) if lease_file::compare(&content, &self.owner, &self.ifname) != Match::Other => Err(Fault::new(
                Kind::AlreadyExists,
                format!("{} has been allocated to {}, duplicate allocation is not allowed", self.address, self.owner),
            )),
            Ok(Some(content)) if content.is_empty() && is_leaked(&path)? => Ok(LeaseBefore { leaked: true }),
            Ok(Some(_)) | Err(FileError::TooLarge { .. } | FileError::NotRegular { .. }) => Err(self.taken()),
            Err(error) => Err(error.into()),
        }
    }

    fn apply(&self, before: &LeaseBefore, host: &Host) -> Result<()> {
        let mut held = if self.in_new_pool { pool::hold(host, &self.dir)? } else { None };
        held.iter_mut().for_each(|held| held.adds(self));
        if before.leaked && is_leaked(&self.path())? {
            file::remove_file(&self.path())?;
        }
        match file::create_linked(&self.temporary(), &self.path(), 0o600, self.content().as_bytes()) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => Err(self.taken()),
            other => Ok(other?),
        }
    }

    fn durable(&self) -> Option<PathBuf> {
        Some(self.path())
    }

    fn undo(&self, _before: &LeaseBefore, host: &Host) -> Result<Undone> {
        let Some(_held) = pool::hold(host, &self.dir)? else { return Ok(Undone::Done) };
        file::remove_file(&self.temporary())?;
        match file::find(&self.path(), LIMIT) {
            Ok(Some(content)) if lease_file::compare(&content, &self.owner, &self.ifname) != Match::Other => {
                file::remove_file(&self.path())?;
            }
            Ok(_) | Err(FileError::TooLarge { .. } | FileError::NotRegular { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, LeaseBefore>, out: &mut Script) {
        let (path, temp) = (self.path(), self.temporary());
        let (path, temp) = (path.to_string_lossy(), temp.to_string_lossy());
        let lock = self.dir.join("lock");
        let lock = lock.to_string_lossy();
        match way {
            Way::Apply => {
                out.write_file(&temp, 0o600, self.content().as_bytes());
                out.run(["flock", &lock, "ln", &temp, &path]);
                out.run(["rm", &temp]);
            }
            Way::Undo(_) => {
                let wanted = format!("\"$(printf '%s\\r\\n%s' {} {})\"", quote(self.owner.trim()), quote(self.ifname.as_ref()));
                let path = quote(&path);
                out.raw(&format!("if [ \"$(cat {path} 2>/dev/null || true)\" = {wanted} ]; then rm -f {path}; fi"));
            }
        }
    }
}
