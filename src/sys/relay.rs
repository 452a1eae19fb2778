//! A relay from ports of this host to ports inside a network namespace, without any rule: it enters by sockets made there.
//!
//! One thread and one `poll`: nothing is copied that its receiver has no room for, so a slow peer holds up nobody but its own.

mod tcp;
mod udp;

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind as bind_socket, connect, listen, setsockopt, socket, sockopt,
};

use super::{ns, signal};
use crate::fault::{Fault, Kind, Result, kind_of_errno};
use crate::ports::Protocol;

use tcp::Pair;
use udp::Flows;

/// How long `poll` waits at most: a flow of UDP that is idle has to be noticed.
const TICK: u16 = 1000;
/// How long nobody is accepted when there are no descriptors left.
const BREATH: Duration = Duration::from_millis(50);

/// One way through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where it begins on this host; port 0 is any.
    pub local: SocketAddr,
    /// Where it leads.
    pub remote: Remote,
}

/// The far end of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A port on the loopback of the namespace, IPv4 first, as `localhost` means there.
    Loopback(u16),
    /// An address that is reached from the namespace.
    At(SocketAddr),
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Loopback(port) => write!(f, "{port}"),
            Remote::At(address) => address.fmt(f),
        }
    }
}

/// An open relay.
#[derive(Debug)]
pub struct Relay {
    inside: Inside,
    listeners: Vec<(TcpListener, Remote)>,
    pairs: Vec<Pair>,
    flows: Vec<Flows>,
}

fn io(doing: String) -> impl FnOnce(std::io::Error) -> Fault {
    move |error| {
        let kind = error.raw_os_error().map_or(Kind::Internal, |errno| kind_of_errno(Errno::from_raw(errno)));
        let fault = Fault::from_error(kind, error);
        let taken = fault.to_string().contains("in use");
        let fault = fault.doing(doing);
        if taken { fault.of_kind(Kind::AlreadyExists).hint("choose another local port, or :REMOTE for any that is free") } else { fault }
    }
}

impl Relay {
    /// Opens the near ends; answers each with the port that it has.
    ///
    /// *Errors:* `AlreadyExists` for a port that somebody has.
    pub fn open(netns: &Path, ways: &[Way]) -> Result<(Relay, Vec<Way>)> {
        drop(ns::open(netns, ns::NsKind::Net)?);
        let mut relay = Relay {
            inside: Inside { netns: netns.to_path_buf(), made: Vec::new() },
            listeners: Vec::new(),
            pairs: Vec::new(),
            flows: Vec::new(),
        };
        let mut opened = Vec::new();
        for way in ways {
            let doing = || format!("listening on {}/{}", way.local, way.protocol);
            let local = match way.protocol {
                Protocol::Tcp => {
                    let listener = TcpListener::from(bind(way.local, SockType::Stream).map_err(io(doing()))?);
                    let local = listener.local_addr().map_err(io(doing()))?;
                    relay.listeners.push((listener, way.remote));
                    local
                }
                Protocol::Udp => {
                    let near = UdpSocket::from(bind(way.local, SockType::Datagram).map_err(io(doing()))?);
                    let local = near.local_addr().map_err(io(doing()))?;
                    relay.flows.push(Flows::new(near, way.remote));
                    local
                }
                Protocol::Sctp => {
                    return Err(Fault::new(Kind::Unimplemented, "SCTP is not relayed").hint("publish the port instead: -p PORT/sctp"));
                }
            };
            opened.push(Way { local, ..*way });
        }
        Ok((relay, opened))
    }

    /// This relay and another one as one.
    pub fn with(mut self, other: Relay) -> Relay {
        self.listeners.extend(other.listeners);
        self.flows.extend(other.flows);
        self
    }

    /// Relays until SIGINT or SIGTERM; `note` hears of connections that find nobody inside.
    pub fn run(mut self, note: &mut dyn FnMut(String)) -> Result<()> {
        while signal::pending().is_none() {
            let accepted = self.turn(note)?;
            if !accepted {
                std::thread::sleep(BREATH);
            }
        }
        Ok(())
    }

    /// Waits for something to do, and does it; false when there was no descriptor for a new connection.
    fn turn(&mut self, note: &mut dyn FnMut(String)) -> Result<bool> {
        let mut watched: Vec<PollFd<'_>> = Vec::new();
        watched.extend(self.listeners.iter().map(|(listener, _)| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        watched.extend(self.pairs.iter().flat_map(Pair::watched));
        watched.extend(self.flows.iter().flat_map(Flows::watched));
        match poll(&mut watched, PollTimeout::from(TICK)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(true),
            Err(errno) => return Err(Fault::from_error(kind_of_errno(errno), errno).doing("waiting for connections")),
        }
        let ready: Vec<i32> =
            watched.iter().filter(|fd| fd.revents().is_some_and(|events| !events.is_empty())).map(|fd| fd.as_fd().as_raw_fd()).collect();
        drop(watched);
        let ready: std::collections::HashSet<i32> = ready.into_iter().collect();
        let inside = &mut self.inside;
        self.pairs.retain_mut(|pair| !pair.is_ready(&ready) || pair.pump(inside, note));
        for flows in &mut self.flows {
            flows.pump(inside, &ready, note);
        }
        let mut room = true;
        for (listener, remote) in self.listeners.iter().filter(|(listener, _)| ready.contains(&listener.as_raw_fd())) {
            loop {
                match listener.accept() {
                    Ok((near, _)) => self.pairs.extend(Pair::open(near, inside, *remote, note)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) => {
                        room = false;
                        break;
                    }
                    // The client left before it was accepted.
                    Err(_) => break,
                }
            }
        }
        Ok(room)
    }
}

/// A near end, which waits for nothing. One of IPv6 leaves the port of IPv4 to others.
fn bind(local: SocketAddr, kind: SockType) -> std::io::Result<OwnedFd> {
    let family = if local.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if local.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    bind_socket(fd.as_raw_fd(), &SockaddrStorage::from(local))?;
    if kind == SockType::Stream {
        listen(&fd, Backlog::MAXALLOWABLE)?;
    }
    Ok(fd)
}

/// The way into the namespace. Sockets are made there some at a time: entering costs a thread.
#[derive(Debug)]
struct Inside {
    netns: PathBuf,
    made: Vec<(SockType, bool, OwnedFd)>,
}

impl Inside {
    /// How many sockets are made at a time.
    const STOCK: usize = 16;

    /// A socket in the namespace on its way to the far end, `v4` telling which loopback; connecting has begun.
    fn connect(&mut self, kind: SockType, remote: Remote, v4: bool) -> std::result::Result<OwnedFd, Errno> {
        let loopback = if v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
        let address = match remote {
            Remote::Loopback(port) => SocketAddr::new(loopback, port),
            Remote::At(address) => address,
        };
        let fd = self.take(kind, address.is_ipv4())?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
            Err(errno) => Err(errno),
        }
    }

    fn take(&mut self, kind: SockType, v4: bool) -> std::result::Result<OwnedFd, Errno> {
        if let Some(at) = self.made.iter().position(|(made, family, _)| *made == kind && *family == v4) {
            return Ok(self.made.swap_remove(at).2);
        }
        let family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let open = || socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None);
        // Only the making of the socket has to happen there: it belongs to that namespace for ever.
        let stock = if kind == SockType::Stream && v4 { Self::STOCK } else { 1 };
        let make = || (0..stock).map(|_| open()).collect::<Vec<_>>();
        let mut made = ns::inside(&self.netns, make).map_err(|error| error.errno().unwrap_or(Errno::ENOENT))?.into_iter();
        let first = made.next().unwrap_or(Err(Errno::EMFILE));
        self.made.extend(made.flatten().map(|fd| (kind, v4, fd)));
        first
    }
}

fn watch(fd: BorrowedFd<'_>, reads: bool, writes: bool) -> PollFd<'_> {
    let mut events = PollFlags::empty();
    events.set(PollFlags::POLLIN, reads);
    events.set(PollFlags::POLLOUT, writes);
    PollFd::new(fd, events)
}
