//! Deleting a link without waiting for the readers of what nobody can find any more.
//!
//! RTM_DELLINK answers 16 to 30 ms after the link is gone: the kernel then waits for a grace period of RCU (`netdev_run_todo` in
//! `net/core/dev.c`), with its lock given back. A child process waits in our place, which holds nothing but the socket and ends with the answer.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{ForkResult, fork};

use super::Netlink;
use super::error::NetlinkError;
use super::write::Ask;
use crate::sys::proc;

/// The time between two looks; the kernel's own lock makes a look wait while it takes the link apart.
const PAUSE: Duration = Duration::from_micros(100);

/// Children that may still wait.
static WAITING: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

impl Netlink {
    /// Deletes a link of this thread's namespace by its name and ifindex. A veth takes its peer with it.
    ///
    /// Returns when nobody finds the link any more, 2 to 4 ms; what the kernel waits for after that ends by itself. *Errors:* `ENODEV` for a
    /// link that is gone.
    pub fn remove_link(&mut self, name: &str, index: u32) -> Result<(), NetlinkError> {
        WAITING.lock().unwrap_or_else(PoisonError::into_inner).retain(|child| !has_ended(child));
        // A socket of its own: an answer that comes late must not be taken for that of another request.
        let socket = Netlink::open()?;
        let Some(child) = socket.send_by_child(&Ask::delete_link(name, index).into_bytes(0).0) else {
            return self.delete_link(name, index);
        };
        loop {
            // In this order: a child that ended before the look has had its answer before it.
            let ended = has_ended(&child);
            if self.find_link(name)?.is_none_or(|link| link.index != index) {
                if !ended {
                    WAITING.lock().unwrap_or_else(PoisonError::into_inner).push(child);
                }
                return Ok(());
            }
            if ended {
                // It was refused: hear why.
                return self.delete_link(name, index);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Deletes a link by its ifindex and waits for the kernel's answer; `name` is for errors.
    pub fn delete_link(&mut self, name: &str, index: u32) -> Result<(), NetlinkError> {
        self.carry_out(vec![Ask::delete_link(name, index)])
    }

    /// Has a child send `bytes` and end; `None` when there can be none.
    #[allow(unsafe_code)]
    fn send_by_child(&self, bytes: &[u8]) -> Option<OwnedFd> {
        let socket = self.channel.as_raw_fd();
        // SAFETY: the child makes plain system calls only, on memory that was there before, and leaves without running anything of ours.
        match unsafe { fork() } {
            // Without it the plain way says how it went.
            Ok(ForkResult::Parent { child }) => proc::open_pidfd(child.as_raw()).ok(),
            Ok(ForkResult::Child) => unsafe {
                leave_open(socket);
                libc::send(socket, bytes.as_ptr().cast(), bytes.len(), 0);
                libc::_exit(0)
            },
            Err(_) => None,
        }
    }
}

/// Closes all descriptors but one: whoever reads from a pipe of ours would wait for the child as well.
#[allow(unsafe_code)]
unsafe fn leave_open(socket: RawFd) {
    // SAFETY: the caller is a child of its own that uses no other descriptor.
    unsafe {
        let socket = socket.cast_unsigned();
        if socket > 0 {
            libc::syscall(libc::SYS_close_range, 0, socket - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, socket + 1, libc::c_uint::MAX, 0);
    }
}

/// Whether a child of ours has ended; it is no more then. One that somebody else has waited for has.
fn has_ended(child: &OwnedFd) -> bool {
    loop {
        match waitid(Id::PIDFd(child.as_fd()), WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::StillAlive) => return false,
            _ => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn a_link_is_gone_at_once_and_the_child_ends() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut netlink = Netlink::open().unwrap();
        netlink.create_bridge(&"br0".parse().unwrap(), crate::ids::Mac([2, 0, 0, 0, 0, 1]), false).unwrap();
        let index = netlink.find_link("br0").unwrap().unwrap().index;
        netlink.remove_link("br0", index).unwrap();
        assert!(netlink.find_link("br0").unwrap().is_none());
        // The name is free, and the same socket makes sense of the next answers.
        netlink.create_bridge(&"br0".parse().unwrap(), crate::ids::Mac([2, 0, 0, 0, 0, 1]), false).unwrap();
        let again = netlink.find_link("br0").unwrap().unwrap().index;
        assert_ne!(again, index);
        assert!(netlink.remove_link("br0", index).is_ok(), "that link is gone, whoever has its name now");
        assert!(netlink.find_link("br0").unwrap().is_some());
        let limit = Instant::now() + Duration::from_secs(20);
        while !WAITING.lock().unwrap().is_empty() {
            WAITING.lock().unwrap().retain(|child| !has_ended(child));
            assert!(Instant::now() < limit);
            std::thread::sleep(PAUSE);
        }
    }

    #[test]
    fn a_refusal_is_heard() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.find_link("lo").unwrap().unwrap();
        let error = netlink.remove_link("lo", lo.index).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP), "{error}");
    }
}
