//! Writes tar files that are the same whenever their members are.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::archive::Span;
use crate::fault::{Context as _, Fault, Kind, Result, kind_of_errno};
use crate::image::{Compression, Digest, Hasher};

/// A member of an archive.
#[derive(Clone, Debug)]
pub struct Member {
    /// `blobs/sha256/…`
    pub name: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a member.
#[derive(Clone, Debug)]
pub enum Content {
    /// A directory.
    Directory,
    /// These bytes.
    Bytes(Vec<u8>),
    /// The bytes of a stored blob, held against their digest on the way.
    Blob {
        /// The file.
        path: PathBuf,
        /// What its bytes must give.
        digest: Digest,
    },
}

/// Writes `members`, compressed; no owner, no times, fixed modes.
///
/// *Errors:* `DataLoss` when a blob is not what its digest says.
pub fn write(out: impl Write, compression: Compression, members: &[Member]) -> Result<()> {
    match compression {
        Compression::None => write_tar(out, members).map(drop),
        Compression::Gzip => {
            let gzip = write_tar(flate2::write::GzEncoder::new(out, flate2::Compression::default()), members)?;
            gzip.finish().map(drop).map_err(|error| unwritten(&error))
        }
        Compression::Zstd => {
            let zstd = zstd::Encoder::new(out, 0).map_err(|error| unwritten(&error))?;
            write_tar(zstd, members)?.finish().map(drop).map_err(|error| unwritten(&error))
        }
    }
}

fn unwritten(error: &io::Error) -> Fault {
    let kind = error.raw_os_error().map_or(Kind::Internal, |errno| kind_of_errno(nix::errno::Errno::from_raw(errno)));
    Fault::new(kind, error.to_string()).doing("writing the archive")
}

fn write_tar<W: Write>(out: W, members: &[Member]) -> Result<W> {
    let mut tar = tar::Builder::new(out);
    for member in members {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(0);
        header.set_mode(if matches!(member.content, Content::Directory) { 0o755 } else { 0o644 });
        let mut put = |size: u64, kind: tar::EntryType, bytes: &mut dyn Read| {
            header.set_entry_type(kind);
            header.set_size(size);
            tar.append_data(&mut header, &member.name, bytes).map_err(|error| unwritten(&error))
        };
        match &member.content {
            Content::Directory => put(0, tar::EntryType::Directory, &mut io::empty())?,
            Content::Bytes(bytes) => put(bytes.len() as u64, tar::EntryType::Regular, &mut bytes.as_slice())?,
            Content::Blob { path, digest } => {
                let span = Span::of_file(path)?;
                let mut bytes = Hashing { from: span.reader()?, hash: Hasher::new(digest.algorithm()) };
                put(span.size, tar::EntryType::Regular, &mut bytes)?;
                let found = bytes.hash.finish();
                if found != *digest {
                    let fault = Fault::new(Kind::DataLoss, format!("content has digest {found}, not {digest}"));
                    return Err(fault).doing(|| format!("reading {}", path.display()));
                }
            }
        }
    }
    tar.into_inner().map_err(|error| unwritten(&error))
}

struct Hashing<R> {
    from: R,
    hash: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_members_give_the_same_bytes_and_a_damaged_blob_none() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("blob");
        std::fs::write(&path, "hello").unwrap();
        let name = "blobs/sha256/x".to_owned();
        let blob = |of: &[u8]| Member { name: name.clone(), content: Content::Blob { path: path.clone(), digest: Digest::of(of) } };
        let dir = Member { name: "blobs/".to_owned(), content: Content::Directory };
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let archive = || {
                let mut out = Vec::new();
                write(&mut out, compression, &[dir.clone(), blob(b"hello")]).unwrap();
                out
            };
            let first = archive();
            assert_eq!(Compression::sniff(&first), compression);
            assert_eq!(first, archive());
        }
        assert_eq!(write(io::sink(), Compression::None, &[blob(b"hallo")]).unwrap_err().kind(), Kind::DataLoss);
    }
}
