//! The container id under which `cnitool` attaches a namespace, so that both tools see each other's attachments.

use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha512};

use crate::ids::hex;

/// The CNI container id of a namespace that has no other owner.
///
/// *Shape:* `cnitool-` and the first 10 bytes of the SHA-512 of the absolute path, in hex. *Source:* cnitool, `root.go`.
pub fn attachment_id(netns: &Path) -> String {
    let digest = Sha512::digest(netns.as_os_str().as_encoded_bytes());
    format!("cnitool-{}", &hex(&digest)[..20])
}

/// Cleans an absolute path by its text alone: no `.`, no `..`, no doubled `/`.
///
/// *Source:* Go `filepath.Abs`, which cnitool puts its argument through.
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_what_sha512sum_says() {
        // printf /run/netns/web | sha512sum | cut -c1-20
        assert_eq!(attachment_id(Path::new("/run/netns/web")), "cnitool-82e215debf7df4651d36");
    }

    #[test]
    fn paths_are_cleaned_by_text() {
        assert_eq!(clean(Path::new("/run//netns/./a/../web/")), Path::new("/run/netns/web"));
        assert_eq!(clean(Path::new("/..")), Path::new("/"));
    }
}
