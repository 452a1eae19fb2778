//! Applying verdicts to a tree.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::linkat;

use crate::fault::Result;
use crate::image::tar_entry::{Entry, EntryKind};
use crate::image::tar_path::TarPath;
use crate::image::tar_reader::TarReader;

use super::file::remove_below;
use super::tree::{Form, Wrote, call, open_beneath, open_root, refused};
use super::tree_copy::{attributes_of, copy_up, create_file, create_special, finish_file, finish_special};
use super::tree_merged::{Found, Merged, View};
use super::tree_names::PathSet;
use super::tree_pending::{Pending, undescribed};
use super::tree_xattr;

/// Writes one layer.
pub(super) struct Writer {
    pub(super) form: Form,
    pub(super) merged: Merged,
    pub(super) pending: Pending,
    /// What this layer has at a path, directories implied by it included: whiteouts of this layer do not touch it.
    pub(super) made: PathSet,
    /// Directories in which everything is this layer's: hiding what is below them again changes nothing.
    pub(super) hidden: PathSet,
    /// What was put into the tree without being of the layer: whiteouts, directories made only to hold them, files copied
    /// up to be linked to. It goes again where a directory above turned opaque later.
    pub(super) borrowed: BTreeSet<TarPath>,
    pub(super) opaque_root: bool,
}

impl Writer {
    /// Opens the roots.
    pub(super) fn open(root: &Path, lowers: &[PathBuf], form: Form) -> Result<Self> {
        let upper = open_root(root)?;
        let lowers = lowers.iter().map(|lower| open_root(lower)).collect::<Result<Vec<_>>>()?;
        let mut pending = Pending::default();
        if form == Form::Overlay {
            let described = lowers.first().map(|lower| attributes_of(lower.as_fd(), &TarPath::root())).transpose()?;
            pending.set(&TarPath::root(), described.unwrap_or_else(undescribed));
        }
        let (made, hidden) = (PathSet::default(), PathSet::default());
        Ok(Writer { form, merged: Merged::new(form, upper, lowers), pending, made, hidden, borrowed: BTreeSet::new(), opaque_root: false })
    }

    /// Makes an entry; the content of a file comes from `reader`.
    pub(super) fn make<R: BufRead>(&mut self, entry: &Entry, reader: &mut TarReader<R>) -> Result<()> {
        let Some((parent, name)) = entry.path.split_last() else {
            self.pending.set(&TarPath::root(), entry.attributes.clone());
            return Ok(());
        };
        let parent = self.merged.resolve(&parent)?;
        let path = parent.join(name);
        let dir = self.ensure(&parent, true)?;
        let upper = upper_of(&dir)?;
        match &entry.kind {
            EntryKind::Directory => self.make_directory(&dir, name, &path, entry)?,
            EntryKind::File => {
                let file = self.create(&dir, name, &path, |dir, name| create_file(dir.as_fd(), name))?;
                copy_content(reader, &file, &path)?;
                finish_file(file.as_fd(), &entry.attributes, &path)?;
            }
            EntryKind::Hardlink(target) => self.make_hardlink(&dir, name, &path, target)?,
            special => {
                self.create(&dir, name, &path, |dir, name| create_special(dir.as_fd(), name, special))?;
                finish_special(upper.as_fd(), name, special, &entry.attributes, &path)?;
            }
        }
        self.made.insert(&path);
        Ok(())
    }

    /// Gives directories their attributes and takes back what was borrowed in vain; answers whether the root is opaque.
    pub(super) fn finish(mut self) -> Result<bool> {
        let root = upper_of(self.merged.root())?;
        for path in std::mem::take(&mut self.borrowed) {
            if !self.made.contains(&path) && (self.opaque_root || self.hidden.covers(&path.parent())) {
                self.sweep(&root, &path)?;
            }
        }
        self.pending.apply(root.as_fd())?;
        Ok(self.opaque_root)
    }

    /// The directory at `path` in the tree being written, made with all above it when it is not there.
    ///
    /// `described` says that the layer has something in it; a directory made only to hold a whiteout is not the layer's own.
    pub(super) fn ensure(&mut self, path: &TarPath, described: bool) -> Wrote<Rc<View>> {
        self.merged.make_room();
        let mut dir = self.merged.nearest(path);
        while dir.upper.is_none() {
            dir = self.merged.nearest(&dir.path.parent());
        }
        let from = dir.path.depth();
        for name in path.components().skip(from) {
            dir = self.ensure_child(&dir, name, described)?;
            self.merged.keep(&dir);
        }
        if described {
            let mut above = path.clone();
            while !above.is_root() && self.made.insert(&above) {
                above = above.parent();
            }
        }
        Ok(dir)
    }

    fn ensure_child(&mut self, dir: &Rc<View>, name: &[u8], described: bool) -> Wrote<Rc<View>> {
        let path = dir.path.join(name);
        match self.merged.lookup(dir, name)? {
            Found::Directory(view) if view.upper.is_some() => Ok(Rc::new(view)),
            Found::Directory(view) => {
                let lower = view.lowers.first().map(|lower| attributes_of(lower.as_fd(), &path)).transpose()?;
                let upper = self.create(dir, name, &path, make_private)?;
                self.pending.set(&path, lower.unwrap_or_else(undescribed));
                if !described {
                    self.borrowed.insert(path);
                }
                Ok(Rc::new(View { upper: Some(Rc::new(upper)), ..view }))
            }
            Found::Nothing { whiteout } => {
                let upper = self.create(dir, name, &path, make_private)?;
                self.pending.set(&path, undescribed());
                self.opaque_new(&path, upper, whiteout)
            }
            Found::Other { upper, .. } if upper && self.made.contains(&path) => {
                refused(&path, "the layer has a file here and something below it")
            }
            Found::Other { .. } => {
                let upper = self.create(dir, name, &path, make_private)?;
                self.pending.set(&path, undescribed());
                self.opaque_new(&path, upper, true)
            }
        }
    }

    /// The view of a directory that was just made where no directory was.
    fn opaque_new(&mut self, path: &TarPath, upper: OwnedFd, hides: bool) -> Wrote<Rc<View>> {
        if hides && self.form == Form::Overlay {
            tree_xattr::set(upper.as_fd(), tree_xattr::OPAQUE, b"y").map_err(call("fsetxattr", path))?;
            self.hidden.insert(path);
        }
        Ok(Rc::new(View { path: path.clone(), upper: Some(Rc::new(upper)), lowers: Vec::new() }))
    }

    fn make_directory(&mut self, dir: &Rc<View>, name: &[u8], path: &TarPath, entry: &Entry) -> Wrote<()> {
        match self.merged.lookup(dir, name)? {
            Found::Directory(view) if view.upper.is_some() => {}
            Found::Directory(_) => {
                self.create(dir, name, path, make_private)?;
                self.merged.forget(path);
            }
            Found::Nothing { whiteout } => {
                let upper = self.create(dir, name, path, make_private)?;
                self.opaque_new(path, upper, whiteout)?;
            }
            Found::Other { .. } => {
                let upper = self.create(dir, name, path, make_private)?;
                self.opaque_new(path, upper, true)?;
            }
        }
        self.pending.set(path, entry.attributes.clone());
        Ok(())
    }

    fn make_hardlink(&mut self, dir: &Rc<View>, name: &[u8], path: &TarPath, target: &TarPath) -> Wrote<()> {
        let Some((target_dir, target_name)) = target.split_last() else { return refused(path, "a hard link cannot point to the root") };
        let target_dir = self.merged.resolve(&target_dir)?;
        let target = target_dir.join(target_name);
        let missing = "the target of the hard link is not there";
        let Some(view) = self.merged.directory(&target_dir)? else { return refused(path, missing) };
        let Found::Other { upper, dir: holder, stat } = self.merged.lookup(&view, target_name)? else {
            return refused(path, "the target of the hard link is not there or is a directory");
        };
        if target == *path {
            return refused(path, "the hard link points to itself");
        }
        let source = if upper {
            holder
        } else {
            let view = self.ensure(&target_dir, false)?;
            let to = upper_of(&view)?;
            self.pending.hold_time(&target_dir, to.as_fd())?;
            copy_up(holder.as_fd(), to.as_fd(), target_name, &stat, &target)?;
            self.borrowed.insert(target.clone());
            to
        };
        self.create(dir, name, path, |dir, name| linkat(&source, target_name, dir, name, AtFlags::empty()))
    }

    /// Makes `name` of `dir` by `make`, which must answer `EEXIST` when something is there; that is then removed.
    pub(super) fn create<T>(
        &mut self,
        dir: &Rc<View>,
        name: &[u8],
        path: &TarPath,
        make: impl Fn(&OwnedFd, &[u8]) -> nix::Result<T>,
    ) -> Wrote<T> {
        let upper = upper_of(dir)?;
        self.pending.hold_time(&dir.path, upper.as_fd())?;
        let first = make(&upper, name);
        let made = if matches!(first, Err(Errno::EEXIST)) {
            self.clear(&upper, name, path)?;
            make(&upper, name)
        } else {
            first
        };
        self.merged.forget(path);
        made.map_err(call("create", path))
    }

    /// Removes `name` of `upper`, of whatever kind, and all that is known of it.
    pub(super) fn clear(&mut self, upper: &OwnedFd, name: &[u8], path: &TarPath) -> Wrote<()> {
        self.merged.forget(path);
        self.pending.forget(path);
        self.borrowed.remove(path);
        let device = fstat(upper).map_err(call("fstat", path))?.st_dev;
        let name = CString::new(name).map_err(|_| call("unlinkat", path)(Errno::EINVAL))?;
        remove_below(upper.as_raw_fd(), &name, device).map_err(call("unlinkat", path))
    }
}

/// The directory of a view in the tree being written.
pub(super) fn upper_of(view: &View) -> Wrote<Rc<OwnedFd>> {
    view.upper.clone().ok_or(Errno::EBADF).map_err(call("openat2", &view.path))
}

/// Makes a directory that nobody else can enter until its attributes are set, and opens it.
fn make_private(dir: &OwnedFd, name: &[u8]) -> nix::Result<OwnedFd> {
    mkdirat(dir, name, Mode::S_IRWXU)?;
    open_beneath(dir.as_fd(), name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

fn copy_content<R: BufRead>(reader: &mut TarReader<R>, file: &OwnedFd, path: &TarPath) -> Result<()> {
    loop {
        let chunk = reader.chunk()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let count = match nix::unistd::write(file, chunk) {
            Err(Errno::EINTR) => 0,
            answer => answer.map_err(call("write", path))?,
        };
        reader.consume(count);
    }
}
