//! Chooses the addresses of an attachment out of host-local's pool, and the steps that claim them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::call::Call;
use super::lease_search::{self, held_by};
use crate::cni::allocate::{self, Choice, Refusal};
use crate::cni::cache;
use crate::cni::host_local::HostLocal;
use crate::cni::ipam::Ipam;
use crate::cni::lease_file;
use crate::cni::list::Plugin;
use crate::cni::ranges::RangeSet;
use crate::cni::resolv_conf::{self, Dns};
use crate::cni::result::{CniResult, Ip};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::{IfName, NetworkName};
use crate::step::pool::Hold;
use crate::step::{Cursor, Lease, Pool, Step, lease, pool};
use crate::sys::{Host, file};

/// A lease is at most this large.
const LIMIT: usize = 4096;
/// How many holders of a full pool are named.
const NAMED: usize = 8;
/// A cache file larger than this is not one.
const CACHE_LIMIT: u64 = 4 << 20;

/// What IPAM gives to an attachment.
#[derive(Debug, Default)]
pub struct Assigned {
    /// The steps that claim the addresses.
    pub steps: Vec<Step>,
    /// Holds the pool until the leases are written.
    pub lock: Option<Hold>,
    /// Addresses, routes and name servers.
    pub result: CniResult,
    /// What people should hear of.
    pub notes: Vec<String>,
}

/// Asks whoever gives addresses; `given` is what another program has answered.
///
/// *Errors:* none given where some are wanted, in upstream's words.
pub fn assign(call: &Call<'_>, ipam: &Ipam, given: Option<CniResult>) -> Result<Assigned> {
    let assigned = match given {
        Some(result) => Assigned { result, ..Assigned::default() },
        None => give(call, ipam)?,
    };
    if assigned.result.ips.is_empty() && *ipam != Ipam::None {
        return Err(Fault::invalid("IPAM plugin returned missing IP config"));
    }
    Ok(assigned)
}

/// What an IPAM plugin that is built in gives.
pub fn give(call: &Call<'_>, ipam: &Ipam) -> Result<Assigned> {
    match ipam {
        Ipam::None => Ok(Assigned::default()),
        Ipam::HostLocal(conf) => from_pool(call, conf),
        Ipam::Static(conf) => Ok(Assigned { result: conf.result(), ..Assigned::default() }),
        Ipam::Foreign(kind) => Err(Plugin::foreign(kind)),
    }
}

/// The result of host-local, and the steps that claim its addresses.
fn from_pool(call: &Call<'_>, conf: &HostLocal) -> Result<Assigned> {
    let dns = match &conf.resolv_conf {
        None => Dns::default(),
        Some(path) => {
            let text = file::read_following(path, 1 << 20).doing(|| "reading resolvConf of ipam")?;
            resolv_conf::parse(&String::from_utf8_lossy(&text))
        }
    };
    let Chosen { steps, lock, choices, notes } = choose(call, conf)?;
    let ips = choices.iter().map(|choice| Ip { interface: None, address: choice.address, gateway: Some(choice.gateway) }).collect();
    Ok(Assigned { steps, lock, result: CniResult { ips, routes: conf.routes.clone(), dns, ..CniResult::default() }, notes })
}

/// The leases of an attachment, as steps to be undone.
pub fn leases(call: &Call<'_>, ipam: &Ipam) -> Result<Vec<Step>> {
    let Ipam::HostLocal(conf) = ipam else { return Ok(Vec::new()) };
    lease_steps(call.host, &pool_dir(call.host, call.network, conf), call.owner, call.ifname)
}

/// The leases that an owner's interface holds in a pool, as steps to be undone.
pub fn lease_steps(host: &Host, dir: &Path, owner: &str, ifname: &IfName) -> Result<Vec<Step>> {
    let lease =
        |address| Lease { dir: dir.to_path_buf(), address, owner: owner.to_owned(), ifname: ifname.clone(), in_new_pool: false }.into();
    Ok(held_by(host, dir, owner, ifname)?.into_iter().map(lease).collect())
}

/// Addresses of a pool that are free, and the steps that claim them.
struct Chosen {
    /// Pool, then cursor and lease of each range set.
    steps: Vec<Step>,
    /// Holds the pool until the leases are written.
    lock: Option<Hold>,
    /// One address of each range set.
    choices: Vec<Choice>,
    /// What people should hear of.
    notes: Vec<String>,
}

/// Where the leases of a network are.
pub fn pool_dir(host: &Host, network: &NetworkName, ipam: &HostLocal) -> PathBuf {
    match &ipam.data_dir {
        Some(dir) => dir.join(network.as_ref()),
        None => host.pool(network.as_ref()),
    }
}

/// Chooses one address out of each range set, as host-local would.
///
/// *Errors:* `ResourceExhausted` with who holds the pool, `AlreadyExists` when the same attachment has a lease. *Source:*
/// host-local `cmdAdd`.
fn choose(call: &Call<'_>, ipam: &HostLocal) -> Result<Chosen> {
    let dir = pool_dir(call.host, call.network, ipam);
    let mut lock = if call.acting { pool::hold(call.host, &dir)? } else { None };
    let own = match &mut lock {
        Some(hold) => lease_search::find_held(call.host, hold, &dir, (call.owner, call.ifname))?,
        None => held_by(call.host, &dir, call.owner, call.ifname)?,
    };
    let again = is_told_again(call.acting, call.preferred);
    let contents = Contents { dir: dir.clone(), given_back: if again { own.clone() } else { Vec::new() } };
    let mut requested = ipam.requested.clone();
    let mut steps: Vec<Step> = vec![Pool { dir: dir.clone() }.into()];
    let (mut choices, mut notes) = (Vec::new(), Vec::new());
    for (index, set) in ipam.sets.iter().enumerate() {
        let wanted = requested.iter().position(|address| set.find(*address).is_some()).map(|at| requested.remove(at));
        if let Some(address) = own.iter().find(|address| !again && set.find(**address).is_some()) {
            return Err(duplicate(index, *address, call.owner));
        }
        let preferred = call.preferred.iter().copied().find(|address| set.find(*address).is_some()).filter(|_| wanted.is_none());
        let again = preferred.and_then(|address| contents.next(set, index, Some(address)).ok());
        let choice =
            again.map_or_else(|| contents.next(set, index, wanted), Ok).map_err(|refusal| contents.explain(call, index, &refusal))?;
        let address = choice.address.ip();
        if call.acting && contents.holds(address) {
            notes.push(format!("reclaiming {address} of {}: its lease is empty and nobody writes it", call.network));
        }
        steps.push(Cursor { dir: dir.clone(), set: index, last: address }.into());
        let in_new_pool = lock.is_none();
        let lease = Lease { dir: dir.clone(), address, owner: call.owner.to_owned(), ifname: call.ifname.clone(), in_new_pool };
        lock.iter_mut().for_each(|hold| hold.adds(&lease));
        steps.push(lease.into());
        choices.push(choice);
    }
    if !requested.is_empty() {
        let left: Vec<String> = requested.iter().map(IpAddr::to_string).collect();
        return Err(Fault::invalid(format!("failed to allocate all requested IPs: {}", left.join(" "))));
    }
    Ok(Chosen { steps, lock, choices, notes })
}

/// Whether an attachment of a former boot is only told to be made again: its lease and entry are there, and the same script takes them back
/// first.
pub fn is_told_again(acting: bool, preferred: &[IpAddr]) -> bool {
    !acting && !preferred.is_empty()
}

fn duplicate(index: usize, address: IpAddr, owner: &str) -> Fault {
    let message =
        format!("failed to allocate for range {index}: {address} has been allocated to {owner}, duplicate allocation is not allowed");
    Fault::new(Kind::AlreadyExists, message).hint("detach it first: rkbox net del, or rkbox gc when its owner is gone")
}

/// The files of a pool.
struct Contents {
    dir: PathBuf,
    /// Addresses whose leases go before others are made.
    given_back: Vec<IpAddr>,
}

impl Contents {
    /// The start of a file of the pool.
    fn content(&self, name: &str) -> Option<Vec<u8>> {
        let mut buffer = [0; LIMIT];
        file::peek(&self.dir.join(name), &mut buffer).ok().flatten().map(<[u8]>::to_vec)
    }

    fn holds(&self, address: IpAddr) -> bool {
        !self.given_back.contains(&address) && file::exists(&self.dir.join(address.to_string())).unwrap_or(true)
    }

    fn next(&self, set: &RangeSet, index: usize, wanted: Option<IpAddr>) -> std::result::Result<Choice, Refusal> {
        // Read without trimming, as upstream does: anything but a bare address begins the round anew.
        let cursor = self.content(&format!("last_reserved_ip.{index}"));
        let last = cursor.and_then(|text| String::from_utf8(text).ok()?.parse::<IpAddr>().ok()).map(|address| address.to_canonical());
        let taken = |address: IpAddr| self.holds(address) && !lease::is_leaked(&self.dir.join(address.to_string())).unwrap_or(false);
        allocate::choose(set, taken, last, wanted)
    }

    fn explain(&self, call: &Call<'_>, index: usize, refusal: &Refusal) -> Fault {
        let message = format!("failed to allocate for range {index}: {refusal}");
        match refusal {
            Refusal::Exhausted(_) => {
                let names = file::list(&self.dir).unwrap_or_default();
                let held: Vec<&String> = names.iter().filter(|name| name.parse::<IpAddr>().is_ok()).collect();
                let mut named: Vec<String> = held.iter().take(NAMED).map(|address| self.holder(call, address)).collect();
                if held.len() > named.len() {
                    named.push(format!("{} more", held.len() - named.len()));
                }
                Fault::new(Kind::ResourceExhausted, format!("{message}; {} are held: {}", held.len(), named.join(", ")))
                    .hint(format!("detach one that is not needed: rkbox net del {} NETNS, or rkbox sandbox rm NAME", call.network))
                    .hint("rkbox gc frees the addresses of sandboxes that are gone")
            }
            Refusal::Taken(..) => Fault::new(Kind::AlreadyExists, message),
            Refusal::Outside(..) | Refusal::Gateway(_) => Fault::invalid(message),
        }
    }

    /// *Shape:* `10.88.0.2 by eth0 of /run/netns/web`; the CNI container id where libcni's cache knows nothing of it.
    fn holder(&self, call: &Call<'_>, address: &str) -> String {
        let Some((owner, ifname)) = self.content(address).and_then(|content| lease_file::holder(&content)) else {
            return format!("{address} by nobody");
        };
        let ifname = ifname.unwrap_or_else(|| "eth0".to_owned());
        let cached = ifname.parse().ok().map(|ifname| cache::Attachment::file_name(call.network, &owner, &ifname));
        let text = cached.and_then(|name| file::find(&call.host.cni_state.join("results").join(name), CACHE_LIMIT).ok().flatten());
        let whose = text.and_then(|text| cache::Attachment::parse(&text).ok()).map_or(owner, |cached| cached.netns);
        format!("{address} by {ifname} of {whose}")
    }
}
