//! Devices of the host, looked at.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::file;
use crate::fault::{Fault, Result};

/// A device node of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where.
    pub path: PathBuf,
    /// Whether it is a block device.
    pub block: bool,
    /// Major and minor number.
    pub number: (i64, i64),
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
}

/// The device at `path`, or all devices below it when it is a directory; a link is followed.
///
/// *Errors:* `NotFound`; `InvalidArgument` when it is something else, or a directory without devices.
pub fn find(path: &Path) -> Result<Vec<Node>> {
    let Some(real) = file::find_real_path(path)? else {
        return Err(Fault::not_found(format!("device {} is not there", path.display())).hint("mend the path, or load the driver"));
    };
    let mut found = Vec::new();
    let mut waiting = vec![(real, path.to_path_buf())];
    while let Some((at, name)) = waiting.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&at) else { continue };
        let kind = meta.file_type();
        if kind.is_dir() {
            let names = file::list(&at)?;
            waiting.extend(names.iter().rev().map(|child| (at.join(child), name.join(child))));
        } else if kind.is_block_device() || kind.is_char_device() {
            let number = (i64::from(nix::sys::stat::major(meta.rdev()) as u32), i64::from(nix::sys::stat::minor(meta.rdev()) as u32));
            found.push(Node {
                path: name,
                block: kind.is_block_device(),
                number,
                mode: meta.mode() & 0o777,
                owner: (meta.uid(), meta.gid()),
            });
        }
    }
    if found.is_empty() {
        return Err(Fault::invalid(format!("{} is not a device", path.display())).hint("bind files and directories with --volume"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    #[test]
    fn devices_are_found_and_nothing_else() {
        let null = find(Path::new("/dev/null")).unwrap();
        assert_eq!((null.len(), null[0].number, null[0].block), (1, (1, 3), false));
        assert_eq!(find(Path::new("/etc/passwd")).unwrap_err().kind(), Kind::InvalidArgument);
        assert_eq!(find(Path::new("/dev/none")).unwrap_err().kind(), Kind::NotFound);
        assert!(find(Path::new("/dev")).unwrap().iter().any(|node| node.path == Path::new("/dev/zero")));
    }
}
