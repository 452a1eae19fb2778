//! The steps of an attachment made again from what is written down, for an undo without a journal.

use std::path::{Path, PathBuf};

use super::addresses;
use super::call::{self, Call};
use super::foreign::Chain;
use super::lease_search::held_by;
use super::networks;
use super::wiring;
use crate::cni::cache;
use crate::cni::list::List;
use crate::cni::result::CniResult;
use crate::cni::version::Version;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::{IfName, NetworkName, veth_names};
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

/// The private steps of an attachment that libcni's cache tells of, whoever made it, but for the entry itself; another program's is
/// its DEL.
pub fn steps_of_cached(host: &Host, handle: &Handle, cached: &cache::Attachment) -> Result<Vec<Step>> {
    let network = networks::interpret(host, List::parse(&cached.config()?)?).doing(|| "reading the cached configuration")?;
    let result = CniResult::from_json(&cached.result).doing(|| "reading the cached result")?;
    let (netns, asked) = (Path::new(&cached.netns), cached.asked());
    let call = Call {
        host,
        network: &handle.network,
        version: network.version,
        owner: &handle.owner,
        ifname: &handle.ifname,
        netns,
        own_netns: false,
        lo: true,
        acting: true,
        preferred: &[],
    };
    let chain = Chain { host, network: &network, owner: &handle.owner, ifname: &handle.ifname, netns, asked: &asked };
    let mut steps = Vec::new();
    if network.members.iter().any(|member| member.built_in.as_ref().is_none_or(|built_in| !built_in.ipam().is_built_in())) {
        steps.push(step::Directory::new(chain.results(), 0o700).into());
    }
    for member in &network.members {
        match &member.built_in {
            Some(built_in) if built_in.ipam().is_built_in() => {
                steps.extend(call::plan_del(&call, &network.told(member, &asked)?, Some(&result))?);
            }
            _ => steps.push(chain.plugin(member, None)?.into()),
        }
    }
    Ok(steps)
}

/// The leases that an attachment holds in a pool, as steps.
pub fn lease_steps(host: &Host, dir: &Path, handle: &Handle) -> Result<Vec<Step>> {
    addresses::lease_steps(host, dir, &handle.owner, &handle.ifname)
}

/// The entry itself, to be taken back when all the rest is gone: nothing else tells of the attachment.
pub fn cache_file(host: &Host, handle: &Handle) -> Step {
    step::File { path: handle.cache_path(host), mode: 0o600, content: String::new(), durable: false, owner: (0, 0) }.into()
}

/// The private steps of an attachment of a record, for a box whose journal a reboot took.
pub fn steps_of(host: &Host, attachment: &record::Attachment, netns: Option<&Path>) -> Result<Vec<Step>> {
    let handle = handle_of(attachment)?;
    if let Some(cached) = handle.find_cached(host)? {
        let mut steps = vec![cache_file(host, &handle)];
        steps.extend(steps_of_cached(host, &handle, &cached)?);
        return Ok(steps);
    }
    let dir = host.pool(&attachment.network);
    let mut steps: Vec<Step> = Vec::new();
    for network in &attachment.addresses {
        let (owner, ifname) = (handle.owner.clone(), handle.ifname.clone());
        let lease = step::Lease { dir: dir.clone(), address: network.ip(), owner, ifname, in_new_pool: false };
        steps.push(lease.into());
        let masquerade = step::Masquerade { network: handle.network.clone(), address: network.ip(), owner: handle.owner.clone() };
        steps.push(masquerade.into());
    }
    // Null where another program gave it: then the cache, which is gone, was the only one to know.
    let result = if attachment.result.is_null() { CniResult::default() } else { CniResult::from_json(&attachment.result)? };
    if let Some(netns) = netns {
        let call = Call {
            host,
            network: &handle.network,
            version: Version::default(),
            owner: &handle.owner,
            ifname: &handle.ifname,
            netns,
            own_netns: false,
            lo: true,
            acting: true,
            preferred: &[],
        };
        steps.push(wiring::veth(&call, wiring::told_names(&call, Some(&result), 1)).into());
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
    let held = held_by(host, &host.pool(&attachment.network), &handle.owner, &handle.ifname)?;
    Ok(attachment.addresses.iter().any(|network| held.contains(&network.ip())))
}

/// Names the attachment of a record.
pub fn handle_of(attachment: &record::Attachment) -> Result<Handle> {
    let bad = |fault: Fault| fault.of_kind(Kind::DataLoss).doing("reading an attachment of the record");
    let network = attachment.network.parse().map_err(bad)?;
    let ifname = attachment.ifname.parse().map_err(bad)?;
    Ok(Handle { network, owner: attachment.owner.clone(), ifname })
}

/// Whether rkbox made an attachment: its host link has the name that rkbox derives.
pub fn is_ours(handle: &Handle, cached: &cache::Attachment) -> bool {
    let ours = veth_names(&handle.network, &handle.owner, &handle.ifname);
    let result = CniResult::from_json(&cached.result).unwrap_or_default();
    result.interfaces.iter().any(|interface| interface.name == ours.host.as_ref())
}
