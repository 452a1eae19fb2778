//! The name of a tar entry, normalised once: no `.`, no `..`, no leading or doubled slash.

use std::fmt;

use super::tar_entry::TarError;

/// The longest name of an entry, in bytes: 4096 components of one letter.
const MAX_PATH: usize = 8192;
/// The longest component that a file system takes.
const MAX_COMPONENT: usize = 255;

/// A path below the root of a layer.
///
/// *Shape:* `./usr//lib/` and `/usr/lib` are both `usr/lib`; the root is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TarPath(Vec<u8>);

impl TarPath {
    /// The root of the layer.
    pub fn root() -> Self {
        TarPath(Vec::new())
    }

    /// Reads the name of an entry or the target of a hard link.
    ///
    /// *Errors:* `..`, NUL, a component over 255 bytes, more than 8 KiB in all. *Source:* RELIABILITY 4.1.
    pub fn parse(raw: &[u8]) -> Result<Self, TarError> {
        let refuse = |why: &str| TarError::Refused { path: raw.get(..200).unwrap_or(raw).escape_ascii().to_string(), why: why.to_owned() };
        if raw.len() > MAX_PATH {
            return Err(refuse("the path is longer than 8192 bytes"));
        }
        if raw.contains(&0) {
            return Err(refuse("the path contains a NUL byte"));
        }
        let mut path = Vec::with_capacity(raw.len());
        for component in raw.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(refuse("the path contains ..")),
                long if long.len() > MAX_COMPONENT => return Err(refuse("a component of the path is longer than 255 bytes")),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        Ok(TarPath(path))
    }

    /// Takes the bytes of a path that [`Self::as_bytes`] gave.
    pub fn from_normal(bytes: Vec<u8>) -> Self {
        TarPath(bytes)
    }

    /// Whether this is the root of the layer.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// The number of components.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// The directory and the name in it; `None` for the root.
    pub fn split_last(&self) -> Option<(TarPath, &[u8])> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|&byte| byte == b'/');
        Some(slash.map_or((TarPath::root(), &self.0[..]), |at| (TarPath(self.0[..at].to_vec()), &self.0[at + 1..])))
    }

    /// The directory of this path; the root's is the root.
    pub fn parent(&self) -> TarPath {
        self.split_last().map_or_else(TarPath::root, |(parent, _)| parent)
    }

    /// The path of `name` in this directory; `name` is one component.
    pub fn join(&self, name: &[u8]) -> TarPath {
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        TarPath(path)
    }

    /// Whether this is `above` or lies below it.
    pub fn is_within(&self, above: &TarPath) -> bool {
        above.is_root() || self.0.strip_prefix(above.0.as_slice()).is_some_and(|rest| rest.first().is_none_or(|&byte| byte == b'/'))
    }
}

impl fmt::Display for TarPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("/") } else { write!(f, "{}", self.0.escape_ascii()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for raw in ["usr/lib", "/usr/lib", "./usr//lib/", "//./usr/./lib"] {
            assert_eq!(TarPath::parse(raw.as_bytes()).unwrap().as_bytes(), b"usr/lib", "{raw}");
        }
        for raw in ["", ".", "./", "/", "//"] {
            assert!(TarPath::parse(raw.as_bytes()).unwrap().is_root(), "{raw}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(256);
        let longer = "a/".repeat(4097);
        for raw in ["..", "a/../b", "../../etc/passwd", "a\0b", &long, &longer] {
            assert!(TarPath::parse(raw.as_bytes()).is_err(), "{raw:?}");
        }
        assert_eq!(TarPath::parse("a/".repeat(4096).as_bytes()).unwrap().depth(), 4096);
    }

    #[test]
    fn a_path_is_within_its_directories_only() {
        let path = TarPath::parse(b"usr/lib/x").unwrap();
        assert!(path.is_within(&TarPath::root()));
        assert!(path.is_within(&TarPath::parse(b"usr/lib").unwrap()));
        assert!(path.is_within(&path));
        assert!(!path.is_within(&TarPath::parse(b"usr/li").unwrap()));
        let (parent, name) = path.split_last().unwrap();
        assert_eq!((parent.as_bytes(), name), (&b"usr/lib"[..], &b"x"[..]));
        assert_eq!(parent.join(name), path);
    }
}
