//! What `rkbox gc` takes back of `rkbox net add`: attachments whose namespace is gone, after a reboot for one.

use std::path::PathBuf;

use super::del;
use super::detach::{self, Handle};
use super::networks;
use crate::cni::cache;
use crate::fault::{Context as _, Faults, Result};
use crate::plan::journal;
use crate::sys::ns::{self, NsKind};
use crate::sys::{Host, file, lease_index};

/// Frees the leases and cache entries of attachments that rkbox made for a namespace that is gone and that no journal knows.
///
/// What other tools attached is never touched: an attachment is ours when its host link has the name that rkbox derives.
pub fn reclaim(host: &Host) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    let mut faults = Faults::default();
    for name in file::list(&host.cni_state.join("results"))? {
        gone.extend(faults.keep(one(host, &name).doing(|| format!("reclaiming {name}"))).flatten());
    }
    faults.keep(forget_indexes(host).doing(|| "removing indexes of leases"));
    faults.or(gone)
}

/// Removes the indexes of pools that no network has now; whoever uses such a pool all the same builds another.
fn forget_indexes(host: &Host) -> Result<()> {
    let networks = networks::all(host)?.into_iter().filter_map(|entry| entry.network.ok());
    let dirs: Vec<PathBuf> = networks.flat_map(|network| network.pools(host)).collect();
    lease_index::sweep(&host.run, &dirs)
}

fn one(host: &Host, name: &str) -> Result<Option<String>> {
    let text = file::find(&host.cni_state.join("results").join(name), 4 << 20).ok().flatten();
    let Some(cached) = text.and_then(|text| cache::Attachment::parse(&text).ok()) else { return Ok(None) };
    let (Ok(network), Ok(ifname)) = (cached.network_name.parse(), cached.if_name.parse()) else { return Ok(None) };
    let handle = Handle { network, ifname, owner: cached.container_id.clone() };
    if !handle.owner.starts_with("cnitool-") || !detach::is_ours(&handle, &cached) {
        return Ok(None);
    }
    let is_there = ns::is_namespace(cached.netns.as_ref(), NsKind::Net).unwrap_or(false);
    if is_there || file::exists(&journal::path(host, &handle.box_id()))? {
        return Ok(None);
    }
    let steps = del::told_by(host, &handle, &cached)?;
    del::take_back(host, &handle, "take back an attachment", steps)?;
    Ok(Some(format!("attachment of {} to {}, whose namespace is gone", cached.netns, handle.network)))
}
