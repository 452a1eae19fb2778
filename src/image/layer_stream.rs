//! The pipes between the stages of a layer: bounded, with recycled buffers, one thread to a stage.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{Scope, ScopedJoinHandle};

use super::two_digests::{Twin, TwoDigests};
use super::{Algorithm, Digest, Hasher};

/// How much waits between two stages.
#[derive(Clone, Copy)]
struct Depth {
    /// Full buffers.
    buffers: usize,
    /// Bytes of one.
    bytes: usize,
}

/// With a buffer in each hand this bounds a pipe to 1.5 MiB.
const SHALLOW: Depth = Depth { buffers: 4, bytes: 256 << 10 };
/// Before the writer, which is slower than inflating where files are small, and faster where they are large: less than this costs up to a
/// tenth of the time of two processors. 9 MiB.
const DEEP: Depth = Depth { buffers: 16, bytes: 512 << 10 };

type Chunk = io::Result<Vec<u8>>;

/// The writing end of a pipe.
pub struct Feed {
    full: SyncSender<Chunk>,
    empty: Receiver<Vec<u8>>,
    chunk: usize,
}

/// The reading end of a pipe.
pub struct Stream {
    full: Receiver<Chunk>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
    behind: Option<Behind>,
}

/// What the reader has read, on its way to be digested.
struct Behind {
    read: SyncSender<Passed>,
    files: Vec<FileMark>,
    digests: Receiver<[u8; 32]>,
}

/// A buffer that was read, with the files that start in it; or the end.
enum Passed {
    Bytes(Vec<u8>, Vec<FileMark>),
    End,
}

/// Where a file starts, and how many bytes it has.
struct FileMark {
    at: usize,
    size: u64,
    twin: Twin,
}

/// The digest of some bytes, and how many they are.
pub type Digested = (Digest, u64);

/// A digest in the making; its end is `None` when nobody read to the end.
pub type Digesting<'scope> = ScopedJoinHandle<'scope, Option<Digested>>;

/// A new pipe.
pub fn pipe() -> (Feed, Stream) {
    pipe_of(SHALLOW)
}

/// A new pipe to the writer.
pub fn deep_pipe() -> (Feed, Stream) {
    pipe_of(DEEP)
}

fn pipe_of(depth: Depth) -> (Feed, Stream) {
    let (full_tx, full_rx) = mpsc::sync_channel(depth.buffers);
    let (empty_tx, empty_rx) = mpsc::channel();
    (Feed { full: full_tx, empty: empty_rx, chunk: depth.bytes }, Stream::new(full_rx, empty_tx))
}

impl Feed {
    /// Reads `source` to its end into the pipe; answers whether it came there, and not only as far as somebody read.
    ///
    /// *Errors:* those of `source`, which the reading end gets as well: it must not take a broken stream for a short one.
    pub fn pump(&self, source: &mut dyn Read) -> io::Result<bool> {
        self.pump_through(source, |_| ())
    }

    /// As [`Self::pump`], with the digest of what it read; `None` when nobody read to the end.
    pub fn pump_digested(&self, algorithm: Algorithm, source: &mut dyn Read) -> io::Result<Option<Digested>> {
        let (mut digest, mut count) = (Hasher::new(algorithm), 0);
        let ended = self.pump_through(source, |bytes| {
            digest.update(bytes);
            count += bytes.len() as u64;
        })?;
        Ok(ended.then(|| (digest.finish(), count)))
    }

    fn pump_through(&self, source: &mut dyn Read, mut look: impl FnMut(&[u8])) -> io::Result<bool> {
        loop {
            let mut buffer = self.empty.try_recv().unwrap_or_default();
            buffer.resize(self.chunk, 0);
            match read_full(source, &mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => buffer.truncate(count),
                Err(error) => {
                    let told = io::Error::new(error.kind(), error.to_string());
                    let _ = self.full.send(Err(error));
                    return Err(told);
                }
            }
            look(&buffer);
            if self.full.send(Ok(buffer)).is_err() {
                return Ok(false);
            }
        }
    }
}

/// Digests a buffer and the files that start in it.
fn digest_all(sums: &mut TwoDigests, bytes: &[u8], files: &[FileMark], found: &Sender<[u8; 32]>) {
    let mut at = 0;
    let mut until = |sums: &mut TwoDigests, end: usize| {
        while at < end {
            let (count, digest) = sums.update(&bytes[at..end]);
            at += count;
            digest.map(|digest| found.send(digest));
        }
    };
    for file in files {
        until(sums, file.at);
        sums.start_file(file.size, file.twin).map(|digest| found.send(digest));
    }
    until(sums, bytes.len());
}

fn read_full(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Stream {
    fn new(full: Receiver<Chunk>, empty: Sender<Vec<u8>>) -> Self {
        Stream { full, empty, current: Vec::new(), position: 0, ended: false, behind: None }
    }

    /// Puts a thread behind that digests what was read, and the files in it that [`Self::digest_file`] names. To be called before
    /// anything is consumed. `algorithm` is that of the whole; files are digested with SHA-256.
    pub fn digested_behind<'scope>(mut self, algorithm: Algorithm, scope: &'scope Scope<'scope, '_>) -> (Stream, Digesting<'scope>) {
        let (read, passed) = mpsc::sync_channel(SHALLOW.buffers);
        let (found, digests) = mpsc::channel();
        let empty = self.empty.clone();
        if self.ended {
            // Somebody has looked for the first bytes, and there are none.
            let _ = read.send(Passed::End);
        }
        self.behind = Some(Behind { read, files: Vec::new(), digests });
        let digesting = scope.spawn(move || {
            let mut sums = TwoDigests::new(algorithm);
            for passed in passed {
                let Passed::Bytes(bytes, files) = passed else {
                    return Some(sums.finish());
                };
                digest_all(&mut sums, &bytes, &files, &found);
                let _ = empty.send(bytes);
            }
            None
        });
        (self, digesting)
    }

    /// Asks for the digest of the next `size` bytes, which are a file; [`Self::next_digest`] answers it.
    pub fn digest_file(&mut self, size: u64, twin: Twin) {
        let at = self.position;
        if let Some(behind) = &mut self.behind {
            behind.files.push(FileMark { at, size, twin });
        }
    }

    /// The digests that were asked for, one by one in this order; `None` when the next one is not known yet. `wait` reads the stream to
    /// its end, and `None` is then said at the end only.
    pub fn next_digest(&mut self, wait: bool) -> io::Result<Option<[u8; 32]>> {
        if wait {
            self.drain()?;
        }
        let Some(behind) = &self.behind else { return Ok(None) };
        Ok(if wait { behind.digests.recv().ok() } else { behind.digests.try_recv().ok() })
    }

    /// Lets go of the buffer at hand, which was read.
    fn pass_on(&mut self) {
        // What was never filled is not worth giving back.
        if self.current.capacity() == 0 {
            return;
        }
        let bytes = std::mem::take(&mut self.current);
        let _ = match &mut self.behind {
            Some(behind) => behind.read.send(Passed::Bytes(bytes, std::mem::take(&mut behind.files))).is_ok(),
            None => self.empty.send(bytes).is_ok(),
        };
    }

    /// Reads to the end.
    pub fn drain(&mut self) -> io::Result<()> {
        loop {
            let count = self.fill_buf()?.len();
            if count == 0 {
                return Ok(());
            }
            self.consume(count);
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() && !self.ended {
            self.pass_on();
            self.position = 0;
            match self.full.recv() {
                Ok(chunk) => self.current = chunk?,
                Err(_) => {
                    self.ended = true;
                    if let Some(behind) = &self.behind {
                        let _ = behind.read.send(Passed::End);
                    }
                }
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.current.len());
    }
}
