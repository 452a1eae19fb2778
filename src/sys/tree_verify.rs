//! Verifying the files of an unpacked layer against the list that was taken when it was unpacked.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstatat};
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Kind, Result};
use crate::image::file_list::{FileKind, FileList, FileRecord};
use crate::image::tar_entry::Moment;
use crate::image::tar_path::TarPath;

use super::tree::{TreeError, Wrote, call, open_beneath, open_blob, open_path, open_root};
use super::tree_list::{digest_of, record_of, special_kind};
use super::tree_names::{PathQueue, PathSet, each_name};
use super::tree_xattr;

/// Records that a thread takes at once.
const BATCH: usize = 128;

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// It is not there.
    Missing,
    /// It is there and should not be.
    Extra,
    /// It is another kind of thing.
    Type,
    /// Permission bits.
    Mode,
    /// Owner or group.
    Owner,
    /// Modification time.
    Time,
    /// Size of a file.
    Size,
    /// Content of a file.
    Content,
    /// Extended attributes.
    Xattrs,
    /// Target of a symbolic link.
    Target,
    /// Number of a device.
    Device,
    /// It is no longer another name of the same file.
    HardLink,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = serde_json::to_value(self).ok().and_then(|word| word.as_str().map(str::to_owned));
        f.write_str(&word.unwrap_or_default())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub path: TarPath,
    /// What.
    pub flaw: Flaw,
    /// What was found, and what is listed.
    pub detail: String,
}

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything.
    Whole,
    /// The content of those files only that were changed after this moment, by the clock of the file system.
    ChangedAfter(Moment),
}

/// Compares the tree at `root` with the list at `list`, whose digest must be `digest`, on all cores; answers what differs, by path,
/// and how many paths are listed.
///
/// *Errors:* `DataLoss` when the list itself is damaged.
pub fn verify(root: &Path, list: &Path, digest: &str, depth: Depth) -> Result<(Vec<Finding>, u64)> {
    check_list(list, digest)?;
    let root = open_root(root)?;
    let source = FileList::new(BufReader::with_capacity(256 << 10, open_blob(list, 0)?));
    let shared = Mutex::new(Shared { source, listed: PathSet::new(&root).map_err(TreeError::from)?, count: 0, found: Vec::new() });
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(|| work(&root, &shared, depth))).collect();
        let mine = work(&root, &shared, depth);
        workers
            .into_iter()
            .fold(mine, |first, worker| first.and(worker.join().unwrap_or_else(|_| Err(Fault::internal("a thread panicked")))))
    })?;
    let Shared { listed, count, mut found, .. } = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    extras(&root, &listed, &mut found)?;
    found.sort();
    Ok((found, count))
}

fn check_list(list: &Path, digest: &str) -> Result<()> {
    let (found, _) = open_blob(list, 0).and_then(|file| Ok(digest_of(file).map_err(TreeError::from)?))?;
    let found = format!("sha256:{}", crate::ids::hex(&found));
    if found == digest {
        return Ok(());
    }
    Err(Fault::new(Kind::DataLoss, format!("the list of files has digest {found}, the stamp says {digest}")))
}

/// What the threads share: where the list is, what it has named, what was found.
struct Shared {
    source: FileList<BufReader<File>>,
    listed: PathSet,
    count: u64,
    found: Vec<Finding>,
}

fn work(root: &OwnedFd, shared: &Mutex<Shared>, depth: Depth) -> Result<()> {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut batch, mut found) = (Vec::with_capacity(BATCH), Vec::new());
    loop {
        batch.clear();
        let mut held = lock();
        held.found.append(&mut found);
        while batch.len() < BATCH {
            let Some(record) = held.source.next_record()? else { break };
            held.listed.insert(&record.path).map_err(TreeError::from)?;
            held.count += 1;
            batch.push(record);
        }
        drop(held);
        if batch.is_empty() {
            return Ok(());
        }
        for record in &batch {
            found.extend(check(root, record, depth)?);
        }
    }
}

/// What is wrong with one path.
pub(super) fn check(root: &OwnedFd, record: &FileRecord, depth: Depth) -> Wrote<Vec<Finding>> {
    let mut check = Check { record, found: Vec::new() };
    match look(root, &record.path) {
        Ok(Some((dir, stat))) => check.all(root, &dir, &stat, depth)?,
        Ok(None) => check.note(Flaw::Missing, String::new()),
        Err(errno) => return Err(call("fstatat", &record.path)(errno)),
    }
    Ok(check.found)
}

/// The directory of `path` and what the path is; `None` when it is not there.
pub(super) fn look(root: &OwnedFd, path: &TarPath) -> nix::Result<Option<(OwnedFd, FileStat)>> {
    let (parent, name) = path.split_last().unwrap_or((TarPath::root(), b"."));
    match open_path(root.as_fd(), &parent).and_then(|dir| fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|stat| (dir, stat))) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

struct Check<'a> {
    record: &'a FileRecord,
    found: Vec<Finding>,
}

impl Check<'_> {
    fn note(&mut self, flaw: Flaw, detail: String) {
        self.found.push(Finding { path: self.record.path.clone(), flaw, detail });
    }

    fn expect<T: PartialEq>(&mut self, flaw: Flaw, found: T, listed: T, say: impl Fn(&T) -> String) {
        if found != listed {
            self.note(flaw, format!("{}, not {}", say(&found), say(&listed)));
        }
    }

    fn all(&mut self, root: &OwnedFd, dir: &OwnedFd, stat: &FileStat, depth: Depth) -> Wrote<()> {
        let record = self.record;
        let path = &record.path;
        let name = path.split_last().map_or(&b"."[..], |(_, name)| name);
        let kind = special_kind(dir.as_fd(), name, stat, path)?;
        if std::mem::discriminant(&kind) != std::mem::discriminant(&record.kind) {
            self.note(Flaw::Type, format!("{}, not {}", word(&kind), word(&record.kind)));
            return Ok(());
        }
        match (&kind, &record.kind) {
            (FileKind::Symlink(found), FileKind::Symlink(listed)) => {
                self.expect(Flaw::Target, found, listed, |text| text.escape_ascii().to_string());
            }
            (FileKind::File { .. }, _) => {}
            (found, listed) if found != listed => self.note(Flaw::Device, format!("{}, not {}", number(found), number(listed))),
            _ => {}
        }
        if record.is_whiteout() {
            return Ok(());
        }
        let seen = record_of(path, stat);
        if !matches!(kind, FileKind::Symlink(_)) {
            self.expect(Flaw::Mode, seen.mode, record.mode, |mode| format!("{mode:04o}"));
        }
        self.expect(Flaw::Owner, (seen.uid, seen.gid), (record.uid, record.gid), |(uid, gid)| format!("{uid}:{gid}"));
        self.expect(Flaw::Time, seen.mtime, record.mtime, |time| {
            time.map_or_else(String::new, |time| format!("{}.{:09}", time.seconds, time.nanos))
        });
        if let Some(first) = &record.link_of {
            let same = look(root, first).map_err(call("fstatat", first))?.is_some_and(|(_, other)| other.st_ino == stat.st_ino);
            if !same {
                self.note(Flaw::HardLink, format!("not the same file as {first}"));
            }
            return Ok(());
        }
        let changed = Moment { seconds: stat.st_ctime, nanos: u32::try_from(stat.st_ctime_nsec).unwrap_or(0) };
        let read = match depth {
            Depth::Whole => true,
            Depth::ChangedAfter(sealed) => (changed.seconds, changed.nanos) > (sealed.seconds, sealed.nanos),
        };
        self.contents(dir, name, stat, read)
    }

    /// Size, extended attributes and content.
    fn contents(&mut self, dir: &OwnedFd, name: &[u8], stat: &FileStat, read: bool) -> Wrote<()> {
        let record = self.record;
        let path = &record.path;
        let flags = match &record.kind {
            FileKind::File { .. } => OFlag::O_RDONLY,
            FileKind::Directory => OFlag::O_RDONLY | OFlag::O_DIRECTORY,
            _ => return Ok(()),
        };
        let mut sized = false;
        if let FileKind::File { size: Some(size), .. } = record.kind {
            let found = stat.st_size.cast_unsigned();
            sized = found == size;
            self.expect(Flaw::Size, found, size, |size| format!("{size} bytes"));
        }
        if !read {
            return Ok(());
        }
        let file = open_beneath(dir.as_fd(), name, flags).map_err(call("openat2", path))?;
        let xattrs = tree_xattr::listed(file.as_fd()).map_err(call("fgetxattr", path))?;
        let mut listed = record.xattrs.clone();
        listed.sort();
        self.expect(Flaw::Xattrs, xattrs, listed, |pairs| {
            let names: Vec<String> = pairs.iter().map(|(name, _)| name.escape_ascii().to_string()).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(" ") }
        });
        if let (FileKind::File { digest: Some(listed), .. }, true) = (&record.kind, sized) {
            match digest_of(File::from(file)) {
                Ok((found, _)) => self.expect(Flaw::Content, found, *listed, |digest| format!("sha256:{}", crate::ids::hex(digest))),
                // A block that the disk cannot give is as good as a wrong one.
                Err(errno @ (Errno::EIO | Errno::EBADMSG | Errno::EUCLEAN)) => self.note(Flaw::Content, errno.desc().to_owned()),
                Err(errno) => return Err(call("read", path)(errno)),
            }
        }
        Ok(())
    }
}

fn word(kind: &FileKind) -> &'static str {
    match kind {
        FileKind::File { .. } => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink(_) => "symbolic link",
        FileKind::CharDevice(..) => "character device",
        FileKind::BlockDevice(..) => "block device",
        FileKind::Fifo => "FIFO",
        FileKind::Other => "socket",
    }
}

fn number(kind: &FileKind) -> String {
    match kind {
        FileKind::CharDevice(major, minor) | FileKind::BlockDevice(major, minor) => format!("{major}:{minor}"),
        other => word(other).to_owned(),
    }
}

/// Finds what is in the tree and not in the list; what is below it goes unsaid.
fn extras(root: &OwnedFd, listed: &PathSet, found: &mut Vec<Finding>) -> Wrote<()> {
    let mut left = PathQueue::new(root)?;
    left.push(&TarPath::root(), Moment::default())?;
    while let Some((path, _)) = left.pop()? {
        let dir = open_path(root.as_fd(), &path).map_err(call("openat2", &path))?;
        each_name(&dir, |name, is_directory| {
            let child = path.join(name);
            if !listed.contains(&child)? {
                found.push(Finding { path: child, flaw: Flaw::Extra, detail: String::new() });
            } else if is_directory {
                left.push(&child, Moment::default())?;
            }
            Ok::<(), TreeError>(())
        })?;
    }
    Ok(())
}
