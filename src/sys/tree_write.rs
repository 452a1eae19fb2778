//! Applying verdicts to a tree.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{Gid, Uid, linkat};

use crate::fault::{Fault, Result};
use crate::image::layer_stream::Stream;
use crate::image::tar_entry::{Attributes, Entry, EntryKind};
use crate::image::tar_path::TarPath;
use crate::image::tar_reader::TarReader;

use super::file::remove_below;
use super::tree::{Form, TreeError, Wrote, call, open_beneath, open_root, refused};
use super::tree_copy::{attributes_of, copy_up, create_file_as, create_special, finish_new_file, finish_special};
use super::tree_list::{Listed, Lister};
use super::tree_merged::{Below, Found, Merged, View};
use super::tree_names::PathSet;
use super::tree_pending::{Pending, undescribed};
use super::{tree_xattr, twin_digest};

/// Writes one layer.
pub(super) struct Writer<'a> {
    pub(super) form: Form,
    pub(super) merged: Merged<'a>,
    pub(super) pending: Pending,
    pub(super) list: Lister,
    /// What this layer has at a path, directories implied by it included: whiteouts of this layer do not touch it.
    made: PathSet,
    /// Directories in which everything is this layer's: hiding what is below them again changes nothing.
    pub(super) hidden: PathSet,
    /// Whether anything was put into the tree without being of the layer: whiteouts, directories made only to hold them, files
    /// copied up to be linked to. It goes again where a directory above turned opaque later.
    pub(super) borrowed: bool,
    pub(super) opaque_root: bool,
    root_described: bool,
    /// Directories that may still be made: those that entries imply count too.
    directories: u64,
    /// Owner and group of what this process makes.
    maker: (u32, u32),
}

impl<'a> Writer<'a> {
    /// Opens the root; `list` is where the files are listed, and `most` how many directories there may be.
    pub(super) fn open(root: &Path, below: Below<'a>, form: Form, list: Option<File>, most: u64) -> Result<Self> {
        let upper = open_root(root)?;
        let merged = Merged::new(form, upper, below);
        let root = upper_of(merged.root())?;
        let failed = |errno| Fault::from(TreeError::from(errno));
        Ok(Writer {
            form,
            pending: Pending::new(&root).map_err(failed)?,
            list: Lister::new(list, &root).map_err(failed)?,
            made: PathSet::new(&root).map_err(failed)?,
            hidden: PathSet::new(&root).map_err(failed)?,
            borrowed: false,
            opaque_root: false,
            root_described: form == Form::Flat,
            directories: most,
            maker: (Uid::effective().as_raw(), Gid::effective().as_raw()),
            merged,
        })
    }

    /// Makes an entry; the content of a file comes from `reader`.
    pub(super) fn make(&mut self, entry: &Entry, reader: &mut TarReader<Stream>) -> Result<()> {
        let Some((parent, name)) = entry.path.split_last() else {
            let root = upper_of(self.merged.root())?;
            self.root_described = true;
            return Ok(self.pending.describe(&TarPath::root(), root.as_fd(), &entry.attributes)?);
        };
        let parent = self.merged.resolve(&parent)?;
        let path = parent.join(name);
        let dir = self.ensure(&parent, true)?;
        match &entry.kind {
            EntryKind::Directory => self.make_directory(&dir, name, &path, entry)?,
            EntryKind::File => {
                let attributes = &entry.attributes;
                let (own, mode) = self.mode_of_new(attributes);
                let file = self.create(&dir, name, &path, |dir, name| create_file_as(dir.as_fd(), name, mode))?;
                if self.list.is_on() {
                    reader.digest_content(twin_digest::compress);
                }
                copy_content(reader, &file, &path)?;
                let stat = finish_new_file(file.as_fd(), attributes, own, &path)?;
                self.list.file(&path, file.as_fd(), &stat, &attributes.xattrs)?;
                self.list.settle(|| Ok(reader.next_digest(false)?))?;
            }
            EntryKind::Hardlink(target) => self.make_hardlink(&dir, name, &path, target)?,
            special => {
                self.create(&dir, name, &path, |dir, name| create_special(dir.as_fd(), name, special))?;
                let upper = upper_of(&dir)?;
                finish_special(upper.as_fd(), name, special, &entry.attributes, &path)?;
                self.list.special(&path, upper.as_fd(), name)?;
            }
        }
        self.made.insert(&path).map_err(call("write", &path))?;
        Ok(())
    }

    /// Gives directories their attributes and takes back what was borrowed in vain; answers whether the root is opaque, and the list.
    pub(super) fn finish(mut self, reader: &mut TarReader<Stream>) -> Result<(bool, Option<Listed>)> {
        let root = upper_of(self.merged.root())?;
        if !self.root_described {
            let here = Rc::clone(self.merged.root());
            let lower = self.merged.lowers(&here)?;
            let described = lower.first().map(|lower| attributes_of(lower.as_fd(), &TarPath::root())).transpose()?;
            self.pending.describe(&TarPath::root(), root.as_fd(), &described.unwrap_or_else(undescribed))?;
        }
        self.sweep()?;
        self.list.settle(|| Ok(reader.next_digest(true)?))?;
        let listed = self.list.finish(&root, &mut self.pending)?;
        Ok((self.opaque_root, listed))
    }

    /// Whether the layer has something at `path`.
    pub(super) fn is_made(&self, path: &TarPath) -> Wrote<bool> {
        self.made.contains(path).map_err(call("pread", path))
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
            while !above.is_root() && self.made.insert(&above).map_err(call("write", &above))? {
                above = above.parent();
            }
        }
        Ok(dir)
    }

    fn ensure_child(&mut self, dir: &Rc<View>, name: &[u8], described: bool) -> Wrote<Rc<View>> {
        let path = dir.path.join(name);
        let (hides, below) = match self.merged.lookup(dir, name)? {
            Found::Directory(view) if view.upper.is_some() => return Ok(Rc::new(view)),
            Found::Directory(view) => (false, Some(view)),
            Found::Nothing { whiteout } => (whiteout, None),
            Found::Other { upper, .. } if upper && self.is_made(&path)? => {
                return refused(&path, "the layer has a file here and something below it");
            }
            Found::Other { .. } => (true, None),
        };
        let lower = below.as_ref().map(|view| self.merged.lowers(view)).transpose()?.and_then(|lowers| lowers.first().cloned());
        let attributes = lower.map(|lower| attributes_of(lower.as_fd(), &path)).transpose()?;
        let upper = self.create_directory(dir, name, &path)?;
        self.pending.describe_new(&path, upper.as_fd(), &attributes.unwrap_or_else(undescribed))?;
        match below {
            Some(view) => {
                self.borrowed |= !described;
                Ok(Rc::new(view.with_upper(upper)))
            }
            None => {
                self.hide(&path, &upper, hides)?;
                Ok(Rc::new(View::alone(path, Some(Rc::new(upper)))))
            }
        }
    }

    /// Makes a new directory opaque when it stands where something else is or was hidden.
    fn hide(&mut self, path: &TarPath, upper: &OwnedFd, hides: bool) -> Wrote<()> {
        if hides && self.form == Form::Overlay {
            tree_xattr::set(upper.as_fd(), tree_xattr::opaque(), b"y").map_err(call("fsetxattr", path))?;
            self.hidden.insert(path).map_err(call("write", path))?;
        }
        Ok(())
    }

    /// A directory that the layer describes needs nothing of the layers below: overlayfs merges it with a directory there, and stops
    /// at anything else.
    fn make_directory(&mut self, dir: &Rc<View>, name: &[u8], path: &TarPath, entry: &Entry) -> Wrote<()> {
        let (upper, hides) = match self.create_new_directory(dir, name, path)? {
            // Most directories are new.
            Some(upper) => (upper, false),
            None => match self.merged.lookup_upper(dir, name)? {
                Some(Found::Directory(View { upper: Some(upper), .. })) => {
                    return self.pending.describe(path, upper.as_fd(), &entry.attributes);
                }
                found => (self.create_directory(dir, name, path)?, found.is_some()),
            },
        };
        self.hide(path, &upper, hides)?;
        self.pending.describe_new(path, upper.as_fd(), &entry.attributes)?;
        self.merged.keep_new(dir, path, upper, hides);
        Ok(())
    }

    /// Makes a directory; `None` when something has its name.
    fn create_new_directory(&mut self, dir: &Rc<View>, name: &[u8], path: &TarPath) -> Wrote<Option<OwnedFd>> {
        let Some(left) = self.directories.checked_sub(1) else { return Ok(None) };
        let upper = upper_of(dir)?;
        self.pending.hold_time(&dir.path, upper.as_fd())?;
        let made = match make_private(&upper, name) {
            Err(Errno::EEXIST) => return Ok(None),
            made => made.map_err(call("create", path))?,
        };
        self.directories = left;
        self.merged.forget(path);
        Ok(Some(made))
    }

    /// Whether a file with these attributes can be made with its owner, and the permission bits to make it with.
    fn mode_of_new(&self, attributes: &Attributes) -> (bool, Mode) {
        let own = (attributes.uid, attributes.gid) == self.maker;
        let mode = if own { attributes.mode & 0o777 } else { 0o600 };
        (own, Mode::from_bits_truncate(mode))
    }

    fn create_directory(&mut self, dir: &Rc<View>, name: &[u8], path: &TarPath) -> Wrote<OwnedFd> {
        self.directories = self.directories.checked_sub(1).ok_or(TreeError::TooMany)?;
        self.create(dir, name, path, make_private)
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
            self.borrowed = true;
            self.list.spoil();
            to
        };
        self.create(dir, name, path, |dir, name| linkat(&source, target_name, dir, name, AtFlags::empty()))?;
        self.list.link(path, upper_of(dir)?.as_fd(), name, &target)
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
        self.list.spoil();
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

/// Writes the content of an entry.
fn copy_content(reader: &mut TarReader<Stream>, file: &OwnedFd, path: &TarPath) -> Result<()> {
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
