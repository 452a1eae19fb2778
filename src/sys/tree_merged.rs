//! The view that a container will have: the layer being written over the layers below it.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

use nix::fcntl::readlinkat;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::FileStat;

use crate::image::tar_path::TarPath;

use super::tree::{Form, Node, Wrote, call, is_whiteout, probe, refused};
use super::tree_xattr::is_opaque;

/// Symbolic links followed for one path, as the kernel does.
const MAX_LINKS: u32 = 40;

/// One directory of the view.
#[derive(Debug)]
pub(super) struct View {
    /// Where, no symbolic link in it.
    pub path: TarPath,
    /// The directory in the layer being written.
    pub upper: Option<Rc<OwnedFd>>,
    /// The directories of the layers below that are seen through it, highest first.
    pub lowers: Vec<Rc<OwnedFd>>,
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
pub(super) struct Merged {
    form: Form,
    root: Rc<View>,
    /// Whenever a directory is here, all directories above it are.
    open: HashMap<TarPath, Rc<View>>,
    descriptors: usize,
    /// How many descriptors may be kept open.
    budget: usize,
    /// The directory that was asked for last, as the image names it, and without links.
    last: Option<(TarPath, TarPath)>,
}

impl Merged {
    /// Starts with the roots of the layers.
    pub(super) fn new(form: Form, upper: OwnedFd, lowers: Vec<OwnedFd>) -> Self {
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX));
        let budget = (soft / 2).saturating_sub(lowers.len()).clamp(16, 4096);
        let lowers = lowers.into_iter().map(Rc::new).collect();
        let root = Rc::new(View { path: TarPath::root(), upper: Some(Rc::new(upper)), lowers });
        Merged { form, root, open: HashMap::new(), descriptors: 0, budget, last: None }
    }

    /// The root.
    pub(super) fn root(&self) -> &Rc<View> {
        &self.root
    }

    /// Hides all lower layers.
    pub(super) fn cut_lowers(&mut self) {
        self.root = Rc::new(View { path: TarPath::root(), upper: self.root.upper.clone(), lowers: Vec::new() });
        self.forget_all();
    }

    /// Closes what is known at and below `path`, which was changed.
    pub(super) fn forget(&mut self, path: &TarPath) {
        // A link that was followed may be what was changed.
        if self.last.as_ref().is_some_and(|(asked, physical)| asked != physical || physical.is_within(path)) {
            self.last = None;
        }
        if self.open.contains_key(path) {
            let descriptors = &mut self.descriptors;
            self.open.retain(|known, view| {
                let stays = !known.is_within(path);
                if !stays {
                    *descriptors -= view.count();
                }
                stays
            });
        }
    }

    fn forget_all(&mut self) {
        self.open.clear();
        self.descriptors = 0;
        self.last = None;
    }

    /// Keeps a directory open for the next entries, when there is room and its parent is kept too.
    pub(super) fn keep(&mut self, view: &Rc<View>) {
        if self.descriptors + view.count() > self.budget || view.path.is_root() {
            return;
        }
        let parent = view.path.parent();
        if !parent.is_root() && !self.open.contains_key(&parent) {
            return;
        }
        self.descriptors += view.count();
        if let Some(old) = self.open.insert(view.path.clone(), Rc::clone(view)) {
            self.descriptors -= old.count();
        }
    }

    /// Makes room when little is left. Only between walks, so that what is kept stays closed under parents.
    pub(super) fn make_room(&mut self) {
        if self.descriptors > self.budget / 2 {
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
    pub(super) fn lookup(&self, view: &View, name: &[u8]) -> Wrote<Found> {
        let path = view.path.join(name);
        let mut found: Option<View> = None;
        for (dir, is_upper) in view.upper.iter().map(|dir| (dir, true)).chain(view.lowers.iter().map(|dir| (dir, false))) {
            match probe(dir.as_fd(), name).map_err(call("openat2", &path))? {
                Node::Absent => {}
                Node::Directory(fd) => {
                    let opaque = self.form == Form::Overlay && is_opaque(fd.as_fd()).map_err(call("fgetxattr", &path))?;
                    let merged = found.get_or_insert_with(|| View { path: path.clone(), upper: None, lowers: Vec::new() });
                    if is_upper {
                        merged.upper = Some(Rc::new(fd))
                    } else {
                        merged.lowers.push(Rc::new(fd))
                    }
                    if opaque {
                        break;
                    }
                }
                Node::Other(stat) if found.is_none() => {
                    if is_whiteout(&stat) {
                        return Ok(Found::Nothing { whiteout: is_upper });
                    }
                    return Ok(Found::Other { upper: is_upper, dir: Rc::clone(dir), stat });
                }
                Node::Other(_) => break,
            }
        }
        Ok(found.map_or(Found::Nothing { whiteout: false }, Found::Directory))
    }

    /// Whether any lower layer shows something at `name` of `view`.
    pub(super) fn is_below(&self, view: &View, name: &[u8]) -> Wrote<bool> {
        let below = View { path: view.path.clone(), upper: None, lowers: view.lowers.clone() };
        Ok(!matches!(self.lookup(&below, name)?, Found::Nothing { .. }))
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
    fn count(&self) -> usize {
        self.lowers.len() + usize::from(self.upper.is_some())
    }
}
