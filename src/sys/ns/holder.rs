//! A process that waits in new namespaces until somebody has pinned them.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpid};

use super::{NsError, NsKind};
use crate::idmap::IdMap;

/// The process; it ends when this is dropped, and with the thread that began it.
#[derive(Debug)]
pub struct Holder(Pid);

impl Holder {
    /// Begins a process in the namespaces of `flags`; a user namespace among them owns the others (clone(2)).
    pub fn begin(flags: CloneFlags) -> nix::Result<Self> {
        let parent = getpid().as_raw();
        let pid = Errno::result(clone(flags))?;
        if pid == 0 {
            wait_for_the_end(parent);
        }
        Ok(Holder(Pid::from_raw(pid)))
    }

    /// Begins a process in a user namespace with the ids of `map`.
    ///
    /// *Errors:* as [`Holder::map_ids`].
    pub fn of_ids(map: &IdMap) -> Result<Self, NsError> {
        let holder = Self::begin(CloneFlags::CLONE_NEWUSER).map_err(NsError::call("clone", Path::new("/proc/self/ns/user")))?;
        holder.map_ids(map)?;
        Ok(holder)
    }

    /// As [`Holder::begin`], for one that is kept: it has none of our streams and ends with no thread.
    pub fn begin_lasting(flags: CloneFlags) -> nix::Result<Self> {
        let pid = Errno::result(clone(flags))?;
        if pid == 0 {
            wait_for_ever();
        }
        Ok(Holder(Pid::from_raw(pid)))
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.0.as_raw()
    }

    /// Lets it live on; answers its pid.
    pub fn keep(self) -> i32 {
        let pid = self.pid();
        std::mem::forget(self);
        pid
    }

    /// The file of one of its namespaces.
    pub fn namespace(&self, kind: NsKind) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{}", self.0, kind.file()))
    }

    /// Gives its user namespace the ids of `map`.
    ///
    /// *Errors:* `EPERM` for ids that this process does not have itself.
    pub fn map_ids(&self, map: &IdMap) -> Result<(), NsError> {
        let text = map.kernel_text();
        for name in ["uid_map", "gid_map"] {
            let path = format!("/proc/{}/{name}", self.0);
            let path = Path::new(&path);
            // One write, whole: the kernel takes a map only once.
            let mut options = fs::File::options();
            let file = options.write(true).open(path).map_err(NsError::io("open", path))?;
            nix::unistd::write(&file, text.as_bytes()).map_err(NsError::call("write", path))?;
        }
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if kill(self.0, Signal::SIGKILL).is_ok() {
            let _ = waitpid(self.0, None);
        }
    }
}

#[allow(unsafe_code)]
fn clone(flags: CloneFlags) -> i32 {
    let flags = i64::from(flags.bits()) | i64::from(libc::SIGCHLD);
    // SAFETY: without a stack of its own and without shared memory the call is fork(2), which any thread may make; the child makes no
    // call but those of `wait_for_the_end`, all of which are safe after a fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    i32::try_from(pid).unwrap_or(-1)
}

/// Waits until it is killed, without our streams and our terminal.
#[allow(unsafe_code)]
fn wait_for_ever() -> ! {
    // SAFETY: close_range, setsid, signal, sigprocmask (of a set on this stack), prctl (whose name is a C string) and pause are safe in a
    // child of a program with threads.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, 0);
        libc::setsid();
        // rkbox catches these; this one shall end by them.
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, c"rkbox-holder".as_ptr());
        loop {
            libc::pause();
        }
    }
}

/// Waits until it is killed; ends with the thread that began it.
#[allow(unsafe_code)]
fn wait_for_the_end(parent: i32) -> ! {
    // SAFETY: prctl, getppid, pause and _exit take no memory of ours and are safe in a child of a program with threads.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() == parent {
            loop {
                libc::pause();
            }
        }
        libc::_exit(0)
    }
}
