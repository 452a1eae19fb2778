//! Puts things into a directory, following no link, each file whole or not at all.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::super::tree_clone::copy_data;
use super::super::tree_copy::{create_file, create_special, finish_file, finish_special};
use super::super::tree_pending::{own_and_mode, stamp};
use super::root::{Found, reopen};
use super::{Item, Sink};
use crate::fault::{Fault, Result, kind_of_errno};
use crate::image::tar_entry::{Attributes, EntryKind};
use crate::image::tar_path::TarPath;

/// Whose things become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Those they had.
    Kept,
    /// This one; bits that would lend its rights to others are taken off.
    All(u32, u32),
}

/// Puts things into a directory.
#[derive(Debug)]
pub struct TreeSink {
    top: OwnedFd,
    owners: Owners,
    /// Whether devices are made: on the host they would be open to whom the container chose.
    devices: bool,
    made: Vec<(TarPath, Attributes)>,
    /// What was passed over, in words.
    pub passed: Vec<String>,
}

impl TreeSink {
    /// Puts things into the directory that was found.
    pub fn new(found: &Found, owners: Owners, devices: bool) -> Result<Self> {
        let top = reopen(&found.fd, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(|errno| Fault::new(kind_of_errno(errno), format!("opening the destination: {errno}")))?;
        Ok(TreeSink { top, owners, devices, made: Vec::new(), passed: Vec::new() })
    }

    fn parent<'a>(&self, path: &'a TarPath) -> Result<(OwnedFd, Vec<u8>)> {
        let (dir, name): (TarPath, &'a [u8]) = path.split_last().ok_or_else(|| Fault::internal("the root has no name"))?;
        let name = name.to_vec();
        Ok((self.open_dir(&dir).map_err(|errno| failed("open", &dir, errno))?, name))
    }

    fn open_dir(&self, path: &TarPath) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(resolve);
        let name = if path.is_root() { b".".as_slice() } else { path.as_bytes() };
        loop {
            match openat2(&self.top, name, how) {
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
    }

    /// Owner and mode as they become here.
    fn become_here(&self, mut attributes: Attributes) -> Attributes {
        if let Owners::All(uid, gid) = self.owners {
            (attributes.uid, attributes.gid) = (uid, gid);
            attributes.mode &= 0o1777;
            attributes.xattrs.retain(|(name, _)| name.starts_with(b"user."));
        }
        attributes
    }

    fn put_directory(&mut self, item: Item) -> Result<()> {
        if item.path.is_root() {
            return Ok(());
        }
        let (dir, name) = self.parent(&item.path)?;
        match mkdirat(&dir, name.as_slice(), Mode::S_IRWXU) {
            Ok(()) => {
                let attributes = self.become_here(item.attributes);
                self.made.push((item.path, attributes));
                Ok(())
            }
            Err(Errno::EEXIST) => match self.open_dir(&item.path) {
                // One that is there keeps its owner and mode.
                Ok(_) => Ok(()),
                Err(_) => Err(Fault::invalid(format!("{} is there and is not a directory", item.path)).hint("remove it first")),
            },
            Err(errno) => Err(failed("mkdir", &item.path, errno)),
        }
    }

    /// Makes a file under a name of its own and then gives it its place, so that whoever looks sees the old one or the new one.
    fn put_file(&self, item: Item, write: &mut dyn FnMut(&OwnedFd) -> Result<()>) -> Result<()> {
        let (dir, name) = self.parent(&item.path)?;
        let temp = [b".rkbox-cp-", std::process::id().to_string().as_bytes()].concat();
        let _ = unlinkat(&dir, temp.as_slice(), UnlinkatFlags::NoRemoveDir);
        let attributes = self.become_here(item.attributes.clone());
        let file = create_file(dir.as_fd(), &temp).map_err(|errno| failed("create", &item.path, errno))?;
        let put = write(&file).and_then(|()| Ok(finish_file(file.as_fd(), &attributes, &item.path)?)).and_then(|()| {
            match renameat(&dir, temp.as_slice(), &dir, name.as_slice()) {
                Ok(()) => Ok(true),
                // Something is mounted there (`/etc/hosts`): it is written anew, in place.
                Err(Errno::EBUSY) => Ok(false),
                Err(Errno::EISDIR) => Err(Fault::invalid(format!("{} is there and is a directory", item.path)).hint("remove it first")),
                Err(errno) => Err(failed("rename", &item.path, errno)),
            }
        });
        match put {
            Ok(true) => Ok(()),
            other => {
                let in_place = other.and_then(|_| overwrite(&dir, &temp, &name, &item.path));
                let _ = unlinkat(&dir, temp.as_slice(), UnlinkatFlags::NoRemoveDir);
                in_place
            }
        }
    }

    /// Takes away what is in the place of something that is no file.
    fn clear(&self, dir: &OwnedFd, name: &[u8], path: &TarPath) -> Result<()> {
        match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EISDIR) => Err(Fault::invalid(format!("{path} is there and is a directory")).hint("remove it first")),
            Err(errno) => Err(failed("unlink", path, errno)),
        }
    }
}

fn failed(call: &str, path: &TarPath, errno: Errno) -> Fault {
    let what = if path.is_root() { "the destination".to_owned() } else { path.to_string() };
    let fault = Fault::new(kind_of_errno(errno), format!("{call} {what}: {errno}"));
    match errno {
        Errno::EROFS => fault.hint("copy into a volume, or make the container without --read-only"),
        _ => fault,
    }
}

fn overwrite(dir: &OwnedFd, temp: &[u8], name: &[u8], path: &TarPath) -> Result<()> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|errno| failed("stat", path, errno))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Fault::invalid(format!("{path} is mounted and is not a file")).hint("copy to another place"));
    }
    let from = openat(dir, temp, flags | OFlag::O_RDONLY, Mode::empty()).map_err(|errno| failed("open", path, errno))?;
    let to = openat(dir, name, flags | OFlag::O_WRONLY | OFlag::O_TRUNC, Mode::empty()).map_err(|errno| failed("open", path, errno))?;
    copy_data(from.as_fd(), to.as_fd()).map_err(|errno| failed("write", path, errno))
}

impl Sink for TreeSink {
    fn put(&mut self, mut item: Item) -> Result<()> {
        match item.kind.clone() {
            EntryKind::Directory => self.put_directory(item),
            EntryKind::File => {
                let path = item.path.clone();
                let data = item.data.take();
                self.put_file(item, &mut |file| match &data {
                    Some(data) => copy_data(data.as_fd(), file.as_fd()).map_err(|errno| failed("write", &path, errno)),
                    None => Ok(()),
                })
            }
            EntryKind::Hardlink(first) => {
                let (from, to) = (self.parent(&first)?, self.parent(&item.path)?);
                self.clear(&to.0, &to.1, &item.path)?;
                linkat(&from.0, from.1.as_slice(), &to.0, to.1.as_slice(), AtFlags::empty())
                    .map_err(|errno| failed("link", &item.path, errno))
            }
            EntryKind::CharDevice(..) | EntryKind::BlockDevice(..) if !self.devices => {
                self.passed.push(format!("device {}", item.path));
                Ok(())
            }
            kind => {
                let (dir, name) = self.parent(&item.path)?;
                let attributes = self.become_here(item.attributes);
                self.clear(&dir, &name, &item.path)?;
                create_special(dir.as_fd(), &name, &kind).map_err(|errno| failed("make", &item.path, errno))?;
                Ok(finish_special(dir.as_fd(), &name, &kind, &attributes, &item.path)?)
            }
        }
    }

    fn put_stream(&mut self, item: Item, content: &mut dyn Read) -> Result<()> {
        let path = item.path.clone();
        self.put_file(item, &mut |file| {
            let io = |error: std::io::Error| failed("write", &path, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
            let mut file = File::from(file.try_clone().map_err(io)?);
            std::io::copy(content, &mut file).map(drop).map_err(io)
        })
    }

    fn finish(&mut self) -> Result<()> {
        for (path, attributes) in self.made.drain(..).rev().collect::<Vec<_>>() {
            let Ok(dir) = self.open_dir(&path) else { continue };
            own_and_mode(dir.as_fd(), &attributes, &path)?;
            stamp(dir.as_fd(), attributes.mtime, &path)?;
        }
        Ok(())
    }
}
