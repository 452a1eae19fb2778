//! The calls that make a mount without a path: fsopen(2), fsconfig(2), fsmount(2), move_mount(2).

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use crate::sys::file;

#[allow(unsafe_code)]
pub(in crate::sys) fn fs_open(kind: &std::ffi::CStr) -> nix::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    // SAFETY: the name is a C string; a descriptor that comes back is ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    Ok(file::own(i32::try_from(fd).unwrap_or(-1)))
}

#[allow(unsafe_code)]
pub(in crate::sys) fn fs_config(context: &OwnedFd, key: &str, value: &Path) -> nix::Result<()> {
    const SET_STRING: u32 = 1;
    let key = CString::new(key).map_err(|_| Errno::EINVAL)?;
    let value = CString::new(value.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: both strings live through the call.
    let set = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), SET_STRING, key.as_ptr(), value.as_ptr(), 0) };
    Errno::result(set).map(drop)
}

#[allow(unsafe_code)]
pub(in crate::sys) fn fs_flag(context: &OwnedFd, key: &std::ffi::CStr) -> nix::Result<()> {
    const SET_FLAG: u32 = 0;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the key is a C string; a flag has no value.
    Errno::result(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), SET_FLAG, key.as_ptr(), none, 0) }).map(drop)
}

#[allow(unsafe_code)]
pub(in crate::sys) fn fs_mount(context: &OwnedFd, read_only: bool) -> nix::Result<OwnedFd> {
    const CMD_CREATE: u32 = 6;
    const FSMOUNT_CLOEXEC: u32 = 1;
    const MOUNT_ATTR_RDONLY: u32 = 1;
    const MOUNT_ATTR_NODEV: u32 = 4;
    let attributes = MOUNT_ATTR_NODEV | if read_only { MOUNT_ATTR_RDONLY } else { 0 };
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the command takes neither key nor value.
    Errno::result(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CMD_CREATE, none, none, 0) })?;
    // SAFETY: no pointers; a descriptor that comes back is ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })?;
    Ok(file::own(i32::try_from(fd).unwrap_or(-1)))
}

#[allow(unsafe_code)]
pub(super) fn move_mount(mount: &OwnedFd, target: &Path) -> nix::Result<()> {
    const FROM_EMPTY_PATH: u32 = 4;
    let target = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: both strings live through the call.
    let moved =
        unsafe { libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), c"".as_ptr(), libc::AT_FDCWD, target.as_ptr(), FROM_EMPTY_PATH) };
    Errno::result(moved).map(drop)
}
