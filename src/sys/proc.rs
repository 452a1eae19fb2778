//! Processes: who they are, their pidfds, our own rights and limits, time and randomness.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::{file, signal::waits_for_signals};
use crate::fault::{Fault, Kind, Result as FaultResult, kind_of_errno};

/// What a call on processes answered.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// pidfd_open(2).
    #[error("pidfd_open {pid}: {errno}")]
    OpenPidfd {
        /// The process.
        pid: i32,
        /// What the kernel answered.
        errno: Errno,
    },
    /// pidfd_send_signal(2).
    #[error("pidfd_send_signal {signal}: {errno}")]
    Send {
        /// The signal's number.
        signal: i32,
        /// What the kernel answered.
        errno: Errno,
    },
    /// poll(2).
    #[error("poll: {errno}")]
    Poll {
        /// What the kernel answered.
        errno: Errno,
    },
    /// getrandom(2).
    #[error("getrandom: {errno}")]
    Random {
        /// What the kernel answered.
        errno: Errno,
    },
}

impl ProcError {
    /// What the kernel answered.
    pub fn errno(&self) -> Errno {
        match self {
            ProcError::OpenPidfd { errno, .. }
            | ProcError::Send { errno, .. }
            | ProcError::Poll { errno }
            | ProcError::Random { errno } => *errno,
        }
    }
}

impl From<ProcError> for Fault {
    fn from(error: ProcError) -> Fault {
        Fault::from_error(kind_of_errno(error.errno()), error)
    }
}

type Result<T> = std::result::Result<T, ProcError>;

/// A process that is named once and for all: a pid alone is given to another one some day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
    /// The boot in which both are valid.
    pub boot_id: String,
}

impl Identity {
    /// Reads the identity of `pid`; `None` when there is no such process.
    pub fn find(pid: i32) -> FaultResult<Option<Self>> {
        let Some(start_time) = find_start_time(pid) else { return Ok(None) };
        Ok(Some(Identity { pid, start_time, boot_id: boot_id()? }))
    }

    /// Opens the process if it is still this one; `None` when it is gone.
    pub fn open(&self) -> FaultResult<Option<OwnedFd>> {
        if self.boot_id != boot_id()? {
            return Ok(None);
        }
        open_same(self.pid, self.start_time)
    }
}

/// Opens `pid` if its start time is `start_time`; `None` when it is gone, is a zombie, or is another process.
pub fn open_same(pid: i32, start_time: u64) -> FaultResult<Option<OwnedFd>> {
    if pid <= 1 {
        return Ok(None);
    }
    let pidfd = match open_pidfd(pid) {
        Ok(pidfd) => pidfd,
        Err(ProcError::OpenPidfd { errno: Errno::ESRCH | Errno::EINVAL, .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Looked at after the open: from here on the pidfd and the row speak of one process.
    Ok((find_start_time(pid) == Some(start_time)).then_some(pidfd))
}

/// The start time of `pid` in clock ticks since boot; `None` when it is gone or only a zombie.
pub fn find_start_time(pid: i32) -> Option<u64> {
    let row = file::read_kernel(Path::new(&format!("/proc/{pid}/stat"))).ok()?;
    // The second field is the name in parentheses and may hold anything, parentheses and spaces too.
    let (_, rest) = row.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The id of the running boot. `RKBOX_TEST_BOOT_ID` plays a reboot in debug builds.
pub fn boot_id() -> FaultResult<String> {
    #[cfg(debug_assertions)]
    if let Ok(id) = std::env::var("RKBOX_TEST_BOOT_ID") {
        return Ok(id);
    }
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id.clone());
    }
    let id = file::read_kernel(Path::new("/proc/sys/kernel/random/boot_id"))?;
    Ok(ID.get_or_init(|| id).clone())
}

/// Opens a process.
#[allow(unsafe_code)]
pub fn open_pidfd(pid: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers; a descriptor that comes back is ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map_err(|errno| ProcError::OpenPidfd { pid, errno })?;
    Ok(file::own(i32::try_from(fd).unwrap_or(-1)))
}

/// Sends a signal to exactly the process that was opened; a process that has ended is fine.
#[allow(unsafe_code)]
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: the null siginfo asks the kernel to fill it in as kill(2) does.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0) };
    match Errno::result(sent) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(ProcError::Send { signal, errno }),
    }
}

/// Kills exactly the process that was opened; one that has ended is fine.
pub fn send_kill(pidfd: BorrowedFd<'_>) -> Result<()> {
    send_signal(pidfd, libc::SIGKILL)
}

/// What an opened process runs, and whether that would see a signal: has a handler for it, blocks it, or waits for one.
#[derive(PartialEq, Eq)]
pub(super) struct Attention {
    program: Option<PathBuf>,
    pub(super) sees: bool,
}

pub(super) fn attention(pidfd: BorrowedFd<'_>, signal: i32) -> Attention {
    let info = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", pidfd.as_raw_fd())).unwrap_or_default();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i32>().ok()).filter(|pid| *pid > 0);
    let Some(pid) = pid else { return Attention { program: None, sees: false } };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let set = |name: &str| status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix(name)?.trim(), 16).ok()).unwrap_or(0);
    let sees = waits_for_signals(pid) || (set("SigBlk:") | set("SigCgt:")) & (1_u64 << (signal - 1).clamp(0, 63)) != 0;
    Attention { program: std::fs::read_link(format!("/proc/{pid}/exe")).ok(), sees }
}

/// Asks a process to end with SIGTERM and waits for it; false after `grace`.
pub fn terminate(pidfd: BorrowedFd<'_>, grace: Duration) -> Result<bool> {
    ask_to_end(pidfd, libc::SIGTERM, grace)
}

/// Asks a process to end with `signal` and waits for it; false after `grace`.
///
/// The kernel drops signals that the first process of a pid namespace has no handler for, and `runc run -d` returns before its
/// init has executed the program. So the signal is sent again when it could not be seen, or when another program was executed since.
pub fn ask_to_end(pidfd: BorrowedFd<'_>, signal: i32, grace: Duration) -> Result<bool> {
    let deadline = Instant::now() + grace;
    let mut turn = Duration::from_millis(5);
    let mut told: Option<Attention> = None;
    loop {
        let now = attention(pidfd, signal);
        if told.as_ref().is_none_or(|told| !told.sees || *told != now) {
            send_signal(pidfd, signal)?;
            told = Some(now);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if wait_readable(pidfd, turn.min(left))? {
            return Ok(true);
        }
        if left.is_zero() {
            return Ok(false);
        }
        turn = (turn * 2).min(Duration::from_millis(100));
    }
}

/// Waits until a descriptor (of a pidfd: until the process has ended) is readable; false after `limit`.
pub fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> Result<bool> {
    wait_any(&[fd], limit)
}

/// Waits until one of several descriptors is readable or at its end; false after `limit`.
pub fn wait_any(fds: &[BorrowedFd<'_>], limit: Duration) -> Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let millis = left.as_micros().div_ceil(1000).min(60_000);
        let timeout = PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX));
        let mut watched: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut watched, timeout) {
            Ok(0) | Err(Errno::EINTR) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(ProcError::Poll { errno }),
        }
    }
}

/// Waits until the process of a pidfd has been reaped by its parent; false after `limit`.
pub fn wait_reaped(pidfd: BorrowedFd<'_>, limit: Duration) -> Result<bool> {
    let mut watched = [PollFd::new(pidfd, PollFlags::empty())];
    let timeout = PollTimeout::from(u16::try_from(limit.as_millis()).unwrap_or(u16::MAX));
    match poll(&mut watched, timeout) {
        Ok(0) | Err(Errno::EINTR) => Ok(false),
        Ok(_) => Ok(true),
        Err(errno) => Err(ProcError::Poll { errno }),
    }
}

/// Draws random bytes from the kernel.
#[allow(unsafe_code)]
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0_u8; N];
    let mut done = 0;
    while done < N {
        let rest = &mut bytes[done..];
        // SAFETY: the pointer and length are of a live slice of ours.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match Errno::result(got) {
            Ok(count) => done += usize::try_from(count).unwrap_or(0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(ProcError::Random { errno }),
        }
    }
    Ok(bytes)
}

/// The capabilities that rkbox needs: for mounts and namespaces, links and nftables, owners and modes of layers, devices.
pub const NEEDED: [caps::Capability; 10] = [
    caps::Capability::CAP_SYS_ADMIN,
    caps::Capability::CAP_NET_ADMIN,
    caps::Capability::CAP_CHOWN,
    caps::Capability::CAP_DAC_OVERRIDE,
    caps::Capability::CAP_FOWNER,
    caps::Capability::CAP_FSETID,
    caps::Capability::CAP_KILL,
    caps::Capability::CAP_MKNOD,
    caps::Capability::CAP_SETFCAP,
    caps::Capability::CAP_SETUID,
];

/// Lists those of [`NEEDED`] that this thread lacks, by name.
pub fn missing_capabilities() -> FaultResult<Vec<String>> {
    let held = caps::read(None, caps::CapSet::Effective)
        .map_err(|error| Fault::new(Kind::Internal, error.to_string()).doing("reading the capabilities of this process"))?;
    Ok(NEEDED.iter().filter(|capability| !held.contains(capability)).map(ToString::to_string).collect())
}

/// The capabilities that this process can pass on, by name: those that it is permitted and not bounded from.
pub fn permitted_capabilities() -> FaultResult<std::collections::BTreeSet<String>> {
    let read = |set| {
        caps::read(None, set)
            .map_err(|error| Fault::new(Kind::Internal, error.to_string()).doing("reading the capabilities of this process"))
    };
    let (permitted, bounding) = (read(caps::CapSet::Permitted)?, read(caps::CapSet::Bounding)?);
    Ok(permitted.intersection(&bounding).map(ToString::to_string).collect())
}

/// The hard limit of open files of this process.
pub fn nofile_limit() -> FaultResult<u64> {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .map_err(|errno| Fault::new(kind_of_errno(errno), format!("getrlimit NOFILE: {errno}")))?;
    Ok(hard)
}

/// All processes.
pub fn pids() -> Vec<i32> {
    file::list(&PathBuf::from("/proc")).unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect()
}

/// The command line of a running program of this name (as in `/proc/PID/comm`); `None` when none runs.
pub fn find_arguments(name: &str) -> Option<Vec<String>> {
    let proc = pids().into_iter().map(|pid| PathBuf::from(format!("/proc/{pid}")));
    let mut named = proc.filter(|dir| file::read_kernel(&dir.join("comm")).is_ok_and(|comm| comm.trim() == name));
    let words = file::read_kernel(&named.next()?.join("cmdline")).ok()?;
    Some(words.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

/// The hard limit of this process by its name without `RLIMIT_`, as `--ulimit` spells it; `u64::MAX` is no bound.
///
/// *Shape:* the rows of `/proc/self/limits`.
pub fn find_hard_limit(name: &str) -> Option<u64> {
    let row = match name {
        "as" => "Max address space",
        "core" => "Max core file size",
        "cpu" => "Max cpu time",
        "data" => "Max data size",
        "fsize" => "Max file size",
        "locks" => "Max file locks",
        "memlock" => "Max locked memory",
        "msgqueue" => "Max msgqueue size",
        "nice" => "Max nice priority",
        "nofile" => "Max open files",
        "nproc" => "Max processes",
        "rss" => "Max resident set",
        "rtprio" => "Max realtime priority",
        "rttime" => "Max realtime timeout",
        "sigpending" => "Max pending signals",
        "stack" => "Max stack size",
        _ => return None,
    };
    let limits = file::read_kernel(std::path::Path::new("/proc/self/limits")).ok()?;
    let values = limits.lines().find_map(|line| line.strip_prefix(row))?;
    match values.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Whether this process may raise hard limits, and be spared more than its parent when memory runs out.
pub fn may_raise_limits() -> bool {
    caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE).unwrap_or(false)
}

/// Effective uid and gid of this process.
pub fn own_ids() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// How soon this process is killed when memory runs out.
pub fn oom_score_adj() -> i32 {
    file::read_kernel(std::path::Path::new("/proc/self/oom_score_adj")).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Now, as RFC 3339 in UTC with nine digits after the second.
pub fn now_rfc3339() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

/// The processors of the host that have a thermal throttle counter.
pub fn throttled_cpus() -> Vec<u32> {
    let names = file::list(&PathBuf::from("/sys/devices/system/cpu")).unwrap_or_default();
    let cpus = names.iter().filter_map(|name| name.strip_prefix("cpu")?.parse::<u32>().ok());
    let mut cpus: Vec<u32> =
        cpus.filter(|cpu| PathBuf::from(format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle")).exists()).collect();
    cpus.sort_unstable();
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_process_is_known_by_its_start_and_ends_once() {
        let mut child =
            crate::sys::exec::Exec::new(&crate::sys::exec::find("sleep").unwrap()).arg("60").spawn(crate::sys::exec::Bond::Helper).unwrap();
        let identity = Identity::find(child.id().cast_signed()).unwrap().unwrap();
        let stranger = Identity { start_time: identity.start_time + 1, ..identity.clone() };
        assert!(stranger.open().unwrap().is_none());
        assert!(Identity { boot_id: "other".to_owned(), ..identity.clone() }.open().unwrap().is_none());
        let pidfd = identity.open().unwrap().unwrap();
        assert!(!wait_readable(pidfd.as_fd(), Duration::from_millis(20)).unwrap());
        send_signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
        assert!(wait_readable(pidfd.as_fd(), Duration::from_secs(5)).unwrap());
        assert!(identity.open().unwrap().is_none(), "a zombie is gone");
        child.wait().unwrap();
        send_signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
        assert!(open_same(1, 0).unwrap().is_none() && open_same(-1, 0).unwrap().is_none());
    }

    #[test]
    fn time_has_nanoseconds_and_randomness_differs() {
        let now = now_rfc3339();
        assert_eq!(now.len(), "2026-11-23T00:00:00.000000000Z".len(), "{now}");
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
        assert!(nofile_limit().unwrap() > 0);
    }
}
