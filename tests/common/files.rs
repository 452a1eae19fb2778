//! The files below some directories: type, mode, owner, size, content, link target, extended attributes. No times.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::observation::Fact;

/// Texts up to this many bytes are kept whole, so that a difference can be read and ids in them can be normalised.
const TEXT: u64 = 64 << 10;

/// Everything below `tops`, on their own file systems, but for what is below `hidden`.
pub fn below(tops: &[&str], hidden: &Path) -> Vec<Fact> {
    let mut facts = Vec::new();
    for top in tops {
        let device = fs::symlink_metadata(top).unwrap().dev();
        let mut links = BTreeMap::new();
        let mut ahead = vec![PathBuf::from(top)];
        while let Some(dir) = ahead.pop() {
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            paths.sort();
            for path in paths.into_iter().filter(|path| path != hidden) {
                let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                if meta.dev() != device {
                    facts.push((format!("file {}", path.display()), "another file system".to_owned()));
                    continue;
                }
                let first = links.entry(meta.ino()).or_insert_with(|| path.clone()).clone();
                facts.push((format!("file {}", path.display()), describe(&path, &meta, &first)));
                if meta.is_dir() {
                    ahead.push(path);
                }
            }
        }
    }
    facts
}

fn describe(path: &Path, meta: &Metadata, first: &Path) -> String {
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_symlink() {
        format!("link to {}", fs::read_link(path).unwrap_or_default().display())
    } else if kind.is_file() && first != path {
        format!("same file as {}", first.display())
    } else if kind.is_file() {
        content(path, meta.len())
    } else if kind.is_socket() {
        "socket".to_owned()
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        let number = meta.rdev();
        format!(
            "{} device {}:{}",
            if kind.is_char_device() { "char" } else { "block" },
            nix::sys::stat::major(number),
            nix::sys::stat::minor(number)
        )
    };
    format!("{:04o} {}:{} {what}{}", meta.mode() & 0o7777, meta.uid(), meta.gid(), attributes(path))
}

fn content(path: &Path, size: u64) -> String {
    let mut bytes = Vec::new();
    if File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).is_err() {
        return "unreadable".to_owned();
    }
    match String::from_utf8(bytes) {
        Ok(text) if size <= TEXT && !text.contains('\0') => format!("{text:?}"),
        Ok(text) => hashed(text.as_bytes()),
        Err(other) => hashed(other.as_bytes()),
    }
}

fn hashed(bytes: &[u8]) -> String {
    let digest: String = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes, sha256 {digest}…", bytes.len())
}

/// Extended attributes, by name; `trusted.overlay.*` is what an unpacked layer is made of.
fn attributes(path: &Path) -> String {
    let Ok(output) = xattrs(path) else { return String::new() };
    output.into_iter().map(|(name, value)| format!(" {name}={value}")).collect()
}

#[allow(unsafe_code)]
fn xattrs(path: &Path) -> Result<BTreeMap<String, String>, std::io::Error> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt as _;
    let c_path = CString::new(path.as_os_str().as_bytes())?;
    let mut names = vec![0_u8; 64 * 1024];
    // SAFETY: the path ends in NUL and lives through the call; the buffer is as long as said.
    let length = unsafe { libc::llistxattr(c_path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let length = usize::try_from(length).map_err(|_| std::io::Error::last_os_error())?;
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let c_name = CString::new(name)?;
        let mut value = vec![0_u8; 64 * 1024];
        // SAFETY: both strings end in NUL and live through the call; the buffer is as long as said.
        let size = unsafe { libc::lgetxattr(c_path.as_ptr(), c_name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        let size = usize::try_from(size).map_err(|_| std::io::Error::last_os_error())?;
        found.insert(String::from_utf8_lossy(name).into_owned(), value[..size].escape_ascii().to_string());
    }
    Ok(found)
}
