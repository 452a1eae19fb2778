//! The headers of a tar file, one after the other.

use std::os::unix::fs::FileExt;

use tar::{EntryType, Header, PaxExtensions};

use super::{Archive, ArchiveError, Member, Result};
use crate::image::docker_archive::member_name;

const BLOCK: u64 = 512;
/// How many members an archive of images may have.
const MEMBER_LIMIT: usize = 200_000;
/// The largest extended header, in bytes.
const EXTENSION_LIMIT: u64 = 1 << 20;

/// Puts the members of an archive of `length` bytes into its table.
pub(super) fn scan(archive: &mut Archive, length: u64) -> Result<()> {
    Scan { archive, length, at: 0, pending: Pending::default() }.run()
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
