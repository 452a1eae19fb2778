//! The two ends of the pipe between inflating and unpacking: bounded, recycled buffers.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender};

use sha2::{Digest, Sha256};

/// Bytes of one buffer of the pipe.
const CHUNK: usize = 256 << 10;
/// Buffers in flight; with the one at each end this bounds the memory of the pipe to 2.5 MiB.
pub const DEPTH: usize = 8;

/// Counts and digests what is read through it.
pub struct Hashing<R> {
    inner: R,
    digest: Sha256,
    count: u64,
}

impl<R: Read> Hashing<R> {
    /// Starts with nothing read.
    pub fn new(inner: R) -> Self {
        Hashing { inner, digest: Sha256::new(), count: 0 }
    }

    /// `sha256:HEX` and the number of the bytes read.
    pub fn finish(self) -> (String, u64) {
        (named(&self.digest.finalize()), self.count)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

fn named(digest: &[u8]) -> String {
    format!("sha256:{}", crate::ids::hex(digest))
}

/// The writing end: reads `source` to its end into the pipe. Stops without an error when nobody reads any more.
pub fn pump(source: &mut dyn Read, full: &SyncSender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) -> io::Result<bool> {
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.resize(CHUNK, 0);
        let filled = read_full(source, &mut buffer);
        let count = match filled {
            Ok(0) => return Ok(true),
            Ok(count) => count,
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                let _ = full.send(Err(error));
                return Err(told);
            }
        };
        buffer.truncate(count);
        if full.send(Ok(buffer)).is_err() {
            return Ok(false);
        }
    }
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

/// The reading end: the uncompressed tar, digested on the way.
pub struct LayerStream {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
    digest: Sha256,
}

impl LayerStream {
    /// Reads from `full` and gives used buffers back through `empty`.
    pub fn new(full: Receiver<io::Result<Vec<u8>>>, empty: Sender<Vec<u8>>) -> Self {
        LayerStream { full, empty, current: Vec::new(), position: 0, ended: false, digest: Sha256::new() }
    }

    /// Reads to the end and answers `sha256:HEX` of the whole.
    pub fn finish(mut self) -> io::Result<String> {
        loop {
            let count = self.fill_buf()?.len();
            if count == 0 {
                return Ok(named(&self.digest.finalize()));
            }
            self.consume(count);
        }
    }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for LayerStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() && !self.ended {
            let _ = self.empty.send(std::mem::take(&mut self.current));
            self.position = 0;
            match self.full.recv() {
                Ok(Ok(bytes)) => {
                    self.digest.update(&bytes);
                    self.current = bytes;
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.current.len());
    }
}
