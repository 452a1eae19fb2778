//! Archives: the members of a tar file with their places, found by seeking over the data.
//!
//! Strict on purpose: one header checksum, one size (PAX before ustar), one meaning per name, so that no two readers can see
//! two different archives (CVE-2025-62518 and its kin).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header, PaxExtensions};

use crate::fault::{Fault, Kind, kind_of_errno};
use crate::image::Digest;
use crate::image::docker_archive::{LINK_LIMIT, link_target, member_name};

const BLOCK: u64 = 512;
/// How many members an archive of images may have.
const MEMBER_LIMIT: usize = 200_000;
/// The largest extended header, in bytes.
const EXTENSION_LIMIT: u64 = 1 << 20;

/// What an archive answered.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A call failed.
    #[error("{call} {path}: {errno}", path = .path.display())]
    Call {
        /// The verb.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        errno: Errno,
    },
    /// The whole archive is compressed.
    #[error("{path} is compressed with {by}", path = .path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The program that would unpack it.
        by: &'static str,
    },
    /// It is no tar file, or a damaged one.
    #[error("{path} is not a sound tar file: {why} at byte {at}", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
        /// Where, in bytes from the start.
        at: u64,
    },
    /// A member that is asked for has no single plain meaning.
    #[error("member {name:?} of {path} {why}", path = .path.display())]
    Member {
        /// The file.
        path: PathBuf,
        /// The member.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
}

impl From<ArchiveError> for Fault {
    fn from(error: ArchiveError) -> Fault {
        let kind = match &error {
            ArchiveError::Call { errno, .. } => kind_of_errno(*errno),
            ArchiveError::Compressed { .. } => Kind::Unimplemented,
            ArchiveError::Malformed { .. } | ArchiveError::Member { .. } => Kind::InvalidArgument,
        };
        let hint = match &error {
            ArchiveError::Compressed { by, path } if matches!(*by, "gzip" | "zstd" | "xz" | "bzip2") => Some(format!(
                "unpack it first: {by} -dc {} > image.tar, or convert it with skopeo copy",
                crate::script::quote(&path.display().to_string())
            )),
            _ => None,
        };
        let fault = Fault::from_error(kind, error);
        match hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }
}

type Result<T> = std::result::Result<T, ArchiveError>;

/// Some bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub path: PathBuf,
    /// Where they start, in bytes.
    pub offset: u64,
    /// How many.
    pub size: u64,
}

#[derive(Clone, Debug)]
enum Member {
    File { offset: u64, size: u64 },
    Symlink(String),
    Hardlink(String),
    Other,
}

/// The table of contents of a tar file.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: fs::File,
    members: BTreeMap<String, Member>,
    doubled: BTreeSet<String>,
}

impl Archive {
    /// Reads the headers of the tar file at `path`; no data is read.
    ///
    /// *Errors:* `Unimplemented` for a compressed archive (with the way out as a hint), `InvalidArgument` for what is no sound tar file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_plain(path)?;
        let mut archive = Archive { path: path.to_path_buf(), file, members: BTreeMap::new(), doubled: BTreeSet::new() };
        let length = archive.file.metadata().map_err(|error| archive.call("stat", &error))?.len();
        archive.refuse_compressed(length)?;
        Scan { archive: &mut archive, length, at: 0, pending: Pending::default() }.run()?;
        Ok(archive)
    }

    /// Whether there is a member of this name, of whatever kind.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// The bytes of a member; links between members are followed. `None` when there is no such member.
    ///
    /// *Errors:* `InvalidArgument` for a name that occurs twice, a link out of the archive or in a circle, a directory or device.
    pub fn find(&self, name: &str) -> std::result::Result<Option<Span>, Fault> {
        let mut here = name.to_owned();
        for _ in 0..=LINK_LIMIT {
            if self.doubled.contains(&here) {
                return Err(self.member(name, "occurs twice").into());
            }
            here = match self.members.get(&here) {
                None if here == name => return Ok(None),
                None => return Err(self.member(name, "is a link to nothing").into()),
                Some(Member::File { offset, size }) => return Ok(Some(Span { path: self.path.clone(), offset: *offset, size: *size })),
                Some(Member::Symlink(target)) => link_target(&here, target)?,
                Some(Member::Hardlink(target)) => member_name(target)?,
                Some(Member::Other) => return Err(self.member(name, "is not a regular file").into()),
            };
        }
        Err(self.member(name, "is a circle of links").into())
    }

    fn refuse_compressed(&self, length: u64) -> Result<()> {
        let mut head = [0; 6];
        let some = usize::try_from(length.min(6)).unwrap_or(6);
        self.file.read_exact_at(&mut head[..some], 0).map_err(|error| self.call("read", &error))?;
        let by = match head {
            [0x1f, 0x8b, ..] => "gzip",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
            [0xfd, b'7', b'z', b'X', b'Z', 0] => "xz",
            [b'B', b'Z', b'h', ..] => "bzip2",
            _ => return Ok(()),
        };
        Err(ArchiveError::Compressed { path: self.path.clone(), by })
    }

    fn call(&self, call: &'static str, error: &std::io::Error) -> ArchiveError {
        failed(call, &self.path, error)
    }

    fn member(&self, name: &str, why: &'static str) -> ArchiveError {
        ArchiveError::Member { path: self.path.clone(), name: name.to_owned(), why }
    }
}

fn failed(call: &'static str, path: &Path, error: &std::io::Error) -> ArchiveError {
    ArchiveError::Call { call, path: path.to_path_buf(), errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
}

/// Opens a regular file, never blocking on a FIFO.
fn open_plain(path: &Path) -> Result<fs::File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| failed("open", path, &error))?;
    let meta = file.metadata().map_err(|error| failed("stat", path, &error))?;
    if !meta.is_file() {
        return Err(ArchiveError::Malformed { path: path.to_path_buf(), why: "it is not a regular file", at: 0 });
    }
    Ok(file)
}

/// What an extended header says about the next member.
#[derive(Default)]
struct Pending {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

struct Scan<'a> {
    archive: &'a mut Archive,
    length: u64,
    at: u64,
    pending: Pending,
}

impl Scan<'_> {
    fn run(&mut self) -> Result<()> {
        let mut count = 0;
        while self.at < self.length {
            let mut block = [0; BLOCK as usize];
            if self.length - self.at < BLOCK {
                return Err(self.bad("a header is cut off"));
            }
            self.archive.file.read_exact_at(&mut block, self.at).map_err(|error| self.archive.call("read", &error))?;
            if block.iter().all(|&byte| byte == 0) {
                break;
            }
            count += 1;
            if count > MEMBER_LIMIT {
                return Err(self.bad("it has too many members"));
            }
            self.header(Header::from_byte_slice(&block))?;
        }
        if self.pending.name.is_some() || self.pending.link.is_some() || self.pending.size.is_some() {
            return Err(self.bad("an extended header has no member"));
        }
        if count == 0 { Err(self.bad("it has no members")) } else { Ok(()) }
    }

    fn header(&mut self, header: &Header) -> Result<()> {
        // The checksum counts its own eight bytes as spaces.
        let bytes = header.as_bytes();
        let sum: u32 = bytes.iter().enumerate().map(|(nth, &byte)| if (148..156).contains(&nth) { 32 } else { u32::from(byte) }).sum();
        if header.cksum().ok() != Some(sum) {
            return Err(self.bad("a header has a wrong checksum"));
        }
        let kind = header.entry_type();
        let stated = header.entry_size().map_err(|_| self.bad("a header has a wrong size"))?;
        let extension = matches!(kind, EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink);
        let size = if extension { stated } else { self.pending.size.take().unwrap_or(stated) };
        let offset = self.at + BLOCK;
        let end = offset.checked_add(size).filter(|&end| end <= self.length).ok_or_else(|| self.bad("a member is cut off"))?;
        if extension {
            self.extension(kind, offset, size)?;
        } else {
            self.member(header, kind, offset, size)?;
        }
        self.at = end.next_multiple_of(BLOCK);
        Ok(())
    }

    fn extension(&mut self, kind: EntryType, offset: u64, size: u64) -> Result<()> {
        if size > EXTENSION_LIMIT {
            return Err(self.bad("an extended header is too large"));
        }
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        self.archive.file.read_exact_at(&mut data, offset).map_err(|error| self.archive.call("read", &error))?;
        let text = |data: Vec<u8>| data.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        match kind {
            EntryType::GNULongName if self.pending.name.is_none() => self.pending.name = Some(text(data)),
            EntryType::GNULongLink if self.pending.link.is_none() => self.pending.link = Some(text(data)),
            EntryType::GNULongName | EntryType::GNULongLink => return Err(self.bad("a member has two long names")),
            _ => self.records(kind, &data)?,
        }
        Ok(())
    }

    fn records(&mut self, kind: EntryType, data: &[u8]) -> Result<()> {
        // The iterator stops at an empty line: whatever it did not reach would be read by others.
        let mut reached = 0;
        for record in PaxExtensions::new(data) {
            let record = record.map_err(|_| self.bad("an extended header has a malformed record"))?;
            let body = record.key_bytes().len() + record.value_bytes().len() + 3;
            let mut length = body + 1;
            while length != body + length.to_string().len() {
                length = body + length.to_string().len();
            }
            reached += length;
            let value = record.value_bytes().to_vec();
            let known = matches!(record.key_bytes(), b"path" | b"linkpath" | b"size") || record.key_bytes().starts_with(b"GNU.sparse.");
            if known && kind == EntryType::XGlobalHeader {
                return Err(self.bad("a global header names or sizes members"));
            }
            match record.key_bytes() {
                b"path" => self.pending.name = Some(value),
                b"linkpath" => self.pending.link = Some(value),
                b"size" => {
                    let digits = record.value().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                    let size = digits.and_then(|text| text.parse().ok()).ok_or_else(|| self.bad("an extended header has a wrong size"))?;
                    self.pending.size = Some(size);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err(self.bad("it has sparse members")),
                _ => {}
            }
        }
        if reached == data.len() { Ok(()) } else { Err(self.bad("an extended header has a malformed record")) }
    }

    fn member(&mut self, header: &Header, kind: EntryType, offset: u64, size: u64) -> Result<()> {
        let name = self.pending.name.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let link = self.pending.link.take().unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        // Names that no document can ask for (absolute, with .., not text) are passed over.
        let Some(name) = String::from_utf8(name).ok().and_then(|name| member_name(&name).ok()) else { return Ok(()) };
        let link = || String::from_utf8_lossy(&link).into_owned();
        let member = match kind {
            EntryType::Regular | EntryType::Continuous => Member::File { offset, size },
            EntryType::Symlink => Member::Symlink(link()),
            EntryType::Link => Member::Hardlink(link()),
            EntryType::GNUSparse => return Err(self.bad("it has sparse members")),
            _ => Member::Other,
        };
        let directory = matches!(member, Member::Other);
        if let Some(before) = self.archive.members.insert(name.clone(), member)
            && !(directory && matches!(before, Member::Other))
        {
            self.archive.doubled.insert(name);
        }
        Ok(())
    }

    fn bad(&self, why: &'static str) -> ArchiveError {
        ArchiveError::Malformed { path: self.archive.path.clone(), why, at: self.at }
    }
}

impl Span {
    /// A whole file.
    pub fn of_file(path: &Path) -> Result<Self> {
        let size = open_plain(path)?.metadata().map_err(|error| failed("stat", path, &error))?.len();
        Ok(Span { path: path.to_path_buf(), offset: 0, size })
    }

    /// Streams the bytes; answers a reader that ends where the span ends.
    pub fn reader(&self) -> Result<impl Read + use<>> {
        use std::io::Seek as _;
        let mut file = open_plain(&self.path)?;
        file.seek(std::io::SeekFrom::Start(self.offset)).map_err(|error| failed("lseek", &self.path, &error))?;
        Ok(file.take(self.size))
    }

    /// Reads all of it.
    ///
    /// *Errors:* `InvalidArgument` when it is larger than `limit` bytes or the file ends before it.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>> {
        if self.size > limit {
            return Err(ArchiveError::Malformed { path: self.path.clone(), why: "a document is larger than 4 MiB", at: self.offset });
        }
        let mut content = Vec::new();
        self.reader()?.read_to_end(&mut content).map_err(|error| failed("read", &self.path, &error))?;
        if content.len() as u64 == self.size { Ok(content) } else { Err(self.cut()) }
    }

    /// The first bytes, at most eight.
    pub fn head(&self) -> Result<Vec<u8>> {
        Span { size: self.size.min(8), ..self.clone() }.read(8)
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Result<Digest> {
        let mut reader = self.reader()?;
        let (mut hash, mut left, mut buffer) = (Sha256::new(), self.size, vec![0; 256 << 10]);
        while left > 0 {
            let count = reader.read(&mut buffer).map_err(|error| failed("read", &self.path, &error))?;
            if count == 0 {
                return Err(self.cut());
            }
            hash.update(&buffer[..count]);
            left -= count as u64;
        }
        Ok(Digest::from_hash(&hash.finalize().into()))
    }

    fn cut(&self) -> ArchiveError {
        ArchiveError::Malformed { path: self.path.clone(), why: "the file ends too early", at: self.offset }
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
