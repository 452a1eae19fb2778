//! Programs that rkbox starts: the only `Command` of the crate.
//!
//! A child gets a cleared environment (PATH, LANG and what it is given), `/` as its directory, umask 022, the standard
//! streams that are named and no other descriptor. Needs Linux 5.11 (`CLOSE_RANGE_CLOEXEC`).

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::proc::{self, ProcError};
use crate::fault::{Fault, Kind, kind_of_errno};

/// How much of each stream of a captured program is kept, in bytes: the start of its output, the end of its errors.
pub const CAPTURE_LIMIT: usize = 4 << 20;
const STDERR_TAIL: usize = 16 << 10;

/// The search path when the environment has none.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What starting or waiting for a program answered.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No directory of PATH has it.
    #[error("program {program} is not in PATH")]
    Missing {
        /// Its name or path.
        program: String,
    },
    /// The path that was given is not there, or may not be executed.
    #[error("{program} {why}")]
    Unusable {
        /// Its path.
        program: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// fork or exec failed.
    #[error("exec {program}: {errno}", program = .program.display())]
    Spawn {
        /// Its path.
        program: PathBuf,
        /// What the kernel answered.
        errno: Errno,
    },
    /// It did not end in time and was killed.
    #[error("{program} did not end within {limit:?}", program = .program.display())]
    TimedOut {
        /// Its path.
        program: PathBuf,
        /// The deadline.
        limit: Duration,
    },
    /// Waiting or reading failed.
    #[error("{call} {program}: {errno}", program = .program.display())]
    Wait {
        /// The call.
        call: &'static str,
        /// Its path.
        program: PathBuf,
        /// What the kernel answered.
        errno: Errno,
    },
}

impl From<ExecError> for Fault {
    fn from(error: ExecError) -> Fault {
        let kind = match &error {
            ExecError::Missing { .. } | ExecError::Unusable { .. } => Kind::Unavailable,
            ExecError::Spawn { errno: Errno::ENOENT | Errno::EACCES | Errno::ENOEXEC, .. } => Kind::Unavailable,
            ExecError::Spawn { errno, .. } | ExecError::Wait { errno, .. } => kind_of_errno(*errno),
            ExecError::TimedOut { .. } => Kind::DeadlineExceeded,
        };
        Fault::from_error(kind, error)
    }
}

type Result<T> = std::result::Result<T, ExecError>;

/// Finds a program: a path stays as it is, a name is looked up in PATH.
pub fn find(program: &str) -> Result<PathBuf> {
    let missing = || ExecError::Missing { program: program.to_owned() };
    let usable = |path: &Path| path.is_file() && nix::unistd::eaccess(path, nix::unistd::AccessFlags::X_OK).is_ok();
    if program.contains('/') {
        let path = PathBuf::from(program);
        let why = if path.is_file() { "is not executable" } else { "is not there" };
        let unusable = || ExecError::Unusable { program: program.to_owned(), why };
        return if usable(&path) { std::path::absolute(&path).map_err(|_| unusable()) } else { Err(unusable()) };
    }
    let search = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(SYSTEM_PATH));
    std::env::split_paths(&search)
        .filter(|dir| dir.is_absolute() && !program.is_empty())
        .map(|dir| dir.join(program))
        .find(|path| usable(path))
        .ok_or_else(missing)
}

/// The path of the running program.
pub fn own_program() -> Result<PathBuf> {
    let failed = |error: std::io::Error| ExecError::Wait {
        call: "readlink",
        program: PathBuf::from("/proc/self/exe"),
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
    };
    std::env::current_exe().map_err(failed)
}

/// One standard stream of a child.
#[derive(Debug)]
pub enum Stream {
    /// `/dev/null`.
    Null,
    /// Ours, without a copy.
    Inherit,
    /// A descriptor that the child takes over.
    Fd(OwnedFd),
    /// A pipe to us; read or written through the [`Child`].
    Pipe,
}

impl From<Stream> for Stdio {
    fn from(stream: Stream) -> Stdio {
        match stream {
            Stream::Null => Stdio::null(),
            Stream::Inherit => Stdio::inherit(),
            Stream::Fd(fd) => Stdio::from(fd),
            Stream::Pipe => Stdio::piped(),
        }
    }
}

/// How a child is bound to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// In our process group, so that a terminal's signals reach it, and killed when the thread that started it dies.
    Helper,
    /// In a session of its own.
    Detached,
    /// In a session of its own, killed when the thread that started it dies until [`super::reaper::outlive_parent`].
    Monitor,
}

/// A program to be started.
#[derive(Debug)]
pub struct Exec {
    program: PathBuf,
    command: Command,
}

/// How a captured program ended.
#[derive(Debug)]
pub struct Captured {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// The start of its output.
    pub stdout: Vec<u8>,
    /// The end of its errors.
    pub stderr: String,
}

impl Exec {
    /// Prepares `program` (a path, from [`find`]) with null streams.
    pub fn new(program: &Path) -> Self {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(SYSTEM_PATH));
        let lang = std::env::var_os("LANG").unwrap_or_else(|| OsString::from("C.UTF-8"));
        command.env_clear().env("PATH", path).env("LANG", lang).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Exec { program: program.to_path_buf(), command }
    }

    /// Sets the name that the program sees as its own.
    #[must_use]
    pub fn arg0(mut self, name: &str) -> Self {
        self.command.arg0(name);
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds one environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the three standard streams.
    #[must_use]
    pub fn streams(mut self, stdin: Stream, stdout: Stream, stderr: Stream) -> Self {
        self.command.stdin(stdin).stdout(stdout).stderr(stderr);
        self
    }

    /// Starts it. Dropping the [`Child`] neither kills nor reaps it.
    #[allow(unsafe_code)]
    pub fn spawn(mut self, bond: Bond) -> Result<Child> {
        let parent = std::process::id();
        // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
        unsafe { self.command.pre_exec(move || prepare_child(bond, parent)) };
        self.command
            .spawn()
            .map_err(|error| ExecError::Spawn { program: self.program.clone(), errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)) })
    }

    /// Runs it to its end and captures its output; a program that is still there after `limit` is killed.
    ///
    /// It ends when the program does, even when a grandchild holds the pipes open.
    pub fn capture(mut self, limit: Duration) -> Result<Captured> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = self.program.clone();
        let mut child = self.spawn(Bond::Helper)?;
        let captured = collect(&mut child, &program, limit);
        if captured.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        captured
    }
}

/// Runs in the child between fork and exec. The standard library resets the signal mask and SIGPIPE itself.
#[allow(unsafe_code)]
fn prepare_child(bond: Bond, parent: u32) -> std::io::Result<()> {
    // SAFETY: plain system calls without pointers.
    unsafe {
        libc::umask(0o022);
        if bond != Bond::Helper && libc::setsid() < 0 {
            return Err(std::io::Error::last_os_error());
        }
        if bond != Bond::Detached {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have died before the call above.
            if libc::getppid() != parent.cast_signed() {
                libc::_exit(125);
            }
        }
        if libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Waits for a child of ours for at most `limit`; `None` when it is still there.
pub fn wait_timeout(child: &mut Child, limit: Duration) -> std::result::Result<Option<ExitStatus>, ProcError> {
    let pidfd = proc::open_pidfd(child.id().cast_signed())?;
    let ended = proc::wait_readable(pidfd.as_fd(), limit)?;
    Ok(if ended { child.wait().ok() } else { None })
}

/// The status as shells count it: the exit code, or 128 and the signal.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(255)
}

fn collect(child: &mut Child, program: &Path, limit: Duration) -> Result<Captured> {
    let failed = |call: &'static str| move |errno: Errno| ExecError::Wait { call, program: program.to_path_buf(), errno };
    let pidfd = proc::open_pidfd(child.id().cast_signed()).map_err(|error| failed("pidfd_open")(error.errno()))?;
    let deadline = Instant::now() + limit;
    let mut out = child.stdout.take().map(OwnedFd::from);
    let mut err = child.stderr.take().map(OwnedFd::from);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for pipe in [&out, &err].into_iter().flatten() {
        set_nonblocking(pipe).map_err(failed("fcntl"))?;
    }
    loop {
        let mut watched = vec![pidfd.as_fd()];
        watched.extend([&out, &err].into_iter().flatten().map(AsFd::as_fd));
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ExecError::TimedOut { program: program.to_path_buf(), limit });
        }
        proc::wait_any(&watched, left).map_err(|error| failed("poll")(error.errno()))?;
        let ended = proc::wait_readable(pidfd.as_fd(), Duration::ZERO).map_err(|error| failed("poll")(error.errno()))?;
        if !drain(&mut out, &mut stdout, Keep::Start).map_err(failed("read"))? {
            out = None;
        }
        if !drain(&mut err, &mut stderr, Keep::End).map_err(failed("read"))? {
            err = None;
        }
        if ended {
            break;
        }
    }
    let status = child.wait().map_err(|error| failed("wait")(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    Ok(Captured { status, stdout, stderr: String::from_utf8_lossy(&stderr).trim_end().to_owned() })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Start,
    End,
}

/// Reads what is there, at most a few MiB a turn so that the deadline is seen; false at the end of the stream.
fn drain(pipe: &mut Option<OwnedFd>, into: &mut Vec<u8>, keep: Keep) -> nix::Result<bool> {
    let Some(pipe) = pipe else { return Ok(true) };
    let mut chunk = [0; 16 << 10];
    for _ in 0..256 {
        match nix::unistd::read(&mut *pipe, &mut chunk) {
            Ok(0) => return Ok(false),
            Ok(count) if keep == Keep::Start => {
                let room = CAPTURE_LIMIT.saturating_sub(into.len());
                into.extend_from_slice(&chunk[..count.min(room)]);
            }
            Ok(count) => {
                into.extend_from_slice(&chunk[..count]);
                let excess = into.len().saturating_sub(STDERR_TAIL);
                into.drain(..excess);
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

fn set_nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn shell(script: &str) -> Exec {
        Exec::new(&find("sh").unwrap()).args(["-c", script])
    }

    #[test]
    fn a_child_gets_a_clean_start() {
        let leak = std::fs::File::open("/dev/null").unwrap();
        // The descriptor is open to children on purpose: the child must not see it all the same.
        nix::fcntl::fcntl(&leak, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        let raw = leak.as_raw_fd();
        let script = format!(
            "pwd; umask; env | cut -d= -f1 | grep -v '^_$' | sort | xargs; [ ! -e /proc/$$/fd/{raw} ] && echo closed; echo oops >&2"
        );
        let done = shell(&script).env("ONLY", "1").capture(Duration::from_secs(10)).unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), ["/", "0022", "LANG ONLY PATH PWD", "closed"]);
        assert_eq!((done.stderr.as_str(), exit_code(done.status)), ("oops", 0));
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_floods_are_bounded() {
        let started = Instant::now();
        let late = shell("sleep 30").capture(Duration::from_millis(100)).unwrap_err();
        assert!(matches!(late, ExecError::TimedOut { .. }));
        let flood = shell("head -c 9000000 /dev/zero; head -c 9000000 /dev/zero >&2; echo end >&2; exit 3")
            .capture(Duration::from_secs(20))
            .unwrap();
        assert_eq!(flood.stdout.len(), CAPTURE_LIMIT);
        assert!(flood.stderr.ends_with("end") && flood.stderr.len() <= STDERR_TAIL);
        assert_eq!(exit_code(flood.status), 3);
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipe_does_not_hold_us() {
        let started = Instant::now();
        let done = shell("sleep 3 & echo $!").capture(Duration::from_secs(10)).unwrap();
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(String::from_utf8(done.stdout).unwrap().trim().parse::<u32>().is_ok());
    }

    #[test]
    fn programs_are_found_in_path_only_when_they_can_run() {
        assert!(find("sh").unwrap().is_absolute());
        for missing in ["no-such-program", "", "/etc/passwd", "/etc"] {
            assert_eq!(Fault::from(find(missing).unwrap_err()).kind(), Kind::Unavailable);
        }
    }
}
