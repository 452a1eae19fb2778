//! The loop: everything that comes about, one thing after the other.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use super::checks::Checks;
use super::clients::{self, Clients};
use super::output::Output;
use super::process::{self, Process};
use super::streams::Streams;
use crate::fault::Result;
use crate::record::life::{Answer, Backoff, Channel, Event, EventKind, Exit, Launch, Order, StreamName};
use crate::sys::streams::{self, Moved};
use crate::sys::watch::{self, Interest, Signals, Watch};
use crate::sys::{control, event_log, monitor, proc, reaper};

const SIGNALS: u64 = 0;
const DOOR: u64 = 1;
const PROCESS: u64 = 2;
const STDOUT: u64 = 3;
const STDERR: u64 = 4;
const STDIN: u64 = 5;

/// How long a container waits for the client that comes with it.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
/// How much is read from a stream at once.
const CHUNK: usize = 32 << 10;
/// How many chunks are read before others have their turn.
const TURN: usize = 16;

/// Where the container is between its lives.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its first process lives.
    Alive(Process),
    /// It is started again then.
    Waiting(Instant),
    /// It is over; what waits for clients is sent until then.
    Over(Instant),
}

/// A container being watched.
#[derive(Debug)]
pub struct Monitor {
    pub(super) order: Order,
    pub(super) watch: Watch,
    signals: Signals,
    door: UnixListener,
    pub(super) clients: Clients,
    pub(super) streams: Streams,
    pub(super) output: Output,
    pub(super) stage: Stage,
    pub(super) checks: Checks,
    pub(super) backoff: Backoff,
    pub(super) restarts: u32,
    /// Its user stops it: it is not started again.
    pub(super) stopping: bool,
    /// How it ended last.
    pub(super) exit: Option<Exit>,
    /// Nothing is read of the streams, and no end is seen, before the first client is there, or until then.
    awaits: Option<Instant>,
    held_back: bool,
    /// When that was decided last.
    turn: Instant,
    wants_stdin: bool,
    chunk: Vec<u8>,
}

impl Monitor {
    /// Carries the order out and answers; the container is there when this returns.
    pub fn begin(order: Order) -> Result<Self> {
        let mut taken = vec![watch::CHILD_ENDED];
        taken.extend(watch::ASKED_TO_END);
        let signals = Signals::take(&taken)?;
        let watch = Watch::new()?;
        watch.add(&signals, SIGNALS, Interest::Read)?;
        let door = control::listen(&order.run)?;
        watch.add(&door, DOOR, Interest::Read)?;
        let output = Output::open(order.log.as_ref())?;
        let (process, streams) = process::begin(&order, order.launch, 0).inspect_err(|_| control::unlink(&order.run))?;
        let pid = process.pid;
        let mut monitor = Monitor {
            checks: Checks::new(order.health.clone()),
            backoff: backoff(&order),
            order,
            watch,
            signals,
            door,
            clients: Clients::default(),
            streams,
            output,
            stage: Stage::Over(Instant::now()),
            restarts: 0,
            stopping: false,
            exit: None,
            awaits: None,
            held_back: false,
            turn: Instant::now(),
            wants_stdin: false,
            chunk: Vec::new(),
        };
        if monitor.order.launch == Launch::Run {
            monitor.tell(EventKind::Start, |_| {});
        }
        monitor.awaits = monitor.order.awaits_client.then(|| Instant::now() + CLIENT_LIMIT);
        monitor.live(process)?;
        reaper::outlive_parent()?;
        monitor::send_answer(&Answer::Ready(pid))?;
        Ok(monitor)
    }

    /// Begins to watch a first process and its streams.
    pub(super) fn live(&mut self, process: Process) -> Result<()> {
        self.checks.begin(process.since);
        self.stage = Stage::Alive(process);
        (self.held_back, self.wants_stdin) = (false, false);
        if self.awaits.is_none() { self.look() } else { Ok(()) }
    }

    /// Begins to see what the process prints, and its end.
    fn look(&mut self) -> Result<()> {
        self.awaits = None;
        let Stage::Alive(process) = &self.stage else { return Ok(()) };
        self.watch.add(&process.pidfd, PROCESS, Interest::Read)?;
        for (end, token) in [(&self.streams.stdout, STDOUT), (&self.streams.stderr, STDERR)] {
            if let Some(end) = end {
                self.watch.add(end, token, Interest::Read)?;
            }
        }
        Ok(())
    }

    /// The first client is there.
    pub(super) fn on_attached(&mut self) {
        if self.awaits.is_some() {
            let _ = self.look();
        }
    }

    /// Watches until the container is over and everybody was told.
    pub fn run(&mut self) {
        while !self.is_done() {
            let limit = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
            // A wait that fails would fail for ever: better no monitor than one that spins.
            let Ok(ready) = self.watch.wait(limit) else { break };
            for one in ready {
                match one.token {
                    SIGNALS => self.on_signals(),
                    DOOR => self.clients.accept(&self.door, &self.watch),
                    PROCESS => self.on_process(),
                    STDOUT => self.on_output(StreamName::Stdout),
                    STDERR => self.on_output(StreamName::Stderr),
                    STDIN => self.streams.flush(),
                    token if one.read => self.on_client(usize::try_from(token - clients::FIRST).unwrap_or(usize::MAX)),
                    _ => {}
                }
            }
            self.on_time();
            self.settle();
        }
        self.leave();
    }

    fn next_deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Alive(_) => {
                [self.awaits, self.checks.deadline(), self.clients.patience_ends(Instant::now())].into_iter().flatten().min()
            }
            Stage::Waiting(at) | Stage::Over(at) => Some(*at),
        }
    }

    fn is_done(&self) -> bool {
        let Stage::Over(until) = self.stage else { return false };
        let (any, paced) = self.clients.unsent();
        !any || (!paced && Instant::now() >= until)
    }

    fn on_signals(&mut self) {
        // All but the death of a child are for the container to see by itself, if they are for it: a monitor goes only when it is over.
        while self.signals.next().is_some() {}
        self.reap();
        if let Some(changed) = self.checks.take_change() {
            self.tell(EventKind::Health, |event| event.detail = Some(changed.word().to_owned()));
        }
    }

    /// Takes the status of a check, and of orphans that came to us. The first process is left to `on_process`.
    pub(super) fn reap(&mut self) {
        let own = self.process().map(|process| process.pid);
        while let Some(pid) = reaper::find_ended_child().filter(|pid| Some(*pid) != own) {
            match reaper::reap_one(pid) {
                Some(ended) if self.checks.is_check(pid) => self.checks.on_ended(&self.order, ended),
                _ => {}
            }
        }
    }

    pub(super) fn process(&self) -> Option<&Process> {
        match &self.stage {
            Stage::Alive(process) => Some(process),
            _ => None,
        }
    }

    /// Reads a stream and hands it on.
    fn on_output(&mut self, stream: StreamName) {
        for _ in 0..TURN {
            match self.read_once(stream) {
                Moved::Bytes(count) if count == CHUNK => {}
                Moved::Bytes(_) | Moved::Later => break,
                Moved::End => {
                    let end = if stream == StreamName::Stdout { &mut self.streams.stdout } else { &mut self.streams.stderr };
                    if let Some(end) = end.take() {
                        self.watch.remove(&end);
                    }
                    break;
                }
            }
        }
    }

    fn read_once(&mut self, stream: StreamName) -> Moved {
        let (end, channel) = match stream {
            StreamName::Stdout => (&self.streams.stdout, Channel::Stdout),
            StreamName::Stderr => (&self.streams.stderr, Channel::Stderr),
        };
        let Some(end) = end else { return Moved::End };
        self.chunk.resize(CHUNK, 0);
        let moved = streams::read(end, &mut self.chunk);
        if let Moved::Bytes(count) = moved {
            self.output.write(stream, &self.chunk[..count]);
            self.clients.output(channel, &self.chunk[..count], self.turn);
        }
        moved
    }

    /// Reads all that is left of the streams; whether both have ended.
    pub(super) fn drain(&mut self) -> bool {
        let mut ended = true;
        for stream in [StreamName::Stdout, StreamName::Stderr] {
            ended &= loop {
                match self.read_once(stream) {
                    Moved::Bytes(_) => {}
                    Moved::Later => break false,
                    Moved::End => break true,
                }
            };
        }
        ended
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.awaits.is_some_and(|until| now >= until) {
            let _ = self.look();
        }
        match self.stage {
            Stage::Alive(_) => self.checks.on_time(&self.order, now),
            Stage::Waiting(at) if now >= at => self.start_again(),
            _ => {}
        }
    }

    /// After each turn: what waits is written, and who is too fast waits.
    fn settle(&mut self) {
        let gone = self.clients.flush(&self.watch, self.streams.is_full());
        for role in gone {
            self.on_gone(role);
        }
        self.turn = Instant::now();
        let hold = self.clients.hold_back(self.turn);
        if self.awaits.is_none() && hold != self.held_back && matches!(self.stage, Stage::Alive(_)) {
            for (end, token) in [(&self.streams.stdout, STDOUT), (&self.streams.stderr, STDERR)] {
                match end {
                    Some(end) if hold => self.watch.remove(end),
                    Some(end) => drop(self.watch.add(end, token, Interest::Read)),
                    None => {}
                }
            }
            self.held_back = hold;
        }
        self.watch_input();
    }

    /// Waits for room in the input while something is queued for it.
    fn watch_input(&mut self) {
        let wants = self.streams.has_queued();
        if wants == self.wants_stdin {
            return;
        }
        self.wants_stdin = wants;
        match (&self.streams.stdin, &self.streams.stdout) {
            (Some(stdin), _) if wants => drop(self.watch.add(stdin, STDIN, Interest::Write)),
            (Some(stdin), _) => self.watch.remove(stdin),
            // The master of a terminal is watched for its output already.
            (None, Some(master)) if self.streams.has_terminal() && !self.held_back && self.awaits.is_none() => {
                drop(self.watch.change(master, STDOUT, if wants { Interest::Both } else { Interest::Read }));
            }
            _ => {}
        }
    }

    /// Appends an event.
    pub(super) fn tell(&self, kind: EventKind, detail: impl FnOnce(&mut Event)) {
        let mut event = Event::new(proc::now_rfc3339(), kind, self.order.id.as_str(), &self.order.name);
        detail(&mut event);
        // The container goes on without a line about it.
        let _ = event_log::append(&self.order.events, &event);
    }
}

/// Debug builds can shorten the back-off, for tests: milliseconds of the first wait, in the environment that is handed on.
fn backoff(order: &Order) -> Backoff {
    #[cfg(debug_assertions)]
    if let Some(first) = order.environment.get("RKBOX_TEST_BACKOFF_MS").and_then(|text| text.parse().ok()) {
        return Backoff::new(Duration::from_millis(first));
    }
    let _ = order;
    Backoff::default()
}
