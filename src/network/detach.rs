//! The steps of an attachment made again from what is written down, for an undo without a journal.

use std::path::{Path, PathBuf};

use super::addresses;
use super::networks;
use crate::cni::cache;
use crate::cni::config::Plane;
use crate::cni::list::List;
use crate::cni::result::CniResult;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::{IfName, Mac, NetworkName, VethNames, veth_names};
use crate::record;
use crate::step::{self, Step};
use crate::sys::{Host, file};

/// A cache file larger than this is not one.
const LIMIT: u64 = 4 << 20;

/// Names one attachment.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The network.
    pub network: NetworkName,
    /// CNI container id.
    pub owner: String,
    /// The interface in the namespace.
    pub ifname: IfName,
}

impl Handle {
    /// Where libcni keeps it.
    pub fn cache_path(&self, host: &Host) -> PathBuf {
        host.cni_state.join("results").join(cache::Attachment::file_name(&self.network, &self.owner, &self.ifname))
    }

    /// What libcni keeps of it; `None` when it is not attached.
    pub fn find_cached(&self, host: &Host) -> Result<Option<cache::Attachment>> {
        let path = self.cache_path(host);
        let Some(text) = file::find(&path, LIMIT)? else { return Ok(None) };
        let attachment = cache::Attachment::parse(&text).doing(|| format!("reading {}", path.display()));
        attachment.hint(|| format!("remove it if nothing else tells about the attachment: rm {}", path.display())).map(Some)
    }

    /// The name of its journal.
    pub fn box_id(&self) -> String {
        format!("net-{}-{}-{}", self.network, self.owner, self.ifname)
    }
}

/// The private steps of an attachment that libcni's cache tells of, whoever made it.
///
/// *Errors:* `Unimplemented` when a plugin of its list is not built in: what that plugin made would stay.
pub fn steps_of_cached(host: &Host, handle: &Handle, cached: &cache::Attachment) -> Result<Vec<Step>> {
    let network = networks::interpret(List::parse(&cached.config()?)?).doing(|| "reading the cached configuration")?;
    let result = CniResult::from_json(&cached.result).doing(|| "reading the cached result")?;
    let mut steps = Vec::new();
    if let Plane::Bridge(conf) = &network.plane {
        if let Some(ipam) = &conf.ipam {
            let dir = addresses::pool_dir(host, &network, ipam);
            steps.extend(lease_steps(&dir, handle)?);
        }
        if conf.ip_masq {
            let masquerade = |ip: &crate::cni::result::Ip| {
                step::Masquerade { network: handle.network.clone(), address: ip.address.ip(), owner: handle.owner.clone() }.into()
            };
            steps.extend(result.ips.iter().map(masquerade));
        }
        steps.push(veth(handle, &result, Path::new(&cached.netns), &conf.bridge));
    }
    steps.push(cache_file(host, handle));
    Ok(steps)
}

/// The leases that an attachment holds in a pool, as steps.
pub fn lease_steps(dir: &Path, handle: &Handle) -> Result<Vec<Step>> {
    let held = addresses::held_by(dir, &handle.owner, &handle.ifname)?;
    let lease =
        |address| step::Lease { dir: dir.to_path_buf(), address, owner: handle.owner.clone(), ifname: handle.ifname.clone() }.into();
    Ok(held.into_iter().map(lease).collect())
}

fn cache_file(host: &Host, handle: &Handle) -> Step {
    step::File { path: handle.cache_path(host), mode: 0o600, content: String::new(), durable: false }.into()
}

/// The veth pair as the result names it; ours when the result says nothing (below 0.3.0).
fn veth(handle: &Handle, result: &CniResult, netns: &Path, bridge: &IfName) -> Step {
    let ours = veth_names(&handle.network, &handle.owner, &handle.ifname);
    let told = |nth: usize| {
        let interface = result.interfaces.get(nth)?;
        Some((interface.name.parse::<IfName>().ok()?, interface.mac.parse::<Mac>().ok()?))
    };
    let (host, host_mac) = told(1).unwrap_or((ours.host, ours.host_mac));
    let inner_mac = told(2).map_or(ours.inner_mac, |(_, mac)| mac);
    let names = VethNames { host, host_mac, inner_mac };
    veth_step(names, handle, netns, bridge)
}

fn veth_step(names: VethNames, handle: &Handle, netns: &Path, bridge: &IfName) -> Step {
    step::Veth {
        host: names.host,
        host_mac: names.host_mac,
        inner: handle.ifname.clone(),
        inner_mac: names.inner_mac,
        netns: netns.to_path_buf(),
        bridge: bridge.clone(),
        mtu: None,
        hairpin: false,
        own_netns: false,
    }
    .into()
}

/// The private steps of an attachment of a record, for a box whose journal a reboot took.
pub fn steps_of(host: &Host, attachment: &record::Attachment, netns: Option<&Path>) -> Result<Vec<Step>> {
    let handle = handle_of(attachment)?;
    if let Some(cached) = handle.find_cached(host)? {
        return steps_of_cached(host, &handle, &cached);
    }
    let dir = host.pool(&attachment.network);
    let mut steps: Vec<Step> = Vec::new();
    for network in &attachment.addresses {
        let lease = step::Lease { dir: dir.clone(), address: network.ip(), owner: handle.owner.clone(), ifname: handle.ifname.clone() };
        steps.push(lease.into());
        let masquerade = step::Masquerade { network: handle.network.clone(), address: network.ip(), owner: handle.owner.clone() };
        steps.push(masquerade.into());
    }
    let result = CniResult::from_json(&attachment.result)?;
    let bridge = result.interfaces.first().and_then(|interface| interface.name.parse::<IfName>().ok());
    if let (Some(netns), Some(bridge)) = (netns, bridge) {
        steps.push(veth(&handle, &result, netns, &bridge));
    }
    steps.push(cache_file(host, &handle));
    Ok(steps)
}

/// Whether an attachment of a record still holds an address or stands in libcni's cache.
pub fn is_held(host: &Host, attachment: &record::Attachment) -> Result<bool> {
    let handle = handle_of(attachment)?;
    if file::exists(&handle.cache_path(host))? {
        return Ok(true);
    }
    let held = addresses::held_by(&host.pool(&attachment.network), &handle.owner, &handle.ifname)?;
    Ok(attachment.addresses.iter().any(|network| held.contains(&network.ip())))
}

fn handle_of(attachment: &record::Attachment) -> Result<Handle> {
    let bad = |fault: Fault| fault.of_kind(Kind::DataLoss).doing("reading an attachment of the record");
    let network = attachment.network.parse().map_err(bad)?;
    let ifname = attachment.ifname.parse().map_err(bad)?;
    Ok(Handle { network, owner: attachment.owner.clone(), ifname })
}
