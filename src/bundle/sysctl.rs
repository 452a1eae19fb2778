//! Kernel settings of a container (`--sysctl`): only those that its own namespaces hold.

use crate::fault::{Fault, Kind, Result};

/// Settings of the IPC namespace.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Which namespaces a container has to itself: the settings of all others are somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owns {
    /// The network.
    pub network: bool,
    /// Shared memory and queues.
    pub ipc: bool,
}

/// Reads one `--sysctl NAME=VALUE`.
///
/// *Errors:* `InvalidArgument` for a name that no namespace holds, or with anything but letters, digits, `. _ -`; for a value with a control
/// character, with `+` (CVE-2022-0811), or over 1024 bytes; `FailedPrecondition` when the namespace is not the container's own. *Source:* Docker.
pub fn parse(text: &str, owns: Owns) -> Result<(String, String)> {
    let bad = |why: &str| {
        Fault::invalid(format!("sysctl {text:?} {why}"))
            .hint("the form is net.ipv4.ip_forward=1; net.*, fs.mqueue.* and kernel.shm*, msg*, sem may be set")
    };
    let (name, value) = text.split_once('=').ok_or_else(|| bad("has no ="))?;
    check(name, value, owns, bad)?;
    Ok((name.to_owned(), value.to_owned()))
}

fn check(name: &str, value: &str, owns: Owns, bad: impl Fn(&str) -> Fault) -> Result<()> {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !name.split('.').all(word) || name.len() > 256 {
        return Err(bad("has a name with something other than letters, digits, . _ -"));
    }
    if value.is_empty() || value.len() > 1024 || value.contains('+') || value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(bad("has no value, or one with + or a control character"));
    }
    let network = name.starts_with("net.") && name.len() > 4;
    let ipc = IPC.contains(&name) || (name.starts_with("fs.mqueue.") && name.len() > 10);
    let shared = |what: &str| {
        Fault::new(Kind::FailedPrecondition, format!("sysctl {name} belongs to the {what} namespace, which is not the container's own"))
            .hint("set it where the namespace is made: rkbox sandbox create --sysctl")
    };
    match (network, ipc) {
        (true, _) if owns.network => Ok(()),
        (_, true) if owns.ipc => Ok(()),
        (true, _) => Err(shared("network")),
        (_, true) => Err(shared("IPC")),
        _ => Err(bad("is not held by a namespace: it would change the host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Owns = Owns { network: true, ipc: true };

    #[test]
    fn only_settings_of_namespaces_pass() {
        for good in [
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.eth0-x.rp_filter=0",
            "kernel.sem=250 32000 100 128",
            "fs.mqueue.msg_max=100",
            "net.core.somaxconn=9",
        ] {
            assert!(parse(good, ALL).is_ok(), "{good}");
        }
        for bad in [
            "kernel.panic=1",
            "vm.swappiness=1",
            "kernel.core_pattern=|/x",
            "kernel.hostname=x",
            "fs.file-max=1",
            "net",
            "net.=1",
            "net.ipv4.ip_forward",
            "net.ipv4.ip_forward=",
            "net..x=1",
            "net.ipv4/../../kernel.panic=1",
            "net/ipv4/ip_forward=1",
            "net.ipv4.ip_forward=1\nkernel.panic=1",
            "net.ipv4.ip_forward=1+kernel.core_pattern=x",
            "../net.x=1",
            "net.x\0=1",
            "net.ipv4.ip_forward=1\0",
            "kernel.shm_rmid_forced.x=1",
            "fs.mqueue.=1",
            "=1",
            "kernel.shm_rmid_forced=1+x",
        ] {
            assert_eq!(parse(bad, ALL).unwrap_err().kind(), Kind::InvalidArgument, "{bad:?}");
        }
    }

    #[test]
    fn settings_of_a_shared_namespace_are_its_makers() {
        let joined = Owns { network: false, ipc: false };
        for name in ["net.ipv4.ip_forward=1", "kernel.sem=1", "fs.mqueue.msg_max=1"] {
            assert_eq!(parse(name, joined).unwrap_err().kind(), Kind::FailedPrecondition);
        }
        assert!(parse("kernel.sem=1", Owns { network: false, ipc: true }).is_ok());
    }
}
