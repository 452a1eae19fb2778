//! The view that a container will have: the layer being written over the layers below it.

use std::cell::OnceCell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;

use nix::fcntl::readlinkat;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::FileStat;

use crate::fault::Result;
use crate::image::tar_path::TarPath;

use super::tree::{Form, Node, TreeError, Wrote, call, is_whiteout, open_root, probe, refused};
use super::tree_xattr::is_opaque;

/// Symbolic links followed for one path, as the kernel does.
const MAX_LINKS: u32 = 40;
/// Bytes of paths of the directories that are kept open.
const MAX_NAMES: usize = 4 << 20;

/// Answers the overlayfs directories below, highest first, when they are whole: a layer waits for those below it only where it
/// needs them, which most layers do at their end.
pub type Below<'a> = Box<dyn FnOnce() -> Result<Vec<PathBuf>> + 'a>;

/// One directory of the view.
#[derive(Debug)]
pub(super) struct View {
    /// Where, no symbolic link in it.
    pub path: TarPath,
    /// The directory in the layer being written.
    pub upper: Option<Rc<OwnedFd>>,
    /// The directories of the layers below that are seen through it, highest first; empty until somebody asks.
    lowers: OnceCell<Vec<Rc<OwnedFd>>>,
}

/// What a name in a [`View`] is.
pub(super) enum Found {
    /// Nothing; `whiteout` says that the layer being written hides it by one.
    Nothing { whiteout: bool },
    /// A directory.
    Directory(View),
    /// Anything else, of the layer being written or else of a lower one, in that directory.
    Other { upper: bool, dir: Rc<OwnedFd>, stat: FileStat },
}

/// The view and the directories of it that are open.
pub(super) struct Merged<'a> {
    form: Form,
    root: Rc<View>,
    below: Option<Below<'a>>,
    /// Whenever a directory is here, all directories above it are.
    open: HashMap<TarPath, Rc<View>>,
    descriptors: usize,
    names: usize,
    /// How many descriptors may be kept open.
    budget: usize,
    /// The directory that was asked for last, as the image names it, and without links.
    last: Option<(TarPath, TarPath)>,
}

impl<'a> Merged<'a> {
    /// Starts with the root of the layer being written.
    pub(super) fn new(form: Form, upper: OwnedFd, below: Below<'a>) -> Self {
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX));
        // Several layers are written at once, each over as many as 500.
        let budget = (soft / 8).clamp(16, 4096);
        let root = Rc::new(View { path: TarPath::root(), upper: Some(Rc::new(upper)), lowers: OnceCell::new() });
        Merged { form, root, below: Some(below), open: HashMap::new(), descriptors: 0, names: 0, budget, last: None }
    }

    /// The root.
    pub(super) fn root(&self) -> &Rc<View> {
        &self.root
    }

    /// Hides all lower layers.
    pub(super) fn cut_lowers(&mut self) {
        self.root = Rc::new(View::alone(TarPath::root(), self.root.upper.clone()));
        self.forget_all();
    }

    /// The directories of the layers below that are seen through `view`, highest first. Waits for those layers.
    pub(super) fn lowers(&mut self, view: &View) -> Wrote<Vec<Rc<OwnedFd>>> {
        if let Some(known) = view.lowers.get() {
            return Ok(known.clone());
        }
        let mut at = view.path.parent();
        let mut lowers = loop {
            if at.is_root() {
                break self.root_lowers()?;
            }
            if let Some(known) = self.open.get(&at).and_then(|above| above.lowers.get()) {
                break known.clone();
            }
            at = at.parent();
        };
        for name in view.path.components().skip(at.depth()) {
            at = at.join(name);
            lowers = self.merge(&lowers, name, &at)?;
            if let Some(above) = self.open.get(&at)
                && above.lowers.set(lowers.clone()).is_ok()
            {
                self.descriptors += lowers.len();
            }
        }
        let _ = view.lowers.set(lowers.clone());
        Ok(lowers)
    }

    fn root_lowers(&mut self) -> Wrote<Vec<Rc<OwnedFd>>> {
        if let Some(below) = self.below.take() {
            let open = |lower: &PathBuf| open_root(lower).map(Rc::new);
            let lowers = below().and_then(|paths| paths.iter().map(open).collect::<Result<Vec<_>>>()).map_err(TreeError::Below)?;
            let _ = self.root.lowers.set(lowers);
        }
        Ok(self.root.lowers.get().cloned().unwrap_or_default())
    }

    /// The directories called `name` that are seen through `dirs`.
    fn merge(&self, dirs: &[Rc<OwnedFd>], name: &[u8], path: &TarPath) -> Wrote<Vec<Rc<OwnedFd>>> {
        let mut merged = Vec::new();
        for dir in dirs {
            match probe(dir.as_fd(), name).map_err(call("openat2", path))? {
                Node::Absent => {}
                Node::Directory(fd) => {
                    let opaque = self.is_opaque(&fd, path)?;
                    merged.push(Rc::new(fd));
                    if opaque {
                        break;
                    }
                }
                Node::Other(_) => break,
            }
        }
        Ok(merged)
    }

    fn is_opaque(&self, dir: &OwnedFd, path: &TarPath) -> Wrote<bool> {
        Ok(self.form == Form::Overlay && is_opaque(dir.as_fd()).map_err(call("fgetxattr", path))?)
    }

    /// Closes what is known at and below `path`, which was changed.
    pub(super) fn forget(&mut self, path: &TarPath) {
        // A link that was followed may be what was changed.
        if self.last.as_ref().is_some_and(|(asked, physical)| asked != physical || physical.is_within(path)) {
            self.last = None;
        }
        if self.open.contains_key(path) {
            let (descriptors, names) = (&mut self.descriptors, &mut self.names);
            self.open.retain(|known, view| {
                let stays = !known.is_within(path);
                if !stays {
                    *descriptors -= view.count();
                    *names -= known.as_bytes().len();
                }
                stays
            });
        }
    }

    fn forget_all(&mut self) {
        self.open.clear();
        (self.descriptors, self.names) = (0, 0);
        self.last = None;
    }

    /// Keeps a directory open for the next entries, when there is room and its parent is kept too.
    pub(super) fn keep(&mut self, view: &Rc<View>) {
        let (count, bytes) = (self.descriptors + view.count(), self.names + view.path.as_bytes().len());
        if count > self.budget || bytes > MAX_NAMES || view.path.is_root() {
            return;
        }
        let parent = view.path.parent();
        if !parent.is_root() && !self.open.contains_key(&parent) {
            return;
        }
        (self.descriptors, self.names) = (count, bytes);
        if let Some(old) = self.open.insert(view.path.clone(), Rc::clone(view)) {
            self.descriptors -= old.count();
            self.names -= old.path.as_bytes().len();
        }
    }

    /// Keeps a directory that was just made in `above`; `opaque` says that nothing is seen through it.
    pub(super) fn keep_new(&mut self, above: &View, path: &TarPath, upper: OwnedFd, opaque: bool) {
        let alone = above.lowers.get().is_some_and(Vec::is_empty) || (opaque && self.form == Form::Overlay);
        let lowers = if alone { OnceCell::from(Vec::new()) } else { OnceCell::new() };
        self.keep(&Rc::new(View { path: path.clone(), upper: Some(Rc::new(upper)), lowers }));
    }

    /// Makes room when little is left. Only between walks, so that what is kept stays closed under parents.
    pub(super) fn make_room(&mut self) {
        if self.descriptors > self.budget / 2 || self.names > MAX_NAMES / 2 {
            self.forget_all();
        }
    }

    /// The deepest open directory at or above `path`.
    pub(super) fn nearest(&self, path: &TarPath) -> Rc<View> {
        let mut above = path.clone();
        while !above.is_root() {
            if let Some(view) = self.open.get(&above) {
                return Rc::clone(view);
            }
            above = above.parent();
        }
        Rc::clone(&self.root)
    }

    /// What `name` is in `view`. *Source:* overlayfs `ovl_lookup`: a whiteout, an opaque directory and a non-directory end the search.
    ///
    /// Waits for the layers below when the layer being written has nothing there.
    pub(super) fn lookup(&mut self, view: &View, name: &[u8]) -> Wrote<Found> {
        if let Some(found) = self.lookup_upper(view, name)? {
            return Ok(found);
        }
        self.lookup_below(view, name)
    }

    /// What `name` is in the layer being written; `None` when it has nothing there.
    pub(super) fn lookup_upper(&self, view: &View, name: &[u8]) -> Wrote<Option<Found>> {
        let Some(dir) = &view.upper else { return Ok(None) };
        let path = view.path.join(name);
        Ok(match probe(dir.as_fd(), name).map_err(call("openat2", &path))? {
            Node::Absent => None,
            Node::Directory(fd) => {
                let alone = view.lowers.get().is_some_and(Vec::is_empty) || self.is_opaque(&fd, &path)?;
                let upper = Some(Rc::new(fd));
                Some(Found::Directory(if alone { View::alone(path, upper) } else { View { path, upper, lowers: OnceCell::new() } }))
            }
            Node::Other(stat) if is_whiteout(&stat) => Some(Found::Nothing { whiteout: true }),
            Node::Other(stat) => Some(Found::Other { upper: true, dir: Rc::clone(dir), stat }),
        })
    }

    fn lookup_below(&mut self, view: &View, name: &[u8]) -> Wrote<Found> {
        let path = view.path.join(name);
        let dirs = self.lowers(view)?;
        for (nth, dir) in dirs.iter().enumerate() {
            match probe(dir.as_fd(), name).map_err(call("openat2", &path))? {
                Node::Absent => {}
                Node::Directory(_) => {
                    let lowers = self.merge(&dirs[nth..], name, &path)?;
                    return Ok(Found::Directory(View { path, upper: None, lowers: OnceCell::from(lowers) }));
                }
                Node::Other(stat) if is_whiteout(&stat) => break,
                Node::Other(stat) => return Ok(Found::Other { upper: false, dir: Rc::clone(dir), stat }),
            }
        }
        Ok(Found::Nothing { whiteout: false })
    }

    /// Whether any lower layer shows something at `name` of `view`.
    pub(super) fn is_below(&mut self, view: &View, name: &[u8]) -> Wrote<bool> {
        Ok(!matches!(self.lookup_below(view, name)?, Found::Nothing { .. }))
    }

    /// The directory at `path`, in which no component is a link; `None` when there is none.
    pub(super) fn directory(&mut self, path: &TarPath) -> Wrote<Option<Rc<View>>> {
        self.make_room();
        let mut view = self.nearest(path);
        let from = view.path.depth();
        for name in path.components().skip(from) {
            let Found::Directory(next) = self.lookup(&view, name)? else { return Ok(None) };
            view = Rc::new(next);
            self.keep(&view);
        }
        Ok(Some(view))
    }

    /// Follows the links in `path`, the last component's too, as if the view were the root of the file system.
    ///
    /// What is not there stays in the path as it is. *Errors:* more than 40 links.
    pub(super) fn resolve(&mut self, path: &TarPath) -> Wrote<TarPath> {
        if let Some((_, physical)) = self.last.as_ref().filter(|(asked, _)| asked == path) {
            return Ok(physical.clone());
        }
        self.make_room();
        let physical = self.follow(path)?;
        self.last = Some((path.clone(), physical.clone()));
        Ok(physical)
    }

    fn follow(&mut self, path: &TarPath) -> Wrote<TarPath> {
        let mut links = 0;
        // `None` once the walk has left what exists; the rest is then only text.
        let mut view = Some(self.nearest(path));
        let mut at = view.as_ref().map_or_else(TarPath::root, |view| view.path.clone());
        let mut rest: VecDeque<Vec<u8>> = path.components().skip(at.depth()).map(<[u8]>::to_vec).collect();
        while let Some(name) = rest.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    at = at.parent();
                    view = self.directory(&at)?;
                    continue;
                }
                _ => {}
            }
            let found = match &view {
                Some(view) => self.lookup(view, &name)?,
                None => Found::Nothing { whiteout: false },
            };
            match found {
                Found::Directory(next) => {
                    let next = Rc::new(next);
                    self.keep(&next);
                    at = next.path.clone();
                    view = Some(next);
                }
                Found::Other { dir, stat, .. } if stat.st_mode & libc::S_IFMT == libc::S_IFLNK => {
                    links += 1;
                    if links > MAX_LINKS {
                        return refused(path, "too many symbolic links");
                    }
                    let target = readlinkat(dir.as_fd(), name.as_slice()).map_err(call("readlinkat", &at.join(&name)))?.into_vec();
                    if target.starts_with(b"/") {
                        at = TarPath::root();
                        view = Some(Rc::clone(&self.root));
                    }
                    for component in target.split(|&byte| byte == b'/').rev() {
                        rest.push_front(component.to_vec());
                    }
                }
                Found::Other { .. } | Found::Nothing { .. } => {
                    at = at.join(&name);
                    view = None;
                }
            }
            if at.as_bytes().len() > 16 << 10 {
                return refused(path, "its symbolic links lead to a path longer than 16 KiB");
            }
        }
        Ok(at)
    }
}

impl View {
    /// A directory through which no lower layer is seen.
    pub(super) fn alone(path: TarPath, upper: Option<Rc<OwnedFd>>) -> Self {
        View { path, upper, lowers: OnceCell::from(Vec::new()) }
    }

    /// The same directory, now in the layer being written as well.
    pub(super) fn with_upper(self, upper: OwnedFd) -> Self {
        View { upper: Some(Rc::new(upper)), ..self }
    }

    fn count(&self) -> usize {
        self.lowers.get().map_or(0, Vec::len) + usize::from(self.upper.is_some())
    }
}
