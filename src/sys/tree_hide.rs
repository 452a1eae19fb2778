//! Hiding what lower layers have: whiteouts and opaque directories.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, mknodat};

use crate::image::tar_path::TarPath;

use super::tree::{Form, Node, Wrote, call, is_whiteout, open_beneath, open_path, probe};
use super::tree_merged::View;
use super::tree_write::{Writer, upper_of};
use super::tree_xattr;

impl Writer {
    /// Hides what lower layers have at `path`; what this layer has stays.
    pub(super) fn whiteout(&mut self, path: &TarPath) -> Wrote<()> {
        let Some((parent, name)) = path.split_last() else { return Ok(()) };
        let parent = self.merged.resolve(&parent)?;
        let path = parent.join(name);
        let Some(dir) = self.merged.directory(&parent)? else { return Ok(()) };
        match self.form {
            Form::Flat => self.whiteout_flat(&dir, name, &path)?,
            Form::Overlay => self.whiteout_overlay(&dir, name, &path)?,
        }
        Ok(())
    }

    /// Hides what lower layers have in directory `path`.
    pub(super) fn opaque(&mut self, path: &TarPath) -> Wrote<()> {
        let path = self.merged.resolve(path)?;
        let Some(dir) = self.merged.directory(&path)? else { return Ok(()) };
        match self.form {
            Form::Flat => self.hide_unmade(&path)?,
            Form::Overlay if path.is_root() => {
                self.opaque_root = true;
                self.merged.cut_lowers();
            }
            Form::Overlay if dir.lowers.is_empty() => {}
            Form::Overlay => {
                let dir = self.ensure(&path, false)?;
                self.mark_opaque(&dir)?;
            }
        }
        Ok(())
    }

    /// Removes what was borrowed from layers that an opaque directory above hides; a whiteout there would show in readdir(3).
    pub(super) fn sweep(&mut self, root: &OwnedFd, path: &TarPath) -> Wrote<()> {
        let Some((parent, name)) = path.split_last() else { return Ok(()) };
        match open_path(root.as_fd(), &parent) {
            Ok(dir) => self.clear(&dir, name, path),
            // It went with what it was in.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(()),
            Err(errno) => Err(call("openat2", &parent)(errno)),
        }
    }

    fn whiteout_overlay(&mut self, dir: &Rc<View>, name: &[u8], path: &TarPath) -> Wrote<()> {
        if !self.merged.is_below(dir, name)? {
            return Ok(());
        }
        if let Some(upper) = &dir.upper {
            match probe(upper.as_fd(), name).map_err(call("openat2", path))? {
                Node::Absent => {}
                Node::Other(stat) if is_whiteout(&stat) || self.made.contains(path) => return Ok(()),
                Node::Directory(_) if self.made.contains(path) => {
                    if let Some(own) = self.merged.directory(path)? {
                        self.mark_opaque(&own)?;
                    }
                    return Ok(());
                }
                // Only copied up, or only there to hold whiteouts.
                Node::Other(_) | Node::Directory(_) => {}
            }
        }
        let dir = self.ensure(&path.parent(), false)?;
        let make = |dir: &OwnedFd, name: &[u8]| mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0);
        self.create(&dir, name, path, make)?;
        self.borrowed.insert(path.clone());
        Ok(())
    }

    fn mark_opaque(&mut self, dir: &View) -> Wrote<()> {
        let path = &dir.path;
        tree_xattr::set(upper_of(dir)?.as_fd(), tree_xattr::OPAQUE, b"y").map_err(call("fsetxattr", path))?;
        self.hidden.insert(path);
        self.merged.forget(path);
        Ok(())
    }

    fn whiteout_flat(&mut self, dir: &Rc<View>, name: &[u8], path: &TarPath) -> Wrote<()> {
        let upper = upper_of(dir)?;
        match probe(upper.as_fd(), name).map_err(call("openat2", path))? {
            Node::Absent => return Ok(()),
            Node::Directory(_) if self.made.contains(path) => return self.hide_unmade(path),
            Node::Other(_) if self.made.contains(path) => return Ok(()),
            Node::Directory(_) | Node::Other(_) => {}
        }
        self.pending.hold_time(&dir.path, upper.as_fd())?;
        self.clear(&upper, name, path)
    }

    /// Removes from directory `top` what this layer does not have. Each directory is walked once, however often it is hidden.
    fn hide_unmade(&mut self, top: &TarPath) -> Wrote<()> {
        if self.hidden.covers(top) {
            return Ok(());
        }
        let root = upper_of(self.merged.root())?;
        let mut left = vec![top.clone()];
        while let Some(path) = left.pop() {
            let dir = open_path(root.as_fd(), &path).map_err(call("openat2", &path))?;
            self.pending.hold_time(&path, dir.as_fd())?;
            for name in names_in(&dir).map_err(call("getdents64", &path))? {
                let child = path.join(&name);
                if !self.made.contains(&child) {
                    self.clear(&dir, &name, &child)?;
                } else if !self.hidden.contains(&child)
                    && matches!(probe(dir.as_fd(), &name).map_err(call("openat2", &child))?, Node::Directory(_))
                {
                    left.push(child);
                }
            }
        }
        self.hidden.insert(top);
        Ok(())
    }
}

fn names_in(dir: &OwnedFd) -> nix::Result<Vec<Vec<u8>>> {
    let again = open_beneath(dir.as_fd(), b".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(again)?.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}
