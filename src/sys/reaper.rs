//! Being the parent of processes that others started: the sub-reaper, and how its children ended.

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::fault::{Fault, Result, kind_of_errno};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub pid: i32,
    /// Its exit code, or 128 and the signal.
    pub code: u8,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

fn failed(call: &'static str) -> impl FnOnce(Errno) -> Fault {
    move |errno| Fault::new(kind_of_errno(errno), format!("{call}: {errno}"))
}

/// Becomes the parent of all orphans among the descendants of this process.
pub fn become_subreaper() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(failed("prctl PR_SET_CHILD_SUBREAPER"))
}

/// Sets the name that `ps` shows.
pub fn set_name(name: &std::ffi::CStr) {
    let _ = nix::sys::prctl::set_name(name);
}

/// Stays when the thread that started this process ends.
pub fn outlive_parent() -> Result<()> {
    nix::sys::prctl::set_pdeathsig(None).map_err(failed("prctl PR_SET_PDEATHSIG"))
}

/// Splits this process in two: true in the one that stays behind, named `name`, with a session of its own and no streams; false in the
/// one that its user waits for.
#[allow(unsafe_code)]
pub fn stay_behind(name: &std::ffi::CStr) -> Result<bool> {
    // Our user's terminal sends SIGHUP to all of our session when we end: the other must have left it by then.
    let (waits, parted) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(failed("pipe"))?;
    // SAFETY: this thread alone goes on in the new process, and the commands that call this have no other.
    let made = unsafe { nix::unistd::fork() }.map_err(failed("fork"))?;
    if made.is_parent() {
        drop(parted);
        let _ = nix::unistd::read(&waits, &mut [0]);
        return Ok(false);
    }
    set_name(name);
    let _ = nix::unistd::setsid();
    drop(parted);
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ =
            nix::unistd::dup2_stdin(&null).and_then(|()| nix::unistd::dup2_stdout(&null)).and_then(|()| nix::unistd::dup2_stderr(&null));
    }
    Ok(true)
}

/// Whether `pid` is a child of this process.
pub fn is_child(pid: i32) -> bool {
    let row = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = row.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
    parent == Some(std::process::id())
}

/// Takes the status of the child `pid` if it has ended.
pub fn reap_one(pid: i32) -> Option<Ended> {
    reap_of(Pid::from_raw(pid))
}

/// The pid of one child that has ended; it is not reaped.
pub fn find_ended_child() -> Option<i32> {
    use nix::sys::wait::{Id, waitid};
    match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => Some(pid.as_raw()),
        _ => None,
    }
}

fn reap_of(pid: Pid) -> Option<Ended> {
    loop {
        return match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => Some(Ended { pid: pid.as_raw(), code: u8::try_from(code).unwrap_or(255), signal: None }),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Some(by_signal(pid.as_raw(), signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(_) => None,
            Ok(_) => continue,
        };
    }
}

fn by_signal(pid: i32, signal: i32) -> Ended {
    Ended { pid, code: u8::try_from(128 + signal).unwrap_or(255), signal: Some(signal) }
}

/// How a process ended that is nobody's child of ours, from its pidfd. Linux 6.15 and newer; `None` on an older one, or while it lives.
///
/// *Source:* `pidfd_info` of `linux/pidfd.h`, `PIDFD_INFO_EXIT`.
#[allow(unsafe_code)]
pub fn ended_by_pidfd(pidfd: std::os::fd::BorrowedFd<'_>, pid: i32) -> Option<Ended> {
    use std::os::fd::AsRawFd as _;

    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const EXIT: u64 = 1 << 3;
    let mut info = Info { mask: EXIT, ..Info::default() };
    // _IOWR(0xFF, 11, struct pidfd_info)
    let request = (3_u32 << 30) | ((size_of::<Info>() as u32) << 16) | (0xff << 8) | 11;
    // SAFETY: the kernel writes at most the size that is part of the request into a structure of that size.
    let answered = unsafe { libc::ioctl(pidfd.as_raw_fd(), request as libc::Ioctl, &raw mut info) };
    if answered < 0 || info.mask & EXIT == 0 {
        return None;
    }
    match info.exit_code & 0x7f {
        0 => Some(Ended { pid, code: u8::try_from((info.exit_code >> 8) & 0xff).unwrap_or(255), signal: None }),
        signal => Some(by_signal(pid, signal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::exec::{Bond, Exec, find};
    use crate::sys::proc;
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    #[allow(clippy::zombie_processes)] // reaped by its pid
    fn shell(script: &str) -> (i32, std::os::fd::OwnedFd) {
        let child = Exec::new(&find("sh").unwrap()).args(["-c", script]).spawn(Bond::Helper).unwrap();
        let pid = child.id().cast_signed();
        (pid, proc::open_pidfd(pid).unwrap())
    }

    #[test]
    fn a_child_is_reaped_once_and_its_pidfd_tells_the_same() {
        for (script, code, signal) in [("exit 7", 7, None), ("kill -9 $$", 137, Some(9))] {
            let (pid, pidfd) = shell(script);
            assert!(is_child(pid));
            assert!(proc::wait_readable(pidfd.as_fd(), Duration::from_secs(5)).unwrap());
            let ended = Ended { pid, code, signal };
            assert_eq!(reap_one(pid), Some(ended));
            assert_eq!(reap_one(pid), None);
            // None on a kernel before 6.15.
            assert!(ended_by_pidfd(pidfd.as_fd(), pid).is_none_or(|seen| seen == ended));
        }
    }
}
