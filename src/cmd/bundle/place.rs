//! Where a bundle is, told in one way only, and the name of its journal.

use std::path::{Path, PathBuf};

use crate::fault::{Fault, Result};
use crate::image::Digest;
use crate::sys::file;

/// The path of a bundle, absolute, its directory without symlinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bundle.
    pub path: PathBuf,
    /// `bundle-` and 16 hex digits.
    pub id: String,
}

/// Places `out`, as a user wrote it.
///
/// *Errors:* `InvalidArgument` for what cannot be a new name, or is no text: it goes into JSON and scripts; `NotFound` for a missing parent.
pub fn place(out: &Path) -> Result<Place> {
    let shown = out.display().to_string();
    let text = out.to_str().filter(|text| !text.chars().any(char::is_control));
    let named = text.filter(|text| !matches!(text.rsplit('/').find(|part| !part.is_empty()), None | Some("." | "..")));
    let (Some(_), Some(name)) = (named, out.file_name()) else {
        return Err(Fault::invalid(format!("{shown:?} cannot be the name of a bundle")).hint("name a new directory"));
    };
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let missing = || {
        Fault::not_found(format!("directory {} is not there", parent.display()))
            .hint(format!("make it first: mkdir -p {}", crate::script::quote(&parent.to_string_lossy())))
    };
    let real = file::find_real_path(parent)?.filter(|real| file::is_dir(real).unwrap_or(false)).ok_or_else(missing)?;
    let path = real.join(name);
    let text = path.to_str().ok_or_else(|| Fault::invalid(format!("{shown:?} is in a directory whose name is no text")))?;
    let id = format!("bundle-{}", &Digest::of(text.as_bytes()).hex()[..16]);
    Ok(Place { path, id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    #[test]
    fn one_bundle_has_one_name() {
        let world = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(world.path()).unwrap();
        std::fs::create_dir(real.join("a")).unwrap();
        std::os::unix::fs::symlink("a", real.join("b")).unwrap();
        let plain = place(&real.join("a/out")).unwrap();
        assert_eq!(plain.path, real.join("a/out"));
        assert_eq!(plain.id.len(), 7 + 16);
        for other in ["b/out", "a/../a/out/", "a/./out"] {
            assert_eq!(place(&real.join(other)).unwrap(), plain, "{other}");
        }
        assert_ne!(place(&real.join("a/other")).unwrap().id, plain.id);
    }

    #[test]
    fn what_cannot_be_a_new_directory_is_refused() {
        for bad in ["", "/", ".", "..", "a/..", "/tmp/.", "a\nb"] {
            assert_eq!(place(Path::new(bad)).unwrap_err().kind(), Kind::InvalidArgument, "{bad:?}");
        }
        let missing = place(Path::new("/nonexistent/x/out")).unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
        assert_eq!(missing.hints(), ["make it first: mkdir -p /nonexistent/x"]);
        assert_eq!(place(Path::new("/dev/null/out")).unwrap_err().kind(), Kind::NotFound);
    }
}
