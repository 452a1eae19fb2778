//! Chooses the addresses of an attachment out of host-local's pool, and the steps that claim them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::networks::Network;
use crate::cni::allocate::{self, Choice, Refusal};
use crate::cni::cache;
use crate::cni::host_local::HostLocal;
use crate::cni::lease_file::{self, Match};
use crate::cni::ranges::RangeSet;
use crate::fault::{Fault, Kind, Result};
use crate::ids::IfName;
use crate::step::{Cursor, Lease, Pool, Step, lease, pool};
use crate::sys::lock::Lock;
use crate::sys::{Host, file};

/// A lease is at most this large.
const LIMIT: usize = 4096;
/// How many holders of a full pool are named.
const NAMED: usize = 8;
/// A cache file larger than this is not one.
const CACHE_LIMIT: u64 = 4 << 20;

/// Who asks for addresses.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// CNI container id.
    pub owner: &'a str,
    /// Interface.
    pub ifname: &'a IfName,
    /// Whether the pool is locked, so that what is chosen stays free.
    pub acting: bool,
}

/// Addresses that are free, and the steps that claim them.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Pool, then cursor and lease of each range set.
    pub steps: Vec<Step>,
    /// Holds the pool until the leases are written.
    pub lock: Option<Lock>,
    /// One address of each range set.
    pub choices: Vec<Choice>,
    /// What people should hear of.
    pub notes: Vec<String>,
}

/// What stands in a pool.
struct Contents {
    dir: PathBuf,
    /// Sorted.
    names: Vec<String>,
}

/// Where the leases of a network are.
pub fn pool_dir(host: &Host, network: &Network, ipam: &HostLocal) -> PathBuf {
    match &ipam.data_dir {
        Some(dir) => dir.join(network.name.as_ref()),
        None => host.pool(network.name.as_ref()),
    }
}

/// Chooses one address out of each range set, as host-local would.
///
/// *Errors:* `ResourceExhausted` with who holds the pool, `AlreadyExists` when the same attachment has a lease. *Source:*
/// host-local `cmdAdd`.
pub fn choose(host: &Host, network: &Network, ipam: &HostLocal, asker: Asker<'_>) -> Result<Chosen> {
    let dir = pool_dir(host, network, ipam);
    let lock = if asker.acting { pool::hold(&dir)? } else { None };
    let contents = Contents { names: file::list(&dir)?, dir: dir.clone() };
    let own = contents.held_by(asker.owner, asker.ifname);
    let mut requested = ipam.requested.clone();
    let mut steps: Vec<Step> = vec![Pool { dir: dir.clone() }.into()];
    let (mut choices, mut notes) = (Vec::new(), Vec::new());
    for (index, set) in ipam.sets.iter().enumerate() {
        let wanted = requested.iter().position(|address| set.find(*address).is_some()).map(|at| requested.remove(at));
        if let Some(address) = own.iter().find(|address| set.find(**address).is_some()) {
            return Err(duplicate(index, *address, asker.owner));
        }
        let choice = contents
            .next(set, index, wanted)
            .map_err(|refusal| contents.explain(host, network, index, &refusal).doing(format!("network {}", network.name)))?;
        let address = choice.address.ip();
        if asker.acting && contents.holds(address) {
            notes.push(format!("reclaiming {address} of {}: its lease is empty and nobody writes it", network.name));
        }
        steps.push(Cursor { dir: dir.clone(), set: index, last: address }.into());
        steps.push(Lease { dir: dir.clone(), address, owner: asker.owner.to_owned(), ifname: asker.ifname.clone() }.into());
        choices.push(choice);
    }
    if !requested.is_empty() {
        let left: Vec<String> = requested.iter().map(IpAddr::to_string).collect();
        return Err(Fault::invalid(format!("failed to allocate all requested IPs: {}", left.join(" "))));
    }
    Ok(Chosen { steps, lock, choices, notes })
}

/// The addresses that an owner's interface holds in a pool.
pub fn held_by(dir: &Path, owner: &str, ifname: &IfName) -> Result<Vec<IpAddr>> {
    Ok(Contents { names: file::list(dir)?, dir: dir.to_path_buf() }.held_by(owner, ifname))
}

fn duplicate(index: usize, address: IpAddr, owner: &str) -> Fault {
    let message =
        format!("failed to allocate for range {index}: {address} has been allocated to {owner}, duplicate allocation is not allowed");
    Fault::new(Kind::AlreadyExists, message).hint("detach it first: rkbox net del, or rkbox gc when its owner is gone")
}

impl Contents {
    /// Exact leases, else those in the old form. A file that cannot be read is somebody else's, as upstream takes it.
    fn held_by(&self, owner: &str, ifname: &IfName) -> Vec<IpAddr> {
        let mut buffer = [0; LIMIT];
        let (mut exact, mut old) = (Vec::new(), Vec::new());
        for (name, address) in self.names.iter().filter_map(|name| Some((name, name.parse::<IpAddr>().ok()?))) {
            let Ok(Some(content)) = file::peek(&self.dir.join(name), &mut buffer) else { continue };
            match lease_file::compare(content, owner, ifname) {
                Match::Exact => exact.push(address),
                Match::OldForm => old.push(address),
                Match::Other => {}
            }
        }
        if exact.is_empty() { old } else { exact }
    }

    /// The start of a file of the pool.
    fn content(&self, name: &str) -> Option<Vec<u8>> {
        let mut buffer = [0; LIMIT];
        file::peek(&self.dir.join(name), &mut buffer).ok().flatten().map(<[u8]>::to_vec)
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.names.binary_search(&address.to_string()).is_ok()
    }

    fn next(&self, set: &RangeSet, index: usize, wanted: Option<IpAddr>) -> std::result::Result<Choice, Refusal> {
        // Read without trimming, as upstream does: anything but a bare address begins the round anew.
        let cursor = self.content(&format!("last_reserved_ip.{index}"));
        let last = cursor.and_then(|text| String::from_utf8(text).ok()?.parse::<IpAddr>().ok()).map(|address| address.to_canonical());
        let taken = |address: IpAddr| self.holds(address) && !lease::is_leaked(&self.dir.join(address.to_string())).unwrap_or(false);
        allocate::choose(set, taken, last, wanted)
    }

    fn explain(&self, host: &Host, network: &Network, index: usize, refusal: &Refusal) -> Fault {
        let message = format!("failed to allocate for range {index}: {refusal}");
        match refusal {
            Refusal::Exhausted(_) => {
                let held: Vec<&String> = self.names.iter().filter(|name| name.parse::<IpAddr>().is_ok()).collect();
                let mut named: Vec<String> = held.iter().take(NAMED).map(|address| self.holder(host, network, address)).collect();
                if held.len() > named.len() {
                    named.push(format!("{} more", held.len() - named.len()));
                }
                Fault::new(Kind::ResourceExhausted, format!("{message}; {} are held: {}", held.len(), named.join(", ")))
                    .hint(format!("detach one that is not needed: rkbox net del {} NETNS, or rkbox sandbox rm NAME", network.name))
                    .hint("rkbox gc frees the addresses of sandboxes that are gone")
            }
            Refusal::Taken(..) => Fault::new(Kind::AlreadyExists, message),
            Refusal::Outside(..) | Refusal::Gateway(_) => Fault::invalid(message),
        }
    }

    /// *Shape:* `10.88.0.2 by eth0 of /run/netns/web`; the CNI container id where libcni's cache knows nothing of it.
    fn holder(&self, host: &Host, network: &Network, address: &str) -> String {
        let Some((owner, ifname)) = self.content(address).and_then(|content| lease_file::holder(&content)) else {
            return format!("{address} by nobody");
        };
        let ifname = ifname.unwrap_or_else(|| "eth0".to_owned());
        let cached = ifname.parse().ok().map(|ifname| cache::Attachment::file_name(&network.name, &owner, &ifname));
        let text = cached.and_then(|name| file::find(&host.cni_state.join("results").join(name), CACHE_LIMIT).ok().flatten());
        let whose = text.and_then(|text| cache::Attachment::parse(&text).ok()).map_or(owner, |cached| cached.netns);
        format!("{address} by {ifname} of {whose}")
    }
}
