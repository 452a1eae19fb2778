//! Which addresses an owner holds in a pool: out of its index where that is valid, else out of all its leases.

use std::net::IpAddr;
use std::path::Path;

use crate::cni::lease_file::{self, Match};
use crate::cni::lease_index::line;
use crate::fault::Result;
use crate::ids::IfName;
use crate::step::pool::Hold;
use crate::sys::lease_index::{self, LeaseIndex};
use crate::sys::{Host, file};

/// A lease is at most this large.
const LIMIT: usize = 4096;

/// A container id and an interface.
pub type Owner<'a> = (&'a str, &'a IfName);

/// What an owner holds, as far as it has been seen.
#[derive(Default)]
struct Held {
    exact: Vec<IpAddr>,
    old: Vec<IpAddr>,
}

impl Held {
    fn see(&mut self, address: IpAddr, content: &[u8], (owner, ifname): Owner<'_>) {
        match lease_file::compare(content, owner, ifname) {
            Match::Exact => self.exact.push(address),
            Match::OldForm => self.old.push(address),
            Match::Other => {}
        }
    }

    /// Exact leases, else those in the old form.
    fn all(self) -> Vec<IpAddr> {
        if self.exact.is_empty() { self.old } else { self.exact }
    }
}

/// The addresses that an owner's interface holds in a pool.
///
/// Where the index knows of none the leases are read all the same: what is to be taken back must not be missed.
pub fn held_by(host: &Host, dir: &Path, owner: &str, ifname: &IfName) -> Result<Vec<IpAddr>> {
    let indexed = lease_index::find_valid(&host.run, dir).and_then(|index| in_index(&index, dir, (owner, ifname)));
    match indexed {
        Some(addresses) if !addresses.is_empty() => Ok(addresses),
        _ => read_all(dir, (owner, ifname), |_, _, _| {}),
    }
}

/// As [`held_by`], under a hold: without a valid index all leases are read once, and a large pool gets one.
pub fn find_held(host: &Host, hold: &mut Hold, dir: &Path, owner: Owner<'_>) -> Result<Vec<IpAddr>> {
    if let Some(held) = hold.index().and_then(|index| in_index(index, dir, owner)) {
        return Ok(held);
    }
    let (mut lines, mut count, mut plain) = (String::new(), 0, true);
    let held = read_all(dir, owner, |name, address, content| {
        count += 1;
        plain &= name == address.to_string();
        lines.extend(line(address, content));
    })?;
    // An address that is written in another way, which no plugin does, could not be found by what it is.
    if count >= lease_index::WORTHWHILE && plain {
        hold.build_index(host, dir, &lines);
    }
    Ok(held)
}

/// What an index says that an owner holds, as far as its leases say the same.
fn in_index(index: &LeaseIndex, dir: &Path, owner: Owner<'_>) -> Option<Vec<IpAddr>> {
    let (mut held, mut buffer) = (Held::default(), [0; LIMIT]);
    for address in index.addresses(owner.0.trim(), owner.1.as_ref())? {
        if let Ok(Some(content)) = file::peek(&dir.join(address.to_string()), &mut buffer) {
            held.see(address, content, owner);
        }
    }
    Some(held.all())
}

/// Reads all leases of a pool and shows each; one that cannot be read is somebody else's, as upstream takes it.
fn read_all(dir: &Path, owner: Owner<'_>, mut each: impl FnMut(&str, IpAddr, &[u8])) -> Result<Vec<IpAddr>> {
    let (mut held, mut buffer) = (Held::default(), [0; LIMIT]);
    for name in file::list(dir)? {
        let Ok(address) = name.parse::<IpAddr>() else { continue };
        let Ok(Some(content)) = file::peek(&dir.join(&name), &mut buffer) else { continue };
        held.see(address, content, owner);
        each(&name, address, content);
    }
    Ok(held.all())
}
