//! Small questions about what is at a path.

use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Result, failed, failed_errno};

/// An anonymous file that holds `content`, at its start: what a child reads without a pipe that both could wait on.
pub fn anonymous(content: &[u8]) -> Result<OwnedFd> {
    let path = Path::new("(anonymous file)");
    let fd = memfd_create(c"rkbox", MFdFlags::MFD_CLOEXEC).map_err(failed_errno("memfd_create", path))?;
    let mut file = fs::File::from(fd);
    file.write_all(content).and_then(|()| file.rewind()).map_err(failed("write", path))?;
    Ok(file.into())
}

/// Whether a directory (or a symlink to one) is at `path`.
pub fn is_dir(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(meta) => Ok(meta.is_dir()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
        Err(error) => Err(failed("stat", path)(error)),
    }
}

/// Reads as much of a regular file as `buffer` holds, in one `read`; `None` when nothing is there or it is something else.
///
/// For directories of many small files, where every call counts.
pub fn peek<'a>(path: &Path, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW).open(path);
    match opened.and_then(|mut file| file.read(buffer)) {
        Ok(count) => Ok(Some(&buffer[..count])),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EISDIR | libc::ELOOP)) => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// The permission bits of what is at `path`; `None` when nothing is there.
pub fn find_mode(path: &Path) -> Result<Option<u32>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.permissions().mode() & 0o7777)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(error) => Err(failed("lstat", path)(error)),
    }
}

/// How long ago a regular file was written, and its size in bytes; `None` for anything else.
pub fn find_age(path: &Path) -> Result<Option<(Duration, u64)>> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => {
            let written = meta.modified().map_err(failed("stat", path))?;
            Ok(Some((written.elapsed().unwrap_or_default(), meta.len())))
        }
        Ok(_) => Ok(None),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(error) => Err(failed("lstat", path)(error)),
    }
}
