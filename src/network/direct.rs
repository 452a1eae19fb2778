//! Carrying out the steps of a plugin call without a journal: the runtime that calls is told of a failure, and calls DEL after a crash.

use std::path::Path;

use serde_json::Value;

use super::call::Planned;
use crate::fault::{Context as _, Fault, Faults, Kind, Result};
use crate::ids::IfName;
use crate::step::{Step, Tenure};
use crate::sys::netlink::Netlink;
use crate::sys::ns::{self, NsKind};
use crate::sys::{Errno, Host};

/// How often a call is planned again when a race was lost.
const TRIES: u32 = 8;

/// Plans and applies, again when a race was lost; what was applied before a failure is taken back.
pub fn add<T>(host: &Host, mut plan: impl FnMut() -> Result<(Planned, T)>) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (planned, made) = plan()?;
        match apply(host, planned) {
            Ok(()) => return Ok(made),
            Err(fault) if fault.kind() == Kind::Conflict && tries < TRIES => {}
            Err(fault) => return Err(fault),
        }
    }
}

fn apply(host: &Host, planned: Planned) -> Result<()> {
    let Planned { steps, mut lock, .. } = planned;
    let last_lease = steps.iter().rposition(|step| matches!(step, Step::Lease(_)));
    let mut done: Vec<(&Step, Value)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        if let Err(fault) = apply_one(host, step, &mut done) {
            // The undo of a lease takes the lock of its pool.
            drop(lock.take());
            return Err(take_back(host, done, fault));
        }
        if Some(index) == last_lease {
            drop(lock.take());
        }
    }
    Ok(())
}

fn apply_one<'a>(host: &Host, step: &'a Step, done: &mut Vec<(&'a Step, Value)>) -> Result<()> {
    let act = || -> Result<Option<Value>> {
        let before = step.look(host)?;
        Ok((!step.already(&before)?).then_some(before))
    };
    let Some(before) = act().doing(|| step.to_string())? else { return Ok(()) };
    let applied = step.apply(&before, host).doing(|| step.to_string());
    done.push((step, before));
    applied
}

fn take_back(host: &Host, done: Vec<(&Step, Value)>, mut fault: Fault) -> Fault {
    for (step, before) in done.into_iter().rev() {
        if let Err(later) = step.undo(&before, host).doing(|| format!("undoing \"{step}\"")) {
            fault = fault.and_also(later);
        }
    }
    fault
}

/// Takes back the private steps of a plugin, last first; every one is tried.
pub fn del(host: &Host, steps: &[Step]) -> Result<()> {
    let mut faults = Faults::default();
    for step in steps.iter().rev().filter(|step| step.tenure() == Tenure::Private) {
        let undone = step.before_nothing().and_then(|before| step.undo(&before, host));
        faults.keep(undone.doing(|| format!("undoing \"{step}\"")));
    }
    faults.or(())
}

/// Deletes the interface of a sandbox by its name, whoever made it, if it is of one of `kinds`.
///
/// *Source:* the DEL of the reference plugins, which know nothing but the name.
pub fn delete_interface(netns: &Path, ifname: &IfName, kinds: &[&str]) -> Result<()> {
    if !ns::is_namespace(netns, NsKind::Net)? || ns::is_own_netns(netns)? {
        return Ok(());
    }
    let mut inside = Netlink::open_in(netns)?;
    let found = inside.find_link(ifname.as_ref())?;
    let Some(link) = found.filter(|link| link.kind.as_deref().is_some_and(|kind| kinds.contains(&kind))) else { return Ok(()) };
    match inside.delete_link(&link.name, link.index) {
        Err(error) if error.errno() != Some(Errno::ENODEV) => Err(error.into()),
        _ => Ok(()),
    }
}
