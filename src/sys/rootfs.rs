//! Root file systems of images: what is read in them, and whether they can be mounted on. Everything in them is hostile.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::fstat;

use crate::bundle::user::Accounts;
use crate::fault::{Fault, Kind, kind_of_errno};

/// The largest passwd or group file that is read, in bytes (CVE-2026-47262).
pub const ACCOUNT_FILE_LIMIT: u64 = 10 << 20;

/// What runtimes mount on: directories.
const MOUNT_POINTS: [&str; 7] = ["dev", "dev/pts", "dev/shm", "dev/mqueue", "proc", "sys", "etc"];
/// What sandboxes bind files on.
const FILE_POINTS: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// What a call inside a root file system answered.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// openat2(2) or read(2).
    #[error("{call} {path} in {root}: {errno}", path = .path, root = .root.display())]
    Call {
        /// The call.
        call: &'static str,
        /// The root file system.
        root: PathBuf,
        /// The path inside it.
        path: String,
        /// What the kernel answered.
        errno: Errno,
    },
    /// An account file is a FIFO, a device or a directory.
    #[error("/{path} of the image is not a regular file")]
    NotRegular {
        /// The path inside the image.
        path: String,
    },
    /// An account file is too large.
    #[error("/{path} of the image is larger than {ACCOUNT_FILE_LIMIT} bytes")]
    TooLarge {
        /// The path inside the image.
        path: String,
    },
    /// Something stands where the runtime mounts that is not what it must be.
    #[error("/{path} of the image is not a real {what}")]
    NotReal {
        /// The path inside the image.
        path: String,
        /// `directory` or `file`.
        what: &'static str,
    },
}

impl From<RootfsError> for Fault {
    fn from(error: RootfsError) -> Fault {
        let kind = match &error {
            RootfsError::Call { errno: Errno::ELOOP, .. } => Kind::InvalidArgument,
            RootfsError::Call { errno, .. } => kind_of_errno(*errno),
            RootfsError::NotRegular { .. } | RootfsError::TooLarge { .. } => Kind::InvalidArgument,
            RootfsError::NotReal { .. } => Kind::FailedPrecondition,
        };
        Fault::from_error(kind, error)
    }
}

type Result<T> = std::result::Result<T, RootfsError>;

/// Reads the account files of the root file system at `root` for [`crate::bundle::user::resolve`]; missing ones are empty.
///
/// Symlinks are followed as the container would, never out of `root`; nothing blocks on a FIFO (CVE-2024-9676).
pub fn read_accounts(root: &Path) -> Result<Accounts> {
    let dir = open_root(root)?;
    Ok(Accounts { passwd: read_text(&dir, root, "etc/passwd")?, group: read_text(&dir, root, "etc/group")? })
}

fn open_root(root: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(root, flags, nix::sys::stat::Mode::empty()).map_err(failed("open", root, "/"))
}

fn failed(call: &'static str, root: &Path, path: &str) -> impl FnOnce(Errno) -> RootfsError {
    let (root, path) = (root.to_path_buf(), path.to_owned());
    move |errno| RootfsError::Call { call, root, path, errno }
}

fn read_text(dir: &OwnedFd, root: &Path, path: &str) -> Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let fd = match openat2(dir, path, how) {
        Ok(fd) => fd,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        // A device without a driver, or a socket.
        Err(Errno::ENXIO | Errno::ENODEV) => return Err(RootfsError::NotRegular { path: path.to_owned() }),
        Err(errno) => return Err(failed("openat2", root, path)(errno)),
    };
    if !is_kind(&fd, libc::S_IFREG).map_err(failed("fstat", root, path))? {
        return Err(RootfsError::NotRegular { path: path.to_owned() });
    }
    let mut content = Vec::new();
    File::from(fd)
        .take(ACCOUNT_FILE_LIMIT + 1)
        .read_to_end(&mut content)
        .map_err(|error| failed("read", root, path)(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    if content.len() as u64 > ACCOUNT_FILE_LIMIT {
        return Err(RootfsError::TooLarge { path: path.to_owned() });
    }
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn is_kind(fd: &OwnedFd, kind: libc::mode_t) -> nix::Result<bool> {
    Ok(fstat(fd)?.st_mode & libc::S_IFMT == kind)
}

/// Checks a plain root file system, which has no init layer on top: what runtimes mount on must be a real directory or absent.
///
/// *Errors:* `FailedPrecondition` for a symlink or anything else at such a place (CVE-2026-41579 and its kin).
pub fn check_mount_points(root: &Path) -> Result<()> {
    let dir = open_root(root)?;
    for path in MOUNT_POINTS {
        check_point(&dir, root, path, libc::S_IFDIR, "directory")?;
    }
    for path in FILE_POINTS {
        check_point(&dir, root, path, libc::S_IFREG, "file")?;
    }
    Ok(())
}

/// [`check_mount_points`] as shell; `root` is the name of a variable with its `$`.
pub fn check_in_shell(root: &str) -> String {
    let checks = [(&MOUNT_POINTS[..], 'd'), (&FILE_POINTS[..], 'f')].map(|(paths, test)| {
        format!(
            "for point in {}; do\n  [ ! -L \"{root}/$point\" ] || exit 1\n  [ ! -e \"{root}/$point\" ] || [ -{test} \"{root}/$point\" ]\ndone",
            paths.join(" ")
        )
    });
    checks.join("\n")
}

fn check_point(dir: &OwnedFd, root: &Path, path: &str, kind: libc::mode_t, what: &'static str) -> Result<()> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(resolve);
    match openat2(dir, path, how) {
        Ok(fd) if is_kind(&fd, kind).map_err(failed("fstat", root, path))? => Ok(()),
        Err(Errno::ENOENT) => Ok(()),
        Ok(_) | Err(Errno::ELOOP | Errno::ENOTDIR | Errno::EXDEV) => Err(RootfsError::NotReal { path: path.to_owned(), what }),
        Err(errno) => Err(failed("openat2", root, path)(errno)),
    }
}

/// The owner and mode of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The attributes of directory `path` in the first of `layers` (highest first) that has it as a real directory.
pub fn find_attributes(layers: &[PathBuf], path: &str) -> Result<Option<Attributes>> {
    for layer in layers {
        let dir = open_root(layer)?;
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(resolve);
        let fd = match openat2(&dir, path, how) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => continue,
            // A symlink, a whiteout or a file up here hides what is below.
            Err(Errno::ELOOP | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => return Err(failed("openat2", layer, path)(errno)),
        };
        let stat = fstat(&fd).map_err(failed("fstat", layer, path))?;
        let found = Attributes { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid };
        return Ok((stat.st_mode & libc::S_IFMT == libc::S_IFDIR).then_some(found));
    }
    Ok(None)
}

/// Sets owner and mode of a directory that we made.
pub fn set_attributes(path: &Path, attributes: Attributes) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).map_err(failed("open", path, "/"))?;
    nix::unistd::fchown(fd.as_fd(), Some(attributes.uid.into()), Some(attributes.gid.into())).map_err(failed("fchown", path, "/"))?;
    nix::sys::stat::fchmod(fd.as_fd(), nix::sys::stat::Mode::from_bits_truncate(attributes.mode)).map_err(failed("fchmod", path, "/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn world() -> tempfile::TempDir {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir_all(world.path().join("root/etc")).unwrap();
        world
    }

    #[test]
    fn account_files_are_read_inside_the_image_only() {
        let world = world();
        let root = world.path().join("root");
        assert_eq!(read_accounts(&root).unwrap(), Accounts::default());
        fs::write(root.join("real"), "web:x:33:33:::\n").unwrap();
        symlink("/real", root.join("etc/passwd")).unwrap();
        fs::write(world.path().join("secret"), "host:x:0:0:::\n").unwrap();
        symlink("../../secret", root.join("etc/group")).unwrap();
        let accounts = read_accounts(&root).unwrap();
        assert_eq!((accounts.passwd.as_str(), accounts.group.as_str()), ("web:x:33:33:::\n", ""));
    }

    #[test]
    fn hostile_account_files_are_refused_at_once() {
        let world = world();
        let root = world.path().join("root");
        let passwd = root.join("etc/passwd");
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read_accounts(&root), Err(RootfsError::NotRegular { .. })));
        fs::remove_file(&passwd).unwrap();
        fs::File::create(&passwd).unwrap().set_len(1 << 30).unwrap();
        assert!(matches!(read_accounts(&root), Err(RootfsError::TooLarge { .. })));
        fs::remove_file(&passwd).unwrap();
        symlink("/proc/self/fd/0", &passwd).unwrap();
        assert_eq!(read_accounts(&root).unwrap().passwd, "");
        fs::remove_file(&passwd).unwrap();
        symlink("passwd", &passwd).unwrap();
        assert_eq!(Fault::from(read_accounts(&root).unwrap_err()).kind(), Kind::InvalidArgument);
    }

    #[test]
    fn a_mount_point_that_is_a_link_is_refused() {
        let world = world();
        let root = world.path().join("root");
        check_mount_points(&root).unwrap();
        fs::create_dir_all(root.join("dev/pts")).unwrap();
        check_mount_points(&root).unwrap();
        symlink("/tmp", root.join("dev/shm")).unwrap();
        assert!(matches!(check_mount_points(&root), Err(RootfsError::NotReal { path, .. }) if path == "dev/shm"));
        fs::remove_file(root.join("dev/shm")).unwrap();
        symlink("/tmp/x", root.join("etc/hosts")).unwrap();
        assert!(matches!(check_mount_points(&root), Err(RootfsError::NotReal { what: "file", .. })));
    }
}
