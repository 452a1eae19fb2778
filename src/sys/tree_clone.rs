//! Copies what a directory holds into another one: the first content of a volume.
//!
//! Nothing is followed out of the source (openat2 throughout), whatever the image put there; owners, modes, times, hard links, extended
//! attributes, holes and devices are kept. Sockets are passed over: they are nothing without their owner.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, Whence, fchown, lseek64};

use super::tree::{Wrote, call, open_beneath, open_path, open_root};
use super::tree_copy::{attributes_of, copy_up, create_file, finish_file};
use super::tree_pending::{own_and_mode, stamp};
use super::tree_xattr;
use crate::fault::{Context as _, Fault, Result};
use crate::image::tar_entry::{Attributes, TarError};
use crate::image::tar_path::TarPath;

/// Opens the directory that a process rooted at `root` knows as `inside`; `None` when that is not a directory.
///
/// Links on the way are followed as that process would, never out of `root`.
pub(super) fn find_inside(root: &Path, inside: &str) -> Result<Option<OwnedFd>> {
    let top = open_root(root)?;
    let relative = inside.trim_start_matches('/');
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&top, if relative.is_empty() { "." } else { relative }, how) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(Fault::new(crate::fault::kind_of_errno(errno), format!("openat2 {inside} in {}: {errno}", root.display()))),
    }
}

/// Whom a file of this owner and group is given to.
pub type Owner<'a> = dyn Fn((u32, u32)) -> (u32, u32) + Sync + 'a;

/// Copies what the image has at `inside` into `to`, an empty directory, which then takes the group and mode of the image's; `owner` says
/// whose each file becomes.
///
/// `false` when the image has no directory there. *Errors:* those of the kernel, with the path below `inside`; a name that no layer can have.
pub fn copy_content(root: &Path, inside: &str, to: &Path, owner: &Owner<'_>) -> Result<bool> {
    let Some(from) = find_inside(root, inside)? else { return Ok(false) };
    copy_open(from, open_root(to)?, owner).doing(|| format!("copying what the image has at {inside}"))?;
    Ok(true)
}

/// As [`copy_content`], from and into open directories.
pub(super) fn copy_open(from: OwnedFd, to: OwnedFd, owner: &Owner<'_>) -> Result<()> {
    let mut cloning = Cloning { from, to, owner, links: HashMap::new(), directories: vec![TarPath::root()] };
    let mut next = 0;
    while let Some(path) = cloning.directories.get(next).cloned() {
        cloning.fill(&path)?;
        next += 1;
    }
    cloning.finish().map_err(Fault::from)
}

struct Cloning<'a> {
    from: OwnedFd,
    to: OwnedFd,
    owner: &'a Owner<'a>,
    /// The first copy of each file that has several names.
    links: HashMap<(u64, u64), TarPath>,
    /// Parents first.
    directories: Vec<TarPath>,
}

impl Cloning<'_> {
    fn given(&self, mut attributes: Attributes) -> Attributes {
        (attributes.uid, attributes.gid) = (self.owner)((attributes.uid, attributes.gid));
        attributes
    }

    fn fill(&mut self, path: &TarPath) -> Result<()> {
        let from = open_path(self.from.as_fd(), path).map_err(call("openat2", path)).map_err(Fault::from)?;
        let to = open_path(self.to.as_fd(), path).map_err(call("openat2", path)).map_err(Fault::from)?;
        let listed =
            open_path(from.as_fd(), &TarPath::root()).and_then(Dir::from_fd).map_err(call("opendir", path)).map_err(Fault::from)?;
        let mut names = Vec::new();
        for entry in listed {
            let name = entry.map_err(call("readdir", path)).map_err(Fault::from)?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let whole = join(path, &name).map_err(Fault::from)?;
            self.copy_one(from.as_fd(), to.as_fd(), &name, whole).map_err(Fault::from)?;
        }
        Ok(())
    }

    fn copy_one(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], path: TarPath) -> Wrote<()> {
        let mut stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(call("fstatat", &path))?;
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => {
                mkdirat(to, name, Mode::S_IRWXU).map_err(call("mkdirat", &path))?;
                self.directories.push(path);
                return Ok(());
            }
            libc::S_IFSOCK => return Ok(()),
            _ => {}
        }
        if stat.st_nlink > 1 && self.link(to, name, &stat, &path)? {
            return Ok(());
        }
        if stat.st_mode & libc::S_IFMT == libc::S_IFREG {
            return self.copy_file(from, to, name, &path);
        }
        (stat.st_uid, stat.st_gid) = (self.owner)((stat.st_uid, stat.st_gid));
        copy_up(from, to, name, &stat, &path)
    }

    fn copy_file(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], path: &TarPath) -> Wrote<()> {
        let source = open_beneath(from, name, OFlag::O_RDONLY).map_err(call("openat2", path))?;
        let attributes = self.given(attributes_of(source.as_fd(), path)?);
        let target = create_file(to, name).map_err(call("openat", path))?;
        copy_data(source.as_fd(), target.as_fd()).map_err(call("copy", path))?;
        finish_file(target.as_fd(), &attributes, path)
    }

    /// Gives a second name to a file that was copied already; `false` for its first name.
    fn link(&mut self, to: BorrowedFd<'_>, name: &[u8], stat: &FileStat, path: &TarPath) -> Wrote<bool> {
        let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) else {
            self.links.insert((stat.st_dev, stat.st_ino), path.clone());
            return Ok(false);
        };
        let (dir, last) = first.split_last().unwrap_or((TarPath::root(), b"."));
        let dir = open_path(self.to.as_fd(), &dir).map_err(call("openat2", first))?;
        nix::unistd::linkat(&dir, last, to, name, AtFlags::empty()).map_err(call("linkat", path))?;
        Ok(true)
    }

    /// Gives the directories their attributes, the deepest first: what is made in a directory changes its time.
    fn finish(&self) -> Wrote<()> {
        for path in self.directories.iter().rev() {
            let from = open_path(self.from.as_fd(), path).map_err(call("openat2", path))?;
            let to = open_path(self.to.as_fd(), path).map_err(call("openat2", path))?;
            let attributes = self.given(attributes_of(from.as_fd(), path)?);
            own_and_mode(to.as_fd(), &attributes, path)?;
            tree_xattr::set_all(to.as_fd(), &attributes.xattrs).map_err(call("fsetxattr", path))?;
            stamp(to.as_fd(), attributes.mtime, path)?;
        }
        Ok(())
    }
}

fn join(dir: &TarPath, name: &[u8]) -> std::result::Result<TarPath, TarError> {
    TarPath::parse(&[dir.as_bytes(), b"/", name].concat())
}

/// Copies the data of an open file and leaves its holes holes.
pub(super) fn copy_data(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> nix::Result<()> {
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let size = nix::sys::stat::fstat(from)?.st_size;
    let mut at = 0;
    while at < size {
        let data = match lseek64(from, at, Whence::SeekData) {
            Ok(data) => data,
            // Nothing but a hole up to the end; a file system without holes is all data.
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL) => at,
            Err(errno) => return Err(errno),
        };
        let end = lseek64(from, data, Whence::SeekHole).unwrap_or(size).max(data + 1).min(size);
        lseek64(from, data, Whence::SeekSet)?;
        lseek64(to, data, Whence::SeekSet)?;
        let (mut source, mut target) =
            (File::from(from.try_clone_to_owned().map_err(io)?), File::from(to.try_clone_to_owned().map_err(io)?));
        let wanted = u64::try_from(end - data).unwrap_or(0);
        let copied = std::io::copy(&mut std::io::Read::take(&mut source, wanted), &mut target).map_err(io)?;
        if copied < wanted {
            // It was cut short while it was read.
            return Ok(());
        }
        at = end;
    }
    nix::unistd::ftruncate(to, size)
}

/// Makes `dir` empty again, 0755 and root's, as a new volume is.
pub fn clear(dir: &Path) -> Result<()> {
    for name in super::file::list_bytes(dir)? {
        super::file::remove_tree(&dir.join(name))?;
    }
    let open = open_root(dir)?;
    let failed = |errno: Errno| Fault::new(crate::fault::kind_of_errno(errno), format!("{}: {errno}", dir.display()));
    fchown(&open, Some(Uid::from_raw(0)), Some(Gid::from_raw(0))).map_err(failed)?;
    tree_xattr::replace(open.as_fd(), &[]).map_err(failed)?;
    nix::sys::stat::fchmod(&open, Mode::from_bits_truncate(0o755)).map_err(failed)
}
