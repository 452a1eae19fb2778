//! Making one thing in an open directory, and copying one up from a lower layer.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, makedev, mknodat, utimensat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use crate::image::tar_entry::{Attributes, EntryKind, Moment};
use crate::image::tar_path::TarPath;

use super::tree::{Wrote, call, open_beneath, refused};
use super::tree_pending::{own_and_mode, stamp, timespec};
use super::tree_xattr;

/// Creates an empty file that must be new.
pub(super) fn create_file(dir: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    create_file_as(dir, name, Mode::S_IRUSR | Mode::S_IWUSR)
}

/// As [`create_file`], with these permission bits less those of the umask.
pub(super) fn create_file_as(dir: BorrowedFd<'_>, name: &[u8], mode: Mode) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, mode)
}

/// As [`finish_file`] for a file just made; answers what it is then. `own` says that it was made with its owner and mode: these are then
/// set only when the umask, the directory or the file system gave it others.
pub(super) fn finish_new_file(fd: BorrowedFd<'_>, attributes: &Attributes, own: bool, path: &TarPath) -> Wrote<FileStat> {
    if own {
        tree_xattr::set_all(fd, &attributes.xattrs).map_err(call("fsetxattr", path))?;
        stamp(fd, attributes.mtime, path)?;
        let stat = fstat(fd).map_err(call("fstat", path))?;
        if (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (attributes.uid, attributes.gid, attributes.mode) {
            return Ok(stat);
        }
    }
    finish_file(fd, attributes, path)?;
    fstat(fd).map_err(call("fstat", path))
}

/// Gives a file its attributes: owner, mode, extended attributes, times, in this order.
pub(super) fn finish_file(fd: BorrowedFd<'_>, attributes: &Attributes, path: &TarPath) -> Wrote<()> {
    own_and_mode(fd, attributes, path)?;
    tree_xattr::set_all(fd, &attributes.xattrs).map_err(call("fsetxattr", path))?;
    stamp(fd, attributes.mtime, path)
}

/// Creates a symbolic link, device or FIFO that must be new; extended attributes of these are not kept.
pub(super) fn create_special(dir: BorrowedFd<'_>, name: &[u8], kind: &EntryKind) -> nix::Result<()> {
    let private = Mode::S_IRUSR | Mode::S_IWUSR;
    match kind {
        EntryKind::Symlink(target) => symlinkat(target.as_slice(), dir, name),
        EntryKind::CharDevice(major, minor) => mknodat(dir, name, SFlag::S_IFCHR, private, makedev(*major, *minor)),
        EntryKind::BlockDevice(major, minor) => mknodat(dir, name, SFlag::S_IFBLK, private, makedev(*major, *minor)),
        EntryKind::Fifo => mknodat(dir, name, SFlag::S_IFIFO, private, 0),
        EntryKind::File | EntryKind::Directory | EntryKind::Hardlink(_) => Err(nix::errno::Errno::EINVAL),
    }
}

/// Gives a symbolic link, device or FIFO its attributes, following nothing.
pub(super) fn finish_special(dir: BorrowedFd<'_>, name: &[u8], kind: &EntryKind, attributes: &Attributes, path: &TarPath) -> Wrote<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(call("fchownat", path))?;
    if !matches!(kind, EntryKind::Symlink(_)) {
        let mode = Mode::from_bits_truncate(attributes.mode);
        fchmodat(dir, name, mode, FchmodatFlags::NoFollowSymlink).map_err(call("fchmodat", path))?;
    }
    let time = timespec(attributes.mtime);
    utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink).map_err(call("utimensat", path))
}

/// The attributes of an open file or directory.
pub(super) fn attributes_of(fd: BorrowedFd<'_>, path: &TarPath) -> Wrote<Attributes> {
    let stat = fstat(fd).map_err(call("fstat", path))?;
    let xattrs = tree_xattr::kept(fd).map_err(call("fgetxattr", path))?;
    Ok(Attributes { xattrs, ..attributes_of_stat(&stat) })
}

fn attributes_of_stat(stat: &FileStat) -> Attributes {
    Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Moment { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
        xattrs: Vec::new(),
    }
}

/// Copies `name` of the lower directory `from` to the same name of `to`, where nothing is.
pub(super) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], stat: &FileStat, path: &TarPath) -> Wrote<()> {
    let (major, minor) = (nix::sys::stat::major(stat.st_rdev), nix::sys::stat::minor(stat.st_rdev));
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => return copy_file(from, to, name, path),
        libc::S_IFLNK => EntryKind::Symlink(readlinkat(from, name).map_err(call("readlinkat", path))?.into_vec()),
        libc::S_IFCHR => EntryKind::CharDevice(major, minor),
        libc::S_IFBLK => EntryKind::BlockDevice(major, minor),
        libc::S_IFIFO => EntryKind::Fifo,
        _ => return refused(path, "a thing of this kind cannot be linked to"),
    };
    create_special(to, name, &kind).map_err(call("mknodat", path))?;
    finish_special(to, name, &kind, &attributes_of_stat(stat), path)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], path: &TarPath) -> Wrote<()> {
    let source = open_beneath(from, name, OFlag::O_RDONLY).map_err(call("openat2", path))?;
    let attributes = attributes_of(source.as_fd(), path)?;
    let target = create_file(to, name).map_err(call("openat", path))?;
    let (mut source, mut target) = (File::from(source), File::from(target));
    std::io::copy(&mut source, &mut target)
        .map_err(|error| call("copy_file_range", path)(nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))?;
    finish_file(target.as_fd(), &attributes, path)
}
