//! The cgroup directories below one parent, in every v1 hierarchy and in v2.

use std::fs;
use std::path::{Path, PathBuf};

/// The directories below `parent` (itself left out), as `<hierarchy>:<path below the parent>`.
pub fn below(parent: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, mount) in hierarchies() {
        let top = mount.join(parent.trim_start_matches('/'));
        for dir in tree(&top) {
            found.push(format!("{name}:{}", dir.strip_prefix(&top).unwrap().display()));
        }
    }
    found
}

/// Removes `parent` and all below it; they must be empty of processes.
pub fn remove(parent: &str) {
    for (_, mount) in hierarchies() {
        let top = mount.join(parent.trim_start_matches('/'));
        let mut dirs = tree(&top);
        dirs.reverse();
        for dir in dirs.into_iter().chain([top]) {
            if let Err(error) = fs::remove_dir(&dir)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                eprintln!("cannot remove cgroup {}: {error}", dir.display());
            }
        }
    }
}

/// Name and mount point of each hierarchy.
fn hierarchies() -> Vec<(String, PathBuf)> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let cgroup = |line: &str| -> Option<(String, PathBuf)> {
        let (left, right) = line.split_once(" - ")?;
        let mount = Path::new(left.split(' ').nth(4)?).to_path_buf();
        let kind = right.split(' ').next()?;
        (kind == "cgroup" || kind == "cgroup2").then(|| (mount.file_name().unwrap().to_string_lossy().into_owned(), mount))
    };
    mounts.lines().filter_map(cgroup).collect()
}

/// Directories below `top`, parents first.
fn tree(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut ahead = vec![top.to_path_buf()];
    while let Some(dir) = ahead.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        let dirs = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut dirs: Vec<_> = dirs.map(|entry| entry.path()).collect();
        dirs.sort();
        found.extend(dirs.iter().cloned());
        ahead.extend(dirs);
    }
    found
}
