//! The image store: an OCI image layout on disk, its index under a lock, its blobs written verified.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::dir_lock::{self, Beside, DirLock};
use super::{blob_seal, file, lock};
use crate::fault::{Context, Fault, Kind, Result, kind_of_errno};
use crate::image::layout::{self, DEPTH_LIMIT, Descriptor, Index};
use crate::image::manifest::{self, DOCUMENT_LIMIT, INDEX_LIMIT, Manifest};
use crate::image::{Algorithm, Config, Digest, Hasher, entry};
use nix::errno::Errno;

/// The content of `oci-layout`.
pub const MARKER: &str = "{\"imageLayoutVersion\":\"1.0.0\"}\n";
/// How long the index is waited for: its holders only read and rename small files.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the name of an unfinished blob starts with.
const PARTIAL: &str = ".partial-";

/// What went wrong with the bytes of a blob.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
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
    /// The source ends early or late.
    #[error("content has {found} bytes, its descriptor says {size}")]
    Size {
        /// Bytes that were there; one more than `size` stands for any larger number.
        found: u64,
        /// Bytes that were promised.
        size: u64,
    },
    /// The source has other bytes.
    #[error("content has digest {found}, not {digest}")]
    Digest {
        /// What the bytes give.
        found: Digest,
        /// What was promised.
        digest: Digest,
    },
}

impl From<BlobError> for Fault {
    fn from(error: BlobError) -> Fault {
        let kind = match &error {
            BlobError::Call { errno, .. } => kind_of_errno(*errno),
            BlobError::Size { .. } | BlobError::Digest { .. } => Kind::DataLoss,
        };
        Fault::from_error(kind, error)
    }
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BlobError {
    let path = path.to_path_buf();
    move |error| BlobError::Call { call, path, errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
}

/// Keeps a sweep away while images are loaded or read; `None` when there is no store yet.
pub fn share(store: &Path) -> Result<Option<DirLock>> {
    dir_lock::acquire(&store.join("blobs"), Beside::Others, PATIENCE)
}

/// Keeps loads away while garbage is collected; `None` when there is no store.
pub fn seize(store: &Path, limit: Duration) -> Result<Option<DirLock>> {
    dir_lock::acquire(&store.join("blobs"), Beside::Nobody, limit)
}

/// Takes the lock under which the index is rewritten and blobs are removed; `None` when there is no store.
pub fn lock_index(store: &Path) -> Result<Option<DirLock>> {
    dir_lock::acquire(store, Beside::Nobody, PATIENCE)
}

/// Where the index is.
pub fn index_path(store: &Path) -> PathBuf {
    store.join("index.json")
}

/// Reads the index; `None` when there is none.
pub fn find_index(store: &Path) -> Result<Option<Index>> {
    let path = index_path(store);
    let Some(bytes) = file::find(&path, INDEX_LIMIT)? else { return Ok(None) };
    let damaged = |fault: Fault| fault.of_kind(Kind::DataLoss).doing(format!("reading {}", path.display()));
    Index::parse(&bytes).map(Some).map_err(damaged)
}

/// Replaces the index; the caller holds its lock.
pub fn write_index(store: &Path, index: &Index) -> Result<()> {
    Ok(file::write_atomic(&index_path(store), 0o644, index.to_text().as_bytes(), file::Durable::Yes)?)
}

/// Reads a small document of the store, verified.
pub fn read_document(store: &Path, descriptor: &Descriptor) -> Result<Vec<u8>> {
    layout::read_verified(descriptor, &mut |wanted| Ok(file::read(&wanted.digest.blob(store), DOCUMENT_LIMIT)?))
}

/// The size of a stored blob; `None` when it is not there.
pub fn find_blob_size(path: &Path) -> Result<Option<u64>> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => Ok(Some(meta.len())),
        Ok(_) => Err(Fault::new(Kind::FailedPrecondition, format!("{} is not a regular file", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("lstat", path)(error).into()),
    }
}

/// The digest of what a stored blob holds, by `algorithm`.
pub fn digest_blob(path: &Path, algorithm: Algorithm) -> Result<Digest> {
    let mut file = super::tree::open_blob(path, 0)?;
    let (mut hash, mut buffer) = (Hasher::new(algorithm), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer).map_err(failed("read", path))? {
            0 => return Ok(hash.finish()),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// All that some index entries lead to.
#[derive(Debug, Default)]
pub struct Reach {
    /// Manifests, indexes, configurations, layers.
    pub blobs: BTreeSet<Digest>,
    /// Chain ids of the layers.
    pub chains: BTreeSet<Digest>,
    /// What could not be read, in words.
    pub broken: Vec<String>,
}

impl Reach {
    /// Follows the entries of `index`. What is missing or damaged leads nowhere and is listed.
    ///
    /// *Errors:* only those of reading itself (no permission, no memory), after which nothing is known.
    pub fn of(store: &Path, index: &Index) -> Result<Self> {
        let mut reach = Reach::default();
        for entry in index.entries() {
            let before = reach.broken.len();
            reach.follow(store, entry, 0)?;
            let name = entry.name().map_or("without a name".to_owned(), |name| format!("{name:?}"));
            reach.broken[before..].iter_mut().for_each(|what| *what = format!("image {name}: {what}"));
        }
        Ok(reach)
    }

    /// As [`Reach::of`], but only of those entries that may lead to something of `other`. An entry that tells what it leads to, and that
    /// this is something else, costs no file.
    pub fn of_sharing(store: &Path, index: &Index, other: &Reach) -> Result<Self> {
        let marks: BTreeSet<&str> = other.blobs.iter().chain(&other.chains).map(Digest::short).collect();
        let is_apart =
            |entry: &Descriptor| !other.blobs.contains(&entry.digest) && entry::parts(entry).is_some_and(|parts| parts.is_disjoint(&marks));
        let raw = index.raw_entries().iter().zip(index.entries()).filter(|(_, entry)| !is_apart(entry)).map(|(raw, _)| raw.clone());
        Reach::of(store, &index.with_entries(raw.collect())?)
    }

    fn follow(&mut self, store: &Path, entry: &Descriptor, depth: usize) -> Result<()> {
        if !self.blobs.insert(entry.digest.clone()) || depth > DEPTH_LIMIT {
            return Ok(());
        }
        let Some(bytes) = self.sound(read_document(store, entry))? else { return Ok(()) };
        let Some(nested) = self.sound(manifest::is_index(entry, &bytes))? else { return Ok(()) };
        if nested {
            let Some(index) = self.sound(Index::parse(&bytes))? else { return Ok(()) };
            return index.entries().iter().try_for_each(|below| self.follow(store, below, depth + 1));
        }
        let Some(manifest) = self.sound(Manifest::named(&bytes, entry.digest.clone()))? else { return Ok(()) };
        self.blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        self.blobs.insert(manifest.config.digest.clone());
        let config = read_document(store, &manifest.config).and_then(|bytes| Config::parse(&bytes));
        if let Some(config) = self.sound(config)? {
            self.chains.extend(config.chain_ids());
        }
        Ok(())
    }

    fn sound<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(fault) if matches!(fault.kind(), Kind::NotFound | Kind::DataLoss | Kind::InvalidArgument | Kind::Unimplemented) => {
                self.broken.push(fault.to_string());
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }
}

/// Copies `source` into the store, held against size and digest: under a dot-name, then fsync, rename, fsync of the directory.
///
/// The dot-name is locked while its writer lives, so that a sweep knows the dead ones.
pub fn write_blob(store: &Path, digest: &Digest, size: u64, source: &mut dyn Read) -> Result<()> {
    static NTH: AtomicU32 = AtomicU32::new(0);
    let target = digest.blob(store);
    let name = format!("{PARTIAL}{}-{}-{}", digest.hex(), std::process::id(), NTH.fetch_add(1, Ordering::Relaxed));
    let partial = target.with_file_name(name);
    let held = lock::find_free(&partial)?.ok_or_else(|| Fault::new(Kind::Conflict, format!("{} is held", partial.display())))?;
    let written = fill(held.file(), &partial, (digest.algorithm(), size), source).and_then(|found| {
        if found != *digest {
            return Err(BlobError::Digest { found, digest: digest.clone() });
        }
        blob_seal::seal(held.file(), digest).map_err(failed("futimens", &partial))?;
        held.file().sync_all().map_err(failed("fsync", &partial))?;
        std::fs::rename(&partial, &target).map_err(failed("rename", &target))
    });
    if let Err(error) = written {
        let _ = file::remove_file(&partial);
        return Err(error.into());
    }
    Ok(file::sync_parent(&target)?)
}

fn fill(
    mut to: &std::fs::File,
    path: &Path,
    (algorithm, size): (Algorithm, u64),
    source: &mut dyn Read,
) -> std::result::Result<Digest, BlobError> {
    to.set_len(0).and_then(|()| to.set_permissions(Permissions::from_mode(0o644))).map_err(failed("chmod", path))?;
    let (mut hash, mut found, mut buffer) = (Hasher::new(algorithm), 0_u64, vec![0; 256 << 10]);
    // One byte more than promised is asked for, so that a longer source is seen without being read to its end.
    let mut source = source.take(size.saturating_add(1));
    loop {
        let count = source.read(&mut buffer).map_err(failed("read the source of", path))?;
        if count == 0 {
            break;
        }
        found += count as u64;
        if found > size {
            return Err(BlobError::Size { found, size });
        }
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(failed("write", path))?;
    }
    if found != size {
        return Err(BlobError::Size { found, size });
    }
    Ok(hash.finish())
}

/// The dot-name of a blob that comes from far away: the same for everybody, so that the next pull goes on from what is there.
pub fn resumable(blob: &Path) -> PathBuf {
    blob.with_file_name(format!("{PARTIAL}{}", blob.file_name().unwrap_or_default().to_string_lossy()))
}

/// Removes unfinished blobs whose writer is dead: those of `digest`, or all; answers their paths.
pub fn remove_partials(store: &Path, digest: Option<&Digest>) -> Result<Vec<PathBuf>> {
    let prefix = digest.map_or(PARTIAL.to_owned(), |digest| format!("{PARTIAL}{}", digest.hex()));
    let mut removed = Vec::new();
    for dir in Algorithm::ALL.map(|algorithm| algorithm.blobs(store)) {
        for path in file::list(&dir)?.into_iter().filter(|name| name.starts_with(&prefix)).map(|name| dir.join(name)) {
            // Whoever holds the lock is at work, in this process or another.
            let held = lock::find_free_existing(&path).doing(|| format!("looking for the writer of {}", path.display()))?;
            if held.is_some() && file::remove_file(&path)? {
                removed.push(path);
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_whole_or_not_there() {
        let world = tempfile::tempdir().unwrap();
        let store = world.path();
        file::ensure_dir(&store.join("blobs/sha256"), 0o700).unwrap();
        let digest = Digest::of(b"hello");
        for (source, size, says) in
            [(&b"hello"[..], 4, "content has 5 bytes"), (b"hello", 6, "content has 5 bytes"), (b"hallo", 5, "content has digest")]
        {
            let fault = write_blob(store, &digest, size, &mut &*source).unwrap_err();
            assert!(fault.to_string().contains(says) && fault.kind() == Kind::DataLoss, "{fault}");
            assert!(file::list(&store.join("blobs/sha256")).unwrap().is_empty());
        }
        write_blob(store, &digest, 5, &mut &b"hello"[..]).unwrap();
        assert_eq!(file::read(&digest.blob(store), 9).unwrap(), b"hello");
        assert!(write_blob(store, &digest, 5, &mut std::io::repeat(b'x')).is_err(), "an endless source ends");
    }

    #[test]
    fn only_the_partials_of_the_dead_go() {
        let world = tempfile::tempdir().unwrap();
        let dir = world.path().join("blobs/sha256");
        file::ensure_dir(&dir, 0o700).unwrap();
        let alive = dir.join(format!("{PARTIAL}a-1-0"));
        let held = lock::find_free(&alive).unwrap();
        let dead = dir.join(format!("{PARTIAL}b-1-0"));
        drop(lock::find_free(&dead).unwrap());
        // A child that another test is just starting holds a copy of every descriptor until it executes.
        drop(lock::acquire(&dead, std::time::Duration::from_secs(5)).unwrap());
        assert_eq!(remove_partials(world.path(), None).unwrap(), [dead]);
        assert!(file::exists(&alive).unwrap());
        drop(held);
    }
}
