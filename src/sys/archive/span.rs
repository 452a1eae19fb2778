//! Some bytes of a file, streamed, hashed or read whole.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{ArchiveError, Result, failed, open_plain};
use crate::image::{Algorithm, Digest, Hasher};

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

impl Span {
    /// A whole file.
    pub fn of_file(path: &Path) -> Result<Self> {
        let size = open_plain(path)?.metadata().map_err(|error| failed("stat", path, &error))?.len();
        Ok(Span { path: path.to_path_buf(), offset: 0, size })
    }

    /// Streams the bytes; answers a reader that ends where the span ends.
    pub fn reader(&self) -> Result<impl Read + use<>> {
        let mut file = open_plain(&self.path)?;
        file.seek(SeekFrom::Start(self.offset)).map_err(|error| failed("lseek", &self.path, &error))?;
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

    /// The SHA-256 of the bytes.
    pub fn digest(&self) -> Result<Digest> {
        let mut reader = self.reader()?;
        let (mut hash, mut left, mut buffer) = (Hasher::new(Algorithm::Sha256), self.size, vec![0; 256 << 10]);
        while left > 0 {
            let count = reader.read(&mut buffer).map_err(|error| failed("read", &self.path, &error))?;
            if count == 0 {
                return Err(self.cut());
            }
            hash.update(&buffer[..count]);
            left -= count as u64;
        }
        Ok(hash.finish())
    }

    fn cut(&self) -> ArchiveError {
        ArchiveError::Malformed { path: self.path.clone(), why: "the file ends too early", at: self.offset }
    }
}
