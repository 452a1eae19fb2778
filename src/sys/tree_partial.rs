//! A directory in the making: made beside its final name, locked while its maker lives, renamed when it is whole.
//!
//! *Shape:* `NAME.partial-PID-N`, with an exclusive flock on the directory itself, which the kernel frees with the maker. A
//! partial directory whose lock is free belongs to nobody and may be removed by anyone who holds that lock.

use std::fs::{self, File, TryLockError};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::fault::{Fault, Result, kind_of_errno};

use super::file;

/// What stands between the name of a tree and the numbers of its maker.
pub const INFIX: &str = ".partial-";
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory in the making; dropping it removes it.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    target: PathBuf,
    lock: File,
    whole: bool,
}

/// Who has the final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// This directory.
    Ours,
    /// Something that was there first; this directory is gone.
    Theirs,
}

impl Partial {
    /// Makes the directory (mode 0700) beside `target`, whose parent must be there, and locks it.
    pub fn create(target: &Path) -> Result<Self> {
        loop {
            let nth = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut name = target.file_name().unwrap_or_default().to_os_string();
            name.push(format!("{INFIX}{}-{nth}", std::process::id()));
            let path = target.with_file_name(name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                // A dead process of the same id left it.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => continue,
                Err(error) => return Err(fault(&error, "mkdir", &path)),
            }
            // A collector may have taken the lock between mkdir and here; the directory is then its to remove.
            if let Some(lock) = try_lock(&path)? {
                return Ok(Partial { path, target: target.to_path_buf(), lock, whole: false });
            }
        }
    }

    /// Where the directory is now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of it to the disk, gives it its final name unless that is taken, and makes the name durable.
    pub fn commit(self) -> Result<Committed> {
        self.sync()?;
        let target = self.target.clone();
        let committed = self.name()?;
        if committed == Committed::Ours {
            file::sync_parent(&target)?;
        }
        Ok(committed)
    }

    /// Gives it its final name unless that is taken, and leaves the disk to the caller.
    pub fn name(mut self) -> Result<Committed> {
        match renameat2(AT_FDCWD, &self.path, AT_FDCWD, &self.target, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Ok(Committed::Theirs),
            Err(errno) => return Err(Fault::new(kind_of_errno(errno), format!("rename {}: {}", self.target.display(), errno.desc()))),
        }
        self.whole = true;
        Ok(Committed::Ours)
    }

    /// Flushes the file system; a failure is final for this directory, because the kernel reports it once.
    fn sync(&self) -> Result<()> {
        nix::unistd::syncfs(self.lock.as_fd())
            .map_err(|errno| Fault::new(kind_of_errno(errno), format!("syncfs {}: {}", self.path.display(), errno.desc())))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.whole {
            // What stays is found by its name and its free lock.
            let _ = file::remove_tree(&self.path);
        }
    }
}

/// The turn to make a directory: one maker at a time, in this process and all others. Dropping it lets the next one.
///
/// *Shape:* `NAME.partial-turn`, an empty directory with a flock, which goes with the turn; that of a dead maker is as any partial one.
#[derive(Debug)]
pub struct Turn {
    path: PathBuf,
    _lock: File,
}

/// How often somebody who waits for a turn looks again.
const GLANCE: Duration = Duration::from_millis(10);

impl Turn {
    /// Waits for the turn to make `target`; `go_on` is asked meanwhile, and its fault ends the wait.
    pub fn take(target: &Path, go_on: impl Fn() -> Result<()>) -> Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_os_string();
        name.push(format!("{INFIX}turn"));
        let path = target.with_file_name(name);
        loop {
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                Err(error) => return Err(fault(&error, "mkdir", &path)),
            }
            if let Some(lock) = try_lock(&path)? {
                return Ok(Turn { path, _lock: lock });
            }
            go_on()?;
            std::thread::sleep(GLANCE);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The lock is still held: whoever waits makes a new one.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Takes the tree at `path` away: its name is free at once, and a crash leaves a partial directory of nobody.
pub fn discard(path: &Path) -> Result<()> {
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!("{INFIX}{}-{nth}", std::process::id()));
    let aside = path.with_file_name(name);
    match renameat2(AT_FDCWD, path, AT_FDCWD, &aside, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => {}
        Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EEXIST) => return discard(path),
        Err(errno) => return Err(Fault::new(kind_of_errno(errno), format!("rename {}: {}", path.display(), errno.desc()))),
    }
    Ok(file::remove_tree(&aside)?)
}

/// Removes the partial directories of `target` whose makers are dead; answers those removed.
pub fn remove_dead_of(target: &Path) -> Result<Vec<PathBuf>> {
    let prefix = format!("{}{INFIX}", target.file_name().unwrap_or_default().to_string_lossy());
    remove_dead(target.parent().unwrap_or(Path::new(".")), |name| name.starts_with(&prefix))
}

/// Removes all partial directories in `dir` whose makers are dead; answers those removed. For `gc`.
pub fn remove_dead_in(dir: &Path) -> Result<Vec<PathBuf>> {
    remove_dead(dir, |name| name.contains(INFIX))
}

fn remove_dead(dir: &Path, is_ours: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for name in file::list(dir)?.into_iter().filter(|name| is_ours(name)) {
        let path = dir.join(name);
        // The lock is held until the tree is gone.
        if let Some(_lock) = try_lock(&path)? {
            file::remove_tree(&path)?;
            removed.push(path);
        }
    }
    Ok(removed)
}

/// Locks the directory at `path`; `None` when somebody holds the lock or the directory is no longer there under this name.
fn try_lock(path: &Path) -> Result<Option<File>> {
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path);
    let dir = match opened {
        Ok(dir) => dir,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => return Ok(None),
        Err(error) => return Err(fault(&error, "open", path)),
    };
    match dir.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(fault(&error, "flock", path)),
    }
    let same = match (dir.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    };
    Ok(same.then_some(dir))
}

fn fault(error: &std::io::Error, call: &str, path: &Path) -> Fault {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    Fault::new(kind_of_errno(errno), format!("{call} {}: {}", path.display(), errno.desc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_directory_of_a_live_maker_stays_and_of_a_dead_one_goes() {
        let world = tempfile::tempdir().unwrap();
        let target = world.path().join("layer");
        let live = Partial::create(&target).unwrap();
        let dead = world.path().join("layer.partial-1-0");
        fs::create_dir_all(dead.join("fs/usr")).unwrap();
        fs::create_dir(world.path().join("layer2.partial-1-0")).unwrap();
        assert_eq!(remove_dead_of(&target).unwrap(), [dead]);
        assert!(live.path().is_dir());
        assert_eq!(remove_dead_in(world.path()).unwrap(), [world.path().join("layer2.partial-1-0")]);
        assert_eq!(live.commit().unwrap(), Committed::Ours);
        assert!(target.is_dir());
    }

    #[test]
    fn the_second_to_commit_uses_the_first_ones() {
        let world = tempfile::tempdir().unwrap();
        let target = world.path().join("layer");
        let (one, two) = (Partial::create(&target).unwrap(), Partial::create(&target).unwrap());
        fs::write(one.path().join("mine"), "1").unwrap();
        assert_eq!(one.commit().unwrap(), Committed::Ours);
        assert_eq!(two.commit().unwrap(), Committed::Theirs);
        assert_eq!(file::list(world.path()).unwrap(), ["layer"]);
        assert!(target.join("mine").is_file());
    }

    #[test]
    fn one_at_a_time_has_the_turn() {
        let world = tempfile::tempdir().unwrap();
        let target = world.path().join("layer");
        let first = Turn::take(&target, || Ok(())).unwrap();
        let busy = Turn::take(&target, || Err(Fault::invalid("no patience"))).unwrap_err();
        assert_eq!(busy.to_string(), "no patience");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Turn::take(&target, || Ok(())).map(drop));
            drop(first);
            second.join().unwrap().unwrap();
        });
        assert!(file::list(world.path()).unwrap().is_empty());
    }
}
