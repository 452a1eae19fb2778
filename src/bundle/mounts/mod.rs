//! What is mounted in a container: the kernel's file systems, and what the user binds.

mod flag;
mod keys;
mod options;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};

use super::process::{clean_absolute, is_too_long};
use crate::fault::{Fault, Kind, Result, cut};
use crate::idmap::IdMap;

pub use flag::{parse_tmpfs, parse_volume, volume_name};
pub use keys::{parse_mount, subpath};
pub use options::{Options, Propagation, Reach, Relabel};

/// Whether a container may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may only read, what is mounted below the source too where the propagation allows it (Docker since 25).
    ReadOnly,
    /// It may only read, and never write to what is mounted below (`rro`, Linux 5.12).
    ReadOnlyBelow,
    /// It may only read the source itself; mounts below keep what they have (Kubernetes' `readOnly`).
    ReadOnlyTop,
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
    /// Whether the container may write.
    pub access: Access,
}

/// What a user asked to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Where it comes from.
    pub source: Source,
    /// In the container, absolute and clean.
    pub destination: String,
    /// How.
    pub options: Options,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A path of the host.
    Host {
        /// The path.
        path: PathBuf,
        /// Whether a missing one is made, a directory (`-v`), or an error (`--mount`).
        create: bool,
    },
    /// A named volume, made when it is not there.
    Named(String),
    /// A new volume without a name.
    Anonymous,
    /// The files of an image.
    Image(String),
    /// Memory.
    Tmpfs,
}

impl Ask {
    /// Refuses options that are not for this kind of source.
    fn checked(self) -> Result<Self> {
        let options = &self.options;
        let volume = matches!(self.source, Source::Named(_) | Source::Anonymous);
        let host = matches!(self.source, Source::Host { .. });
        let propagates = options.propagation().0 != Propagation::Private;
        let wrong = [
            (options.nocopy && !volume, "nocopy is for volumes"),
            (propagates && !host, "a propagation is for paths of the host"),
            (
                options.relabel.is_some() && matches!(self.source, Source::Tmpfs | Source::Image(_)),
                "z and Z are for paths of the host and volumes",
            ),
            (options.chown && matches!(self.source, Source::Image(_)), "U is not for images"),
            (!options.data.is_empty() && self.source != Source::Tmpfs, "a size and a mode are for a tmpfs"),
            (
                options.subpath.is_some() && !(volume || matches!(self.source, Source::Image(_))),
                "a path below the source is for volumes and images",
            ),
            (options.subpath.is_some() && self.source == Source::Anonymous, "a new volume has no paths below it"),
        ];
        if let Some((_, why)) = wrong.into_iter().find(|(wrong, _)| *wrong) {
            return Err(Fault::invalid(why));
        }
        if host {
            options.bind_words()?;
        }
        Ok(self)
    }
}

/// One mount, ready for the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In the container, absolute and clean.
    pub destination: String,
    /// `bind` or `tmpfs`.
    pub kind: String,
    /// On the host; `tmpfs` for one.
    pub source: PathBuf,
    /// Option words.
    pub options: Vec<String>,
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

/// Where the kernel's own files of a container come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFiles {
    /// Mounted for it.
    Own,
    /// The host's `/sys`, bound: its user namespace may not mount one.
    OfTheHost,
}

/// What decides the mounts of the kernel's file systems.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    /// Where `/sys` comes from.
    pub files: KernelFiles,
    /// The ids of its user namespace.
    pub ids: Option<&'a IdMap>,
}

/// Resolves `.`, `..` and doubled slashes of a path in a container by their letters.
pub fn clean(text: &str) -> String {
    clean_absolute(text)
}

/// Cleans the destination of a mount.
///
/// *Errors:* `InvalidArgument` for a relative one, one with `..`, `/`, `/dev` itself, and `/proc` and `/sys` with all below: the runtime's
/// masks lie there (CVE-2019-16884, CVE-2023-27561).
pub fn check_destination(text: &str) -> Result<String> {
    let refuse = |why: &str| {
        Err(Fault::invalid(format!("mount destination {:?} {why}", cut(text)))
            .hint("mount it elsewhere: an absolute path of the container, such as /data"))
    };
    if !text.starts_with('/') {
        return refuse("is not an absolute path");
    }
    if text.split('/').any(|part| part == "..") {
        return refuse("contains ..");
    }
    // The runtime repeats it in its messages, on our caller's terminal.
    if text.chars().any(char::is_control) {
        return refuse("has a control character");
    }
    let clean = clean_absolute(text);
    if is_too_long(&clean) {
        return refuse("is too long for the kernel");
    }
    let top = clean[1..].split('/').next().unwrap_or("");
    match top {
        "" => refuse("is the root of the container"),
        "proc" | "sys" => refuse("is a kernel file system of the container"),
        "dev" if clean == "/dev" => refuse("is the device directory of the container"),
        _ => Ok(clean),
    }
}

/// Lists all mounts: the kernel's first, then ours and the user's, parents before children.
///
/// A user's entry takes the place of a default one (`/dev/shm`, `/etc/hosts`). *Errors:* `InvalidArgument` when two entries have one destination.
pub fn all(kernel: Kernel<'_>, shm: &Shm, binds: &[Bind], entries: &[Entry]) -> Result<Vec<Mount>> {
    let mut taken = BTreeSet::new();
    for entry in entries {
        if !taken.insert(entry.destination.as_str()) {
            return Err(Fault::invalid(format!("two mounts have the destination {}", entry.destination)));
        }
    }
    let mut later: Vec<(&str, Mount)> = Vec::new();
    for bind in binds.iter().filter(|bind| !taken.contains(bind.destination.as_str())) {
        later.push((&bind.destination, bind_mount(&bind.source, &bind.destination, bind.access)?));
    }
    for entry in entries {
        let words: Vec<&str> = entry.options.iter().map(String::as_str).collect();
        later.push((&entry.destination, mount(&entry.destination, &entry.kind, text(&entry.source)?, &words)?));
    }
    later.sort_by_key(|(destination, _)| destination.matches('/').count());
    let mut mounts = kernel_mounts(kernel, shm)?;
    mounts.retain(|mount| !mount.destination().to_str().is_some_and(|path| later.iter().any(|(taken, _)| *taken == path)));
    mounts.extend(later.into_iter().map(|(_, mount)| mount));
    Ok(mounts)
}

/// What the root of the container must propagate for these entries; `None` is the runtime's default. *Source:* Docker, `rootfsPropagation`.
pub fn root_propagation(entries: &[Entry]) -> Option<String> {
    let has = |words: [&str; 2]| entries.iter().any(|entry| entry.options.iter().any(|word| words.contains(&word.as_str())));
    match (has(["rshared", "shared"]), has(["rslave", "slave"])) {
        (true, _) => Some("shared".to_owned()),
        (false, true) => Some("rslave".to_owned()),
        (false, false) => None,
    }
}

fn kernel_mounts(kernel: Kernel<'_>, shm: &Shm) -> Result<Vec<Mount>> {
    let mut terminals = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    // The group of terminals, where the user namespace has it.
    if kernel.ids.is_none_or(|map| map.outside(5).is_some()) {
        terminals.push("gid=5");
    }
    let sys = match kernel.files {
        KernelFiles::Own => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
        KernelFiles::OfTheHost => mount("/sys", "bind", "/sys", &["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"])?,
    };
    let mut mounts = vec![
        proc()?,
        dev()?,
        mount("/dev/pts", "devpts", "devpts", &terminals)?,
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])?,
    ];
    mounts.push(match shm {
        Shm::Private { size_kib } => {
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &format!("size={size_kib}k")])?
        }
        Shm::Shared(path) => mount("/dev/shm", "bind", text(path)?, &["bind", "rprivate", "nosuid", "noexec", "nodev"])?,
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
    let access = if access == Access::ReadWrite { ["rw"].as_slice() } else { &["ro", "rro"] };
    let options = [["rbind", "rprivate"].as_slice(), access].concat();
    mount(destination, "bind", text(source)?, &options)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Fault::invalid(format!("mount source {} is not UTF-8, which config.json needs", path.display())))
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
    fn mounts_are_ordered_by_depth_and_a_users_takes_the_place_of_a_default() {
        let bind = |destination: &str| Bind { source: "/x".into(), destination: destination.to_owned(), access: Access::ReadWrite };
        let entry = |destination: &str, option: &str| Entry {
            destination: destination.to_owned(),
            kind: "bind".to_owned(),
            source: "/y".into(),
            options: vec![option.to_owned()],
        };
        let shm = Shm::Private { size_kib: 65536 };
        let asked = [entry("/etc/a/b", "rbind"), entry("/etc", "rbind"), entry("/dev/shm", "rslave"), entry("/etc/hosts", "rbind")];
        let kernel = Kernel { files: KernelFiles::Own, ids: None };
        let mounts = all(kernel, &shm, &[bind("/etc/hosts"), bind("/etc/hostname")], &asked).unwrap();
        let places: Vec<_> = mounts.iter().map(|mount| mount.destination().display().to_string()).collect();
        let of_kernel = ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup"];
        assert_eq!(places, [of_kernel.as_slice(), &["/etc", "/etc/hostname", "/dev/shm", "/etc/hosts", "/etc/a/b"]].concat());
        assert_eq!(mounts[9].source().as_deref(), Some(Path::new("/y")));
        assert!(all(kernel, &shm, &[], &[entry("/a", ""), entry("/a", "")]).is_err());
        assert_eq!(root_propagation(&asked).as_deref(), Some("rslave"));
        assert_eq!(root_propagation(&[entry("/a", "rslave"), entry("/b", "rshared")]).as_deref(), Some("shared"));
        assert_eq!(root_propagation(&asked[..2]), None);
    }
}
