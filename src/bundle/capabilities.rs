//! The capabilities of a container: podman's eleven, more or fewer on request; inheritable and ambient always empty.

use std::collections::BTreeSet;
use std::str::FromStr;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use crate::fault::{Fault, Kind, Result};

/// What a container has unless told otherwise. *Source:* podman's default (Docker's without MKNOD, NET_RAW and AUDIT_WRITE).
pub const DEFAULT: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A set of capabilities by their canonical names (`CAP_CHOWN`).
pub type CapabilitySet = BTreeSet<String>;

/// The default set.
pub fn default_set() -> CapabilitySet {
    DEFAULT.iter().map(|name| (*name).to_owned()).collect()
}

/// Applies `--cap-add` and `--cap-drop` to the default set; `ALL` comes first, on both sides, then the names.
///
/// *Shape:* names with or without `CAP_`, any case. *Errors:* `InvalidArgument` for a name that the kernel does not have.
pub fn select(add: &[String], drop: &[String]) -> Result<CapabilitySet> {
    let is_all = |name: &String| name.eq_ignore_ascii_case("all");
    let mut set = if drop.iter().any(is_all) { CapabilitySet::new() } else { default_set() };
    if add.iter().any(is_all) {
        set = caps::all().iter().map(ToString::to_string).collect();
    }
    for name in add.iter().filter(|name| !is_all(name)) {
        set.insert(canonical_name(name)?);
    }
    for name in drop.iter().filter(|name| !is_all(name)) {
        set.remove(&canonical_name(name)?);
    }
    Ok(set)
}

/// The names alone, without `ALL` and without the default set.
pub fn select_only(names: &[String]) -> Result<CapabilitySet> {
    names.iter().filter(|name| !name.eq_ignore_ascii_case("all")).map(|name| canonical_name(name)).collect()
}

fn canonical_name(name: &str) -> Result<String> {
    caps::Capability::from_str(&caps::to_canonical(name))
        .map(|capability| capability.to_string())
        .map_err(|_| Fault::invalid(format!("capability {name:?} is unknown")).hint("names are as in capabilities(7), e.g. NET_RAW"))
}

/// Whether the process starts as root, which decides what it holds at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// uid 0: the whole set is effective.
    Root,
    /// Any other uid: the set only bounds what a program could gain.
    User,
}

/// Writes a set for the runtime: bounding for all, effective and permitted for root only, inheritable and ambient empty (CVE-2022-24769).
pub fn linux(set: &CapabilitySet, holder: Holder) -> Result<LinuxCapabilities> {
    linux_with(set, &CapabilitySet::new(), holder)
}

/// As [`linux`], but the process holds `ambient` in that set too: without set-uid bits nothing else gives a capability to another user than root.
pub fn linux_with(set: &CapabilitySet, ambient: &CapabilitySet, holder: Holder) -> Result<LinuxCapabilities> {
    let bounding = named(set)?;
    let ambient = named(&ambient.intersection(set).cloned().collect())?;
    let held = if holder == Holder::Root { bounding.clone() } else { ambient.clone() };
    LinuxCapabilitiesBuilder::default()
        .bounding(bounding)
        .effective(held.clone())
        .permitted(held)
        .inheritable(ambient.clone())
        .ambient(ambient)
        .build()
        .map_err(|error| Fault::from_error(Kind::Internal, error))
}

fn named(set: &CapabilitySet) -> Result<Capabilities> {
    let short = |name: &String| name.strip_prefix("CAP_").unwrap_or(name).to_owned();
    let unknown = |name: &String| Fault::invalid(format!("capability {name} is unknown to the runtime"));
    set.iter().map(|name| Capability::from_str(&short(name)).map_err(|_| unknown(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_come_in_any_spelling() {
        let set = select(&names(&["net_raw", "CAP_SYS_PTRACE"]), &names(&["Chown"])).unwrap();
        assert!(set.contains("CAP_NET_RAW") && set.contains("CAP_SYS_PTRACE") && !set.contains("CAP_CHOWN"));
        assert!(select(&names(&["CAP_EVERYTHING"]), &[]).is_err());
        assert!(select(&[], &names(&["ALL"])).unwrap().is_empty());
        assert_eq!(select(&names(&["KILL"]), &names(&["all"])).unwrap().len(), 1);
        assert!(select(&names(&["all"]), &names(&["NET_RAW"])).unwrap().len() > 35);
    }

    #[test]
    fn nothing_is_inheritable_or_ambient_and_a_user_holds_nothing() {
        let root = linux(&default_set(), Holder::Root).unwrap();
        assert_eq!(root.bounding().as_ref().unwrap().len(), 11);
        assert_eq!(root.effective(), root.bounding());
        assert!(root.inheritable().as_ref().unwrap().is_empty() && root.ambient().as_ref().unwrap().is_empty());
        let user = linux(&default_set(), Holder::User).unwrap();
        assert!(user.effective().as_ref().unwrap().is_empty() && user.permitted().as_ref().unwrap().is_empty());
        let asked: CapabilitySet = ["CAP_KILL".to_owned()].into();
        let user = linux_with(&default_set(), &asked, Holder::User).unwrap();
        assert!([user.effective(), user.ambient(), user.inheritable()].iter().all(|set| set.as_ref().unwrap().len() == 1));
        let root = linux_with(&default_set(), &asked, Holder::Root).unwrap();
        assert_eq!((root.ambient().as_ref().unwrap().len(), root.effective().as_ref().unwrap().len()), (1, 11));
        for name in caps::all() {
            linux(&[name.to_string()].into(), Holder::Root).unwrap();
        }
    }
}
