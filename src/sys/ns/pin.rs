//! New namespaces, each kept alive by a bind mount on a file of ours.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::sethostname;

use crate::sys::netlink;

use super::holder::Holder;
use super::{NsError, NsKind, apart, is_namespace};
use crate::idmap::IdMap;
use crate::sys::file;

/// What a pin file of ours says under its mount: our mark. `ip netns add`, podman and containerd leave theirs empty.
const MARK: &[u8] = b"rkbox\n";

/// Where new namespaces are pinned; `None` stays the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pins<'a> {
    /// Network.
    pub net: Option<&'a Path>,
    /// IPC.
    pub ipc: Option<&'a Path>,
    /// UTS.
    pub uts: Option<&'a Path>,
    /// Set inside the new UTS namespace.
    pub hostname: Option<&'a str>,
    /// A user namespace with these ids, which owns the others.
    pub user: Option<(&'a Path, &'a IdMap)>,
}

impl<'a> Pins<'a> {
    /// The pins that are asked for.
    pub fn each(&self) -> impl Iterator<Item = (NsKind, &'a Path)> {
        let user = self.user.map(|(path, _)| path);
        [(NsKind::User, user), (NsKind::Net, self.net), (NsKind::Ipc, self.ipc), (NsKind::Uts, self.uts)]
            .into_iter()
            .filter_map(|(k, p)| Some((k, p?)))
    }
}

/// Makes the namespaces on a throw-away thread and pins each on a new file of mode 0444; all or none.
///
/// *Errors:* `EEXIST` when a pin is taken; then nothing was touched.
pub fn create_pinned(pins: &Pins<'_>) -> Result<(), NsError> {
    let mut made: Vec<&Path> = Vec::new();
    let result = claim_all(pins, &mut made).and_then(|()| match pins.user {
        Some((_, map)) => fill_owned(pins, map),
        None => apart(Path::new("/proc/thread-self/ns"), || fill(pins)),
    });
    if result.is_err() {
        for path in made {
            // The first error is the one to tell; what cannot be undone here is seen by the step's undo.
            let _ = remove(path);
        }
    }
    result
}

fn claim_all<'a>(pins: &Pins<'a>, made: &mut Vec<&'a Path>) -> Result<(), NsError> {
    for (_, path) in pins.each() {
        let mut file = claim(path)?;
        made.push(path);
        file.write_all(MARK).map_err(NsError::io("write", path))?;
    }
    Ok(())
}

fn claim(path: &Path) -> Result<File, NsError> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o444).custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(NsError::io("create", path))
}

/// Pins the pid namespace of process `pid` on a new file of mode 0444.
///
/// The caller makes sure that the process was the one it means until this has returned. *Errors:* `EEXIST` when the pin is taken.
pub fn pin_pid(pid: i32, path: &Path) -> Result<(), NsError> {
    bind_new(&PathBuf::from(format!("/proc/{pid}/ns/pid")), path)
}

fn bind_new(source: &Path, path: &Path) -> Result<(), NsError> {
    let mut file = claim(path)?;
    let written = file.write_all(MARK).map_err(NsError::io("write", path));
    drop(file);
    let none = None::<&str>;
    let bound = written.and_then(|()| mount(Some(source), path, none, MsFlags::MS_BIND, none).map_err(NsError::call("mount --bind", path)));
    if bound.is_err() {
        let _ = remove(path);
    }
    bound
}

/// Pins an open namespace on a new file of mode 0444.
///
/// *Errors:* `EEXIST` when the pin is taken.
pub fn pin_open(namespace: &OwnedFd, path: &Path) -> Result<(), NsError> {
    bind_new(&PathBuf::from(format!("/proc/self/fd/{}", namespace.as_raw_fd())), path)
}

fn fill(pins: &Pins<'_>) -> Result<(), NsError> {
    let flags = pins.each().fold(CloneFlags::empty(), |flags, (kind, _)| flags | kind.flag());
    unshare(flags).map_err(NsError::call("unshare", Path::new("/proc/thread-self/ns")))?;
    if let (Some(uts), Some(hostname)) = (pins.uts, pins.hostname) {
        sethostname(hostname).map_err(NsError::call("sethostname", uts))?;
    }
    for (kind, path) in pins.each() {
        let none = None::<&str>;
        mount(Some(&kind.own_path()), path, none, MsFlags::MS_BIND, none).map_err(NsError::call("mount --bind", path))?;
    }
    Ok(())
}

/// As [`fill`], with a user namespace: a process of ours waits in them until they are pinned, because a thread cannot enter one.
fn fill_owned(pins: &Pins<'_>, map: &IdMap) -> Result<(), NsError> {
    let at = Path::new("/proc/thread-self/ns");
    let flags = pins.each().fold(CloneFlags::empty(), |flags, (kind, _)| flags | kind.flag());
    let holder = Holder::begin(flags).map_err(NsError::call("clone", at))?;
    holder.map_ids(map)?;
    if let (Some(uts), Some(hostname)) = (pins.uts, pins.hostname) {
        let opened = File::open(holder.namespace(NsKind::Uts)).map_err(NsError::io("open", uts))?;
        apart(uts, || {
            setns(&opened, CloneFlags::CLONE_NEWUTS).map_err(NsError::call("setns", uts))?;
            sethostname(hostname).map_err(NsError::call("sethostname", uts))
        })?;
    }
    for (kind, path) in pins.each() {
        let none = None::<&str>;
        mount(Some(&holder.namespace(kind)), path, none, MsFlags::MS_BIND, none).map_err(NsError::call("mount --bind", path))?;
    }
    Ok(())
}

/// Whether the file at `path`, seen under what is mounted on it, is a pin of ours; absence is `false`.
///
/// A detached copy of the directory's mount shows the file without the mounts on top of it.
pub fn is_ours(path: &Path) -> Result<bool, NsError> {
    if !file::exists(path).map_err(|error| NsError::Call {
        call: "lstat",
        path: path.into(),
        errno: error.errno().unwrap_or(Errno::EIO),
    })? {
        return Ok(false);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
    let below = without_mounts(parent).map_err(NsError::call("open_tree", parent))?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match openat(below.as_fd(), name, flags, Mode::empty()) {
        Ok(fd) => {
            let mut content = Vec::new();
            let read = File::from(fd).take(MARK.len() as u64 + 1).read_to_end(&mut content);
            Ok(read.is_ok() && content == MARK)
        }
        Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => Ok(false),
        Err(errno) => Err(NsError::call("openat", path)(errno)),
    }
}

#[allow(unsafe_code)]
fn without_mounts(dir: &Path) -> nix::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    use nix::NixPath;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    let fd = dir.with_nix_path(|dir| {
        // SAFETY: the path is a NUL-terminated string that lives for the call; the call takes no other memory.
        unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, dir.as_ptr(), flags) }
    })?;
    Ok(file::own(i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?))
}

/// Takes away a pin of ours; the namespace goes when nothing else holds it. Absence and pins of others are left as they are.
///
/// Answers whether nothing of ours is there any more (`false`: what is there bears another's mark).
pub fn unpin(path: &Path) -> Result<bool, NsError> {
    if is_ours(path)? {
        remove(path)?;
        return Ok(true);
    }
    // A crash between the creation of the file and the mark in it leaves an empty file, with nothing mounted on it.
    let is_empty_file = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    if is_empty_file && !is_any_namespace(path)? {
        remove(path)?;
        return Ok(true);
    }
    Ok(fs::symlink_metadata(path).is_err())
}

fn is_any_namespace(path: &Path) -> Result<bool, NsError> {
    for kind in [NsKind::Net, NsKind::Ipc, NsKind::Uts, NsKind::Pid, NsKind::User] {
        if is_namespace(path, kind)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn remove(path: &Path) -> Result<(), NsError> {
    netlink::forget();
    // More than one mount can lie on the file when somebody bound it again; each is taken off.
    for _ in 0..64 {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(NsError::call("umount", path)(errno)),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(NsError::io("unlink", path)(error)),
        _ => Ok(()),
    }
}

/// The network namespaces pinned in `dir`, sorted by name; files that are none are left out.
pub fn pinned(dir: &Path) -> Result<Vec<PathBuf>, NsError> {
    let names =
        file::list(dir).map_err(|error| NsError::Call { call: "opendir", path: dir.into(), errno: error.errno().unwrap_or(Errno::EIO) })?;
    let mut paths = Vec::new();
    for name in names {
        let path = dir.join(name);
        if is_namespace(&path, NsKind::Net)? {
            paths.push(path);
        }
    }
    Ok(paths)
}
