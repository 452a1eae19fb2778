//! Archives: the members of a tar file with their places, found by seeking over the data.
//!
//! Strict on purpose: one header checksum, one size (PAX before ustar), one meaning per name, so that no two readers can see
//! two different archives (CVE-2025-62518 and its kin).

mod scan;
mod span;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::fault::{Fault, Kind, kind_of_errno};
use crate::image::docker_archive::{LINK_LIMIT, link_target, member_name};

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

pub use span::Span;

type Result<T> = std::result::Result<T, ArchiveError>;

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
        scan::scan(&mut archive, length)?;
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
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => "zstd",
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

#[cfg(test)]
mod tests;
