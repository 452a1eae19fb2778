//! The UDP flows of one port of the relay: one socket inside for each client.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::poll::PollFd;
use nix::sys::socket::SockType;

use super::{Inside, Remote, watch};

/// A flow that is silent for so long is forgotten, as the kernel's connection tracking does with one that was answered.
const IDLE: Duration = Duration::from_secs(120);
/// So many clients at most; the one that was silent longest makes room.
const CLIENTS: usize = 1024;
/// The largest datagram.
const DATAGRAM: usize = 65_535;

/// The flows of one port.
#[derive(Debug)]
pub(super) struct Flows {
    near: UdpSocket,
    remote: Remote,
    clients: HashMap<SocketAddr, (UdpSocket, Instant)>,
    buffer: Vec<u8>,
}

impl Flows {
    pub fn new(near: UdpSocket, remote: Remote) -> Flows {
        Flows { near, remote, clients: HashMap::new(), buffer: vec![0; DATAGRAM] }
    }

    pub fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        let near = std::iter::once(watch(self.near.as_fd(), true, false));
        near.chain(self.clients.values().map(|(far, _)| watch(far.as_fd(), true, false)))
    }

    /// Passes on what has come, both ways. What finds no receiver is lost, as datagrams are.
    pub fn pump(&mut self, inside: &mut Inside, ready: &HashSet<i32>, note: &mut dyn FnMut(String)) {
        let now = Instant::now();
        self.clients.retain(|_, (_, seen)| now.duration_since(*seen) < IDLE);
        if ready.contains(&self.near.as_raw_fd()) {
            while let Ok((length, client)) = self.near.recv_from(&mut self.buffer) {
                if let Some(far) = self.far_of(client, inside, now, note) {
                    let _ = far.send(self.buffer.get(..length).unwrap_or_default());
                }
            }
        }
        for (client, (far, seen)) in self.clients.iter_mut().filter(|(_, (far, _))| ready.contains(&far.as_raw_fd())) {
            while let Ok(length) = far.recv(&mut self.buffer) {
                *seen = now;
                let _ = self.near.send_to(self.buffer.get(..length).unwrap_or_default(), client);
            }
        }
    }

    /// The socket inside for a client, with a handle of its own.
    fn far_of(&mut self, client: SocketAddr, inside: &mut Inside, now: Instant, note: &mut dyn FnMut(String)) -> Option<UdpSocket> {
        if let Some((far, seen)) = self.clients.get_mut(&client) {
            *seen = now;
            return far.try_clone().ok();
        }
        if self.clients.len() >= CLIENTS {
            let oldest = self.clients.iter().min_by_key(|(_, (_, seen))| *seen).map(|(client, _)| *client);
            oldest.and_then(|client| self.clients.remove(&client));
        }
        match inside.connect(SockType::Datagram, self.remote, true) {
            Ok(fd) => {
                let far = UdpSocket::from(fd);
                let own = far.try_clone().ok();
                self.clients.insert(client, (far, now));
                own
            }
            Err(errno) => {
                note(format!("cannot send to port {} inside: {}", self.remote, errno.desc()));
                None
            }
        }
    }
}
