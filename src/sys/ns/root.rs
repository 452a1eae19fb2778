//! The directory in which `ip netns` keeps its pins: a mount on itself, shared, so that every mount namespace sees them.

use std::fs;
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::NsError;
use crate::sys::file;

/// Whether the directory is there, and whether it is a mount point. Its propagation is not looked at: who made it a mount chose it.
pub fn find_root(path: &Path) -> Result<(bool, bool), NsError> {
    match is_mount_root(path) {
        Ok(is_mount) => Ok((true, is_mount)),
        Err(Errno::ENOENT) => Ok((false, false)),
        Err(errno) => Err(NsError::call("statx", path)(errno)),
    }
}

#[allow(unsafe_code)]
fn is_mount_root(path: &Path) -> nix::Result<bool> {
    // SAFETY: `statx` is plain integers, for which zeroes are a value.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let result = path.with_nix_path(|path| {
        // SAFETY: the path is a NUL-terminated string and `found` a whole `statx`; both live for the call.
        unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), libc::AT_SYMLINK_NOFOLLOW, libc::STATX_TYPE, &raw mut found) }
    })?;
    Errno::result(result)?;
    if u32::from(found.stx_mode) & libc::S_IFMT != libc::S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    Ok(found.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0)
}

/// Makes the directory (mode 0755), binds it onto itself unless it is a mount already, and shares it.
///
/// *Source:* `ip netns add`, iproute2 `ip/ipnetns.c`: the same three calls.
pub fn ensure_root(path: &Path) -> Result<(), NsError> {
    file::ensure_dir(path, 0o755).map_err(|error| NsError::Call {
        call: "mkdir",
        path: path.into(),
        errno: error.errno().unwrap_or(Errno::EIO),
    })?;
    let none = None::<&str>;
    let share = MsFlags::MS_SHARED | MsFlags::MS_REC;
    match mount(none, path, none, share, none) {
        Ok(()) => return Ok(()),
        // Not a mount point yet.
        Err(Errno::EINVAL) => {}
        Err(errno) => return Err(NsError::call("mount --make-rshared", path)(errno)),
    }
    mount(Some(path), path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).map_err(NsError::call("mount --rbind", path))?;
    mount(none, path, none, share, none).map_err(NsError::call("mount --make-rshared", path))
}

/// Takes the mount off and, when `and_directory`, removes the directory; only while it is empty. Answers whether that is done.
pub fn remove_root(path: &Path, and_directory: bool) -> Result<bool, NsError> {
    let names = file::list(path).map_err(|error| NsError::Call {
        call: "opendir",
        path: path.into(),
        errno: error.errno().unwrap_or(Errno::EIO),
    })?;
    if !names.is_empty() {
        return Ok(false);
    }
    if find_root(path)?.1 {
        match umount2(path, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(Errno::EBUSY) => return Ok(false),
            Err(errno) => return Err(NsError::call("umount", path)(errno)),
        }
    }
    match and_directory.then(|| fs::remove_dir(path)) {
        Some(Err(error)) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTEMPTY)) => Err(NsError::io("rmdir", path)(error)),
        _ => Ok(true),
    }
}
