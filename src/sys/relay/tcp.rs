//! One TCP connection through the relay.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::poll::PollFd;
use nix::sys::socket::SockType;

use super::{Inside, Remote, watch};

/// What one direction may hold back.
const ROOM: usize = 64 * 1024;

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
struct Stream {
    held: Vec<u8>,
    sent: usize,
    /// The sender has closed its half, and the receiver has been told.
    ended: bool,
}

impl Stream {
    fn has_room(&self) -> bool {
        !self.ended && !self.has_more()
    }

    fn has_more(&self) -> bool {
        self.sent < self.held.len()
    }

    fn is_over(&self) -> bool {
        self.ended && !self.has_more()
    }

    /// Moves what can be moved; false when a peer is gone.
    fn pump(&mut self, from: &mut TcpStream, to: &mut TcpStream) -> bool {
        for _ in 0..16 {
            if self.has_more() {
                match to.write(&self.held[self.sent..]) {
                    Ok(count) => self.sent += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return false,
                }
                continue;
            }
            self.held.clear();
            self.sent = 0;
            if self.ended {
                return true;
            }
            self.held.resize(ROOM, 0);
            let read = from.read(&mut self.held);
            self.held.truncate(*read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => {
                    self.ended = true;
                    let _ = to.shutdown(Shutdown::Write);
                    return true;
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// A client here and a service there.
#[derive(Debug)]
pub(super) struct Pair {
    near: TcpStream,
    far: TcpStream,
    remote: Remote,
    /// Whether the service has not answered yet, and whether it is asked by IPv4.
    connecting: Option<bool>,
    there: Stream,
    back: Stream,
}

impl Pair {
    /// Begins a connection for a client; none when nobody listens inside.
    pub fn open(near: TcpStream, inside: &mut Inside, remote: Remote, note: &mut dyn FnMut(String)) -> Option<Pair> {
        let _ = (near.set_nonblocking(true), near.set_nodelay(true));
        let mut failed = None;
        for v4 in [true, false] {
            match inside.connect(SockType::Stream, remote, v4) {
                Ok(fd) => {
                    let far = TcpStream::from(fd);
                    let _ = far.set_nodelay(true);
                    return Some(Pair { near, far, remote, connecting: Some(v4), there: Stream::default(), back: Stream::default() });
                }
                Err(errno) => failed = failed.or(Some(errno)),
            }
        }
        note(format!("cannot connect to port {remote} inside: {}", failed.unwrap_or(Errno::ECONNREFUSED).desc()));
        None
    }

    pub fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        if self.connecting.is_some() {
            return vec![watch(self.far.as_fd(), false, true)].into_iter();
        }
        let near = watch(self.near.as_fd(), self.there.has_room(), self.back.has_more());
        let far = watch(self.far.as_fd(), self.back.has_room(), self.there.has_more());
        vec![near, far].into_iter()
    }

    pub fn is_ready(&self, ready: &HashSet<i32>) -> bool {
        ready.contains(&self.near.as_raw_fd()) || ready.contains(&self.far.as_raw_fd())
    }

    /// Moves what can be moved; false when the connection is over.
    pub fn pump(&mut self, inside: &mut Inside, note: &mut dyn FnMut(String)) -> bool {
        if let Some(v4) = self.connecting {
            match self.far.take_error() {
                Ok(None) => self.connecting = None,
                failed if v4 => {
                    let Ok(fd) = inside.connect(SockType::Stream, self.remote, false) else {
                        let why = failed.ok().flatten().map_or("connection refused".to_owned(), |error| error.to_string());
                        note(format!("cannot connect to port {} inside: {why}", self.remote));
                        return false;
                    };
                    self.far = TcpStream::from(fd);
                    self.connecting = Some(false);
                    return true;
                }
                _ => {
                    note(format!("cannot connect to port {} inside: connection refused", self.remote));
                    return false;
                }
            }
        }
        self.there.pump(&mut self.near, &mut self.far)
            && self.back.pump(&mut self.far, &mut self.near)
            && !(self.there.is_over() && self.back.is_over())
    }
}
