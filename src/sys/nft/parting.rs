//! How a process ends without waiting for what its nf_tables transactions have deleted.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::PoisonError;

use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};

use super::KEPT;

/// Leaves the closing of the kept sockets to the kernel, which has time.
///
/// A process that ends closes its sockets, and so would wait for the grace period after all: 3 to 13 ms of a `run --rm` or `net del`.
/// A socket that lies unread in the queue of a Unix socket which nobody holds is closed by the kernel's own worker instead
/// (`unix_gc`; seen on 6.18, 5 ms after the process had ended). Where that fails they close here, and it takes that much longer.
pub fn part() {
    let kept = std::mem::take(&mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner));
    if !kept.is_empty() {
        let _ = strand(kept.into_iter().map(|(_, channel)| channel).collect());
    }
}

/// Puts `sockets` into the queue of a socket that lies in that queue itself, and closes ours.
///
/// The order in which they close matters: ours before the worker has closed its own, or ours would be the last and wait; then the far
/// end, held by its own queue only; then the near end, whose release sets the worker to work.
fn strand<T: AsRawFd>(sockets: Vec<T>) -> nix::Result<()> {
    let (near, far) = socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_CLOEXEC)?;
    let passed: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).chain([far.as_raw_fd()]).collect();
    sendmsg::<()>(near.as_raw_fd(), &[IoSlice::new(b"x")], &[ControlMessage::ScmRights(&passed)], MsgFlags::MSG_DONTWAIT, None)?;
    drop(sockets);
    drop(far);
    drop(near);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_stranded_is_closed_by_the_kernel() {
        let (mut read, write) = std::io::pipe().unwrap();
        strand(vec![write]).unwrap();
        // The end of the pipe comes only when its last writer is closed.
        assert_eq!(read.read(&mut [0]).unwrap(), 0);
    }
}
