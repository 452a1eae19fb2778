//! Mounts whose files show other owners than the disk has: the ids of a user namespace (mount_setattr(2), Linux 5.12).

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;

use super::mount::{MountError, Overlay, attach, failed, leave, overlay_by_string, overlay_detached};
use super::ns::holder::Holder;
use super::ns::{self, NsKind};
use super::tree::open_root;
use super::tree_clone::Owner;
use super::{file, tree_clone};
use crate::fault::{Fault, Result};
use crate::idmap::IdMap;

/// A detached copy of the mount that `dir` is on, from `dir` downwards.
#[allow(unsafe_code)]
fn copy_of(dir: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the path is an empty C string, the descriptor is borrowed for the call; the one that comes back is ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), c"".as_ptr(), flags) })?;
    Ok(file::own(i32::try_from(fd).map_err(|_| Errno::EBADF)?))
}

/// Lets a detached mount show the ids of `userns`.
#[allow(unsafe_code)]
fn map(detached: BorrowedFd<'_>, userns: BorrowedFd<'_>) -> nix::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let userns = u64::try_from(userns.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let attributes = Attributes { set: MOUNT_ATTR_IDMAP, clear: 0, propagation: 0, userns };
    let size = std::mem::size_of::<Attributes>();
    // SAFETY: the path is an empty C string; the structure lives through the call, which is told its size.
    let set = unsafe {
        libc::syscall(libc::SYS_mount_setattr, detached.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, &raw const attributes, size)
    };
    Errno::result(set).map(drop)
}

/// What an open file or directory is, with the ids of `userns`; mounted nowhere yet.
pub(super) fn with_ids(source: BorrowedFd<'_>, userns: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let copy = copy_of(source)?;
    map(copy.as_fd(), userns)?;
    Ok(copy)
}

/// Whether the file system of `dir` can show other ids on this kernel (5.12; overlayfs on top of it 5.19).
pub fn works(dir: &Path) -> bool {
    if cfg!(debug_assertions) && std::env::var_os("RKBOX_TEST_NO_IDMAP").is_some() {
        return false;
    }
    let tried = || -> Option<()> {
        let holder = Holder::begin(CloneFlags::CLONE_NEWUSER).ok()?;
        holder.map_ids(&IdMap::contiguous(1, 1)).ok()?;
        let userns = fs::File::open(holder.namespace(NsKind::User)).ok()?;
        let dir = fs::File::open(dir).ok()?;
        with_ids(dir.as_fd(), userns.as_fd()).ok().map(drop)
    };
    tried().is_some()
}

/// As [`super::mount::overlay`], with lower layers that show the ids of the user namespace pinned at `userns`.
///
/// The layers with their ids are mounted only in a mount namespace of a thread that ends with the call: overlayfs keeps copies of its own,
/// and a crash leaves nothing. *Errors:* `EINVAL`, `EPERM` or `ENOSYS` where kernel or file system cannot.
pub fn overlay(overlay: Overlay<'_>, target: &Path, userns: &Path) -> Result<()> {
    let ids = ns::open(userns, NsKind::User)?;
    let made: Result<OwnedFd> = std::thread::scope(|scope| {
        let inside = || assemble(overlay, target, ids.as_fd()).map_err(Fault::from);
        scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    Ok(attach(&made?, target)?)
}

/// Copies what the layers, highest first, show together into the empty directory `to`; `owner` says whose each file becomes.
///
/// The layers are merged only in a mount namespace of a thread that ends with the call.
pub fn copy_merged(lowers: &[PathBuf], to: &Path, owner: &Owner<'_>) -> Result<()> {
    let copy = || -> Result<()> {
        leave(to)?;
        let below = open_root(to)?;
        super::mount::overlay(Overlay { lowers, writable: None }, to)?;
        tree_clone::copy_open(open_root(to)?, below, owner)
    };
    std::thread::scope(|scope| scope.spawn(copy).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

fn assemble(overlay: Overlay<'_>, target: &Path, userns: BorrowedFd<'_>) -> std::result::Result<OwnedFd, MountError> {
    leave(target)?;
    mount(Some("rkbox"), target, Some("tmpfs"), MsFlags::empty(), Some("mode=0700")).map_err(failed("mount tmpfs", target))?;
    let mut lowers = Vec::new();
    for (nth, lower) in overlay.lowers.iter().enumerate() {
        let place = target.join(nth.to_string());
        let io = |error: std::io::Error| failed("open", lower)(Errno::from_raw(error.raw_os_error().unwrap_or(0)));
        fs::create_dir(&place).map_err(io)?;
        let source = fs::File::open(lower).map_err(io)?;
        let mapped = with_ids(source.as_fd(), userns).map_err(failed("mount_setattr", lower))?;
        attach(&mapped, &place)?;
        lowers.push(place);
    }
    let mapped = Overlay { lowers: &lowers, writable: overlay.writable };
    match overlay_detached(mapped, target) {
        Err(MountError::Call { errno: Errno::ENOSYS | Errno::EINVAL, .. }) => {}
        made => return made,
    }
    // Before Linux 6.5 there is no `lowerdir+`: mounted here, and taken along as a copy.
    let merged = PathBuf::from(target).join("merged");
    fs::create_dir(&merged).map_err(|error| failed("mkdir", &merged)(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    overlay_by_string(mapped, &merged)?;
    let open = fs::File::open(&merged).map_err(|error| failed("open", &merged)(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    copy_of(open.as_fd()).map_err(failed("open_tree", &merged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount as mounts;
    use std::os::unix::fs::MetadataExt;

    use nix::sched::unshare;

    #[test]
    fn layers_show_the_ids_of_a_namespace_and_the_disk_stays() {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let world = tempfile::tempdir().unwrap();
        mounts::tmpfs(world.path(), 65536, 0o755).unwrap();
        let at = |name: &str| world.path().join(name);
        for dir in ["top", "low", "up", "work", "merged", "copy"] {
            fs::create_dir(at(dir)).unwrap();
        }
        fs::write(at("low/file"), "x").unwrap();
        std::os::unix::fs::chown(at("low/file"), Some(5), Some(6)).unwrap();
        fs::write(at("userns"), "").unwrap();
        let map = IdMap::contiguous(100_000, 65_536);
        let holder = Holder::begin(CloneFlags::CLONE_NEWUSER).unwrap();
        holder.map_ids(&map).unwrap();
        mounts::bind(&holder.namespace(NsKind::User), &at("userns")).unwrap();
        drop(holder);
        let lowers = [at("top"), at("low")];
        let (before, owner) =
            (mounts::list().unwrap(), |path: &Path| (fs::metadata(path).unwrap().uid(), fs::metadata(path).unwrap().gid()));
        assert!(works(&at("low")));
        overlay(Overlay { lowers: &lowers, writable: Some((&at("up"), &at("work"))) }, &at("merged"), &at("userns")).unwrap();
        assert_eq!(owner(&at("merged/file")), (100_005, 100_006));
        assert_eq!(owner(&at("low/file")), (5, 6));
        let rows = mounts::list().unwrap();
        assert_eq!(rows.len(), before.len() + 1, "only the overlay is mounted");
        mounts::unmount(&at("merged")).unwrap();
        copy_merged(&lowers, &at("copy"), &|owner| map.shift(owner)).unwrap();
        assert_eq!(owner(&at("copy/file")), (100_005, 100_006));
        assert_eq!(mounts::list().unwrap(), before);
        assert!(!works(Path::new("/proc")), "procfs cannot");
        mounts::unmount(&at("userns")).unwrap();
    }
}
