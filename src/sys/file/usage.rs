//! How much room a tree takes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Result, failed};

/// Bytes that the files below `path` take on the disk, each inode once, without leaving its file system; nothing when it is not there.
///
/// What vanishes meanwhile is not counted.
pub fn disk_usage(path: &Path) -> Result<u64> {
    let (mut bytes, mut seen) = (0, BTreeSet::new());
    let top = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed("lstat", path)(error)),
    };
    let mut ahead: Vec<PathBuf> = if top.is_dir() { vec![path.to_path_buf()] } else { Vec::new() };
    bytes += top.blocks() * 512;
    while let Some(dir) = ahead.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("opendir", &dir)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed("readdir", &dir))?;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != top.dev() || (meta.nlink() > 1 && !meta.is_dir() && !seen.insert(meta.ino())) {
                continue;
            }
            bytes += meta.blocks() * 512;
            if meta.is_dir() {
                ahead.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_counts_once_and_a_link_is_not_followed() {
        let world = tempfile::tempdir().unwrap();
        let tree = world.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/file"), vec![1; 40_000]).unwrap();
        let once = disk_usage(&tree).unwrap();
        assert!(once >= 40_000, "{once}");
        fs::hard_link(tree.join("a/file"), tree.join("a/b/same")).unwrap();
        assert_eq!(disk_usage(&tree).unwrap(), once);
        fs::write(world.path().join("outside"), vec![1; 400_000]).unwrap();
        std::os::unix::fs::symlink(world.path(), tree.join("out")).unwrap();
        assert!(disk_usage(&tree).unwrap() < once + 100_000);
        assert_eq!(disk_usage(&world.path().join("none")).unwrap(), 0);
    }
}
