//! What must be remembered of a tree of any size in bounded memory: sets and queues of paths that overflow into a nameless file.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::image::tar_entry::Moment;
use crate::image::tar_path::TarPath;

/// Keys of a set that stay in memory: 2 to 5 MiB.
const RECENT: usize = 1 << 18;
/// Every so many keys of a run on the disk, one is kept in memory.
const STRIDE: usize = 512;
/// Bytes of a queue that stay in memory.
const TAIL: usize = 1 << 20;

/// A file without a name in the file system of directory `dir`; it goes with its descriptor.
pub(super) fn nameless(dir: &OwnedFd) -> nix::Result<File> {
    openat(dir, ".", OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

fn again(dir: &OwnedFd) -> nix::Result<OwnedFd> {
    dir.try_clone().map_err(|error| errno(&error))
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// A set of paths, of which only a keyed hash is kept: the key is random, so that an image cannot choose names that are
/// taken for each other. Five million paths cost 40 MB of disk and 5 MiB of memory.
pub(super) struct PathSet {
    key: RandomState,
    recent: HashSet<u64>,
    overflow: Option<(File, Vec<Run>)>,
    dir: OwnedFd,
}

/// Sorted keys on the disk, from `at` on.
struct Run {
    at: u64,
    first_of_each_stride: Vec<u64>,
    count: usize,
}

impl PathSet {
    /// An empty set; `dir` is where it may overflow to.
    pub(super) fn new(dir: &OwnedFd) -> nix::Result<Self> {
        Ok(PathSet { key: RandomState::new(), recent: HashSet::new(), overflow: None, dir: again(dir)? })
    }

    /// Adds a path; answers whether it is new as far as memory goes: `true` may also be said of one that has overflowed.
    pub(super) fn insert(&mut self, path: &TarPath) -> nix::Result<bool> {
        if self.recent.len() >= RECENT {
            self.spill()?;
        }
        Ok(self.recent.insert(self.key.hash_one(path)))
    }

    /// Whether the path is in the set.
    pub(super) fn contains(&self, path: &TarPath) -> nix::Result<bool> {
        if self.is_empty() {
            return Ok(false);
        }
        let hash = self.key.hash_one(path);
        if self.recent.contains(&hash) {
            return Ok(true);
        }
        let Some((file, runs)) = &self.overflow else { return Ok(false) };
        for run in runs {
            if run.contains(file, hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the path or a directory above it is in the set.
    pub(super) fn covers(&self, path: &TarPath) -> nix::Result<bool> {
        let mut at = path.clone();
        while !self.is_empty() {
            if self.contains(&at)? {
                return Ok(true);
            }
            if at.is_root() {
                break;
            }
            at = at.parent();
        }
        Ok(false)
    }

    /// Whether memory no longer knows all of it.
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflow.is_some()
    }

    /// Whether nothing was ever added.
    pub(super) fn is_empty(&self) -> bool {
        self.recent.is_empty() && self.overflow.is_none()
    }

    fn spill(&mut self) -> nix::Result<()> {
        let (file, runs) = match &mut self.overflow {
            Some(overflow) => overflow,
            none => none.insert((nameless(&self.dir)?, Vec::new())),
        };
        let mut keys: Vec<u64> = self.recent.drain().collect();
        keys.sort_unstable();
        let at = runs.iter().map(|run| run.count as u64 * 8).sum();
        for (nth, keys) in keys.chunks(STRIDE).enumerate() {
            let bytes: Vec<u8> = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
            file.write_all_at(&bytes, at + (nth * STRIDE * 8) as u64).map_err(|error| errno(&error))?;
        }
        runs.push(Run { at, first_of_each_stride: keys.iter().step_by(STRIDE).copied().collect(), count: keys.len() });
        Ok(())
    }
}

impl Run {
    fn contains(&self, file: &File, key: u64) -> nix::Result<bool> {
        let Some(stride) = self.first_of_each_stride.partition_point(|&first| first <= key).checked_sub(1) else { return Ok(false) };
        let count = (self.count - stride * STRIDE).min(STRIDE);
        let mut bytes = vec![0; count * 8];
        file.read_exact_at(&mut bytes, self.at + (stride * STRIDE * 8) as u64).map_err(|error| errno(&error))?;
        Ok(bytes.chunks_exact(8).any(|found| found == key.to_le_bytes()))
    }
}

/// A queue of paths, each with a moment; it can be gone through again.
pub(super) struct PathQueue {
    /// What was pushed last.
    tail: Vec<u8>,
    /// What is read next, and how far it was.
    head: (Vec<u8>, usize),
    file: Option<File>,
    written: u64,
    read: u64,
    dir: OwnedFd,
}

impl PathQueue {
    /// An empty queue; `dir` is where it may overflow to.
    pub(super) fn new(dir: &OwnedFd) -> nix::Result<Self> {
        Ok(PathQueue { tail: Vec::new(), head: (Vec::new(), 0), file: None, written: 0, read: 0, dir: again(dir)? })
    }

    /// Adds a path at the end.
    pub(super) fn push(&mut self, path: &TarPath, moment: Moment) -> nix::Result<()> {
        let bytes = path.as_bytes();
        self.tail.extend_from_slice(&u32::try_from(bytes.len()).map_err(|_| Errno::ENAMETOOLONG)?.to_le_bytes());
        self.tail.extend_from_slice(&moment.seconds.to_le_bytes());
        self.tail.extend_from_slice(&moment.nanos.to_le_bytes());
        self.tail.extend_from_slice(bytes);
        if self.tail.len() >= TAIL { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> nix::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(nameless(&self.dir)?),
        };
        file.write_all_at(&self.tail, self.written).map_err(|error| errno(&error))?;
        self.written += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    /// Takes the first path; nothing is taken twice.
    pub(super) fn pop(&mut self) -> nix::Result<Option<(TarPath, Moment)>> {
        if !self.fill(16)? {
            return Ok(None);
        }
        let record = &self.head.0[self.head.1..];
        let length = u32::from_le_bytes([record[0], record[1], record[2], record[3]]) as usize;
        if !self.fill(16 + length)? {
            return Err(Errno::EIO);
        }
        let record = &self.head.0[self.head.1..][..16 + length];
        let eight: [u8; 8] = record[4..12].try_into().map_err(|_| Errno::EIO)?;
        let four: [u8; 4] = record[12..16].try_into().map_err(|_| Errno::EIO)?;
        let moment = Moment { seconds: i64::from_le_bytes(eight), nanos: u32::from_le_bytes(four) };
        let path = TarPath::from_normal(record[16..].to_vec());
        self.head.1 += 16 + length;
        Ok(Some((path, moment)))
    }

    /// Makes the next `count` bytes readable; answers whether there are so many.
    fn fill(&mut self, count: usize) -> nix::Result<bool> {
        while self.head.0.len() - self.head.1 < count {
            self.head.0.drain(..self.head.1);
            self.head.1 = 0;
            if self.read == self.written {
                if self.tail.is_empty() {
                    return Ok(false);
                }
                self.head.0.append(&mut self.tail);
                continue;
            }
            let Some(file) = &self.file else { return Err(Errno::EIO) };
            let (have, more) = (self.head.0.len(), usize::try_from(self.written - self.read).unwrap_or(TAIL).min(64 << 10));
            self.head.0.resize(have + more, 0);
            file.read_exact_at(&mut self.head.0[have..], self.read).map_err(|error| errno(&error))?;
            self.read += more as u64;
        }
        Ok(true)
    }

    /// Gives all of it to `each`, in order, and keeps it.
    pub(super) fn each<E: From<nix::Error>>(&mut self, mut each: impl FnMut(&TarPath, Moment) -> Result<(), E>) -> Result<(), E> {
        let mut kept = PathQueue::new(&self.dir)?;
        while let Some((path, moment)) = self.pop()? {
            each(&path, moment)?;
            kept.push(&path, moment)?;
        }
        *self = kept;
        Ok(())
    }
}

/// The names in a directory and whether each is itself one, as they come: a directory may hold more than memory does.
pub(super) fn each_name<E: From<nix::Error>>(dir: &OwnedFd, mut each: impl FnMut(&[u8], bool) -> Result<(), E>) -> Result<(), E> {
    let again = super::tree::open_beneath(dir.as_fd(), b".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    for entry in nix::dir::Dir::from_fd(again)?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let is_directory = match entry.file_type() {
            Some(kind) => kind == nix::dir::Type::Directory,
            // Some file systems do not say.
            None => matches!(super::tree::probe(dir.as_fd(), name)?, super::tree::Node::Directory(_)),
        };
        each(name, is_directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, OwnedFd) {
        let world = tempfile::tempdir().unwrap();
        let dir = OwnedFd::from(File::open(world.path()).unwrap());
        (world, dir)
    }

    fn path(nth: usize) -> TarPath {
        TarPath::parse(format!("some/path/of/some/length/{nth}").as_bytes()).unwrap()
    }

    #[test]
    fn a_set_that_overflows_forgets_nothing() {
        let (world, dir) = dir();
        let mut set = PathSet::new(&dir).unwrap();
        let count = 3 * RECENT + 7;
        for nth in 0..count {
            set.insert(&path(nth)).unwrap();
        }
        assert!((0..count).step_by(1009).chain([count - 1]).all(|nth| set.contains(&path(nth)).unwrap()));
        assert!((count..count + 1000).all(|nth| !set.contains(&path(nth)).unwrap()));
        assert!(set.covers(&path(5).join(b"below")).unwrap() && !set.covers(&path(count).join(b"below")).unwrap());
        assert_eq!(std::fs::read_dir(world.path()).unwrap().count(), 0, "it has no name");
    }

    #[test]
    fn a_queue_that_overflows_keeps_its_order() {
        let (_world, dir) = dir();
        let mut queue = PathQueue::new(&dir).unwrap();
        let moment = |nth: usize| Moment { seconds: -(nth as i64), nanos: 5 };
        let (mut pushed, mut popped) = (0, 0);
        // Reading and writing take turns, at different speeds.
        while popped < 100_000 {
            for _ in 0..3 {
                queue.push(&path(pushed), moment(pushed)).unwrap();
                pushed += 1;
            }
            assert_eq!(queue.pop().unwrap(), Some((path(popped), moment(popped))));
            popped += 1;
        }
        for _ in 0..2 {
            let mut nth = popped;
            queue
                .each(|found, _| {
                    assert_eq!(*found, path(nth));
                    nth += 1;
                    Ok::<(), Errno>(())
                })
                .unwrap();
            assert_eq!(nth, pushed);
        }
    }
}
