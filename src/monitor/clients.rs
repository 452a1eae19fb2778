//! Those who ask: connections, their requests, and what waits to be sent to them.

use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use crate::record::life::{CHUNK, Channel, HEADER, Header, Reply, Request};
use crate::sys::streams::{self, Moved};
use crate::sys::watch::{Interest, Watch};

/// What waits for a client that is too slow, in bytes, before output is left out for it.
const QUEUE: usize = 1 << 20;
/// What waits for a client before the container waits: for one whose pace is its own as long as it takes, for others [`PATIENCE`].
const PACE: usize = 256 << 10;
/// How long the container waits in one go for any other client: one that only had no turn on a busy processor misses nothing, one that was
/// stopped delays the container by no more, and one that takes less than half a megabyte per second misses what it cannot take.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most clients at once.
const MOST: usize = 256;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has not asked yet.
    New,
    /// It was answered.
    Answered,
    /// It waits for the end.
    Waiting,
    /// It copies the streams.
    Attached {
        /// Whether it sends input.
        stdin: bool,
        /// Whether its pace is the container's.
        pace: bool,
    },
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// What it is for.
    pub role: Role,
    got: Vec<u8>,
    queue: Vec<u8>,
    /// Since when more than [`PACE`] waits for it.
    behind: Option<Instant>,
    missed: u64,
    interest: Interest,
}

/// What a client said.
#[derive(Debug)]
pub enum Said {
    /// A request.
    Asked(Request),
    /// Input; empty at its end.
    Input(Vec<u8>),
    /// Nothing that is understood: the connection is closed.
    Nonsense,
}

impl Client {
    /// Queues one frame.
    pub fn send(&mut self, channel: Channel, payload: &[u8]) {
        for part in payload.chunks(CHUNK) {
            self.queue.extend_from_slice(&Header { channel, length: part.len() }.to_bytes());
            self.queue.extend_from_slice(part);
        }
    }

    /// Queues a reply.
    pub fn reply(&mut self, reply: &Reply) {
        self.send(Channel::Word, &serde_json::to_vec(reply).unwrap_or_default());
    }

    /// Queues output; one that is too slow is told later how much it missed.
    ///
    /// One for which the container was to wait at the beginning of this turn misses nothing: what can come in one is what the pipes hold.
    fn output(&mut self, channel: Channel, bytes: &[u8], turn: Instant) {
        let Role::Attached { .. } = self.role else { return };
        if self.queue.len() + bytes.len() > QUEUE && self.holds(turn).is_none() {
            self.missed += bytes.len() as u64;
            return;
        }
        self.tell_missed();
        self.send(channel, bytes);
        if self.queue.len() > PACE && self.behind.is_none() {
            self.behind = Some(Instant::now());
        }
    }

    fn tell_missed(&mut self) {
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed).to_string();
            self.send(Channel::Missed, missed.as_bytes());
        }
    }

    /// Until when the container waits for it: `None` if it does not, `Some(None)` as long as it takes.
    fn holds(&self, now: Instant) -> Option<Option<Instant>> {
        let Role::Attached { pace, .. } = self.role else { return None };
        let end = self.behind? + PATIENCE;
        if pace { Some(None) } else { (now < end).then_some(Some(end)) }
    }

    /// Writes what there is room for; false when the other side is gone.
    fn flush(&mut self) -> bool {
        let mut sent = 0;
        let alive = loop {
            if sent == self.queue.len() {
                break true;
            }
            match streams::write(self.stream.as_fd(), &self.queue[sent..]) {
                Moved::Bytes(count) => sent += count,
                Moved::Later => break true,
                Moved::End => break false,
            }
        };
        self.queue.drain(..sent);
        if self.queue.len() <= PACE {
            self.behind = None;
        }
        if self.queue.is_empty() {
            self.queue = Vec::new();
        }
        alive
    }

    /// Reads what it said; `None` when it is gone.
    fn read(&mut self) -> Option<Vec<Said>> {
        let mut chunk = [0; 16 << 10];
        let gone = match streams::read(self.stream.as_fd(), &mut chunk) {
            Moved::Bytes(count) => {
                self.got.extend_from_slice(&chunk[..count]);
                false
            }
            Moved::Later => false,
            Moved::End => true,
        };
        let mut all = Vec::new();
        while let Some((start, rest)) = self.got.split_first_chunk::<HEADER>() {
            let Some(header) = Header::parse(*start) else { return Some(vec![Said::Nonsense]) };
            if rest.len() < header.length {
                break;
            }
            let payload = rest[..header.length].to_vec();
            self.got.drain(..HEADER + header.length);
            all.push(match header.channel {
                Channel::Word => serde_json::from_slice(&payload).map_or(Said::Nonsense, Said::Asked),
                Channel::Stdin => Said::Input(payload),
                _ => Said::Nonsense,
            });
        }
        (!gone || !all.is_empty()).then_some(all)
    }
}

/// All connections; the place of one gives its token.
#[derive(Debug, Default)]
pub struct Clients {
    all: Vec<Option<Client>>,
}

/// The token of the first client; lower ones are the monitor's own.
pub const FIRST: u64 = 16;

impl Clients {
    /// Takes in everybody who waits at the door.
    pub fn accept(&mut self, listener: &UnixListener, watch: &Watch) {
        while let Ok((stream, _)) = listener.accept() {
            let place = self.all.iter().position(Option::is_none).unwrap_or(self.all.len());
            if place >= MOST || stream.set_nonblocking(true).is_err() || watch.add(&stream, FIRST + place as u64, Interest::Read).is_err() {
                continue;
            }
            let client =
                Client { stream, role: Role::New, got: Vec::new(), queue: Vec::new(), behind: None, missed: 0, interest: Interest::Read };
            if place == self.all.len() {
                self.all.push(None);
            }
            self.all[place] = Some(client);
        }
    }

    /// The client at `place`.
    pub fn at(&mut self, place: usize) -> Option<&mut Client> {
        self.all.get_mut(place)?.as_mut()
    }

    /// Closes a connection; answers what it was for.
    pub fn close(&mut self, place: usize) -> Option<Role> {
        self.all.get_mut(place)?.take().map(|client| client.role)
    }

    /// What the client at `place` said; `None` when it is gone.
    pub fn hear(&mut self, place: usize) -> Option<Vec<Said>> {
        self.at(place)?.read()
    }

    /// Sends output to all who are attached; `turn` is when it was last decided who is waited for.
    pub fn output(&mut self, channel: Channel, bytes: &[u8], turn: Instant) {
        self.all.iter_mut().flatten().for_each(|client| client.output(channel, bytes, turn));
    }

    /// Tells the end to all who wait for it or are attached; `last` closes their ears.
    pub fn tell_end(&mut self, reply: &Reply) {
        for client in self.all.iter_mut().flatten() {
            if matches!(client.role, Role::Waiting | Role::Attached { .. }) {
                client.tell_missed();
                client.reply(reply);
                if client.role == Role::Waiting {
                    client.role = Role::Answered;
                }
            }
        }
    }

    /// Whether the container has to wait for somebody.
    pub fn hold_back(&self, now: Instant) -> bool {
        self.all.iter().flatten().any(|client| client.holds(now).is_some())
    }

    /// When the first of those for whom it does not wait for ever has had his time.
    pub fn patience_ends(&self, now: Instant) -> Option<Instant> {
        self.all.iter().flatten().filter_map(|client| client.holds(now)?).min()
    }

    /// Whether something waits to be sent: to anybody, and to one whose pace counts.
    pub fn unsent(&self) -> (bool, bool) {
        let waiting = |client: &&Client| !client.queue.is_empty();
        let paced = |client: &Client| matches!(client.role, Role::Attached { pace: true, .. });
        (self.all.iter().flatten().any(|client| waiting(&client)), self.all.iter().flatten().filter(waiting).any(paced))
    }

    /// Writes what there is room for, and waits for what is left; answers the roles of those who went.
    pub fn flush(&mut self, watch: &Watch, input_is_full: bool) -> Vec<Role> {
        let mut gone = Vec::new();
        for (place, slot) in self.all.iter_mut().enumerate() {
            let Some(client) = slot else { continue };
            if !client.flush() {
                gone.push(client.role);
                *slot = None;
                continue;
            }
            let deaf = input_is_full && matches!(client.role, Role::Attached { stdin: true, .. });
            let interest = match (deaf, client.queue.is_empty()) {
                (false, true) => Interest::Read,
                (false, false) => Interest::Both,
                (true, false) => Interest::Write,
                (true, true) => Interest::End,
            };
            if interest != client.interest && watch.change(&client.stream, FIRST + place as u64, interest).is_ok() {
                client.interest = interest;
            }
        }
        gone
    }
}
