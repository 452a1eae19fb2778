//! A streaming tar reader: headers in, verdicts out, the content of each file between them.

use std::io::{BufRead, ErrorKind};

use super::layer_stream::Stream;
use super::tar_entry::{Attributes, Entry, EntryKind, Moment, TarError, Verdict, judge, keeps_xattr};
use super::tar_header::{BLOCK, Header, until_nul};
use super::tar_path::TarPath;
use super::tar_pax::{MAX_PAX, Pax, check_global};
use super::two_digests::Twin;

/// How many extended headers may stand before one entry.
const MAX_EXTENSIONS: usize = 8;

/// What [`Limits::bytes`] bounds, as [`TarError::Limit`] says it.
pub const UNPACKED_BYTES: &str = "unpacked bytes of the layer";

/// What [`Limits::entries`] bounds.
pub const ENTRIES: &str = "entries of the layer";

/// Bounds of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes of content of all files.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { entries: 5_000_000, bytes: 64 << 30 }
    }
}

/// Reads entries from a tar stream.
///
/// *Source:* RELIABILITY 4.2: PAX before GNU before ustar, the PAX size always wins, extended headers apply to the next
/// file header only, everything unknown is refused by name.
pub struct TarReader<R> {
    source: R,
    limits: Limits,
    at: u64,
    /// Bytes of content left of the current entry.
    content: u64,
    /// Bytes of padding after it.
    padding: u64,
    entries: u64,
    bytes: u64,
}

/// The extended headers before an entry.
#[derive(Default)]
struct Extensions {
    count: usize,
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: BufRead> TarReader<R> {
    /// Starts at the first header.
    pub fn new(source: R, limits: Limits) -> Self {
        TarReader { source, limits, at: 0, content: 0, padding: 0, entries: 0, bytes: 0 }
    }

    /// The bounds of this layer.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Entries read so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes of content of the entries read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the stream back, to be drained.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// Reads up to the next entry, over what is left of the current one; `None` at the end of the archive.
    ///
    /// *Errors:* [`TarError`]; the reader is of no use after one.
    pub fn next_verdict(&mut self) -> Result<Option<Verdict>, TarError> {
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        loop {
            let at = self.at;
            let Some(block) = self.header_block(extensions.count > 0)? else { return Ok(None) };
            let header = Header::parse(&block, at)?;
            if !matches!(header.kind(), b'x' | b'g' | b'L' | b'K') {
                return self.entry(&header, extensions).map(Some);
            }
            extensions.count += 1;
            if extensions.count > MAX_EXTENSIONS {
                return Err(header.malformed("more than 8 extended headers stand before one entry"));
            }
            let content = self.extension_content(&header)?;
            match header.kind() {
                b'g' => check_global(&content, at)?,
                b'x' if extensions.pax.is_none() => extensions.pax = Some(Pax::parse(&content, at)?),
                b'L' if extensions.name.is_none() => extensions.name = Some(until_nul(&content).to_vec()),
                b'K' if extensions.link.is_none() => extensions.link = Some(until_nul(&content).to_vec()),
                _ => return Err(header.malformed("two extended headers of one kind stand before one entry")),
            }
        }
    }

    /// The next bytes of the current entry's content; empty at its end.
    pub fn chunk(&mut self) -> Result<&[u8], TarError> {
        if self.content == 0 {
            return Ok(&[]);
        }
        let at = self.at;
        let bytes = fill(&mut self.source)?;
        if bytes.is_empty() {
            return Err(truncated(at));
        }
        let count = bytes.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        Ok(&bytes[..count])
    }

    /// Marks `count` bytes of [`Self::chunk`] as read.
    pub fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.content -= (count as u64).min(self.content);
        self.at += count as u64;
    }

    fn entry(&mut self, header: &Header<'_>, extensions: Extensions) -> Result<Verdict, TarError> {
        let pax = extensions.pax.unwrap_or_default();
        let raw_path = pax.path.or(extensions.name).unwrap_or_else(|| header.name());
        let raw_link = pax.linkpath.or(extensions.link).unwrap_or_else(|| header.link_name());
        let path = TarPath::parse(&raw_path)?;
        let size = pax.size.map_or_else(|| header.size(), Ok)?;
        let kind = kind_of(header, &path, &raw_path, raw_link)?;
        if size != 0 && kind != EntryKind::File {
            return Err(TarError::Refused { path: path.to_string(), why: "only a file can have content".to_owned() });
        }
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.entries > self.limits.entries {
            return Err(TarError::Limit { what: ENTRIES, limit: self.limits.entries });
        }
        if self.bytes > self.limits.bytes {
            return Err(TarError::Limit { what: UNPACKED_BYTES, limit: self.limits.bytes });
        }
        self.content = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        let attributes = Attributes {
            mode: header.mode()?,
            uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: pax.mtime.map_or_else(|| header.mtime().map(|seconds| Moment { seconds, nanos: 0 }), Ok)?,
            xattrs: pax.xattrs.into_iter().filter(|(name, _)| keeps_xattr(name)).collect(),
        };
        judge(Entry { path, kind, attributes, size })
    }

    fn extension_content(&mut self, header: &Header<'_>) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > MAX_PAX {
            return Err(TarError::Limit { what: "bytes of an extended header", limit: MAX_PAX });
        }
        self.content = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        let mut content = Vec::new();
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                break;
            }
            content.extend_from_slice(chunk);
            let count = chunk.len();
            self.consume(count);
        }
        self.skip_rest()?;
        Ok(content)
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        loop {
            let count = self.chunk()?.len();
            if count == 0 {
                break;
            }
            self.consume(count);
        }
        // `umoci insert` (0.4.7, seen) ends a layer right after the last byte of content, and Go's reader takes that for the end.
        while self.padding > 0 {
            let count = (fill(&mut self.source)?.len() as u64).min(self.padding);
            if count == 0 {
                self.padding = 0;
            }
            self.source.consume(usize::try_from(count).unwrap_or(0));
            self.padding -= count;
            self.at += count;
        }
        Ok(())
    }

    /// The next header; `None` after two zero blocks or at the end of the stream.
    fn header_block(&mut self, pending: bool) -> Result<Option<[u8; BLOCK]>, TarError> {
        let at = self.at;
        let first = self.block()?;
        let end = match &first {
            None => true,
            Some(block) if *block == [0; BLOCK] => match self.block()? {
                None => true,
                Some(second) if second == [0; BLOCK] => true,
                Some(_) => return Err(TarError::Malformed { at, why: "one zero block is followed by data".to_owned() }),
            },
            Some(_) => false,
        };
        if end && pending {
            return Err(TarError::Malformed { at, why: "an extended header has no entry".to_owned() });
        }
        Ok(if end { None } else { first })
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let bytes = fill(&mut self.source)?;
            if bytes.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(truncated(self.at)) };
            }
            let count = bytes.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&bytes[..count]);
            self.source.consume(count);
            filled += count;
            self.at += count as u64;
        }
        Ok(Some(block))
    }
}

impl TarReader<Stream> {
    /// Asks for the digest of the content of the current entry, of which nothing was read yet; [`Self::next_digest`] answers it.
    pub fn digest_content(&mut self, twin: Twin) {
        self.source.digest_file(self.content, twin);
    }

    /// The digests that were asked for, one by one in this order; `None` when the next one is not known yet. `wait` reads on to the end
    /// of the stream, and `None` is then said at the end only.
    pub fn next_digest(&mut self, wait: bool) -> Result<Option<[u8; 32]>, TarError> {
        Ok(self.source.next_digest(wait)?)
    }
}

fn fill<R: BufRead>(source: &mut R) -> Result<&[u8], TarError> {
    // The first call may fail with EINTR; the borrow checker wants the retry apart from the answer.
    while let Err(error) = source.fill_buf() {
        if error.kind() != ErrorKind::Interrupted {
            return Err(TarError::Read(error));
        }
    }
    Ok(source.fill_buf()?)
}

fn truncated(at: u64) -> TarError {
    TarError::Malformed { at, why: "the tar ends in the middle of an entry".to_owned() }
}

fn kind_of(header: &Header<'_>, path: &TarPath, raw_path: &[u8], link: Vec<u8>) -> Result<EntryKind, TarError> {
    let refuse = |why: String| Err(TarError::Refused { path: path.to_string(), why });
    Ok(match header.kind() {
        // Archives older than POSIX mark a directory by its slash.
        0 if raw_path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' => EntryKind::File,
        b'1' => EntryKind::Hardlink(TarPath::parse(&link)?),
        b'2' => EntryKind::Symlink(link),
        b'3' => header.device().map(|(major, minor)| EntryKind::CharDevice(major, minor))?,
        b'4' => header.device().map(|(major, minor)| EntryKind::BlockDevice(major, minor))?,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        b'S' => return refuse("sparse files are refused".to_owned()),
        other => return refuse(format!("entries of type {:?} are refused", char::from(other))),
    })
}
