//! What is mounted in a container: the kernel's file systems, and what the user binds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};

use super::process::clean_absolute;
use crate::fault::{Fault, Kind, Result};

/// Whether a container may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may only read.
    ReadOnly,
    /// It may write.
    ReadWrite,
}

/// A path of the host seen in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the container, absolute and clean.
    pub destination: String,
    /// Read-only goes for mounts below the source too (`rro`, Linux 5.12).
    pub access: Access,
}

/// Where a volume comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A path of the host.
    Host(PathBuf),
    /// A named volume.
    Named(String),
}

/// One `-v`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where it comes from.
    pub source: VolumeSource,
    /// In the container, absolute and clean.
    pub destination: String,
    /// Whether the container may write.
    pub access: Access,
}

/// Where `/dev/shm` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shm {
    /// A tmpfs of the container's own, in KiB.
    Private {
        /// Its size.
        size_kib: u64,
    },
    /// The sandbox's, mounted on the host at this path.
    Shared(PathBuf),
}

/// Reads one `-v SOURCE:DESTINATION[:OPTIONS]`; options are `ro` and `rw`.
///
/// *Errors:* `InvalidArgument` for a destination as in [`check_destination`], a relative source with a slash, an unknown option.
pub fn parse_volume(text: &str) -> Result<Volume> {
    let bad = |why: &str| Fault::invalid(format!("volume {text:?} {why}")).hint("the form is SOURCE:DESTINATION[:ro]");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options),
        _ => return Err(bad("does not have two or three parts")),
    };
    if source.is_empty() || text.contains('\0') {
        return Err(bad("has no valid source"));
    }
    let mut access = Access::ReadWrite;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        access = match option {
            "ro" => Access::ReadOnly,
            "rw" => Access::ReadWrite,
            _ => return Err(bad(&format!("has the unknown option {option:?}"))),
        };
    }
    let source = match source {
        path if path.starts_with('/') => VolumeSource::Host(PathBuf::from(path)),
        name if name.contains('/') || matches!(name, "." | "..") => return Err(bad("has a relative source")),
        name => VolumeSource::Named(name.to_owned()),
    };
    Ok(Volume { source, destination: check_destination(destination)?, access })
}

/// Cleans the destination of a mount.
///
/// *Errors:* `InvalidArgument` for a relative one, one with `..`, `/`, `/dev` itself, and `/proc` and `/sys` with all below: the runtime's
/// masks lie there (CVE-2019-16884, CVE-2023-27561).
pub fn check_destination(text: &str) -> Result<String> {
    let refuse = |why: &str| {
        Err(Fault::invalid(format!("mount destination {text:?} {why}"))
            .hint("mount it elsewhere: an absolute path of the container, such as /data"))
    };
    if !text.starts_with('/') {
        return refuse("is not an absolute path");
    }
    if text.split('/').any(|part| part == "..") || text.contains('\0') {
        return refuse("contains ..");
    }
    let clean = clean_absolute(text);
    let top = clean[1..].split('/').next().unwrap_or("");
    match top {
        "" => refuse("is the root of the container"),
        "proc" | "sys" => refuse("is a kernel file system of the container"),
        "dev" if clean == "/dev" => refuse("is the device directory of the container"),
        _ => Ok(clean),
    }
}

/// Lists all mounts: the kernel's first, then the binds, parents before children.
///
/// A bind may take the place of `/dev/shm` or `/dev/mqueue`. *Errors:* `InvalidArgument` when two binds have one destination.
pub fn all(shm: &Shm, binds: &[Bind]) -> Result<Vec<Mount>> {
    let mut taken = BTreeSet::new();
    for bind in binds {
        if !taken.insert(bind.destination.as_str()) {
            return Err(Fault::invalid(format!("two mounts have the destination {}", bind.destination)));
        }
    }
    let mut mounts = kernel_mounts(shm)?;
    mounts.retain(|mount| !mount.destination().to_str().is_some_and(|path| taken.contains(path)));
    let mut ordered: Vec<&Bind> = binds.iter().collect();
    ordered.sort_by_key(|bind| bind.destination.matches('/').count());
    for bind in ordered {
        mounts.push(bind_mount(&bind.source, &bind.destination, bind.access)?);
    }
    Ok(mounts)
}

fn kernel_mounts(shm: &Shm) -> Result<Vec<Mount>> {
    let mut mounts = vec![
        proc()?,
        dev()?,
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"])?,
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])?,
    ];
    mounts.push(match shm {
        Shm::Private { size_kib } => {
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &format!("size={size_kib}k")])?
        }
        Shm::Shared(path) => {
            mount("/dev/shm", "bind", path.to_str().ok_or_else(|| not_text(path))?, &["bind", "rprivate", "nosuid", "noexec", "nodev"])?
        }
    });
    Ok(mounts)
}

pub(super) fn proc() -> Result<Mount> {
    mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])
}

pub(super) fn dev() -> Result<Mount> {
    mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])
}

fn bind_mount(source: &Path, destination: &str, access: Access) -> Result<Mount> {
    if !source.is_absolute() {
        return Err(Fault::invalid(format!("mount source {} is not an absolute path", source.display())));
    }
    // `bind` is said too: the runtime ignores the type and looks for a bind option.
    let access = if access == Access::ReadOnly { ["ro", "rro"].as_slice() } else { &["rw"] };
    let options = [["rbind", "rprivate"].as_slice(), access].concat();
    mount(destination, "bind", source.to_str().ok_or_else(|| not_text(source))?, &options)
}

fn not_text(path: &Path) -> Fault {
    Fault::invalid(format!("mount source {} is not UTF-8, which config.json needs", path.display()))
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Result<Mount> {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .build()
        .map_err(|error| Fault::from_error(Kind::Internal, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_host_paths_or_names() {
        let volume = parse_volume("/srv/data:/data//x/./y:ro").unwrap();
        assert_eq!(volume.source, VolumeSource::Host("/srv/data".into()));
        assert_eq!((volume.destination.as_str(), volume.access), ("/data/x/y", Access::ReadOnly));
        assert_eq!(parse_volume("cache:/var/cache").unwrap().source, VolumeSource::Named("cache".to_owned()));
        for bad in ["/a", ":/a", "/a:", "/a:b", "./a:/b", "..:/b", "/a:/b:ro:x", "/a:/b:exec", "a/b:/c", "/a:/b\0"] {
            assert!(parse_volume(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kernel_file_systems_cannot_be_covered() {
        for bad in [
            "/",
            "//",
            "/.",
            "/proc",
            "/proc/",
            "/proc/sys",
            "//proc/./x",
            "/sys",
            "/sys/fs/cgroup",
            "/dev",
            "/dev/",
            "/a/../proc",
            "rel",
            "",
        ] {
            assert!(check_destination(bad).is_err(), "{bad:?}");
        }
        for good in ["/dev/shm", "/process", "/data..x", "/etc/hosts"] {
            assert_eq!(check_destination(good).unwrap(), good);
        }
    }

    #[test]
    fn binds_come_last_and_parents_first() {
        let bind = |destination: &str| Bind { source: "/x".into(), destination: destination.to_owned(), access: Access::ReadWrite };
        let shm = Shm::Private { size_kib: 65536 };
        let mounts = all(&shm, &[bind("/etc/hosts"), bind("/etc"), bind("/dev/shm")]).unwrap();
        let places: Vec<_> = mounts.iter().map(|mount| mount.destination().display().to_string()).collect();
        assert_eq!(places, ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/etc", "/etc/hosts", "/dev/shm"]);
        assert!(all(&shm, &[bind("/a"), bind("/a")]).is_err());
    }
}
