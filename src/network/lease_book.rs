//! The leases of a pool read as a whole: who holds what, how many are left, which are left over.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::cni::lease_file;
use crate::cni::ranges::RangeSet;
use crate::fault::{Fault, Kind, Result};
use crate::step::{lease, pool};
use crate::sys::{Host, file};

/// A lease is at most this large.
const LIMIT: usize = 4096;

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The address.
    pub address: IpAddr,
    /// The CNI container id; empty when the file names nobody.
    pub owner: String,
    /// The interface; `None` in the old form.
    pub ifname: Option<String>,
    /// How long ago the file was written.
    pub age: Duration,
}

impl Held {
    /// Whether it is older than the boot: the namespace that it was for is gone with all others.
    pub fn is_of_former_boot(&self, uptime: Duration) -> bool {
        self.age > uptime
    }
}

/// All leases of a pool, sorted by address; empty when the pool is not there.
pub fn read(dir: &Path) -> Result<Vec<Held>> {
    let mut all = Vec::new();
    let mut buffer = [0; LIMIT];
    for name in file::list(dir)? {
        let Ok(address) = name.parse::<IpAddr>() else { continue };
        let path = dir.join(&name);
        let Ok(Some(content)) = file::peek(&path, &mut buffer) else { continue };
        let (owner, ifname) = lease_file::holder(content).unwrap_or_default();
        let age = file::find_age(&path)?.map_or(Duration::ZERO, |(age, _)| age);
        all.push(Held { address, owner, ifname, age });
    }
    all.sort_by_key(|held| held.address);
    Ok(all)
}

/// How long the machine is up.
pub fn uptime() -> Result<Duration> {
    let text = file::read_kernel(Path::new("/proc/uptime"))?;
    let seconds = text.split_whitespace().next().and_then(|seconds| seconds.parse().ok());
    seconds.map(Duration::from_secs_f64).ok_or_else(|| Fault::internal("/proc/uptime holds no number"))
}

/// Frees the leases of a pool that `is_valid` does not vouch for, under its lock; answers them. Empty files that nobody writes go too,
/// and what killed writers left on file systems where a file has a name before it is whole.
pub fn free_unless(host: &Host, dir: &Path, is_valid: impl Fn(&str, Option<&str>) -> bool) -> Result<Vec<Held>> {
    let Some(_held) = pool::hold(host, dir)? else { return Ok(Vec::new()) };
    for name in file::list(dir)?.iter().filter(|name| pool::is_half_written(name)) {
        file::remove_file(&dir.join(name))?;
    }
    let mut freed = Vec::new();
    for held in read(dir)? {
        let path = dir.join(held.address.to_string());
        let stale = if held.owner.is_empty() { lease::is_leaked(&path)? } else { !is_valid(&held.owner, held.ifname.as_deref()) };
        if stale {
            file::remove_file(&path)?;
            freed.push(held);
        }
    }
    Ok(freed)
}

/// How many addresses of a range set there are and are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Addresses that can be given out at all.
    pub all: u128,
    /// Those that are held.
    pub held: u128,
}

/// Counts the addresses of a range set.
pub fn usage(dir: &Path, set: &RangeSet) -> Result<Usage> {
    let names = file::list(dir)?;
    let addresses = names.iter().filter_map(|name| name.parse::<IpAddr>().ok());
    let held = addresses.filter(|address| set.find(*address).is_some_and(|range| range.gateway != *address)).count();
    Ok(Usage { all: set.size(), held: held as u128 })
}

impl Usage {
    /// Refuses when no address is left, in host-local's words and with numbers.
    pub fn require_room(self, index: usize, set: &RangeSet) -> Result<()> {
        if self.held < self.all {
            return Ok(());
        }
        let numbers = format!("{} of {} addresses are held", self.held, self.all);
        let message = format!("failed to allocate for range {index}: no IP addresses available in range set: {set}; {numbers}");
        Err(Fault::new(Kind::ResourceExhausted, message))
    }
}
