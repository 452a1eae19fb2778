//! The streams of a container: FIFOs that outlive their reader, and reads and writes that never block.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;

use crate::fault::{Fault, Result, kind_of_errno};

/// How many bytes a pipe is asked to hold; less is accepted.
const PIPE_SIZE: i32 = 1 << 20;

fn failed(call: &str, path: &Path) -> impl FnOnce(Errno) -> Fault {
    let message = format!("{call} {}", path.display());
    move |errno| Fault::new(kind_of_errno(errno), format!("{message}: {errno}"))
}

/// Makes the FIFO at `path` unless it is there already; mode 0600.
pub fn ensure_fifo(path: &Path) -> Result<()> {
    match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(failed("mkfifo", path)(errno)),
    }
}

/// Opens the reading end of a FIFO, not blocking.
pub fn open_reader(path: &Path) -> Result<OwnedFd> {
    let fifo = open(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW), path)?;
    let _ = fcntl(&fifo, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
    Ok(fifo.into())
}

/// Opens a FIFO for a container to write to. It is open for reading too, so that its writers are not killed by SIGPIPE when their
/// reader dies: they wait for the next one.
pub fn open_writer(path: &Path) -> Result<OwnedFd> {
    Ok(open(OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW), path)?.into())
}

fn open(options: &OpenOptions, path: &Path) -> Result<File> {
    options.open(path).map_err(|error| failed("open", path)(Errno::from_raw(error.raw_os_error().unwrap_or(0))))
}

/// A pipe: the end to read, the end to write. Only the write end does not block.
pub fn pipe_to_child() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed("pipe", Path::new("")))?;
    set_nonblocking(&writer)?;
    Ok((reader, writer))
}

/// Lets go of the standard input and output that this process was started with.
pub fn let_go() -> Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null").map_err(|error| Fault::internal(error.to_string()))?;
    let replaced = nix::unistd::dup2_stdin(&null).and_then(|()| nix::unistd::dup2_stdout(&null));
    replaced.map_err(|errno| Fault::internal(format!("dup2: {errno}")))
}

/// Makes reads and writes of a descriptor return at once.
pub fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags =
        fcntl(fd, FcntlArg::F_GETFL).and_then(|flags| fcntl(fd, FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK)));
    flags.map(drop).map_err(failed("fcntl", Path::new("")))
}

/// What a read or write answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now.
    Later,
    /// Nothing ever again.
    End,
}

/// Reads what is there. The end of a terminal, which says EIO, is an end.
pub fn read(fd: impl AsFd, into: &mut [u8]) -> Moved {
    loop {
        match nix::unistd::read(&fd, into) {
            Ok(0) => return Moved::End,
            Ok(count) => return Moved::Bytes(count),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Moved::Later,
            Err(_) => return Moved::End,
        }
    }
}

/// Writes what there is room for.
pub fn write(fd: impl AsFd, from: &[u8]) -> Moved {
    loop {
        match nix::unistd::write(&fd, from) {
            Ok(count) => return Moved::Bytes(count),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Moved::Later,
            Err(_) => return Moved::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_outlives_its_reader_and_nothing_is_lost() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("stdout");
        ensure_fifo(&path).unwrap();
        ensure_fifo(&path).unwrap();
        let reader = open_reader(&path).unwrap();
        let writer = open_writer(&path).unwrap();
        assert_eq!(write(&writer, b"one"), Moved::Bytes(3));
        drop(reader);
        assert_eq!(write(&writer, b"two"), Moved::Bytes(3));
        let reader = open_reader(&path).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(read(&reader, &mut bytes), Moved::Bytes(6));
        assert_eq!(&bytes[..6], b"onetwo");
        assert_eq!(read(&reader, &mut bytes), Moved::Later);
        drop(writer);
        assert_eq!(read(&reader, &mut bytes), Moved::End);
    }
}
