//! Indexes of large address pools below `/run/rkbox/pools`: caches, one for each directory of leases, named by its device and inode.
//!
//! An index is valid for exactly one state of its directory ([`WatchedDir`]). Whoever changes a pool holds its lock; when rkbox is
//! done it marks the directory and writes the mark into the index, last. So a change by any other program, or by an rkbox that was
//! killed on its way, leaves a directory whose state no index names, and the leases are read anew. A lease that is written to in
//! place changes no directory: nobody does that, and an index then misses what `rkbox gc` and a search by owner still find.

use std::fs::{File, OpenOptions};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::file::{self, DirState, Durable, WatchedDir};
use super::proc;
use crate::cni::lease_index::{HEADER, Header, find, is_word};
use crate::fault::Result;

/// Pools with fewer leases have no index: reading them costs less than half a millisecond.
pub const WORTHWHILE: usize = 128;
/// An index larger than this is none.
const LIMIT: u64 = 1 << 30;

/// The index of a directory of leases, valid when it was opened.
#[derive(Debug)]
pub struct LeaseIndex {
    file: File,
    dir: WatchedDir,
    state: DirState,
    header: Header,
}

fn home(run: &Path) -> PathBuf {
    run.join("pools")
}

fn path(run: &Path, state: &DirState) -> PathBuf {
    home(run).join(format!("{:x}-{:x}", state.identity.0, state.identity.1))
}

/// The valid index of the pool `dir`, if there is one; no error, because the leases themselves are still there to be read.
pub fn find_valid(run: &Path, dir: &Path) -> Option<LeaseIndex> {
    let dir = WatchedDir::open(dir).ok()?;
    let state = dir.state().ok()?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path(run, &state)).ok()?;
    let mut bytes = [0; HEADER];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let header = Header::parse(&bytes)?;
    // One that has grown much is built anew: it is full of leases that are gone.
    let grown = header.size > (2 * header.built).saturating_add(1 << 16) || header.size > LIMIT;
    let valid = !grown && header.state == state.to_string() && header.boot == proc::boot_id().ok()?;
    valid.then_some(LeaseIndex { file, dir, state, header })
}

/// Builds the index of the pool `dir` out of the lines of all its leases; the caller has held its lock since before it read them.
///
/// `None` where the file system does not keep the times that it takes.
pub fn build(run: &Path, dir: &Path, lines: &str) -> Result<Option<LeaseIndex>> {
    let dir = WatchedDir::open(dir)?;
    let Some(state) = dir.mark()? else { return Ok(None) };
    let size = lines.len() as u64;
    let header = Header { boot: proc::boot_id()?, state: state.to_string(), size, built: size };
    let Some(text) = header.text() else { return Ok(None) };
    file::ensure_dir(&home(run), 0o700)?;
    let path = path(run, &state);
    file::write_atomic(&path, 0o600, format!("{text}{lines}").as_bytes(), Durable::No)?;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(&path);
    Ok(opened.ok().map(|file| LeaseIndex { file, dir, state, header }))
}

impl LeaseIndex {
    /// The addresses that `owner` may hold for `ifname`: each of its leases, and perhaps some that are gone.
    ///
    /// `None` when that cannot be told: a strange owner, or somebody has changed the pool since.
    pub fn addresses(&self, owner: &str, ifname: &str) -> Option<Vec<IpAddr>> {
        if !is_word(owner) || !is_word(ifname) {
            return None;
        }
        let mut lines = vec![0; usize::try_from(self.header.size).ok()?];
        self.file.read_exact_at(&mut lines, HEADER as u64).ok()?;
        // Read without a lock perhaps: what was read is of this state if the directory still is in it.
        (self.dir.state().ok()? == self.state).then(|| find(&lines, owner, ifname))
    }

    /// Makes it valid for the state that the holder of the pool's lock leaves, in which the leases of the lines `added` may be new.
    ///
    /// A failure leaves one that is not valid.
    pub fn seal(mut self, added: &str) {
        if self.dir.state().is_ok_and(|state| state != self.state) {
            let _ = self.write(added);
        }
    }

    fn write(&mut self, added: &str) -> Option<()> {
        self.file.write_all_at(added.as_bytes(), HEADER as u64 + self.header.size).ok()?;
        self.header.size += added.len() as u64;
        self.header.state = self.dir.mark().ok()??.to_string();
        self.file.write_all_at(self.header.text()?.as_bytes(), 0).ok()
    }
}

/// Removes the index of a pool that is about to go.
pub fn forget(run: &Path, dir: &Path) -> Result<()> {
    let Ok(state) = WatchedDir::open(dir).and_then(|dir| dir.state()) else { return Ok(()) };
    file::remove_file(&path(run, &state))?;
    file::remove_dir_if_empty(&home(run))?;
    Ok(())
}

/// Removes the indexes of all pools but `dirs`.
pub fn sweep(run: &Path, dirs: &[PathBuf]) -> Result<()> {
    let states = dirs.iter().filter_map(|dir| WatchedDir::open(dir).and_then(|dir| dir.state()).ok());
    let known: Vec<PathBuf> = states.map(|state| path(run, &state)).collect();
    for name in file::list(&home(run))? {
        let path = home(run).join(name);
        if !known.contains(&path) {
            file::remove_file(&path)?;
        }
    }
    file::remove_dir_if_empty(&home(run))?;
    Ok(())
}
