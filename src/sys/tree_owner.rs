//! Gives trees of a user to another owner, and back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{fstatat, lstat};
use nix::unistd::{Gid, Uid, fchownat};
use serde::{Deserialize, Serialize};

use super::tree::{open_path, open_root};
use crate::fault::{Fault, Kind, Result, kind_of_errno};
use crate::image::tar_path::TarPath;

/// How many owners are noted, at most: they are kept in a journal.
const LIMIT: usize = 65_536;

/// The owner that one file of a tree had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// Below the tree, each byte as one character; empty is the tree itself.
    pub path: String,
    /// Owner and group.
    pub owner: (u32, u32),
}

fn failed(path: &Path) -> impl Fn(Errno) -> Fault {
    let path = path.to_path_buf();
    move |errno| Fault::new(kind_of_errno(errno), format!("the owners of {}: {errno}", path.display()))
}

/// Lists what of the tree at `path` belongs to somebody other than `owner`; links are not followed, other file systems not entered.
///
/// *Errors:* `ResourceExhausted` for a tree with more than 65 536 such files.
pub fn others(path: &Path, owner: (u32, u32)) -> Result<Vec<Owned>> {
    let failed = failed(path);
    let mut found = Vec::new();
    let mut note = |path: &[u8], stat: &nix::sys::stat::FileStat| {
        if (stat.st_uid, stat.st_gid) != owner {
            found.push(Owned { path: path.iter().map(|byte| char::from(*byte)).collect(), owner: (stat.st_uid, stat.st_gid) });
        }
        found.len() <= LIMIT
    };
    let stat = lstat(path).map_err(&failed)?;
    let mut fits = note(b"", &stat);
    let mut waiting = Vec::new();
    let top = (stat.st_mode & libc::S_IFMT == libc::S_IFDIR).then(|| open_root(path)).transpose()?;
    waiting.extend(top.is_some().then(TarPath::root));
    while let (Some(dir), Some(top), true) = (waiting.pop(), &top, fits) {
        let open = match open_path(top.as_fd(), &dir) {
            Ok(open) => open,
            // Moved or removed meanwhile, or a mount.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => continue,
            Err(errno) => return Err(failed(errno)),
        };
        for name in names(&open).map_err(&failed)? {
            let Ok(stat) = fstatat(&open, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let whole = [dir.as_bytes(), if dir.is_root() { b"" } else { b"/" }, &name].concat();
            fits &= note(&whole, &stat);
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                waiting.extend(TarPath::parse(&whole).ok());
            }
        }
    }
    if !fits {
        let many = format!("more than {LIMIT} files of {} belong to others", path.display());
        return Err(Fault::new(Kind::ResourceExhausted, many).hint(format!("give them away yourself: chown -R {}:{}", owner.0, owner.1)));
    }
    Ok(found)
}

fn names(dir: &OwnedFd) -> nix::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(open_path(dir.as_fd(), &TarPath::root())?)? {
        names.push(entry?.file_name().to_bytes().to_vec());
    }
    names.retain(|name| !matches!(name.as_slice(), b"." | b".."));
    Ok(names)
}

/// Gives each of `files` below `path` to what `owner` says; one that is gone is passed over.
pub fn give(path: &Path, files: &[Owned], owner: impl Fn(&Owned) -> (u32, u32)) -> Result<()> {
    let failed = failed(path);
    let top = match lstat(path) {
        Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => Some(open_root(path)?),
        Ok(_) => None,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    for file in files {
        let (uid, gid) = owner(file);
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let bytes: Vec<u8> = file.path.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let whole = TarPath::parse(&bytes)?;
        let given = match (whole.split_last(), &top) {
            (None, _) => fchownat(AT_FDCWD, path, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW),
            (Some((dir, name)), Some(top)) => {
                open_path(top.as_fd(), &dir).and_then(|dir| fchownat(&dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW))
            }
            (Some(_), None) => Ok(()),
        };
        match given {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn owners_change_and_come_back_and_links_are_not_followed() {
        let world = tempfile::tempdir().unwrap();
        let tree = world.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/b/f\u{e9}"), "").unwrap();
        std::fs::write(world.path().join("canary"), "").unwrap();
        std::os::unix::fs::symlink("../canary", tree.join("out")).unwrap();
        let owners = || {
            ["tree", "tree/a", "tree/a/b", "tree/a/b/f\u{e9}", "tree/out", "canary"]
                .map(|path| std::fs::symlink_metadata(world.path().join(path)).map(|meta| meta.uid()).unwrap())
        };
        let files = others(&tree, (7, 8)).unwrap();
        assert_eq!(files.len(), 5);
        give(&tree, &files, |_| (7, 8)).unwrap();
        assert_eq!(owners(), [7, 7, 7, 7, 7, 0]);
        assert!(others(&tree, (7, 8)).unwrap().is_empty());
        std::fs::remove_file(tree.join("out")).unwrap();
        std::os::unix::fs::symlink("..", tree.join("out")).unwrap();
        give(&tree, &files, |file| file.owner).unwrap();
        assert_eq!(owners(), [0; 6]);
    }
}
