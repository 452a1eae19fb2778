//! The plugins that make or change interfaces.

use std::path::Path;

use serde_json::Value;

use super::session::{Answer, Session};
use super::{delegate, pool};
use crate::cni::built_in::BuiltIn;
use crate::cni::ipam::Ipam;
use crate::cni::request::{self, CniError};
use crate::cni::result::CniResult;
use crate::fault::{Fault, Kind};
use crate::ids::veth_names;
use crate::network::call::{self, Call};
use crate::network::{check, direct, portmap, upstream};
use crate::sys::nft::Nft;
use crate::sys::ns;

fn read(session: &Session) -> Answer<BuiltIn> {
    Ok(BuiltIn::read(&session.conf, session.version, &session.args()?)?)
}

/// ADD; the result. An IPAM plugin that is another program is called first, and its DEL when the rest fails.
pub fn add(session: &Session) -> Answer<Value> {
    let built_in = read(session)?;
    let call = session.call()?;
    refuse_bad_netns(call.netns)?;
    let previous = session.previous()?;
    let given = match built_in.ipam() {
        Ipam::Foreign(kind) => delegate::call(session, kind, "ADD")?,
        _ => None,
    };
    let made = direct::add(&session.host, || {
        let planned = call::plan_add(&call, &built_in, previous.as_ref(), given.clone())?;
        let result = planned.result.clone();
        Ok((planned, result))
    });
    match made.and_then(|result| result.to_json(session.version)) {
        Ok(result) => Ok(result),
        Err(fault) => {
            if let Ipam::Foreign(kind) = built_in.ipam() {
                // What the first failure was is what counts.
                let _ = delegate::call(session, kind, "DEL");
            }
            Err(fault.into())
        }
    }
}

/// The namespace comes from the environment: a bad one is a bad variable.
fn refuse_bad_netns(netns: &Path) -> Answer<()> {
    match ns::open_foreign_netns(netns) {
        Ok(_) => Ok(()),
        Err(ns::NsError::Own { .. }) => {
            let same = "plugin's netns and netns from CNI_NETNS should not be the same";
            Err(CniError::new(request::INVALID_NETNS, same))
        }
        Err(error) => {
            let text = format!("failed to open netns {:?}: {error}", netns.display().to_string());
            Err(CniError::new(request::INVALID_ENVIRONMENT, text))
        }
    }
}

/// DEL: what the result tells, what bears our names, and the interface by its name, whoever made it.
pub fn del(session: &Session) -> Answer<()> {
    let built_in = read(session)?;
    let call = session.call()?;
    let previous = session.previous()?;
    let steps = call::plan_del(&call, &built_in, previous.as_ref())?;
    let not_ours = matches!(&built_in, BuiltIn::Portmap(conf) if !portmap::is_ours(&call, conf)?);
    let kinds: &[&str] = match &built_in {
        BuiltIn::Bridge(_) | BuiltIn::Ptp(_) => &["veth"],
        BuiltIn::Macvlan(_) => &["macvlan"],
        _ => &[],
    };
    let interface =
        if session.netns.is_empty() || kinds.is_empty() { Ok(()) } else { direct::delete_interface(call.netns, call.ifname, kinds) };
    let steps = direct::del(&session.host, &steps).and_then(|()| {
        let ours = previous.as_ref().is_some_and(|previous| is_ours(&call, previous));
        let masquerades =
            matches!(&built_in, BuiltIn::Bridge(conf) if conf.ip_masq) || matches!(&built_in, BuiltIn::Ptp(conf) if conf.ip_masq);
        if masquerades && !ours { upstream::remove_masquerade(call.network, call.owner) } else { Ok(()) }
    });
    let steps = match (&built_in, not_ours) {
        (BuiltIn::Portmap(conf), _) if conf.asks.is_empty() => steps.and(portmap::sweep(&call)),
        (BuiltIn::Portmap(_), true) => steps.and(upstream::remove_published(call.network, call.owner)),
        _ => steps,
    };
    let delegated = match built_in.ipam() {
        Ipam::Foreign(kind) => delegate::call(session, kind, "DEL").map(drop),
        _ => Ok(()),
    };
    interface.map_err(CniError::from).and(steps.map_err(CniError::from)).and(delegated)
}

/// CHECK: every difference, in one message.
pub fn check(session: &Session) -> Answer<()> {
    let built_in = read(session)?;
    let call = session.call()?;
    let Some(previous) = session.previous()? else { return Err(CniError::new(request::INTERNAL, "Required prevResult missing")) };
    if let Ipam::Foreign(kind) = built_in.ipam() {
        delegate::call(session, kind, "CHECK")?;
    }
    let found = check::differences(call, &built_in, &previous, is_ours(&call, &previous))?;
    if found.is_empty() {
        return Ok(());
    }
    Err(CniError::new(request::INTERNAL, found.join("; ")))
}

/// Whether the link on the host has the name that rkbox derives.
fn is_ours(call: &Call<'_>, result: &CniResult) -> bool {
    let host = veth_names(call.network, call.owner, call.ifname).host;
    result.interfaces.iter().any(|interface| interface.name == host.as_ref())
}

/// GC: masquerade of owners that are not valid, and what IPAM keeps for them.
pub fn gc(session: &Session) -> Answer<()> {
    let built_in = read(session)?;
    let valid = pool::valid_attachments(session)?;
    if matches!(&built_in, BuiltIn::Bridge(conf) if conf.ip_masq) || matches!(&built_in, BuiltIn::Ptp(conf) if conf.ip_masq) {
        let mut table = Nft::open().map_err(Fault::from)?;
        let is_valid = |owner: &str| valid.iter().any(|(known, _)| known == owner);
        table.sweep_network(&session.network, is_valid).map_err(Fault::from)?;
    }
    if matches!(built_in, BuiltIn::Portmap(_)) {
        portmap::gc(&session.host, &session.network, &valid)?;
    }
    match built_in.ipam() {
        Ipam::Foreign(kind) => delegate::call(session, kind, "GC").map(drop),
        Ipam::HostLocal(conf) => pool::sweep(session, conf, &valid),
        Ipam::None | Ipam::Static(_) => Ok(()),
    }
}

/// STATUS: whether an ADD can be served.
pub fn status(session: &Session) -> Answer<()> {
    let built_in = read(session)?;
    if matches!(built_in, BuiltIn::Portmap(_)) {
        let asked = Nft::open().and_then(|mut nft| nft.generation()).map(drop);
        return asked.map_err(|error| CniError::new(request::PLUGIN_NOT_AVAILABLE, format!("portmap cannot publish: {error}")));
    }
    match built_in.ipam() {
        Ipam::Foreign(kind) => delegate::call(session, kind, "STATUS").map(drop),
        Ipam::HostLocal(conf) => pool::has_room(session, conf),
        Ipam::None | Ipam::Static(_) => Ok(()),
    }
}

/// The code of a fault of STATUS.
pub fn not_available(fault: &Fault) -> CniError {
    let code = if fault.kind() == Kind::ResourceExhausted { request::PLUGIN_NOT_AVAILABLE } else { request::INTERNAL };
    CniError::new(code, fault.to_string())
}
