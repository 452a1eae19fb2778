//! What a container changed: its writable layer against those below.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstatat};

use super::tree::{is_whiteout, open_beneath, open_path, open_root};
use super::tree_xattr;
use crate::fault::{Fault, Result, kind_of_errno};
use crate::image::tar_path::TarPath;

/// What became of a path. *Source:* docker diff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Added,
    /// It was there and is another now.
    Changed,
    /// It is gone.
    Deleted,
}

/// Lists what the writable layer `upper` changed of `lowers` (highest first), by path.
pub fn list(upper: &Path, lowers: &[PathBuf]) -> Result<Vec<(Change, String)>> {
    let top = open_root(upper)?;
    let lowers = lowers.iter().map(|lower| open_root(lower)).collect::<Result<Vec<_>>>()?;
    let mut changes = Vec::new();
    let mut waiting = vec![TarPath::root()];
    while let Some(dir) = waiting.pop() {
        let failed = |errno: Errno| Fault::new(kind_of_errno(errno), format!("reading {dir} of the container: {errno}"));
        let open = match open_path(top.as_fd(), &dir) {
            Ok(open) => open,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            Err(errno) => return Err(failed(errno)),
        };
        let readable = open_path(open.as_fd(), &TarPath::root()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in Dir::from_fd(readable).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_bytes().to_vec());
        }
        if !dir.is_root() && tree_xattr::is_opaque(open.as_fd()).map_err(failed)? {
            changes.extend(hidden(&lowers, &dir, &names)?);
        }
        for name in names.into_iter().filter(|name| !matches!(name.as_slice(), b"." | b"..")) {
            let path = TarPath::parse(&[dir.as_bytes(), b"/", &name].concat())?;
            let Ok(stat) = fstatat(&open, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let below = find_below(&lowers, &path)?;
            let change = match (is_whiteout(&stat), below) {
                (true, None) => continue,
                (true, Some(_)) => Change::Deleted,
                (false, None) => Change::Added,
                (false, Some(_)) => Change::Changed,
            };
            changes.push((change, format!("/{path}")));
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                waiting.push(path);
            }
        }
    }
    changes.sort_by(|one, other| one.1.cmp(&other.1));
    Ok(changes)
}

/// What an opaque directory of the writable layer hides, and does not have itself.
fn hidden(lowers: &[std::os::fd::OwnedFd], dir: &TarPath, there: &[Vec<u8>]) -> Result<Vec<(Change, String)>> {
    let mut gone = Vec::new();
    for lower in lowers {
        let Ok(open) = open_path(lower.as_fd(), dir) else { continue };
        let Ok(names) = Dir::from_fd(open) else { continue };
        for entry in names.into_iter().filter_map(std::result::Result::ok) {
            let name = entry.file_name().to_bytes().to_vec();
            if matches!(name.as_slice(), b"." | b"..") || there.contains(&name) {
                continue;
            }
            let path = TarPath::parse(&[dir.as_bytes(), b"/", &name].concat())?;
            let change = (Change::Deleted, format!("/{path}"));
            if find_below(lowers, &path)?.is_some() && !gone.contains(&change) {
                gone.push(change);
            }
        }
    }
    Ok(gone)
}

/// What the lower layers have at `path`, the highest first: a whiteout, an opaque directory or anything but a directory hides what is below.
fn find_below(lowers: &[std::os::fd::OwnedFd], path: &TarPath) -> Result<Option<FileStat>> {
    let failed = |errno: Errno| Fault::new(kind_of_errno(errno), format!("reading {path} of the image: {errno}"));
    for lower in lowers {
        let mut dir = open_path(lower.as_fd(), &TarPath::root()).map_err(failed)?;
        let mut opaque = false;
        let parts: Vec<&[u8]> = path.components().collect();
        for (nth, part) in parts.iter().enumerate() {
            let stat = match fstatat(&dir, *part, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => break,
                Err(errno) => return Err(failed(errno)),
            };
            if is_whiteout(&stat) {
                return Ok(None);
            }
            if nth + 1 == parts.len() {
                return Ok(Some(stat));
            }
            if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
                return Ok(None);
            }
            dir = open_beneath(dir.as_fd(), part, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(failed)?;
            opaque |= tree_xattr::is_opaque(dir.as_fd()).map_err(failed)?;
        }
        if opaque {
            return Ok(None);
        }
    }
    Ok(None)
}
