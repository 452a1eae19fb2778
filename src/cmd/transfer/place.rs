//! Where a path is: on the host or in a container, which is entered through a descriptor.

use std::path::{Path, PathBuf};

use super::former::{self, Former};
use crate::bundle::mounts;
use crate::cmd::{Context, records};
use crate::fault::{Fault, Kind, Result};
use crate::idmap::IdMap;
use crate::record::{ContainerRecord, MountFrom};
use crate::sys::Host;
use crate::sys::transfer::{Found, Root};

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A tar stream.
    Stream,
    /// On the host, absolute.
    Host(PathBuf),
    /// In a container.
    Container(String, PathBuf),
}

/// Reads one end. *Source:* docker cp: what has a `:` before any `/` and does not begin with `.` names a container.
pub fn parse(text: &str) -> Result<End> {
    if text == "-" {
        return Ok(End::Stream);
    }
    if let Some((key, path)) = text.split_once(':').filter(|(key, _)| !key.is_empty() && !key.contains('/') && !key.starts_with('.')) {
        if path.is_empty() || path.contains('\0') {
            return Err(Fault::invalid(format!("{text:?} has no path in the container")).hint("the form is CONTAINER:PATH"));
        }
        // Relative paths start at the root, as for Docker.
        return Ok(End::Container(key.to_owned(), Path::new("/").join(path)));
    }
    let path = std::path::absolute(text).map_err(|error| Fault::invalid(format!("{text:?}: {error}")))?;
    // `absolute` drops the dot that says "what is in it".
    let contents = text.ends_with("/.") || text == ".";
    Ok(End::Host(if contents { path.join(".") } else { path }))
}

/// A place that is open: what is found in it is found from here, whatever becomes of its name.
#[derive(Debug)]
pub struct Place {
    root: Root,
    /// The path in the root.
    pub path: PathBuf,
    /// Whether it is in a container.
    pub inside: bool,
    map: Option<IdMap>,
    /// Its mounts, where they are for this command alone.
    former: Option<Former>,
}

impl Place {
    /// Opens a place of the host.
    pub fn on_host(path: &Path) -> Result<Self> {
        Ok(Place { root: Root::of_path(Path::new("/"))?, path: path.to_path_buf(), inside: false, map: None, former: None })
    }

    /// Opens the container's root: that of its process, or, when it does not run, what is mounted for it. `beside` is the other end of the
    /// copy, when that is open already.
    pub fn in_container(cx: &Context, key: &str, path: &Path, beside: Option<&Place>) -> Result<Self> {
        let id = records::find(&cx.host, records::BoxKind::Container, key)?;
        let record = records::container(&cx.host, &id)?;
        if let Some(pid) = records::running_pid(&record.runtime, &record.boot_id, &id)? {
            let root = Root::of_process(pid)?;
            // Asked again once it is open: the number may have been given to another process in between.
            if records::running_pid(&record.runtime, &record.boot_id, &id)? == Some(pid) {
                return Ok(Place { root, path: path.to_path_buf(), inside: true, map: map_of(&record), former: None });
            }
        }
        Self::of_stopped(&cx.host, &record, path, beside.and_then(|place| place.former.as_ref()))
    }

    fn of_stopped(host: &Host, record: &ContainerRecord, path: &Path, beside: Option<&Former>) -> Result<Self> {
        let clean = mounts::clean(&path.to_string_lossy());
        let mounted = record.mounts.iter().enumerate().filter(|(_, mount)| Path::new(&clean).starts_with(&mount.destination));
        let Some((nth, mount)) = mounted.max_by_key(|(_, mount)| mount.destination.len()) else {
            let former = former::mount_for_now(host, record, None, beside)?;
            let root = Root::of_path(&record.bundle.join("rootfs"))?;
            return Ok(Place { root, path: PathBuf::from(clean), inside: true, map: map_of(record), former });
        };
        if matches!(mount.from, MountFrom::Tmpfs) {
            return Err(Fault::new(
                Kind::FailedPrecondition,
                format!("{} is in memory, and the container does not run", mount.destination),
            )
            .hint("start it first"));
        }
        let below = Path::new(&clean).strip_prefix(&mount.destination).unwrap_or(Path::new(""));
        let former = former::mount_for_now(host, record, Some(nth), beside)?;
        let root = Root::of_path(&mount.source)?;
        Ok(Place { root, path: Path::new("/").join(below), inside: true, map: map_of(record), former })
    }

    /// The ids of the container that it is in.
    pub fn map(&self) -> Option<&IdMap> {
        self.map.as_ref()
    }

    /// What is at the place.
    pub fn find(&self, follow: bool) -> Result<Option<Found>> {
        self.root.find(&self.path, follow)
    }

    /// What is at another path of the same root.
    pub fn find_at(&self, path: &Path) -> Result<Option<Found>> {
        self.root.find(path, true)
    }
}

fn map_of(record: &ContainerRecord) -> Option<IdMap> {
    record.userns.as_ref().map(|userns| userns.map.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart_as_docker_tells_them() {
        assert_eq!(parse("-").unwrap(), End::Stream);
        assert_eq!(parse("web:etc/passwd").unwrap(), End::Container("web".to_owned(), "/etc/passwd".into()));
        assert_eq!(parse("web:/srv/.").unwrap(), End::Container("web".to_owned(), "/srv/.".into()));
        for local in ["/a:b", "./a:b", "../a:b"] {
            assert!(matches!(parse(local).unwrap(), End::Host(_)), "{local}");
        }
        assert!(matches!(parse("/srv/.").unwrap(), End::Host(path) if path.as_os_str() == "/srv/."));
        assert!(parse("web:").is_err());
    }
}
