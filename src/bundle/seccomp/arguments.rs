//! The system calls whose verdict hangs on their arguments.
//!
//! A filter sees 64 bits of every argument, the kernel takes 32 of most: what is allowed is therefore named exactly, so that bits above
//! never make a refused value look like an allowed one (CVE-2017-5226 and its kin).

use super::rule::{Compare, EPERM, Outcome};
use super::{Architectures, Rule};

/// Every CLONE_NEW* that `clone` takes: namespaces. (CLONE_NEWTIME shares its bit with the exit signal and is for `unshare` alone.)
const NAMESPACES: [u64; 7] = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
const NEWTIME: u64 = 0x80;

/// Families of sockets that containers need: local, IPv4, IPv6, netlink, and packets (for which the kernel wants CAP_NET_RAW).
const LOCAL: u64 = 1;
const NETLINK: u64 = 16;
const FAMILIES: [u64; 4] = [LOCAL, 2, 10, 17];
/// The highest family that is allowed; above are AF_ALG, AF_VSOCK (which leaves a virtual machine), AF_XDP, …
const HIGHEST: u64 = 17;
const NETLINK_AUDIT: u64 = 9;
const EINVAL: u32 = 22;
const EAFNOSUPPORT: u32 = 97;

/// Linux, 32-bit, the kernel as version 2.6, both, and the question: the values that turn no protection off (as ADDR_NO_RANDOMIZE does).
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The rules; `admin` is whether CAP_SYS_ADMIN is there, `audit` whether CAP_AUDIT_WRITE is.
pub(super) fn rules(admin: bool, audit: bool, architectures: Architectures) -> Vec<Rule> {
    let mut rules = Vec::new();
    if admin {
        rules.push(Rule::always(Outcome::Allow, &["clone", "unshare"]));
    } else {
        namespaces("clone", &NAMESPACES, &mut rules);
        namespaces("unshare", &[NAMESPACES.as_slice(), &[NEWTIME]].concat(), &mut rules);
    }
    match architectures {
        Architectures::Native => sockets(audit, &mut rules),
        // On i386 all calls of sockets are one (`socketcall`), whose arguments no filter can read: only what is allowed can be said.
        Architectures::All => {
            rules.extend(
                FAMILIES.iter().chain([&NETLINK]).map(|family| Rule::when(Outcome::Allow, "socket", &[(0, Compare::Equal(*family))])),
            );
        }
    }
    for value in PERSONALITIES {
        rules.push(Rule::when(Outcome::Allow, "personality", &[(0, Compare::Equal(value))]));
    }
    rules
}

/// Allows `call` as long as no flag makes a namespace: a user namespace opens the half of the kernel that only root could reach.
fn namespaces(call: &'static str, flags: &[u64], rules: &mut Vec<Rule>) {
    let all = flags.iter().fold(0, |all, flag| all | flag);
    rules.push(Rule::when(Outcome::Allow, call, &[(0, Compare::Masked { mask: all, value: 0 })]));
    for &flag in flags {
        rules.push(Rule::when(Outcome::Error(EPERM), call, &[(0, Compare::Masked { mask: flag, value: flag })]));
    }
}

fn sockets(audit: bool, rules: &mut Vec<Rule>) {
    for family in FAMILIES {
        rules.push(Rule::when(Outcome::Allow, "socket", &[(0, Compare::Equal(family))]));
    }
    if audit {
        rules.push(Rule::when(Outcome::Allow, "socket", &[(0, Compare::Equal(NETLINK))]));
    } else {
        // Programs that log to the audit system take EINVAL for a kernel without it and go on. The kernel holds the real check.
        rules.push(Rule::when(Outcome::Allow, "socket", &[(0, Compare::Equal(NETLINK)), (2, Compare::NotEqual(NETLINK_AUDIT))]));
        rules.push(Rule::when(Outcome::Error(EINVAL), "socket", &[(0, Compare::Equal(NETLINK)), (2, Compare::Equal(NETLINK_AUDIT))]));
    }
    for family in (0..HIGHEST).filter(|family| *family != NETLINK && !FAMILIES.contains(family)) {
        rules.push(Rule::when(Outcome::Error(EAFNOSUPPORT), "socket", &[(0, Compare::Equal(family))]));
    }
    rules.push(Rule::when(Outcome::Error(EAFNOSUPPORT), "socket", &[(0, Compare::Greater(HIGHEST))]));
}
