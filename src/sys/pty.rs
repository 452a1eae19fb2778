//! Terminals: the master that the runtime sends, sizes, and the raw mode of our own, which is always put back.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::termios::{self, SetArg, Termios};

use crate::fault::{Fault, Result, kind_of_errno};

fn failed(call: &'static str) -> impl FnOnce(Errno) -> Fault {
    move |errno| Fault::new(kind_of_errno(errno), format!("{call}: {errno}"))
}

/// Lines and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// The size of the terminal `fd`; `None` when it is none.
#[allow(unsafe_code)]
pub fn size(fd: impl AsFd) -> Option<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    let answered = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (answered == 0).then_some(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Gives the terminal `fd` another size; its foreground processes get SIGWINCH.
#[allow(unsafe_code)]
pub fn resize(fd: impl AsFd, size: Size) -> Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    Errno::result(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop).map_err(failed("TIOCSWINSZ"))
}

/// Where a runtime sends the master of a container's terminal to.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    /// The directory of the socket: its descriptor makes a path that is short enough for a socket address.
    dir: OwnedFd,
    path: std::path::PathBuf,
}

impl ConsoleSocket {
    /// Makes the socket `name` in `dir`.
    pub fn bind(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        let io = |error: std::io::Error| failed("bind console socket")(Errno::from_raw(error.raw_os_error().unwrap_or(0)));
        let _ = std::fs::remove_file(&path);
        let open: OwnedFd = std::fs::File::open(dir).map_err(io)?.into();
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", open.as_raw_fd())).map_err(io)?;
        listener.set_nonblocking(true).map_err(io)?;
        Ok(ConsoleSocket { listener, dir: open, path })
    }

    /// The path to give to a runtime that this process starts.
    pub fn path(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().display();
        format!("/proc/{}/fd/{}/{name}", std::process::id(), self.dir.as_raw_fd())
    }

    /// Takes the master, which a runtime that has ended well has sent.
    pub fn receive(&self) -> Result<OwnedFd> {
        let io = |error: std::io::Error| failed("accept console socket")(Errno::from_raw(error.raw_os_error().unwrap_or(0)));
        let (stream, _) = self.listener.accept().map_err(io)?;
        receive_descriptor(&stream)
    }
}

impl AsFd for ConsoleSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The one descriptor that comes with a message.
#[allow(unsafe_code)]
fn receive_descriptor(stream: &UnixStream) -> Result<OwnedFd> {
    let mut name = [0; 4096];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).map_err(failed("recvmsg"))?;
    for control in message.cmsgs().map_err(failed("recvmsg"))? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just made this descriptor for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(Fault::internal("the runtime sent no terminal"))
}

/// Raw mode of our standard input, until dropped.
#[derive(Debug)]
pub struct Raw {
    _before: Kept,
}

impl Raw {
    /// Makes the terminal on standard input raw: each key is sent on at once, and none of them acts here.
    pub fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin).map_err(failed("tcgetattr"))?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw).map_err(failed("tcsetattr"))?;
        Ok(Raw { _before: Kept(Some(before)) })
    }
}

/// The state of the terminal on standard input, put back when dropped; nothing without one.
#[derive(Debug)]
pub struct Kept(Option<Termios>);

impl Kept {
    /// Takes note of it.
    pub fn take() -> Self {
        Kept(termios::tcgetattr(std::io::stdin()).ok())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
