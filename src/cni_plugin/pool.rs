//! The plugins that give addresses: host-local and static.

use serde_json::Value;

use super::interface::not_available;
use super::session::{Answer, Session};
use crate::cni::host_local::HostLocal;
use crate::cni::ipam::Ipam;
use crate::cni::keys::Keys;
use crate::cni::request::{self, CniError};
use crate::network::call::Planned;
use crate::network::{self, addresses, direct, lease_book};

fn read(session: &Session) -> Answer<Ipam> {
    if session.conf.keys().object("ipam").map_err(as_bad_config)?.is_none() {
        return Err(CniError::new(request::INTERNAL, "IPAM config missing 'ipam' key"));
    }
    let ipam = Ipam::read(&session.conf.keys(), session.version, &session.args()?)?;
    match (&ipam, session.kind) {
        (Ipam::HostLocal(_), "host-local") | (Ipam::Static(_), "static") => Ok(ipam),
        // Called under one name with the configuration of another: as upstream, the name decides.
        _ => {
            let mut conf = session.conf.clone();
            if let Some(Value::Object(ipam)) = conf.raw.get_mut("ipam") {
                ipam.insert("type".to_owned(), session.kind.into());
            }
            Ok(Ipam::read(&conf.keys(), session.version, &session.args()?)?)
        }
    }
}

fn as_bad_config(fault: crate::fault::Fault) -> CniError {
    CniError::new(request::DECODING_FAILURE, fault.to_string())
}

/// ADD; the result.
pub fn add(session: &Session) -> Answer<Value> {
    let ipam = read(session)?;
    let call = session.call()?;
    let result = direct::add(&session.host, || {
        let assigned = addresses::give(&call, &ipam)?;
        let planned = Planned { steps: assigned.steps, lock: assigned.lock, ..Planned::default() };
        Ok((planned, assigned.result))
    })?;
    Ok(result.to_json(session.version)?)
}

/// DEL.
pub fn del(session: &Session) -> Answer<()> {
    let ipam = read(session)?;
    let steps = addresses::leases(&session.call()?, &ipam)?;
    Ok(direct::del(&session.host, &steps)?)
}

/// CHECK: somebody holds a lease for it; the addresses of `static` are in the result.
pub fn check(session: &Session) -> Answer<()> {
    let ipam = read(session)?;
    let call = session.call()?;
    match ipam {
        Ipam::HostLocal(conf) => {
            let held = network::held_by(call.host, &network::pool_dir(call.host, call.network, &conf), call.owner, call.ifname)?;
            if held.is_empty() {
                let message = format!("host-local: Failed to find address added by container {}", session.owner);
                return Err(CniError::new(request::INTERNAL, message));
            }
            Ok(())
        }
        Ipam::Static(conf) => {
            let Some(previous) = session.previous()? else {
                return Err(CniError::new(request::INTERNAL, "Required prevResult missing"));
            };
            for (address, _) in &conf.addresses {
                if !previous.ips.iter().any(|ip| ip.address == *address) {
                    let message = format!("static: Failed to find address {address} of container {}", session.owner);
                    return Err(CniError::new(request::INTERNAL, message));
                }
            }
            Ok(())
        }
        Ipam::None | Ipam::Foreign(_) => Ok(()),
    }
}

/// The attachments that a GC leaves alone: pairs of container id and interface.
///
/// *Source:* CNI specification 1.1.0, "GC"; libcni wrote `cni.dev/attachments` before the specification was out.
pub fn valid_attachments(session: &Session) -> Answer<Vec<(String, String)>> {
    let keys = session.conf.keys();
    let missing = || CniError::new(request::INVALID_CONFIG, "missing \"cni.dev/valid-attachments\"");
    let key = ["cni.dev/valid-attachments", "cni.dev/attachments"].into_iter().find(|key| keys.find(key).is_some());
    let mut valid = Vec::new();
    for entry in keys.array(key.ok_or_else(missing)?).map_err(as_bad_config)? {
        let map = entry.as_object().ok_or_else(|| CniError::new(request::INVALID_CONFIG, "a valid attachment must be an object"))?;
        let keys = Keys::new(map, "attachment");
        let text = |key| keys.text(key).map(str::to_owned).map_err(as_bad_config);
        valid.push((text("containerID")?, text("ifname")?));
    }
    Ok(valid)
}

/// GC of host-local: every lease but those of valid attachments goes.
pub fn sweep(session: &Session, conf: &HostLocal, valid: &[(String, String)]) -> Answer<()> {
    let dir = addresses::pool_dir(&session.host, &session.network, conf);
    let is_valid = |owner: &str, ifname: Option<&str>| {
        valid.iter().any(|(known, interface)| known == owner && ifname.is_none_or(|ifname| ifname == interface))
    };
    lease_book::free_unless(&session.host, &dir, is_valid)?;
    Ok(())
}

/// GC.
pub fn gc(session: &Session) -> Answer<()> {
    let valid = valid_attachments(session)?;
    match read(session)? {
        Ipam::HostLocal(conf) => sweep(session, &conf, &valid),
        _ => Ok(()),
    }
}

/// Whether every range set has a free address.
pub fn has_room(session: &Session, conf: &HostLocal) -> Answer<()> {
    let dir = addresses::pool_dir(&session.host, &session.network, conf);
    for (index, set) in conf.sets.iter().enumerate() {
        lease_book::usage(&dir, set)?.require_room(index, set).map_err(|fault| not_available(&fault))?;
    }
    Ok(())
}

/// STATUS.
pub fn status(session: &Session) -> Answer<()> {
    match read(session)? {
        Ipam::HostLocal(conf) => has_room(session, &conf),
        _ => Ok(()),
    }
}
