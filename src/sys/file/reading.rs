//! Whole files, bounded.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;

use super::{FileError, Result, failed};

/// Reads a regular file of at most `limit` bytes; never blocks on a FIFO, never follows a final symlink.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed("open", path))?;
    read_open(file, path, limit)
}

/// As [`read`], but a final symlink is followed (host files such as `/etc/resolv.conf`).
pub fn read_following(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(failed("open", path))?;
    read_open(file, path, limit)
}

fn read_open(file: fs::File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let meta = file.metadata().map_err(failed("stat", path))?;
    if !meta.is_file() {
        return Err(FileError::NotRegular { path: path.to_path_buf() });
    }
    // With room for one byte more, the end is seen without a second buffer. What grows is read too.
    let mut content = Vec::with_capacity(usize::try_from(meta.len().min(limit)).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut content).map_err(failed("read", path))?;
    if content.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_path_buf(), limit });
    }
    Ok(content)
}

/// As [`read`], `None` when nothing is there.
pub fn find(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match read(path, limit) {
        Ok(content) => Ok(Some(content)),
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of a small kernel file (`/proc`, `/sys`), without the newline at its end.
pub fn read_kernel(path: &Path) -> Result<String> {
    // The kernel says size 0 of most, and a reader that goes by it asks many times.
    let mut text = String::with_capacity(1 << 10);
    fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)).map_err(failed("read", path))?;
    text.truncate(text.trim_end().len());
    Ok(text)
}
