//! Waiting for many things at once: epoll(7), and signals as a descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::fault::{Fault, Result, kind_of_errno};

/// A child has ended.
pub const CHILD_ENDED: i32 = libc::SIGCHLD;
/// The terminal has another size.
pub const RESIZED: i32 = libc::SIGWINCH;
/// Somebody asks this process to end.
pub const ASKED_TO_END: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, or the end.
    Read,
    /// Room to write.
    Write,
    /// Either.
    Both,
    /// Only that the other side is gone.
    End,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Interest::Read => EpollFlags::EPOLLIN,
            Interest::Write => EpollFlags::EPOLLOUT,
            Interest::Both => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
            Interest::End => EpollFlags::empty(),
        }
    }
}

/// One thing that came about.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// What it was added under.
    pub token: u64,
    /// Something to read, or the end.
    pub read: bool,
    /// Room to write, or nobody who reads.
    pub write: bool,
}

/// A set of descriptors, each under a token.
#[derive(Debug)]
pub struct Watch {
    epoll: Epoll,
}

fn failed(call: &'static str) -> impl FnOnce(Errno) -> Fault {
    move |errno| Fault::new(kind_of_errno(errno), format!("{call}: {errno}"))
}

impl Watch {
    /// An empty set.
    pub fn new() -> Result<Self> {
        Ok(Watch { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create"))? })
    }

    /// Adds a descriptor; closing it takes it out.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        self.epoll.add(fd, EpollEvent::new(interest.flags(), token)).map_err(failed("epoll_ctl add"))
    }

    /// Waits for another thing of a descriptor that was added.
    pub fn change(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        self.epoll.modify(fd, &mut EpollEvent::new(interest.flags(), token)).map_err(failed("epoll_ctl mod"))
    }

    /// Takes a descriptor out; absence is fine.
    pub fn remove(&self, fd: impl AsFd) {
        let _ = self.epoll.delete(fd);
    }

    /// Waits until something comes about, at most `limit`; empty when nothing did.
    pub fn wait(&self, limit: Option<Duration>) -> Result<Vec<Ready>> {
        let timeout = match limit {
            None => EpollTimeout::NONE,
            // Rounded up, so that a deadline has passed when the wait ends.
            Some(limit) => EpollTimeout::try_from(limit.as_micros().div_ceil(1000).min(3_600_000) as i32).unwrap_or(EpollTimeout::ZERO),
        };
        let mut events = [EpollEvent::empty(); 16];
        match self.epoll.wait(&mut events, timeout) {
            Ok(count) => Ok(events[..count].iter().map(ready).collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(failed("epoll_wait")(errno)),
        }
    }
}

fn ready(event: &EpollEvent) -> Ready {
    let flags = event.events();
    let ended = flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
    Ready { token: event.data(), read: ended || flags.contains(EpollFlags::EPOLLIN), write: ended || flags.contains(EpollFlags::EPOLLOUT) }
}

/// Signals of this thread, read instead of handled.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    old: SigSet,
}

impl Signals {
    /// Blocks `signals` (by number) and reads them from now on, until dropped. *Errors:* a number that is none.
    pub fn take(signals: &[i32]) -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in signals {
            set.add(Signal::try_from(*signal).map_err(failed("signal"))?);
        }
        let old = set.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).map_err(failed("sigprocmask"))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed("signalfd"))?;
        Ok(Signals { fd, old })
    }

    /// The next one that has come, by number.
    pub fn next(&self) -> Option<i32> {
        self.fd.read_signal().ok().flatten().and_then(|info| i32::try_from(info.ssi_signo).ok())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.old.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_comes_about_bears_its_token() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let watch = Watch::new().unwrap();
        watch.add(&theirs, 7, Interest::Read).unwrap();
        assert!(watch.wait(Some(Duration::from_millis(1))).unwrap().is_empty());
        ours.write_all(b"x").unwrap();
        let ready = watch.wait(None).unwrap();
        assert_eq!((ready.len(), ready[0].token, ready[0].read, ready[0].write), (1, 7, true, false));
        watch.change(&theirs, 8, Interest::Both).unwrap();
        assert!(watch.wait(None).unwrap()[0].write);
        watch.change(&theirs, 9, Interest::End).unwrap();
        assert!(watch.wait(Some(Duration::ZERO)).unwrap().is_empty());
        drop(ours);
        assert!(watch.wait(None).unwrap()[0].read);
    }

    #[test]
    fn a_taken_signal_is_read_and_kills_nobody() {
        let signals = Signals::take(&[libc::SIGUSR2]).unwrap();
        assert_eq!(signals.next(), None);
        nix::sys::signal::raise(Signal::SIGUSR2).unwrap();
        assert_eq!(signals.next(), Some(libc::SIGUSR2));
        assert!(Signals::take(&[0]).is_err());
    }
}
