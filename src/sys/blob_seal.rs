//! The mark of a stored blob that was held against its digest: a time of last change that no write leaves behind.
//!
//! A blob is read once when it is written, and flushed before it gets its name. Whoever changes it afterwards, or puts another file
//! in its place, moves its time; so do most copies. What a disk does by itself is not seen here but by `image verify`, which breaks the
//! seal, as an unpacking does that finds the blob damaged: the next pull or load then reads it, and fetches it again.
//!
//! A configuration is small enough to be read each time, and needs no seal: its time tells when its image was used last.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::store::{digest_blob, find_blob_size};
use super::tree::open_blob;
use crate::fault::Result;
use crate::image::Digest;

/// The most bytes of a blob that is read each time, sealed or not: documents and small layers.
pub const SMALL: u64 = 1 << 20;

/// The time that a sealed blob has, in seconds since 1970: some time before 1979 that follows from its digest.
pub fn mark(digest: &Digest) -> u64 {
    u64::from_str_radix(&digest.hex()[..7], 16).unwrap_or(0) + 1
}

/// Seals an open blob whose bytes were held against `digest`.
pub fn seal(blob: &File, digest: &Digest) -> std::io::Result<()> {
    blob.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(mark(digest)))
}

/// Whether the blob at `path` is there and sealed.
pub fn is_sealed(path: &Path, digest: &Digest) -> bool {
    let modified = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file).and_then(|meta| meta.modified().ok());
    modified == Some(SystemTime::UNIX_EPOCH + Duration::from_secs(mark(digest)))
}

/// Whether the blob at `path` may be taken for good: it has `size` bytes, and is right if it is [`SMALL`], or else sealed.
pub fn is_good(path: &Path, digest: &Digest, size: u64) -> Result<bool> {
    if find_blob_size(path)? != Some(size) {
        return Ok(false);
    }
    if size > SMALL { Ok(is_sealed(path, digest)) } else { Ok(digest_blob(path, digest.algorithm())? == *digest) }
}

/// As [`is_good`], but reads a blob that has lost its seal, or never had one, and seals it when it is right.
pub fn settle(path: &Path, digest: &Digest, size: u64) -> Result<bool> {
    if is_good(path, digest, size)? {
        return Ok(true);
    }
    if find_blob_size(path)? != Some(size) || digest_blob(path, digest.algorithm())? != *digest {
        return Ok(false);
    }
    // Without the seal the blob is as good, and only read again the next time.
    let _ = open_blob(path, 0).map(|blob| seal(&blob, digest));
    Ok(true)
}

/// Breaks the seal of a blob that was found damaged, if it is there: who needs it next reads it.
pub fn break_seal(path: &Path) {
    touch(path);
}

/// Notes that the image of a configuration is used now. Nothing is said when that cannot be noted: the image is used all the same.
pub fn note_use(config: &Path) {
    touch(config);
}

fn touch(path: &Path) {
    let _ = open_blob(path, 0).map(|blob| blob.set_modified(SystemTime::now()));
}

/// When the image of the configuration of `digest` at `path` was used last; `None` when it was not since it was stored.
pub fn last_use(path: &Path, digest: &Digest) -> Option<SystemTime> {
    let modified = std::fs::symlink_metadata(path).ok()?.modified().ok()?;
    (modified != SystemTime::UNIX_EPOCH + Duration::from_secs(mark(digest))).then_some(modified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_wrote_it_right_has_sealed_it() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("blob");
        for content in [vec![7; 100], vec![7; 2 << 20]] {
            let (digest, size) = (Digest::of(&content), content.len() as u64);
            let good = || is_good(&path, &digest, size).unwrap();
            let _ = std::fs::remove_file(&path);
            assert!(!good() && !settle(&path, &digest, size).unwrap());
            std::fs::write(&path, &content).unwrap();
            assert_eq!(good(), size <= SMALL, "whoever wrote it");
            assert!(settle(&path, &digest, size).unwrap() && good());
            assert!(!is_good(&path, &digest, size + 1).unwrap());
            break_seal(&path);
            assert_eq!(good(), size <= SMALL);
            assert!(last_use(&path, &digest).is_some() && settle(&path, &digest, size).unwrap() && good());
            let mut other = content.clone();
            other[50] ^= 1;
            std::fs::write(&path, &other).unwrap();
            assert!(!good() && !settle(&path, &digest, size).unwrap());
            // A disk changes bytes and no time: seen where the blob is small.
            seal(&File::open(&path).unwrap(), &digest).unwrap();
            assert_eq!(good(), size > SMALL);
        }
    }
}
