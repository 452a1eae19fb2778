//! Mounts: overlay, tmpfs, bind; and what is mounted where.
//!
//! What rkbox mounts has the source `rkbox`: our mark in mountinfo.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

mod context;

pub(super) use context::{fs_config, fs_flag, fs_mount, fs_open};

use self::context::move_mount;
use super::rootless::in_user_namespace;
use crate::fault::{Fault, Kind, kind_of_errno};

/// The source that mountinfo shows for our mounts.
pub const SOURCE: &str = "rkbox";

/// The options of every overlay: nothing of an image's xattrs may redirect or hide (a redirect found in a layer gives EPERM).
pub const OVERLAY_OPTIONS: [(&str, &str); 4] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow"), ("xino", "off")];

/// The longest string that fsconfig(2) takes, in bytes, and the longest option string of mount(2).
const FSCONFIG_LIMIT: usize = 255;
const MOUNT_LIMIT: usize = 4095;

/// What a call on mounts answered.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// mount(2), fsconfig(2), move_mount(2) and their kin.
    #[error("{call} {target}: {errno}{detail}", target = .target.display())]
    Call {
        /// The call, with the file system or option.
        call: String,
        /// Where.
        target: PathBuf,
        /// What the kernel answered.
        errno: Errno,
        /// What the kernel said besides, or nothing.
        detail: String,
    },
    /// A path cannot be said to the kernel.
    #[error("layer path {path} cannot be an overlay option", path = .path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// Too many layers for mount(2) of an old kernel.
    #[error("{layers} layers are too many for the mount call of this kernel")]
    TooManyLayers {
        /// How many.
        layers: usize,
    },
}

impl From<MountError> for Fault {
    fn from(error: MountError) -> Fault {
        match &error {
            MountError::Call { errno, .. } => Fault::from_error(kind_of_errno(*errno), error),
            MountError::Path { .. } => Fault::from_error(Kind::InvalidArgument, error),
            MountError::TooManyLayers { .. } => {
                Fault::from_error(Kind::Unimplemented, error).hint("Linux 6.5 and later take up to 500 layers")
            }
        }
    }
}

type Result<T> = std::result::Result<T, MountError>;

pub(super) fn failed(call: impl Into<String>, target: &Path) -> impl FnOnce(Errno) -> MountError {
    let (call, target) = (call.into(), target.to_path_buf());
    move |errno| MountError::Call { call, target, errno, detail: String::new() }
}

/// The three parts of an overlay.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// Read-only layers, highest first.
    pub lowers: &'a [PathBuf],
    /// The writable layer, and scratch beside it; without one the overlay is read-only and needs two layers.
    pub writable: Option<(&'a Path, &'a Path)>,
}

/// Mounts an overlay, nodev, on `target`; with `lowerdir+` where the kernel has it (6.5), which takes 500 layers.
pub fn overlay(overlay: Overlay<'_>, target: &Path) -> Result<()> {
    let writable = overlay.writable.map(|(upper, work)| [upper, work]);
    let mut paths = overlay.lowers.iter().map(PathBuf::as_path).chain(writable.into_iter().flatten());
    // Kernels differ in whether they undo escapes in the single options; in the option string all of them do.
    if paths.all(|path| path.as_os_str().len() <= FSCONFIG_LIMIT && !path.as_os_str().as_bytes().contains(&b'\\')) {
        match overlay_by_parts(overlay, target) {
            // The context is not there (5.2) or does not know `lowerdir+` (6.5): nothing was mounted. Kernels before 6.5 only collect the
            // options (seen on 6.1) and say EINVAL at the end; when the other call says it too, it is about something else.
            Err(MountError::Call { call, errno: Errno::ENOSYS | Errno::EINVAL, .. })
                if call == "fsopen overlay" || call == "fsconfig lowerdir+" => {}
            Err(first @ MountError::Call { errno: Errno::EINVAL, .. }) => return overlay_by_string(overlay, target).map_err(|_| first),
            mounted => return mounted,
        }
    }
    overlay_by_string(overlay, target)
}

pub(super) fn overlay_by_string(overlay: Overlay<'_>, target: &Path) -> Result<()> {
    let options = overlay_options(overlay)?;
    let read_only = if overlay.writable.is_none() { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    nix::mount::mount(Some(SOURCE), target, Some("overlay"), MsFlags::MS_NODEV | read_only, Some(options.as_os_str()))
        .map_err(failed("mount overlay", target))
}

fn overlay_by_parts(overlay: Overlay<'_>, target: &Path) -> Result<()> {
    attach(&overlay_detached(overlay, target)?, target)
}

/// An overlay that is mounted nowhere yet; `target` is for errors.
pub(super) fn overlay_detached(overlay: Overlay<'_>, target: &Path) -> Result<OwnedFd> {
    let context = fs_open(c"overlay").map_err(failed("fsopen overlay", target))?;
    let set = |key: &str, value: &Path| {
        fs_config(&context, key, value).map_err(|errno| MountError::Call {
            call: format!("fsconfig {key}"),
            target: target.to_path_buf(),
            errno,
            detail: fs_messages(&context),
        })
    };
    set("source", Path::new(SOURCE))?;
    for lower in overlay.lowers {
        set("lowerdir+", lower)?;
    }
    if let Some((upper, work)) = overlay.writable {
        set("upperdir", upper)?;
        set("workdir", work)?;
    }
    for (key, value) in OVERLAY_OPTIONS {
        set(key, Path::new(value))?;
    }
    if in_user_namespace() {
        fs_flag(&context, c"userxattr").map_err(failed("fsconfig userxattr", target))?;
    }
    let with_messages =
        |call: &str, errno| MountError::Call { call: call.to_owned(), target: target.to_path_buf(), errno, detail: fs_messages(&context) };
    fs_mount(&context, overlay.writable.is_none()).map_err(|errno| with_messages("mount overlay", errno))
}

/// Mounts on `target` what is mounted nowhere yet.
pub(super) fn attach(mount: &OwnedFd, target: &Path) -> Result<()> {
    move_mount(mount, target).map_err(failed("move_mount", target))
}

/// The option string for mount(2): commas and backslashes in paths are escaped, and colons in the list of lower layers.
pub fn overlay_options(overlay: Overlay<'_>) -> Result<OsString> {
    let mut options = Vec::from(b"lowerdir=");
    for (nth, lower) in overlay.lowers.iter().enumerate() {
        if nth > 0 {
            options.push(b':');
        }
        options.extend(escape(lower, b"\\,:")?);
    }
    for (key, path) in overlay.writable.into_iter().flat_map(|(upper, work)| [("upperdir", upper), ("workdir", work)]) {
        options.extend_from_slice(format!(",{key}=").as_bytes());
        options.extend(escape(path, b"\\,")?);
    }
    for (key, value) in OVERLAY_OPTIONS {
        options.extend_from_slice(format!(",{key}={value}").as_bytes());
    }
    if in_user_namespace() {
        options.extend_from_slice(b",userxattr");
    }
    if options.len() > MOUNT_LIMIT {
        return Err(MountError::TooManyLayers { layers: overlay.lowers.len() });
    }
    Ok(OsString::from_vec(options))
}

fn escape(path: &Path, special: &[u8]) -> Result<Vec<u8>> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.contains(&0) {
        return Err(MountError::Path { path: path.to_path_buf() });
    }
    Ok(bytes.iter().flat_map(|byte| if special.contains(byte) { vec![b'\\', *byte] } else { vec![*byte] }).collect())
}

/// Mounts a tmpfs (nosuid, nodev, noexec) of `size_kib` KiB whose root has `mode`.
pub fn tmpfs(target: &Path, size_kib: u64, mode: u32) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("size={size_kib}k,mode={mode:04o}");
    nix::mount::mount(Some(SOURCE), target, Some("tmpfs"), flags, Some(options.as_str())).map_err(failed("mount tmpfs", target))
}

/// Binds `source` on `target`, without what is mounted below it.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    nix::mount::mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(failed(format!("bind {} on", source.display()), target))
}

/// Gives this thread mounts of its own, which nobody else sees and which go with it; `target` is for errors.
pub fn leave(target: &Path) -> Result<()> {
    let none = None::<&str>;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(failed("unshare", target))?;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(failed("make private", target))
}

/// Takes the topmost mount off `target` and lets its last users finish; false when nothing is mounted there.
pub fn unmount(target: &Path) -> Result<bool> {
    match nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(failed("umount", target)(errno)),
    }
}

/// One row of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRow {
    /// Where it is mounted.
    pub target: PathBuf,
    /// The type of the file system.
    pub kind: String,
    /// Its source.
    pub source: OsString,
    /// The options of the file system itself.
    pub options: String,
}

/// Lists the mounts that this thread sees, in their order: the last one of a target is on top.
pub fn list() -> std::result::Result<Vec<MountRow>, Fault> {
    // Of the thread: with `self` a thread in a namespace of its own would read its group leader's.
    let path = Path::new("/proc/thread-self/mountinfo");
    let table = std::fs::read(path).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        Fault::from(failed("read", path)(errno))
    })?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(parse_row).collect())
}

/// The topmost mount at exactly `path`.
pub fn find_at(path: &Path) -> std::result::Result<Option<MountRow>, Fault> {
    Ok(list()?.into_iter().rfind(|row| row.target == path))
}

/// Whether something is mounted at exactly `path`.
pub fn is_mountpoint(path: &Path) -> std::result::Result<bool, Fault> {
    Ok(find_at(path)?.is_some())
}

/// Lists the mounts at and below `path`, the deepest last.
pub fn below(path: &Path) -> std::result::Result<Vec<MountRow>, Fault> {
    Ok(list()?.into_iter().filter(|row| row.target.starts_with(path)).collect())
}

/// *Shape:* `36 35 0:3 / /target rw,nodev shared:1 - overlay rkbox rw,lowerdir=…`. *Source:* proc_pid_mountinfo(5).
fn parse_row(row: &[u8]) -> Option<MountRow> {
    let mut fields = row.split(|byte| *byte == b' ');
    let target = fields.nth(4)?;
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let (kind, source, options) = (fields.next()?, fields.next()?, fields.next()?);
    Some(MountRow {
        target: PathBuf::from(OsString::from_vec(unescape(target))),
        kind: String::from_utf8_lossy(kind).into_owned(),
        source: OsString::from_vec(unescape(source)),
        options: String::from_utf8_lossy(options).into_owned(),
    })
}

/// Undoes `\040` and its kin.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(code) if byte == b'\\' => {
                plain.push(code);
                rest = &tail[3..];
            }
            _ => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

/// What the kernel says about a failed context: one message a read, `e overlay: …`.
fn fs_messages(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut buffer = [0; 512];
    while let Ok(count) = nix::unistd::read(context, &mut buffer) {
        if count == 0 || text.len() > 2048 {
            break;
        }
        let message = String::from_utf8_lossy(&buffer[..count]).trim().to_owned();
        text.push_str(&format!("; {}", message.trim_start_matches(['e', 'w', 'i']).trim_start()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn own_mounts() -> tempfile::TempDir {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let world = tempfile::tempdir().unwrap();
        tmpfs(world.path(), 65536, 0o755).unwrap();
        world
    }

    #[test]
    fn an_overlay_of_many_layers_is_mounted_seen_and_taken_off() {
        let world = own_mounts();
        let at = |name: &str| world.path().join(name);
        let mut lowers = Vec::new();
        for nth in 0..120 {
            let lower = at(&format!("{nth:064}")).join("diff");
            fs::create_dir_all(&lower).unwrap();
            fs::write(lower.join(format!("f{nth}")), nth.to_string()).unwrap();
            fs::write(lower.join("who"), nth.to_string()).unwrap();
            lowers.push(lower);
        }
        for dir in ["upper,with:odd name", "back\\slash", "work", "merged"] {
            fs::create_dir(at(dir)).unwrap();
        }
        let (upper, work, merged) = (at("upper,with:odd name"), at("work"), at("merged"));
        overlay(Overlay { lowers: &lowers, writable: Some((&upper, &work)) }, &merged).unwrap();
        assert_eq!(fs::read_to_string(merged.join("who")).unwrap(), "0");
        assert_eq!(fs::read_to_string(merged.join("f119")).unwrap(), "119");
        let row = find_at(&merged).unwrap().unwrap();
        assert_eq!((row.kind.as_str(), row.source.to_str()), ("overlay", Some(SOURCE)));
        assert!(unmount(&merged).unwrap());
        assert!(!unmount(&merged).unwrap() && !is_mountpoint(&merged).unwrap());
        assert!(overlay_options(Overlay { lowers: &lowers, writable: Some((&upper, &work)) }).is_err());
        let upper = at("back\\slash");
        overlay(Overlay { lowers: &lowers[..2], writable: Some((&upper, &work)) }, &merged).unwrap();
        fs::write(merged.join("new"), "x").unwrap();
        assert!(unmount(&merged).unwrap() && upper.join("new").exists());
        let few = Overlay { lowers: &lowers[..2], writable: Some((&upper, &work)) };
        let options = overlay_options(few).unwrap();
        nix::mount::mount(Some(SOURCE), &merged, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_os_str())).unwrap();
        assert_eq!(below(&merged).unwrap().len(), 1);
        assert!(unmount(&merged).unwrap());
    }

    #[test]
    fn a_refused_overlay_tells_why() {
        let world = own_mounts();
        let merged = world.path().join("merged");
        fs::create_dir(&merged).unwrap();
        let none = world.path().join("none");
        let fault =
            Fault::from(overlay(Overlay { lowers: std::slice::from_ref(&none), writable: Some((&none, &none)) }, &merged).unwrap_err());
        assert_eq!(fault.kind(), Kind::NotFound, "{fault}");
    }

    #[test]
    fn rows_of_mountinfo_are_unescaped() {
        let row = parse_row(b"36 35 0:3 / /a\\040b\\134 rw,nodev shared:1 master:2 - overlay rk\\040x rw,index=off").unwrap();
        assert_eq!((row.target.to_str(), row.source.to_str()), (Some("/a b\\"), Some("rk x")));
        assert_eq!(parse_row(b"36 35"), None);
    }
}
