//! Listing the files of a layer while they are written, so that they can be verified ever after.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, fstat, fstatat, major, minor};
use sha2::{Digest, Sha256};

use crate::fault::{Fault, Result};
use crate::image::file_list::{FileKind, FileRecord, HEAD};
use crate::image::tar_entry::Moment;
use crate::image::tar_path::TarPath;

use super::tree::{TreeError, Wrote, call, open_beneath, open_path};
use super::tree_names::{PathQueue, PathSet, each_name, nameless};
use super::tree_pending::{Pending, stamp};
use super::tree_xattr;

/// Bytes of lines that are written at once.
const BUFFER: usize = 64 << 10;
/// Bytes of the paths of files with several names that are remembered, and of content that is read again for those beyond.
const LINKED: (usize, u64) = (8 << 20, 64 << 30);

/// A list that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// `sha256:HEX` of the list.
    pub digest: String,
    /// When it was written, by the clock of the file system: what has a later change time was changed by somebody else.
    pub sealed: Moment,
}

/// Writes the list, or nothing at all. What is no directory is noted aside while it is made, because the times of directories are
/// known at the end only, and mtree(8) wants to read of a directory first.
pub(super) struct Lister {
    file: Option<File>,
    root: OwnedFd,
    /// What does not fit into `lines`.
    aside: Option<File>,
    lines: Vec<u8>,
    /// What is not in `lines` yet, because the digest of the first of these is still to come: no more than fits into the buffers of a
    /// [`crate::image::layer_stream`].
    waiting: VecDeque<FileRecord>,
    /// Something that was listed is gone, or was never listed: the list is made from the finished tree instead.
    spoiled: bool,
}

impl Lister {
    /// A list of the tree at `root` that goes to `file`.
    pub(super) fn new(file: Option<File>, root: &OwnedFd) -> nix::Result<Self> {
        let root = root.try_clone().map_err(|error| errno(&error))?;
        Ok(Lister { file, root, aside: None, lines: Vec::new(), waiting: VecDeque::new(), spoiled: false })
    }

    /// Whether a list is written.
    pub(super) fn is_on(&self) -> bool {
        self.file.is_some() && !self.spoiled
    }

    /// Gives up on what was listed so far.
    pub(super) fn spoil(&mut self) {
        self.waiting.clear();
        self.spoiled = true;
    }

    /// Lists a new file, whose digest [`Self::settle`] gets.
    pub(super) fn file(&mut self, path: &TarPath, fd: BorrowedFd<'_>, stat: &FileStat, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Wrote<()> {
        if !self.is_on() {
            return Ok(());
        }
        let mut record = record_of(path, stat);
        record.kind = FileKind::File { size: Some(stat.st_size.cast_unsigned()), digest: None };
        if !xattrs.is_empty() {
            record.xattrs = tree_xattr::listed(fd).map_err(call("fgetxattr", path))?;
        }
        self.waiting.push_back(record);
        Ok(())
    }

    /// Takes the digests of the files, in their order, from `next` as long as it has some.
    pub(super) fn settle(&mut self, mut next: impl FnMut() -> Result<Option<[u8; 32]>>) -> Result<()> {
        while !self.waiting.is_empty()
            && let Some(found) = next()?
        {
            let mut first = self.waiting.pop_front();
            if let Some(FileRecord { kind: FileKind::File { digest, .. }, .. }) = &mut first {
                *digest = Some(found);
            }
            while let Some(record) = first {
                self.write(&record)?;
                first = self.waiting.pop_front_if(|record| !awaits(record));
            }
        }
        Ok(())
    }

    /// Lists a new symbolic link, device or FIFO.
    pub(super) fn special(&mut self, path: &TarPath, dir: BorrowedFd<'_>, name: &[u8]) -> Wrote<()> {
        if !self.is_on() {
            return Ok(());
        }
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(call("fstatat", path))?;
        let mut record = record_of(path, &stat);
        record.kind = special_kind(dir, name, &stat, path)?;
        self.push(record)
    }

    /// Lists a new name of what is at `target`.
    pub(super) fn link(&mut self, path: &TarPath, dir: BorrowedFd<'_>, name: &[u8], target: &TarPath) -> Wrote<()> {
        if !self.is_on() {
            return Ok(());
        }
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(call("fstatat", path))?;
        let kind = special_kind(dir, name, &stat, path)?;
        self.push(FileRecord { kind, link_of: Some(target.clone()), ..record_of(path, &stat) })
    }

    /// Lists a whiteout.
    pub(super) fn whiteout(&mut self, path: &TarPath) -> Wrote<()> {
        if !self.is_on() {
            return Ok(());
        }
        self.push(whiteout_record(path))
    }

    fn push(&mut self, record: FileRecord) -> Wrote<()> {
        if self.waiting.is_empty() {
            return self.write(&record);
        }
        self.waiting.push_back(record);
        Ok(())
    }

    fn write(&mut self, record: &FileRecord) -> Wrote<()> {
        record.write_to(&mut self.lines);
        if self.lines.len() < BUFFER {
            return Ok(());
        }
        let aside = match &mut self.aside {
            Some(aside) => aside,
            none => none.insert(nameless(&self.root).map_err(call("open O_TMPFILE for the list of", &record.path))?),
        };
        aside.write_all(&self.lines).map_err(|error| call("write the list of", &record.path)(errno(&error)))?;
        self.lines.clear();
        Ok(())
    }

    /// Gives the directories their times and writes the list: the directories, then all else; or the whole tree when what was noted
    /// is spoiled.
    pub(super) fn finish(self, root: &OwnedFd, pending: &mut Pending) -> Wrote<Option<Listed>> {
        let Some(file) = self.file else { return pending.apply(root.as_fd()).map(|()| None) };
        let mut out = Out { file, digest: Sha256::new(), lines: HEAD.into() };
        if !self.waiting.is_empty() {
            return Err(TreeError::Below(Fault::internal("the digests of some files never came")));
        }
        if self.spoiled {
            pending.apply(root.as_fd())?;
            out.push(&directory_record(&TarPath::root(), root)?)?;
            out.walk(root)?;
            return out.seal();
        }
        if pending.is_plain() {
            // Each directory is there once, so that it can be listed as soon as it has its time.
            pending.each(root.as_fd(), |path, dir, moment| {
                stamp(dir.as_fd(), moment, path)?;
                out.push(&directory_record(path, dir)?)
            })?;
        } else {
            pending.apply(root.as_fd())?;
            let mut listed = PathSet::new(root)?;
            pending
                .each(root.as_fd(), |path, dir, _| if listed.insert(path)? { out.push(&directory_record(path, dir)?) } else { Ok(()) })?;
        }
        if let Some(mut aside) = self.aside {
            aside.rewind().map_err(|error| errno(&error))?;
            let mut buffer = vec![0; BUFFER];
            loop {
                let count = aside.read(&mut buffer).map_err(|error| errno(&error))?;
                if count == 0 {
                    break;
                }
                out.lines.extend_from_slice(&buffer[..count]);
                out.flush()?;
            }
        }
        out.lines.extend_from_slice(&self.lines);
        out.seal()
    }
}

/// Whether a record is that of a file without its digest, and not of another name of one.
fn awaits(record: &FileRecord) -> bool {
    matches!(record.kind, FileKind::File { size: Some(_), digest: None })
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// The list itself.
struct Out {
    file: File,
    digest: Sha256,
    lines: Vec<u8>,
}

impl Out {
    fn push(&mut self, record: &FileRecord) -> Wrote<()> {
        record.write_to(&mut self.lines);
        if self.lines.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Wrote<()> {
        self.digest.update(&self.lines);
        self.file.write_all(&self.lines).map_err(|error| call("write the list of", &TarPath::root())(errno(&error)))?;
        self.lines.clear();
        Ok(())
    }

    fn seal(mut self) -> Wrote<Option<Listed>> {
        self.flush()?;
        let stat = fstat(&self.file)?;
        let sealed = Moment { seconds: stat.st_ctime, nanos: u32::try_from(stat.st_ctime_nsec).unwrap_or(0) };
        Ok(Some(Listed { digest: format!("sha256:{}", crate::ids::hex(&self.digest.finalize())), sealed }))
    }

    /// Lists a finished tree below its root by reading it.
    fn walk(&mut self, root: &OwnedFd) -> Wrote<()> {
        let (mut names, mut held, mut again) = (HashMap::new(), 0, 0);
        let mut left = PathQueue::new(root)?;
        left.push(&TarPath::root(), Moment::default())?;
        while let Some((path, _)) = left.pop()? {
            let dir = open_path(root.as_fd(), &path).map_err(call("openat2", &path))?;
            if !path.is_root() {
                self.push(&directory_record(&path, &dir)?)?;
            }
            each_name(&dir, |name, is_directory| {
                let child = path.join(name);
                if is_directory {
                    return Ok(left.push(&child, Moment::default())?);
                }
                let stat = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(call("fstatat", &child))?;
                if let Some(first) = names.get(&stat.st_ino) {
                    let kind = special_kind(dir.as_fd(), name, &stat, &child)?;
                    return self.push(&FileRecord { kind, link_of: Some(TarPath::clone(first)), ..record_of(&child, &stat) });
                }
                if stat.st_nlink > 1 && held < LINKED.0 {
                    held += child.as_bytes().len() + 64;
                    names.insert(stat.st_ino, child.clone());
                } else if stat.st_nlink > 1 {
                    again += stat.st_size.cast_unsigned();
                    if again > LINKED.1 {
                        return Err(TreeError::TooMany);
                    }
                }
                self.push(&observe(dir.as_fd(), name, &stat, &child)?)
            })?;
        }
        Ok(())
    }
}

/// What the stat says, of a thing whose kind is not looked at yet.
pub(super) fn record_of(path: &TarPath, stat: &FileStat) -> FileRecord {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    FileRecord {
        path: path.clone(),
        kind: FileKind::File { size: None, digest: None },
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Some(Moment { seconds: stat.st_mtime, nanos }),
        xattrs: Vec::new(),
        link_of: None,
    }
}

fn whiteout_record(path: &TarPath) -> FileRecord {
    let kind = FileKind::CharDevice(0, 0);
    FileRecord { path: path.clone(), kind, mode: 0, uid: 0, gid: 0, mtime: None, xattrs: Vec::new(), link_of: None }
}

/// What an open directory is.
pub(super) fn directory_record(path: &TarPath, dir: &OwnedFd) -> Wrote<FileRecord> {
    let stat = fstat(dir).map_err(call("fstat", path))?;
    let xattrs = tree_xattr::listed(dir.as_fd()).map_err(call("fgetxattr", path))?;
    Ok(FileRecord { kind: FileKind::Directory, xattrs, ..record_of(path, &stat) })
}

/// What kind a thing is that is no directory, the content of a file left out.
pub(super) fn special_kind(dir: BorrowedFd<'_>, name: &[u8], stat: &FileStat, path: &TarPath) -> Wrote<FileKind> {
    Ok(match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => FileKind::File { size: None, digest: None },
        libc::S_IFDIR => FileKind::Directory,
        libc::S_IFLNK => FileKind::Symlink(readlinkat(dir, name).map_err(call("readlinkat", path))?.into_vec()),
        libc::S_IFCHR => FileKind::CharDevice(major(stat.st_rdev), minor(stat.st_rdev)),
        libc::S_IFBLK => FileKind::BlockDevice(major(stat.st_rdev), minor(stat.st_rdev)),
        libc::S_IFIFO => FileKind::Fifo,
        _ => FileKind::Other,
    })
}

/// What `name` of `dir` is, which is no directory, its content included.
pub(super) fn observe(dir: BorrowedFd<'_>, name: &[u8], stat: &FileStat, path: &TarPath) -> Wrote<FileRecord> {
    let kind = special_kind(dir, name, stat, path)?;
    if kind == FileKind::CharDevice(0, 0) {
        return Ok(whiteout_record(path));
    }
    let mut record = FileRecord { kind, ..record_of(path, stat) };
    if matches!(record.kind, FileKind::File { .. }) {
        let file = open_beneath(dir, name, OFlag::O_RDONLY).map_err(call("openat2", path))?;
        record.xattrs = tree_xattr::listed(file.as_fd()).map_err(call("fgetxattr", path))?;
        let (digest, size) = digest_of(File::from(file)).map_err(call("read", path))?;
        record.kind = FileKind::File { size: Some(size), digest: Some(digest) };
    }
    Ok(record)
}

/// The digest and the size of what a file holds.
pub(super) fn digest_of(mut file: File) -> nix::Result<([u8; 32], u64)> {
    let (mut digest, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((digest.finalize().into(), size)),
            Ok(count) => {
                digest.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
}
