//! Who holds a port of this host: bound sockets over netlink (`sock_diag`), and the processes that have them.

use std::fmt;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;

use super::netlink::ChannelError;
use super::netlink::channel::{Channel, Reply};
use super::netlink::wire::{self, Malformed, Writer};
use crate::fault::{Fault, Kind, kind_of_errno};
use crate::ports::{Forward, Protocol};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// `TCP_LISTEN`, and `TCP_CLOSE`, the state of a UDP socket without a peer.
const LISTEN: u32 = 1 << 10;
const CLOSE: u32 = 1 << 7;

/// The list of sockets cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("list the {protocol} sockets on port {port}: {source}")]
pub struct SocketsError {
    protocol: Protocol,
    port: u16,
    source: ChannelError,
}

impl From<SocketsError> for Fault {
    fn from(error: SocketsError) -> Fault {
        let kind = error.source.errno().map_or(Kind::Internal, kind_of_errno);
        Fault::from_error(kind, error)
    }
}

/// A bound socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its address; unspecified is all of them.
    pub address: IpAddr,
    /// Whether an unspecified IPv6 address leaves IPv4 to others.
    pub only_v6: bool,
    /// Its inode, by which its process is found.
    pub inode: u32,
}

impl Bound {
    /// Whether a packet for `forward` could be for this socket.
    fn is_in_the_way(&self, forward: &Forward) -> bool {
        let v4 = forward.target.is_ipv4();
        match (self.address, forward.host_ip) {
            (IpAddr::V6(own), _) if v4 => {
                own.to_ipv4_mapped().is_some_and(|own| forward.host_ip.is_none_or(|ip| ip == IpAddr::V4(own)))
                    || (own.is_unspecified() && !self.only_v6)
            }
            (IpAddr::V4(_), _) if !v4 => false,
            (own, Some(wanted)) => own.is_unspecified() || own == wanted,
            (_, None) => true,
        }
    }
}

impl Holder {
    /// Whether the process was told of a container in its arguments.
    pub fn serves(&self, owner: &str) -> bool {
        let Some((pid, _)) = &self.process else { return false };
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|word| word == owner.as_bytes())
    }
}

/// *Shape:* `nginx (pid 812) on 0.0.0.0`.
#[derive(Debug)]
pub struct Holder {
    /// Where it is bound.
    pub address: IpAddr,
    /// The process, when it can be seen.
    pub process: Option<(i32, String)>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, name)) => write!(f, "{name} (pid {pid}) on {}", self.address),
            None => write!(f, "a process that cannot be seen on {}", self.address),
        }
    }
}

/// Finds who holds the port of `forward` on this host; a kernel without the protocol has no holder.
pub fn find_holder(forward: &Forward) -> Result<Option<Holder>, SocketsError> {
    let failed = |source| SocketsError { protocol: forward.protocol, port: forward.host_port, source };
    let mut channel = Channel::open(netlink_sys::protocols::NETLINK_SOCK_DIAG).map_err(failed)?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let bound = list(&mut channel, family as u8, forward.protocol, forward.host_port).map_err(failed)?;
        if let Some(found) = bound.iter().find(|bound| bound.is_in_the_way(forward)) {
            return Ok(Some(Holder { address: found.address, process: process_of(found.inode) }));
        }
    }
    Ok(None)
}

fn list(channel: &mut Channel, family: u8, protocol: Protocol, port: u16) -> Result<Vec<Bound>, ChannelError> {
    let seq = channel.sequence(1);
    let mut out = Writer::default();
    let states = if protocol == Protocol::Udp { CLOSE } else { LISTEN };
    out.message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, seq, |m| {
        // `struct inet_diag_req_v2`: family, protocol, no extensions, states, then the id: source port and nothing else.
        let mut request = vec![family, protocol.number(), 0, 0];
        request.extend(states.to_ne_bytes());
        request.extend(port.to_be_bytes());
        request.resize(56, 0);
        m.raw(&request);
    });
    let answers = channel.exchange(out.bytes(), |answers| answers.done || !answers.verdicts.is_empty())?;
    match answers.verdicts.iter().find_map(|verdict| verdict.refused.clone()).map(|refusal| refusal.errno) {
        None => {}
        Some(nix::errno::Errno::ENOENT | nix::errno::Errno::EINVAL) => return Ok(Vec::new()),
        Some(errno) => return Err(ChannelError::Receive(errno)),
    }
    let bound: Result<Vec<Option<Bound>>, Malformed> = answers.replies.iter().map(|reply| bound_in(reply, port)).collect();
    Ok(bound?.into_iter().flatten().collect())
}

/// Reads a `struct inet_diag_msg` and its attributes.
fn bound_in(reply: &Reply, port: u16) -> Result<Option<Bound>, Malformed> {
    let (Some(head), Some(attributes)) = (reply.body.get(..72), reply.body.get(72..)) else { return Err(Malformed("socket")) };
    // Not every kernel filters by port.
    if head[4..6] != port.to_be_bytes() {
        return Ok(None);
    }
    let address = match (head[0], <[u8; 16]>::try_from(&head[8..24]), <[u8; 4]>::try_from(&head[8..12])) {
        (2, _, Ok(v4)) => IpAddr::from(v4),
        (10, Ok(v6), _) => IpAddr::from(v6),
        _ => return Ok(None),
    };
    let inode = wire::u32_of(&head[68..72], "inode")?;
    let only_v6 = wire::find(attributes, INET_DIAG_SKV6ONLY)?.is_some_and(|value| value.first() == Some(&1));
    Ok(Some(Bound { address, only_v6, inode }))
}

/// The process that has a socket open.
fn process_of(inode: u32) -> Option<(i32, String)> {
    let wanted = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let has =
            files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str().as_bytes() == wanted.as_bytes()));
        if has {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim_end().to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(host_ip: Option<&str>, target: &str) -> Forward {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        Forward { protocol: Protocol::Tcp, host_ip, host_port: 80, target: target.parse().unwrap(), target_port: 80 }
    }

    #[test]
    fn a_socket_is_in_the_way_of_its_address_and_family() {
        let bound = |address: &str, only_v6| Bound { address: address.parse().unwrap(), only_v6, inode: 1 };
        let all4 = forward(None, "10.88.0.2");
        let all6 = forward(None, "fd00::2");
        let one = forward(Some("192.0.2.1"), "10.88.0.2");
        assert!(bound("0.0.0.0", false).is_in_the_way(&all4) && bound("127.0.0.53", false).is_in_the_way(&all4));
        assert!(bound("0.0.0.0", false).is_in_the_way(&one) && !bound("127.0.0.1", false).is_in_the_way(&one));
        assert!(bound("::", false).is_in_the_way(&all4) && !bound("::", true).is_in_the_way(&all4));
        assert!(bound("::ffff:192.0.2.1", false).is_in_the_way(&one) && !bound("::1", false).is_in_the_way(&all4));
        assert!(bound("::", true).is_in_the_way(&all6) && !bound("0.0.0.0", false).is_in_the_way(&all6));
    }

    #[test]
    fn the_holder_of_a_port_is_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host_port = socket.local_addr().unwrap().port();
        let holder = find_holder(&Forward { host_port, ..forward(None, "10.88.0.2") }).unwrap().unwrap();
        assert_eq!(holder.process.as_ref().unwrap().0, i32::try_from(std::process::id()).unwrap());
        assert!(holder.to_string().ends_with("on 127.0.0.1"), "{holder}");
        assert!(find_holder(&Forward { host_port, protocol: Protocol::Udp, ..forward(None, "10.88.0.2") }).unwrap().is_none());
        let socket = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let host_port = socket.local_addr().unwrap().port();
        let udp = Forward { host_port, protocol: Protocol::Udp, ..forward(None, "fd00::2") };
        assert!(find_holder(&udp).unwrap().is_some());
        assert!(find_holder(&Forward { protocol: Protocol::Sctp, ..udp }).unwrap().is_none());
    }
}
