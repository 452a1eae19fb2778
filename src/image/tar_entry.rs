//! What a tar entry means for a layer: something to make, something to hide, or nothing.

use crate::fault::{Fault, Kind};

use super::tar_path::TarPath;

/// Why a tar was not read further.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream below failed (a broken gzip member, a short blob).
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// The tar breaks its grammar.
    #[error("tar at byte {at}: {why}")]
    Malformed {
        /// Where, in bytes from the start of the tar.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// An entry is well formed and is not accepted.
    #[error("tar entry {path}: {why}")]
    Refused {
        /// The entry, escaped.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A bound was passed.
    #[error("{what}: more than {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
}

impl From<TarError> for Fault {
    fn from(error: TarError) -> Fault {
        let kind = match &error {
            TarError::Read(_) => Kind::DataLoss,
            TarError::Malformed { .. } | TarError::Refused { .. } => Kind::InvalidArgument,
            TarError::Limit { .. } => Kind::ResourceExhausted,
        };
        Fault::from_error(kind, error)
    }
}

/// A point in time; `nanos` is added to `seconds`, also before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

/// Owner, mode, time and extended attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Owner, at most 2^32 - 2.
    pub uid: u32,
    /// Group, at most 2^32 - 2.
    pub gid: u32,
    /// Modification time.
    pub mtime: Moment,
    /// Only names that [`keeps_xattr`] keeps.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What kind of thing an entry makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its content follows in the reader.
    File,
    /// A directory; the only kind that the root can be.
    Directory,
    /// A symbolic link to any text of 1 to 4095 bytes.
    Symlink(Vec<u8>),
    /// Another name of a file of the tree.
    Hardlink(TarPath),
    /// A character device, never 0:0.
    CharDevice(u64, u64),
    /// A block device.
    BlockDevice(u64, u64),
    /// A FIFO.
    Fifo,
}

/// Something to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: TarPath,
    /// What.
    pub kind: EntryKind,
    /// How.
    pub attributes: Attributes,
    /// Bytes of content; 0 but for files.
    pub size: u64,
}

/// What an entry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Make it.
    Make(Entry),
    /// Hide what lower layers have at this path.
    Whiteout(TarPath),
    /// Hide what lower layers have in this directory.
    Opaque(TarPath),
    /// AUFS metadata: nothing.
    Ignore,
}

/// Judges a whole entry: whiteouts by their names, combinations that cannot be made.
///
/// *Source:* image-spec "layer.md", sections Whiteouts and Opaque Whiteout.
pub fn judge(entry: Entry) -> Result<Verdict, TarError> {
    let refuse = |why: &str| Err(TarError::Refused { path: entry.path.to_string(), why: why.to_owned() });
    let Some((parent, name)) = entry.path.split_last() else {
        return match entry.kind {
            EntryKind::Directory => Ok(Verdict::Make(entry)),
            _ => refuse("the root of a layer can only be a directory"),
        };
    };
    if parent.components().any(|above| above.starts_with(b".wh..wh.")) {
        return Ok(Verdict::Ignore);
    }
    if parent.components().any(|above| above.starts_with(b".wh.")) {
        return refuse("a whiteout cannot be a directory");
    }
    if let Some(hidden) = name.strip_prefix(b".wh.") {
        return match hidden {
            b".wh..opq" => Ok(Verdict::Opaque(parent)),
            b"" | b"." | b".." => refuse("the whiteout names nothing"),
            metadata if metadata.starts_with(b".wh.") => Ok(Verdict::Ignore),
            hidden => Ok(Verdict::Whiteout(parent.join(hidden))),
        };
    }
    match &entry.kind {
        EntryKind::CharDevice(0, 0) => refuse("character device 0:0 is overlayfs's whiteout and cannot be in a layer"),
        EntryKind::Symlink(target) if target.is_empty() => refuse("the symbolic link has no target"),
        EntryKind::Symlink(target) if target.len() > 4095 => refuse("the target of the symbolic link is longer than 4095 bytes"),
        EntryKind::Symlink(target) if target.contains(&0) => refuse("the target of the symbolic link contains a NUL byte"),
        EntryKind::Hardlink(target) if target.is_root() => refuse("a hard link cannot point to the root"),
        EntryKind::Hardlink(target) if target.components().any(|part| part.starts_with(b".wh.")) => {
            refuse("a hard link cannot point to a whiteout")
        }
        _ => Ok(Verdict::Make(entry)),
    }
}

/// Whether an extended attribute of a layer is applied: file capabilities and `user.*`, except overlayfs's own.
///
/// Dropped are `trusted.*` (overlayfs obeys `trusted.overlay.*`), labels and signatures of the host's security modules
/// (`security.selinux`, `security.ima`, `security.evm`), and `system.*`.
pub fn keeps_xattr(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && name.len() > 5 && !name.starts_with(b"user.overlay."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: TarPath::parse(path.as_bytes()).unwrap(), kind, attributes: Attributes::default(), size: 0 }
    }

    #[test]
    fn whiteouts_are_known_by_their_names() {
        let path = |raw: &str| TarPath::parse(raw.as_bytes()).unwrap();
        let verdict = |raw: &str| judge(entry(raw, EntryKind::File));
        assert_eq!(verdict("a/.wh.b").unwrap(), Verdict::Whiteout(path("a/b")));
        assert_eq!(verdict(".wh.b").unwrap(), Verdict::Whiteout(path("b")));
        assert_eq!(verdict("a/.wh..wh..opq").unwrap(), Verdict::Opaque(path("a")));
        assert_eq!(verdict(".wh..wh..opq").unwrap(), Verdict::Opaque(TarPath::root()));
        assert_eq!(verdict(".wh..wh.aufs").unwrap(), Verdict::Ignore);
        assert_eq!(verdict(".wh..wh.plnk/1.2").unwrap(), Verdict::Ignore);
        assert_eq!(verdict(".wh..hidden").unwrap(), Verdict::Whiteout(path(".hidden")));
        for raw in [".wh.", "a/.wh.", ".wh..", ".wh...", "a/.wh.b/c"] {
            assert!(verdict(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let long = vec![b'a'; 4096];
        for (path, kind) in [
            (".", EntryKind::Symlink(b"/tmp".to_vec())),
            (".", EntryKind::File),
            ("c", EntryKind::CharDevice(0, 0)),
            ("l", EntryKind::Symlink(Vec::new())),
            ("l", EntryKind::Symlink(long)),
            ("l", EntryKind::Hardlink(TarPath::root())),
            ("l", EntryKind::Hardlink(TarPath::parse(b".wh.a").unwrap())),
        ] {
            assert!(judge(entry(path, kind.clone())).is_err(), "{path} {kind:?}");
        }
        assert!(matches!(judge(entry(".", EntryKind::Directory)), Ok(Verdict::Make(_))));
    }

    #[test]
    fn xattrs_that_steer_the_host_are_dropped() {
        for name in
            ["trusted.overlay.opaque", "user.overlay.opaque", "trusted.x", "security.selinux", "security.ima", "security.evm", "user."]
        {
            assert!(!keeps_xattr(name.as_bytes()), "{name}");
        }
        assert!(keeps_xattr(b"security.capability"));
        assert!(keeps_xattr(b"user.mime_type"));
    }
}
