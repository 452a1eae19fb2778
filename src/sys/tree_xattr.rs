//! Extended attributes through descriptors.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::image::tar_entry::keeps_xattr;

/// What marks a directory that hides all below it.
const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// The mark of an opaque directory: in a user namespace overlayfs reads the other one (`userxattr`).
pub(super) fn opaque() -> &'static [u8] {
    static INSIDE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    OPAQUE[usize::from(*INSIDE.get_or_init(super::rootless::in_user_namespace))]
}

fn c_name(name: &[u8]) -> nix::Result<CString> {
    CString::new(name).map_err(|_| Errno::EINVAL)
}

/// Sets one attribute.
#[allow(unsafe_code)]
pub(super) fn set(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> nix::Result<()> {
    let name = c_name(name)?;
    // SAFETY: the descriptor is borrowed, the name ends with NUL, the value has the length that is passed.
    let answer = unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(answer).map(drop)
}

/// Removes one attribute.
#[allow(unsafe_code)]
fn remove(fd: BorrowedFd<'_>, name: &[u8]) -> nix::Result<()> {
    let name = c_name(name)?;
    // SAFETY: the descriptor is borrowed and the name ends with NUL.
    let answer = unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) };
    Errno::result(answer).map(drop)
}

/// Reads one attribute; `None` when it is not there or the file system has none.
#[allow(unsafe_code)]
pub(super) fn find(fd: BorrowedFd<'_>, name: &[u8]) -> nix::Result<Option<Vec<u8>>> {
    let name = c_name(name)?;
    grow(|buffer| {
        // SAFETY: the descriptor is borrowed, the name ends with NUL, the buffer has the length that is passed.
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })
}

/// The names of all attributes; empty when the file system has none.
#[allow(unsafe_code)]
fn names(fd: BorrowedFd<'_>) -> nix::Result<Vec<Vec<u8>>> {
    let listed = grow(|buffer| {
        // SAFETY: the descriptor is borrowed and the buffer has the length that is passed.
        unsafe { libc::flistxattr(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })?;
    Ok(listed.unwrap_or_default().split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn grow(mut call: impl FnMut(&mut [u8]) -> isize) -> nix::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 256];
    loop {
        match Errno::result(call(&mut buffer)) {
            Ok(count) => {
                buffer.truncate(usize::try_from(count).unwrap_or(0));
                return Ok(Some(buffer));
            }
            Err(Errno::ERANGE) if buffer.len() < 1 << 17 => buffer.resize(buffer.len() * 4, 0),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether a directory is opaque.
pub(super) fn is_opaque(fd: BorrowedFd<'_>) -> nix::Result<bool> {
    Ok(find(fd, opaque())?.as_deref() == Some(b"y"))
}

/// The attributes that layers carry.
pub(super) fn kept(fd: BorrowedFd<'_>) -> nix::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut pairs = Vec::new();
    for name in names(fd)?.into_iter().filter(|name| keeps_xattr(name)) {
        if let Some(value) = find(fd, &name)? {
            pairs.push((name, value));
        }
    }
    Ok(pairs)
}

/// The attributes that layers carry and those of overlayfs, by name: all that says what a layer is.
pub(super) fn listed(fd: BorrowedFd<'_>) -> nix::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut pairs = Vec::new();
    for name in names(fd)?.into_iter().filter(|name| keeps_xattr(name) || name.starts_with(b"trusted.overlay.")) {
        if let Some(value) = find(fd, &name)? {
            pairs.push((name, value));
        }
    }
    pairs.sort();
    Ok(pairs)
}

/// Makes `wanted` the only attributes of those that layers carry.
pub(super) fn replace(fd: BorrowedFd<'_>, wanted: &[(Vec<u8>, Vec<u8>)]) -> nix::Result<()> {
    for (name, _) in kept(fd)? {
        if !wanted.iter().any(|(known, _)| *known == name) {
            remove(fd, &name)?;
        }
    }
    set_all(fd, wanted)
}

/// Makes `wanted` the only attributes of those that [`listed`] answers.
pub(super) fn replace_listed(fd: BorrowedFd<'_>, wanted: &[(Vec<u8>, Vec<u8>)]) -> nix::Result<()> {
    for (name, _) in listed(fd)? {
        if !wanted.iter().any(|(known, _)| *known == name) {
            remove(fd, &name)?;
        }
    }
    set_all(fd, wanted)
}

/// Sets all of `wanted`. A file system without `user.*` (tmpfs before Linux 6.6) goes without them, as `tar` and umoci do.
pub(super) fn set_all(fd: BorrowedFd<'_>, wanted: &[(Vec<u8>, Vec<u8>)]) -> nix::Result<()> {
    for (name, value) in wanted {
        match set(fd, name, value) {
            Err(Errno::EOPNOTSUPP) if name.starts_with(b"user.") => {}
            answer => answer?,
        }
    }
    Ok(())
}
