//! Hiding what lower layers have: whiteouts and opaque directories.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, mknodat};
use nix::unistd::{Gid, Uid, fchownat};

use crate::image::tar_entry::Moment;
use crate::image::tar_path::TarPath;

use super::tree::{Form, Node, Wrote, call, is_whiteout, open_path, probe};
use super::tree_merged::View;
use super::tree_names::{PathQueue, each_name};
use super::tree_write::{Writer, upper_of};
use super::tree_xattr;

impl Writer<'_> {
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
            Form::Overlay if self.merged.lowers(&dir)?.is_empty() => {}
            Form::Overlay => {
                let dir = self.ensure(&path, false)?;
                self.mark_opaque(&dir)?;
            }
        }
        Ok(())
    }

    fn whiteout_overlay(&mut self, dir: &Rc<View>, name: &[u8], path: &TarPath) -> Wrote<()> {
        if !self.merged.is_below(dir, name)? {
            return Ok(());
        }
        if let Some(upper) = &dir.upper {
            match probe(upper.as_fd(), name).map_err(call("openat2", path))? {
                Node::Absent => {}
                Node::Other(stat) if is_whiteout(&stat) || self.is_made(path)? => return Ok(()),
                Node::Directory(_) if self.is_made(path)? => {
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
        let make = |dir: &OwnedFd, name: &[u8]| {
            mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0)?;
            // A directory with setgid gives its group away.
            fchownat(dir, name, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)), AtFlags::AT_SYMLINK_NOFOLLOW)
        };
        self.create(&dir, name, path, make)?;
        self.borrowed = true;
        self.list.whiteout(path)
    }

    fn mark_opaque(&mut self, dir: &View) -> Wrote<()> {
        let path = &dir.path;
        tree_xattr::set(upper_of(dir)?.as_fd(), tree_xattr::opaque(), b"y").map_err(call("fsetxattr", path))?;
        self.hidden.insert(path).map_err(call("write", path))?;
        self.merged.forget(path);
        Ok(())
    }

    fn whiteout_flat(&mut self, dir: &Rc<View>, name: &[u8], path: &TarPath) -> Wrote<()> {
        let upper = upper_of(dir)?;
        match probe(upper.as_fd(), name).map_err(call("openat2", path))? {
            Node::Absent => return Ok(()),
            Node::Directory(_) if self.is_made(path)? => return self.hide_unmade(path),
            Node::Other(_) if self.is_made(path)? => return Ok(()),
            Node::Directory(_) | Node::Other(_) => {}
        }
        self.pending.hold_time(&dir.path, upper.as_fd())?;
        self.clear(&upper, name, path)
    }

    /// Removes from directory `top` what this layer does not have. Each directory is walked once, however often it is hidden.
    fn hide_unmade(&mut self, top: &TarPath) -> Wrote<()> {
        if self.hidden.covers(top).map_err(call("pread", top))? {
            return Ok(());
        }
        self.prune(top, true)?;
        self.hidden.insert(top).map_err(call("write", top))?;
        Ok(())
    }

    /// Takes back what was borrowed of layers that an opaque directory hides; a whiteout there would show in readdir(3).
    pub(super) fn sweep(&mut self) -> Wrote<()> {
        if self.borrowed && (self.opaque_root || !self.hidden.is_empty()) {
            self.prune(&TarPath::root(), self.opaque_root)?;
        }
        Ok(())
    }

    /// Removes below `top` what this layer does not have: everywhere, or in hidden directories only.
    fn prune(&mut self, top: &TarPath, everywhere: bool) -> Wrote<()> {
        let root = upper_of(self.merged.root())?;
        let mut left = PathQueue::new(&root)?;
        // The moment of a path says whether it is hidden.
        let marked = |inside: bool| Moment { seconds: i64::from(inside), nanos: 0 };
        left.push(top, marked(everywhere)).map_err(call("write", top))?;
        while let Some((path, mark)) = left.pop().map_err(call("pread", top))? {
            let inside = mark.seconds == 1;
            let dir = open_path(root.as_fd(), &path).map_err(call("openat2", &path))?;
            if inside {
                self.pending.hold_time(&path, dir.as_fd())?;
            }
            each_name(&dir, |name, is_directory| {
                let child = path.join(name);
                if inside && !self.is_made(&child)? {
                    return self.clear(&dir, name, &child);
                }
                let hidden = self.hidden.contains(&child).map_err(call("pread", &child))?;
                // In a flat tree a hidden directory was walked when it was hidden.
                if is_directory && !(hidden && self.form == Form::Flat) {
                    left.push(&child, marked(inside || hidden)).map_err(call("write", &child))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
