//! `rkbox exec --tty`: we hold the terminal of the process, copy between it and ours, and leave it when the keys come.

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use super::keys::{Keys, without_keys};
use crate::fault::Result;
use crate::record::life::Exit;
use crate::sys::pty::{self, Raw};
use crate::sys::streams::{self, Moved};
use crate::sys::watch::{self, Interest, Signals, Watch};
use crate::sys::{proc, reaper};

/// What is typed faster than the process reads waits here, in bytes; then nothing more is read.
const QUEUE: usize = 64 << 10;
/// How many chunks are read before others have their turn.
const TURN: usize = 16;
/// The name of a process that stays to hold the terminal of one that was left.
const HOLDER: &std::ffi::CStr = c"rkbox-terminal";

const SIGNALS: u64 = 0;
const INPUT: u64 = 1;
const MASTER: u64 = 2;
const PROCESS: u64 = 3;

/// What came of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The process ended, with this status.
    Ended(u8),
    /// It was left by its keys, and goes on.
    Left,
    /// It took too long.
    TimedOut,
}

/// A terminal between a process and us.
pub struct Session {
    master: OwnedFd,
    pid: i32,
    pidfd: OwnedFd,
    signals: Signals,
    watch: Watch,
    keys: Keys,
    /// How many of the keys have come.
    seen: usize,
    /// What was typed and not read yet.
    queue: Vec<u8>,
    /// What the terminal of the process is watched for; nothing once it is closed.
    master_for: Option<Interest>,
    /// Whether our input is watched.
    hears: bool,
    /// Whether our input goes on: it has not ended, and the process was not left.
    open: bool,
}

impl Session {
    /// Begins to copy between `master`, the terminal of our child `pid`, and ours.
    pub fn begin(master: OwnedFd, pid: i32, keys: Keys) -> Result<Self> {
        streams::set_nonblocking(&master)?;
        let mut taken = vec![watch::RESIZED];
        taken.extend(watch::ASKED_TO_END);
        let (pidfd, signals, watch) = (proc::open_pidfd(pid)?, Signals::take(&taken)?, Watch::new()?);
        watch.add(&signals, SIGNALS, Interest::Read)?;
        watch.add(std::io::stdin(), INPUT, Interest::Read)?;
        watch.add(&master, MASTER, Interest::Read)?;
        watch.add(&pidfd, PROCESS, Interest::Read)?;
        let (queue, master_for) = (Vec::new(), Some(Interest::Read));
        Ok(Session { master, pid, pidfd, signals, watch, keys, seen: 0, queue, master_for, hears: true, open: true })
    }

    /// Copies until the process ends or is left, at most until `deadline`. Our terminal is put back whatever happens.
    ///
    /// Left, the process keeps its terminal: a copy of us stays behind, which holds it and drops what comes from it.
    pub fn run(&mut self, deadline: Option<Instant>) -> Result<Outcome> {
        let mut raw = Some(Raw::enter()?);
        self.resize()?;
        loop {
            let limit = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if limit.is_some_and(|limit| limit.is_zero()) {
                return Ok(Outcome::TimedOut);
            }
            for ready in self.watch.wait(limit)? {
                match ready.token {
                    SIGNALS => self.on_signals()?,
                    INPUT if self.open && self.on_input() => {
                        raw.take();
                        self.watch.remove(std::io::stdin());
                        (self.open, self.hears) = (false, false);
                        if !reaper::stay_behind(HOLDER)? {
                            return Ok(Outcome::Left);
                        }
                    }
                    MASTER => self.drain(),
                    PROCESS => {
                        self.drain();
                        return Ok(Outcome::Ended(reaper::reap_one(self.pid).map_or(Exit::UNKNOWN, |ended| ended.code)));
                    }
                    _ => {}
                }
            }
            self.settle()?;
        }
    }

    fn resize(&self) -> Result<()> {
        match pty::size(std::io::stdin()) {
            Some(size) if size.rows > 0 && size.columns > 0 => pty::resize(&self.master, size),
            _ => Ok(()),
        }
    }

    fn on_signals(&mut self) -> Result<()> {
        while let Some(signal) = self.signals.next() {
            if signal == watch::RESIZED {
                self.resize()?;
            } else {
                proc::send_signal(self.pidfd.as_fd(), signal)?;
            }
        }
        Ok(())
    }

    /// Takes what was typed; whether that was the last of the keys.
    fn on_input(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match streams::read(std::io::stdin(), &mut chunk) {
            Moved::Bytes(count) => {
                let (bytes, leaves) = without_keys(&chunk[..count], self.keys.bytes(), &mut self.seen);
                self.queue.extend(bytes);
                leaves
            }
            Moved::Later => false,
            Moved::End => {
                self.open = false;
                false
            }
        }
    }

    /// Hands on what the process printed. Our own terminal may be slow: so is the process then.
    fn drain(&mut self) {
        let mut chunk = [0; 32 << 10];
        for _ in 0..TURN {
            match streams::read(&self.master, &mut chunk) {
                Moved::Bytes(count) => {
                    // Nobody may be there to see it any more.
                    let mut out = std::io::stdout().lock();
                    let _ = out.write_all(&chunk[..count]).and_then(|()| out.flush());
                }
                Moved::Later => return,
                Moved::End => {
                    if self.master_for.take().is_some() {
                        self.watch.remove(&self.master);
                    }
                    return;
                }
            }
        }
    }

    /// Writes what there is room for, and watches for what is left to do.
    fn settle(&mut self) -> Result<()> {
        if !self.queue.is_empty() {
            match streams::write(&self.master, &self.queue) {
                Moved::Bytes(count) => drop(self.queue.drain(..count)),
                Moved::Later => {}
                Moved::End => self.queue.clear(),
            }
        }
        let wanted = if self.queue.is_empty() { Interest::Read } else { Interest::Both };
        if self.master_for.is_some_and(|now| now != wanted) {
            self.watch.change(&self.master, MASTER, wanted)?;
            self.master_for = Some(wanted);
        }
        let hears = self.open && self.queue.len() < QUEUE;
        match (self.hears, hears) {
            (true, false) => self.watch.remove(std::io::stdin()),
            (false, true) => self.watch.add(std::io::stdin(), INPUT, Interest::Read)?,
            _ => {}
        }
        self.hears = hears;
        Ok(())
    }
}
