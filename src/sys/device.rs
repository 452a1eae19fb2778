//! Device nodes of the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{major, minor};

use super::file;
use crate::bundle::devices::Node;
use crate::fault::{Context as _, Fault, Result, kind_of_errno};

/// Directories of `/dev` that are file systems of their own, and files that a container has from elsewhere.
const NOT_OF_HOST: [&str; 9] = ["pts", "shm", "mqueue", "hugepages", "console", "fd", "stdin", "stdout", "stderr"];

/// Finds the device at `source`, or those below it, each with its place below `destination`; links are followed at `source` only.
///
/// *Errors:* `NotFound` when nothing is there; empty when it is neither a device nor a directory.
pub fn find(source: &Path, destination: &str) -> Result<Vec<(String, Node)>> {
    let failed = |error: std::io::Error| Fault::from_error(kind_of_errno(Errno::from_raw(error.raw_os_error().unwrap_or(0))), error);
    let meta = fs::metadata(source).map_err(failed).doing(|| format!("stat {}", source.display()))?;
    if meta.is_dir() {
        let mut found = Vec::new();
        collect(source, destination, &mut found, 8)?;
        return Ok(found);
    }
    Ok(node(&meta).map(|node| (destination.to_owned(), node)).into_iter().collect())
}

/// Every device of the host below `dir` (`/dev`).
pub fn below(dir: &Path) -> Result<Vec<(String, Node)>> {
    find(dir, &dir.to_string_lossy())
}

fn node(meta: &fs::Metadata) -> Option<Node> {
    let kind = meta.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return None;
    }
    let (major, minor) = (major(meta.rdev()), minor(meta.rdev()));
    Some(Node { block: kind.is_block_device(), major, minor, mode: meta.mode(), uid: meta.uid(), gid: meta.gid() })
}

fn collect(dir: &Path, destination: &str, found: &mut Vec<(String, Node)>, depth: usize) -> Result<()> {
    for name in file::list(dir)? {
        if NOT_OF_HOST.contains(&name.as_str()) || name.chars().any(char::is_control) {
            continue;
        }
        let (path, inside) = (dir.join(&name), format!("{}/{name}", destination.trim_end_matches('/')));
        // It may go while we look: devices come and go.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() && depth > 0 {
            collect(&path, &inside, found, depth - 1)?;
        } else if let Some(node) = node(&meta) {
            found.push((inside, node));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_and_a_directory_of_them_are_found() {
        let null = find(Path::new("/dev/null"), "/dev/x").unwrap();
        assert_eq!((null[0].0.as_str(), null[0].1.major, null[0].1.minor, null[0].1.block), ("/dev/x", 1, 3, false));
        let all = below(Path::new("/dev")).unwrap();
        assert!(all.iter().any(|(path, _)| path == "/dev/null") && !all.iter().any(|(path, _)| path.starts_with("/dev/pts")));
        assert!(find(Path::new("/etc/passwd"), "/dev/x").unwrap().is_empty());
        assert!(find(Path::new("/dev/nothing"), "/dev/x").is_err());
    }
}
