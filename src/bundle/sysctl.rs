//! `--sysctl`: the kernel's settings that belong to a container's own namespaces, and those that every pod gets.

use crate::fault::{Fault, Result};

/// Ports below 1024 need no capability, and ping no packet socket, in a network namespace of our own. *Source:* Docker 20.10.
pub const OF_NETWORK: [(&str, &str); 2] = [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Settings of the ipc namespace, besides `fs.mqueue.`.
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Which namespace a setting belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The network's.
    Network,
    /// Shared memory, semaphores and queues.
    Ipc,
}

/// Reads one `NAME=VALUE`; a name may be written with slashes.
///
/// *Errors:* `InvalidArgument` for a setting of the whole host, and for a name or value that could say more than one setting.
pub fn parse(text: &str) -> Result<(String, String, Scope)> {
    let bad = |why: &str| {
        Fault::invalid(format!("sysctl {text:?} {why}"))
            .hint("the form is net.core.somaxconn=1024; allowed are net.*, fs.mqueue.* and those of System V ipc")
    };
    let (name, value) = text.split_once('=').ok_or_else(|| bad("has no value"))?;
    let name = if name.contains('/') && !name.contains('.') { name.replace('/', ".") } else { name.to_owned() };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    if name.is_empty() || !name.chars().all(plain) || name.split(['.', '/']).any(str::is_empty) {
        return Err(bad("has a name that is none"));
    }
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err(bad("has a value that is none"));
    }
    let scope = if name.starts_with("net.") {
        Scope::Network
    } else if name.starts_with("fs.mqueue.") || OF_IPC.contains(&name.as_str()) {
        Scope::Ipc
    } else {
        return Err(bad("is not of a namespace: it would change the host"));
    };
    Ok((name, value.to_owned(), scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_a_namespace_is_taken() {
        assert_eq!(parse("net.core.somaxconn=8").unwrap(), ("net.core.somaxconn".to_owned(), "8".to_owned(), Scope::Network));
        assert_eq!(parse("kernel/shmmax=1").unwrap().2, Scope::Ipc);
        for bad in [
            "vm.swappiness=1",
            "kernel.core_pattern=|/x",
            "kernel.domainname=a",
            "net=1",
            "net..x=1",
            "net.core.x",
            "net.core.x=",
            "net.core.x=1\nkernel.core_pattern=x",
            "net.../../kernel/core_pattern=x",
            "net.+x=1",
            "=1",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
