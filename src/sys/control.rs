//! The control socket of a monitor: listening, and the side of those who ask.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use crate::fault::{Context as _, Fault, Kind, Result, kind_of_errno};
use crate::record::life::{CHUNK, Channel, HEADER, Header, Reply, Request};

/// Name of the socket in the volatile directory of a container.
const NAME: &str = "control.sock";

fn fault(error: &std::io::Error) -> Fault {
    Fault::new(kind_of_errno(Errno::from_raw(error.raw_os_error().unwrap_or(0))), error.to_string())
}

/// A path to the socket in `dir` that is short enough for a socket address, as long as the descriptor lives.
fn short(dir: &std::fs::File) -> String {
    format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd())
}

/// Listens on the control socket in `dir`, mode 0600, in place of a dead one.
pub fn listen(dir: &Path) -> Result<UnixListener> {
    let path = dir.join(NAME);
    let _ = std::fs::remove_file(&path);
    let listener = std::fs::File::open(dir).and_then(|open| UnixListener::bind(short(&open)));
    let listener = listener.map_err(|error| fault(&error)).doing(|| format!("listening on {}", path.display()))?;
    let closed = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).and_then(|()| listener.set_nonblocking(true));
    closed.map_err(|error| fault(&error)).doing(|| format!("closing {} to others", path.display()))?;
    Ok(listener)
}

/// Removes the socket in `dir`.
pub fn unlink(dir: &Path) {
    let _ = std::fs::remove_file(dir.join(NAME));
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection {
    /// Connects to the monitor whose volatile directory is `dir`; `None` when none listens.
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        match std::fs::File::open(dir).and_then(|open| UnixStream::connect(short(&open))) {
            Ok(stream) => Ok(Some(Connection { stream })),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ECONNREFUSED | libc::ENOTDIR)) => Ok(None),
            Err(error) => Err(fault(&error).doing("connecting to the monitor")),
        }
    }

    /// The same connection, for another thread to send on.
    pub fn writer(&self) -> Result<Self> {
        Ok(Connection { stream: self.stream.try_clone().map_err(|error| fault(&error))? })
    }

    /// Ends it for all who hold it.
    pub fn shut(&self) -> Result<()> {
        self.stream.shutdown(std::net::Shutdown::Both).map_err(|error| fault(&error))
    }

    /// Takes the limit of [`Self::reply`] off again.
    pub fn wait_for_ever(&self) -> Result<()> {
        self.stream.set_read_timeout(None).map_err(|error| fault(&error))
    }

    /// Sends a request.
    pub fn ask(&mut self, request: &Request) -> Result<()> {
        let word = serde_json::to_vec(request).map_err(|error| Fault::from_error(Kind::Internal, error))?;
        self.send(Channel::Word, &word)
    }

    /// Sends one frame.
    pub fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        frame.extend_from_slice(&Header { channel, length: payload.len() }.to_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).map_err(|error| fault(&error)).doing(|| "asking the monitor")
    }

    /// Receives one frame, waiting for it; `None` when the monitor is gone.
    pub fn receive(&mut self) -> Result<Option<(Channel, Vec<u8>)>> {
        let mut header = [0; HEADER];
        if !self.fill(&mut header)? {
            return Ok(None);
        }
        let header = Header::parse(header).ok_or_else(|| Fault::new(Kind::DataLoss, "the monitor speaks another language"))?;
        let mut payload = vec![0; header.length.min(CHUNK)];
        Ok(self.fill(&mut payload)?.then_some((header.channel, payload)))
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<bool> {
        match self.stream.read_exact(into) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset) => Ok(false),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN)) => {
                Err(Fault::new(Kind::DeadlineExceeded, "the monitor does not answer"))
            }
            Err(error) => Err(fault(&error).doing("listening to the monitor")),
        }
    }

    /// The next reply; `None` when the monitor is gone. *Errors:* `DeadlineExceeded` after `limit`.
    pub fn reply(&mut self, limit: Option<Duration>) -> Result<Option<Reply>> {
        self.stream.set_read_timeout(limit).map_err(|error| fault(&error))?;
        loop {
            match self.receive()? {
                None => return Ok(None),
                Some((Channel::Word, word)) => {
                    return serde_json::from_slice(&word).map(Some).map_err(|error| Fault::from_error(Kind::DataLoss, error));
                }
                Some(_) => {}
            }
        }
    }
}

/// Asks the monitor in `dir` one thing; `None` when there is none.
pub fn ask(dir: &Path, request: &Request, limit: Option<Duration>) -> Result<Option<Reply>> {
    let Some(mut connection) = Connection::open(dir)? else { return Ok(None) };
    match connection.ask(request) {
        Ok(()) => connection.reply(limit),
        // It ended in between.
        Err(_) => Ok(None),
    }
}
