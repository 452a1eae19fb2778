//! The ends of a container's streams that the monitor holds.

use std::os::fd::{AsFd as _, OwnedFd};

use crate::fault::Result;
use crate::record::life::Order;
use crate::sys::exec::Stream;
use crate::sys::pty::{self, ConsoleSocket, Size};
use crate::sys::streams::{self, Moved};

/// How much input waits for a container that does not read, before its clients wait too, in bytes.
const QUEUE: usize = 64 << 10;

/// Our ends.
#[derive(Debug, Default)]
pub struct Streams {
    /// What it prints; the master of its terminal when it has one.
    pub stdout: Option<OwnedFd>,
    /// Its errors.
    pub stderr: Option<OwnedFd>,
    /// The writing end of its input; without one it has none, or its terminal takes it.
    pub stdin: Option<OwnedFd>,
    has_terminal: bool,
    queue: Vec<u8>,
    ending: bool,
}

/// The ends of the container.
pub struct Ends {
    /// Input, output, errors of the runtime, which the container inherits.
    pub streams: [Stream; 3],
    /// Where the runtime sends the terminal.
    pub console: Option<ConsoleSocket>,
}

impl Streams {
    /// Makes the streams of a container that begins.
    pub fn make(order: &Order) -> Result<(Self, Ends)> {
        if order.tty {
            let console = ConsoleSocket::bind(&order.run, "console.sock")?;
            let ends = Ends { streams: [Stream::Null, Stream::Null, Stream::Null], console: Some(console) };
            return Ok((Streams { has_terminal: true, ..Streams::default() }, ends));
        }
        let mut ours = Self::open(order)?;
        let (mut theirs, mut input) = (Vec::new(), Stream::Null);
        for name in ["stdout", "stderr"] {
            theirs.push(streams::open_writer(&order.run.join(name))?);
        }
        if order.stdin {
            let (reader, writer) = streams::pipe_to_child()?;
            (ours.stdin, input) = (Some(writer), Stream::Fd(reader));
        }
        let [Some(stderr), Some(stdout)] = [theirs.pop(), theirs.pop()] else {
            return Ok((ours, Ends { streams: [input, Stream::Null, Stream::Null], console: None }));
        };
        Ok((ours, Ends { streams: [input, Stream::Fd(stdout), Stream::Fd(stderr)], console: None }))
    }

    /// Opens our ends of the streams of a container that may be there already. A terminal cannot be opened again.
    pub fn open(order: &Order) -> Result<Self> {
        let mut ours = Streams { has_terminal: order.tty, ..Streams::default() };
        if !order.tty {
            for (name, end) in [("stdout", &mut ours.stdout), ("stderr", &mut ours.stderr)] {
                let path = order.run.join(name);
                streams::ensure_fifo(&path)?;
                *end = Some(streams::open_reader(&path)?);
            }
        }
        Ok(ours)
    }

    /// Takes the terminal that the runtime has sent.
    pub fn take_terminal(&mut self, console: &ConsoleSocket) -> Result<()> {
        let master = console.receive()?;
        streams::set_nonblocking(&master)?;
        self.stdout = Some(master);
        Ok(())
    }

    /// Queues input for the container; what comes when it has none is dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.ending && self.sink().is_some() {
            self.queue.extend_from_slice(bytes);
            self.flush();
        }
    }

    /// Ends the input when all that is queued is written. A terminal has no end: it is sent the character that means one.
    pub fn end_input(&mut self) {
        if self.has_terminal {
            self.push(&[4]);
            return;
        }
        self.ending = true;
        self.flush();
    }

    fn sink(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        if self.has_terminal { self.stdout.as_ref() } else { self.stdin.as_ref() }.map(|fd| fd.as_fd())
    }

    /// Writes what there is room for.
    pub fn flush(&mut self) {
        while !self.queue.is_empty() {
            let moved = self.sink().map_or(Moved::End, |sink| streams::write(sink, &self.queue));
            match moved {
                Moved::Bytes(count) => drop(self.queue.drain(..count)),
                Moved::Later => return,
                Moved::End => {
                    self.queue = Vec::new();
                    self.stdin = None;
                    return;
                }
            }
        }
        self.queue = Vec::new();
        if self.ending {
            self.stdin = None;
        }
    }

    /// Whether input waits to be written.
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether so much input waits that no more is taken.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= QUEUE
    }

    /// Gives the terminal another size; nothing without one.
    pub fn resize(&self, size: Size) -> Result<()> {
        match &self.stdout {
            Some(master) if self.has_terminal => pty::resize(master, size),
            _ => Ok(()),
        }
    }

    /// Whether it has a terminal.
    pub fn has_terminal(&self) -> bool {
        self.has_terminal
    }
}
