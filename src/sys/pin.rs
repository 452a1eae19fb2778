//! Holds a path of the host for a container: opened once, without a link that somebody could turn, and mounted where the runtime finds it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, fstat};

use super::{file, mapped, ns};
use crate::fault::{Fault, Kind, Result, kind_of_errno};

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side<'a> {
    /// Mounts that come to the source later come too, and none goes back.
    Follows,
    /// What is mounted on either side is seen on both.
    Shares,
    /// Nothing but the source itself, with the ids of the user namespace pinned here.
    Mapped(&'a Path),
}

/// Opens `source` itself, or the path `below` it.
///
/// No component of `source` may be a symbolic link; below it links are followed, never out of it. *Errors:* `Conflict` for a link: it was none
/// when the plan was made.
fn find(source: &Path, below: Option<&str>) -> Result<OwnedFd> {
    let failed = |what: String| {
        move |errno: Errno| match errno {
            Errno::ELOOP => Fault::new(Kind::Conflict, format!("{what} has become a symbolic link")),
            errno => Fault::new(kind_of_errno(errno), format!("open {what}: {errno}")),
        }
    };
    let text = source.display().to_string();
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root = open("/", flags | OFlag::O_DIRECTORY, Mode::empty()).map_err(failed("/".to_owned()))?;
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let top = openat2(&root, source, OpenHow::new().flags(flags).resolve(resolve)).map_err(failed(text.clone()))?;
    let Some(below) = below else { return Ok(top) };
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(&top, below, OpenHow::new().flags(flags).resolve(resolve)).map_err(|errno| match errno {
        Errno::EXDEV => Fault::invalid(format!("{below} leads out of {text}")),
        errno => Fault::new(kind_of_errno(errno), format!("open {below} in {text}: {errno}")),
    })
}

/// Mounts `source` (or the path `below` it), with all that is mounted there, on `target`, which must be new.
pub fn hold(source: &Path, below: Option<&str>, target: &Path, side: Side<'_>) -> Result<()> {
    let held = find(source, below)?;
    let failed = |call: &str| {
        let call = format!("{call} {}", target.display());
        move |errno: Errno| Fault::new(kind_of_errno(errno), format!("{call}: {errno}"))
    };
    let directory = fstat(&held).map_err(failed("fstat"))?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    if directory {
        file::create_dir(target, 0o700)?;
    } else {
        let made = File::options().write(true).create_new(true).mode(0o600).open(target);
        made.map_err(|error| failed("create")(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    }
    if let Side::Mapped(userns) = side {
        let userns = ns::open(userns, ns::NsKind::User)?;
        let mapped = mapped::with_ids(held.as_fd(), userns.as_fd()).map_err(|errno| {
            let what = format!("{} cannot be shown with the ids of the container: {errno}", source.display());
            Fault::new(kind_of_errno(errno), what)
                .hint("its file system or this kernel cannot; leave idmap out, and U gives it to the container")
        })?;
        return Ok(super::mount::attach(&mapped, target)?);
    }
    let path = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    let none = None::<&str>;
    mount(Some(&path), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).map_err(failed("bind"))?;
    match side {
        // Else taking it off would take what is mounted below it off the source too.
        Side::Follows => mount(none, target, none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none).map_err(failed("make slave")),
        Side::Shares | Side::Mapped(_) => Ok(()),
    }
}

/// Takes off what [`hold`] mounted on `target`, and removes `target`; absence is fine.
pub fn release(target: &Path) -> Result<()> {
    let failed = |errno: Errno| Fault::new(kind_of_errno(errno), format!("umount {}: {errno}", target.display()));
    while super::mount::is_mountpoint(target)? {
        let none = None::<&str>;
        mount(none, target, none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none).map_err(failed)?;
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    if file::is_dir(target)? {
        file::remove_dir_if_empty(target)?;
    } else {
        file::remove_file(target)?;
    }
    Ok(())
}

/// The links that the way to `path` goes through: each as the path where it stands. Empty for a path without any.
///
/// *Errors:* `NotFound` when the way ends; more than 40 links.
pub fn links_on_the_way(path: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let mut links = Vec::new();
    let mut done = PathBuf::from("/");
    let mut ahead: Vec<std::ffi::OsString> = path.iter().skip(1).map(ToOwned::to_owned).collect();
    ahead.reverse();
    while let Some(part) = ahead.pop() {
        if part == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&part);
        let Some(target) = std::fs::read_link(&next).ok() else {
            done = next;
            continue;
        };
        links.push(next);
        if links.len() > 40 {
            return Err(Fault::invalid(format!("{} goes through more than 40 links", path.display())));
        }
        if target.is_absolute() {
            done = PathBuf::from("/");
        }
        let mut parts: Vec<std::ffi::OsString> = target
            .components()
            .filter_map(|part| match part {
                std::path::Component::Normal(name) => Some(name.to_owned()),
                std::path::Component::ParentDir => Some("..".into()),
                _ => None,
            })
            .collect();
        parts.reverse();
        ahead.extend(parts);
    }
    Ok((done, links))
}

/// How the mount that `path` is on shares what is mounted on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// It sends and receives.
    pub shared: bool,
    /// It receives.
    pub slave: bool,
}

/// Tells how the mount that `path` (without links) is on shares; a path that is not there is on its nearest parent's.
///
/// *Shape:* `36 35 0:3 / /target rw shared:1 master:2 - ext4 …`. *Source:* proc_pid_mountinfo(5).
pub fn sharing_of(path: &Path) -> Result<Sharing> {
    let table = file::read_kernel(Path::new("/proc/thread-self/mountinfo"))?;
    let mut best = (0, Sharing { shared: false, slave: false });
    for row in table.lines() {
        let fields: Vec<&str> = row.split(' ').collect();
        let Some(target) = fields.get(4).map(|target| PathBuf::from(target.replace("\\040", " "))) else { continue };
        let length = target.as_os_str().len();
        if path.starts_with(&target) && length >= best.0 {
            let has = |word: &str| fields.iter().skip(6).take_while(|field| **field != "-").any(|field| field.starts_with(word));
            best = (length, Sharing { shared: has("shared:"), slave: has("master:") });
        }
    }
    Ok(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_way_to_a_path_is_told_with_its_links() {
        let world = tempfile::tempdir().unwrap();
        let at = |name: &str| world.path().join(name);
        std::fs::create_dir_all(at("real/deep")).unwrap();
        symlink("real", at("rel")).unwrap();
        symlink(at("rel/deep"), at("abs")).unwrap();
        symlink("../rel", at("real/up")).unwrap();
        assert_eq!(links_on_the_way(&at("real/deep")).unwrap(), (at("real/deep"), vec![]));
        assert_eq!(links_on_the_way(&at("abs")).unwrap(), (at("real/deep"), vec![at("abs"), at("rel")]));
        assert_eq!(links_on_the_way(&at("real/up/deep/new")).unwrap(), (at("real/deep/new"), vec![at("real/up"), at("rel")]));
        symlink("loop", at("loop")).unwrap();
        assert!(links_on_the_way(&at("loop/x")).is_err());
    }

    #[test]
    fn what_has_become_a_link_is_not_held() {
        let world = tempfile::tempdir().unwrap();
        let at = |name: &str| world.path().join(name);
        std::fs::create_dir_all(at("vol/a")).unwrap();
        symlink("/", at("vol/b")).unwrap();
        symlink("a", at("vol/c")).unwrap();
        assert!(find(&at("vol/a"), None).is_ok());
        assert_eq!(find(&at("vol/b"), None).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(find(&at("vol/b/etc"), None).unwrap_err().kind(), Kind::Conflict);
        assert!(find(&at("vol"), Some("c")).is_ok());
        assert_eq!(find(&at("vol"), Some("b/etc")).unwrap_err().kind(), Kind::InvalidArgument);
        assert_eq!(find(&at("vol"), Some("none")).unwrap_err().kind(), Kind::NotFound);
    }
}
