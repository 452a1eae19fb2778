//! Reads a tree, thing by thing, following no link.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, major, minor};

use super::super::tree_xattr;
use super::root::{Found, reopen};
use super::{Item, Sink};
use crate::fault::{Fault, Result, kind_of_errno};
use crate::image::tar_entry::{Attributes, EntryKind, Moment};
use crate::image::tar_path::TarPath;

/// How far a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// Also into what is mounted below: the volumes of a container.
    Mounts,
    /// Not off the file system it starts on.
    OneFileSystem,
}

struct Walk<'a> {
    top: &'a OwnedFd,
    prefix: TarPath,
    bounds: Bounds,
    device: u64,
    links: HashMap<(u64, u64), TarPath>,
    waiting: Vec<TarPath>,
}

/// Hands `found` and all below it to `sink`, named `prefix`; with an empty prefix only what is below it.
///
/// What vanishes or turns into something else meanwhile is passed over; sockets are too. Answers how many bytes the files had.
pub fn walk(found: &Found, prefix: &TarPath, bounds: Bounds, sink: &mut dyn Sink) -> Result<u64> {
    let mut walk =
        Walk { top: &found.fd, prefix: prefix.clone(), bounds, device: found.stat.st_dev, links: HashMap::new(), waiting: Vec::new() };
    let mut bytes = 0;
    if !prefix.is_root() {
        bytes += walk.hand_over(&found.fd, &found.stat, &TarPath::root(), sink)?;
    } else if found.is_dir() {
        walk.waiting.push(TarPath::root());
    }
    // The newest first, so that what is waited for stays small.
    while let Some(dir) = walk.waiting.pop() {
        let Some(open) = walk.open_dir(&dir)? else { continue };
        for name in names(&open).map_err(|errno| walk.failed("readdir", &dir, errno))? {
            let path = join(&dir, &name)?;
            let child = match openat(&open, name.as_slice(), OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()) {
                Ok(child) => child,
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(walk.failed("open", &path, errno)),
            };
            let stat = fstat(child.as_fd()).map_err(|errno| walk.failed("fstat", &path, errno))?;
            bytes += walk.hand_over(&child, &stat, &path, sink)?;
        }
    }
    Ok(bytes)
}

fn join(dir: &TarPath, name: &[u8]) -> Result<TarPath> {
    Ok(TarPath::parse(&[dir.as_bytes(), b"/", name].concat())?)
}

fn names(dir: &OwnedFd) -> nix::Result<Vec<Vec<u8>>> {
    let readable = openat(dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(readable)? {
        names.push(entry?.file_name().to_bytes().to_vec());
    }
    names.retain(|name| !matches!(name.as_slice(), b"." | b".."));
    names.sort();
    Ok(names)
}

impl Walk<'_> {
    fn failed(&self, call: &str, path: &TarPath, errno: Errno) -> Fault {
        Fault::new(kind_of_errno(errno), format!("{call} {path}: {errno}"))
    }

    /// Opens a directory again by its path; a link on the way means that somebody turned it, and there is nothing more to read.
    fn open_dir(&self, path: &TarPath) -> Result<Option<OwnedFd>> {
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(resolve);
        let name = if path.is_root() { b".".as_slice() } else { path.as_bytes() };
        loop {
            match openat2(self.top, name, how) {
                Ok(fd) => return Ok(Some(fd)),
                Err(Errno::EAGAIN) => {}
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => return Ok(None),
                Err(errno) => return Err(self.failed("open", path, errno)),
            }
        }
    }

    fn hand_over(&mut self, fd: &OwnedFd, stat: &FileStat, path: &TarPath, sink: &mut dyn Sink) -> Result<u64> {
        if self.bounds == Bounds::OneFileSystem && stat.st_dev != self.device && stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Ok(0);
        }
        let named =
            if self.prefix.is_root() { path.clone() } else { TarPath::parse(&[self.prefix.as_bytes(), b"/", path.as_bytes()].concat())? };
        let number = (u64::from(major(stat.st_rdev) as u32), u64::from(minor(stat.st_rdev) as u32));
        let mut data = None;
        let kind = match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => {
                self.waiting.push(path.clone());
                EntryKind::Directory
            }
            libc::S_IFLNK => match readlinkat(fd, "") {
                Ok(target) => EntryKind::Symlink(target.into_vec()),
                Err(errno) => return Err(self.failed("readlink", path, errno)),
            },
            libc::S_IFREG => match self.links.get(&(stat.st_dev, stat.st_ino)).filter(|_| stat.st_nlink > 1) {
                Some(first) => EntryKind::Hardlink(first.clone()),
                None => {
                    data = Some(File::from(reopen(fd, OFlag::O_RDONLY).map_err(|errno| self.failed("open", path, errno))?));
                    self.links.insert((stat.st_dev, stat.st_ino), named.clone());
                    EntryKind::File
                }
            },
            libc::S_IFCHR => EntryKind::CharDevice(number.0, number.1),
            libc::S_IFBLK => EntryKind::BlockDevice(number.0, number.1),
            libc::S_IFIFO => EntryKind::Fifo,
            _ => return Ok(0),
        };
        let xattrs = data.as_ref().map(|file| tree_xattr::kept(file.as_fd())).transpose().unwrap_or_default().unwrap_or_default();
        let attributes = Attributes {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Moment { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
            xattrs,
        };
        let size = if kind == EntryKind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        sink.put(Item { path: named, kind, attributes, size, data })?;
        Ok(size)
    }
}
