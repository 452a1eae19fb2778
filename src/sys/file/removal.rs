//! Removes trees: never through a symlink, never off their file system.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{FileError, Result, failed, failed_errno};

/// Removes a tree without following a symlink and without leaving its file system; absence is fine.
///
/// *Errors:* a mount point inside the tree is refused with `EXDEV`, everything else of the tree is left as it then is.
pub fn remove_tree(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else {
        return Err(FileError::Call { call: "rmtree", path: path.to_path_buf(), errno: Errno::EINVAL });
    };
    let Some(name) = path.file_name() else {
        return Err(FileError::Call { call: "rmtree", path: path.to_path_buf(), errno: Errno::EINVAL });
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let dir = match fs::File::open(parent) {
        Ok(dir) => OwnedFd::from(dir),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("open", parent)(error)),
    };
    let name =
        CString::new(name.as_bytes()).map_err(|_| FileError::Call { call: "rmtree", path: path.to_path_buf(), errno: Errno::EINVAL })?;
    let device = match fs::symlink_metadata(path) {
        Ok(meta) => meta.dev(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("lstat", path)(error)),
    };
    remove_below(dir.as_fd().as_raw_fd(), &name, device).map_err(failed_errno("rmtree", path))
}

/// Removes `name` of `dir` and all below it with a stack of its own, so that depth costs memory and not the thread's stack.
pub(in crate::sys) fn remove_below(dir: i32, name: &CStr, device: u64) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let top = borrow(dir);
    match unlinkat(top, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    // Each level holds one open directory; very deep trees are flattened by moving a subtree up to the top.
    let mut levels: Vec<(Dir, CString)> = vec![(Dir::from_fd(openat(top, name, flags, Mode::empty())?)?, name.to_owned())];
    // A bind mount can be of the very device: what lies below it is somebody else's all the same.
    let mount = mount_id(top)?;
    loop {
        let Some((level, _)) = levels.last_mut() else { return Ok(()) };
        let fd = level.as_fd().as_raw_fd();
        if fstat(borrow(fd))?.st_dev != device || mount_id(borrow(fd))? != mount {
            return Err(Errno::EXDEV);
        }
        let mut descend = None;
        for entry in level.iter() {
            let entry_name = entry?.file_name().to_owned();
            if matches!(entry_name.to_bytes(), b"." | b"..") {
                continue;
            }
            match unlinkat(borrow(fd), entry_name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EISDIR | Errno::EPERM) => {
                    let stat = fstatat(borrow(fd), entry_name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
                    if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
                        return Err(Errno::EPERM);
                    }
                    descend = Some(entry_name);
                    break;
                }
                Err(errno) => return Err(errno),
            }
        }
        match descend {
            Some(entry_name) if levels.len() < 64 => {
                let child = Dir::from_fd(openat(borrow(fd), entry_name.as_c_str(), flags, Mode::empty())?)?;
                levels.push((child, entry_name));
            }
            Some(entry_name) => {
                let root = levels[0].0.as_fd().as_raw_fd();
                let lifted = CString::new(format!(".rkbox-rm-{}", levels.len())).unwrap_or_default();
                let unique = lift_name(borrow(root), &lifted)?;
                nix::fcntl::renameat(borrow(fd), entry_name.as_c_str(), borrow(root), unique.as_c_str())?;
            }
            None => {
                let Some((_, done)) = levels.pop() else { return Ok(()) };
                let above = levels.last().map_or(dir, |(level, _)| level.as_fd().as_raw_fd());
                match unlinkat(borrow(above), done.as_c_str(), UnlinkatFlags::RemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno),
                }
                if let Some((level, _)) = levels.last_mut() {
                    // Read the directory from its start again: entries were removed behind the cursor.
                    let again = openat(level.as_fd(), c".", flags, Mode::empty())?;
                    *level = Dir::from_fd(again)?;
                }
            }
        }
    }
}

/// The mount that an open directory is on; 0 where the kernel does not tell (before Linux 5.8).
#[allow(unsafe_code)]
fn mount_id(fd: std::os::fd::BorrowedFd<'_>) -> nix::Result<u64> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is borrowed, the empty path ends with NUL, the buffer is a live statx of ours.
    let told = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_MNT_ID, &raw mut found) };
    Errno::result(told)?;
    Ok(if found.stx_mask & libc::STATX_MNT_ID == 0 { 0 } else { found.stx_mnt_id })
}

fn lift_name(root: std::os::fd::BorrowedFd<'_>, base: &CStr) -> nix::Result<CString> {
    for nth in 0_u32.. {
        let candidate = CString::new(format!("{}-{nth}", base.to_string_lossy())).unwrap_or_default();
        match fstatat(root, candidate.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(candidate),
            Err(errno) => return Err(errno),
            Ok(_) => {}
        }
    }
    Err(Errno::EEXIST)
}

#[allow(unsafe_code)]
fn borrow<'a>(fd: i32) -> std::os::fd::BorrowedFd<'a> {
    // SAFETY: callers pass a descriptor that a live `Dir` or `OwnedFd` of theirs owns for the whole call.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}
