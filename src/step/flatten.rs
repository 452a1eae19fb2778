//! Unpacks layers into one plain directory.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::layer::{Claim, read_layer};
use crate::script::{Script, quote};
use crate::sys::tree::{self, Form, Place};
use crate::sys::tree_partial::{self, Committed, Partial};
use crate::sys::{Host, file, rootfs};

use super::blob::BlobSource;
use super::layer::{TAR, check_in_shell, inflate_in_shell, token, within_room};
use super::{Action, Undone, Way};

/// One layer to unpack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerBlob {
    /// Where the blob is.
    pub source: super::blob::BlobSource,
    /// Its media type in the manifest; empty when unknown (then its first bytes decide how it is compressed).
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
}

/// Unpacks layers into one plain directory.
///
/// *Shape:* the tree that `umoci unpack` gives: whiteouts are carried out and nothing of rkbox's is in it. It is made in
/// `PATH.partial-PID-N`, flushed and renamed. Which directory is ours is written to `RUN/marks/flatten-WORD` (device and
/// inode) before the rename, so that the undo never takes a directory of somebody else. *Errors:* as those of
/// [`super::Layer`]; `AlreadyExists` when anything is at `path`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flatten {
    /// The layers, lowest first.
    pub layers: Vec<LayerBlob>,
    /// The directory, new.
    pub path: PathBuf,
    /// Whether a runtime is going to mount on it as it is: then a tree whose mount points are not real is refused.
    #[serde(default)]
    pub mounted_on: bool,
}

/// What stood there before a [`Flatten`]: nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FlattenBefore {
    /// Names the mark of the directory that the step makes.
    pub made_by: String,
}

impl fmt::Display for Flatten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unpack a plain root file system into {path}", path = self.path.display())
    }
}

impl LayerBlob {
    fn claim(&self) -> Claim<'_> {
        Claim { media_type: &self.media_type, digest: &self.digest, size: self.size, diff_id: &self.diff_id }
    }

    fn unpack(&self, root: &Path, host: &Host) -> Result<()> {
        let blob: Box<dyn Read + Send> = match &self.source {
            BlobSource::Span { path, offset } => Box::new(tree::open_blob(path, *offset)?.take(self.size)),
            BlobSource::Text(text) => Box::new(std::io::Cursor::new(text.clone())),
            BlobSource::Registry(_) => return Err(Fault::internal("a layer of a registry must be stored first")),
        };
        let place = Place { root, form: Form::Flat, list: None };
        within_room(root, host.keep_free, |limits| {
            read_layer(blob, &self.claim(), limits, |reader| tree::write_layer(reader, place, Box::new(|| Ok(Vec::new()))))
        })
        .map(drop)
    }

    /// A command that writes the blob to its standard output.
    fn in_shell(&self) -> String {
        match &self.source {
            BlobSource::Span { path, offset: 0 } => format!("head -c {} {}", self.size, quote(&path.to_string_lossy())),
            BlobSource::Span { path, offset } => {
                format!("tail -c +{} {} | head -c {}", offset + 1, quote(&path.to_string_lossy()), self.size)
            }
            BlobSource::Text(text) => format!("printf %s {}", quote(text)),
            // Refused before.
            BlobSource::Registry(_) => "false".to_owned(),
        }
    }
}

fn mark_of(host: &Host, before: &FlattenBefore) -> Option<PathBuf> {
    (!before.made_by.is_empty()).then(|| host.run.join("marks").join(format!("flatten-{}", before.made_by)))
}

fn identity_text(identity: (u64, u64)) -> String {
    format!("{} {}\n", identity.0, identity.1)
}

impl Action for Flatten {
    type Before = FlattenBefore;

    fn look(&self, _: &Host) -> Result<FlattenBefore> {
        if file::exists(&self.path)? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is already there", self.path.display()))
                .hint("remove it, or name another directory"));
        }
        Ok(FlattenBefore { made_by: token() })
    }

    fn apply(&self, before: &FlattenBefore, host: &Host) -> Result<()> {
        let partial = Partial::create(&self.path)?;
        tree::prepare_root(partial.path())?;
        for layer in &self.layers {
            layer.unpack(partial.path(), host).doing(|| format!("unpacking layer {}", layer.diff_id))?;
        }
        if self.mounted_on {
            rootfs::check_mount_points(partial.path())?;
        }
        if let (Some(mark), Some(identity)) = (mark_of(host, before), tree::find_identity(partial.path())?) {
            file::ensure_dir(&host.run.join("marks"), 0o700)?;
            file::write_atomic(&mark, 0o600, identity_text(identity).as_bytes(), file::Durable::No)?;
        }
        match partial.commit()? {
            Committed::Ours => Ok(()),
            Committed::Theirs => Err(Fault::new(Kind::Conflict, format!("{} was taken by something else", self.path.display()))),
        }
    }

    fn undo(&self, before: &FlattenBefore, host: &Host) -> Result<Undone> {
        if let Some(mark) = mark_of(host, before) {
            let marked = file::find(&mark, 4096)?;
            let standing = tree::find_identity(&self.path)?.map(|identity| identity_text(identity).into_bytes());
            if marked.is_some() && marked == standing {
                tree_partial::discard(&self.path)?;
            }
            file::remove_file(&mark)?;
            file::remove_dir_if_empty(&host.run.join("marks"))?;
        }
        tree_partial::remove_dead_of(&self.path)?;
        Ok(Undone::Done)
    }

    fn forget(&self, before: &FlattenBefore, host: &Host) -> Result<()> {
        if let Some(mark) = mark_of(host, before) {
            file::remove_file(&mark)?;
            file::remove_dir_if_empty(&host.run.join("marks"))?;
        }
        Ok(())
    }

    /// Prints `tar` in order, whiteouts first. A whiteout of a directory that the same layer fills again is carried out
    /// before, so that the result is the same; entries under a name that a lower layer has as a file fail.
    fn script(&self, way: Way<'_, FlattenBefore>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        if let Way::Undo(_) = way {
            return out.run(["rm", "-rf", "--", &path]);
        }
        out.raw(&format!("tree={}", quote(&format!("{path}.partial"))));
        out.raw("mkdir -m 0755 \"$tree\" && touch -d @0 \"$tree\"");
        for layer in &self.layers {
            let source = layer.in_shell();
            let inflate = inflate_in_shell(&layer.media_type);
            check_in_shell(&source, &layer.claim(), out);
            out.raw(&format!("{source} | {inflate} | tar --quoting-style=literal -tf - | {HIDE}"));
            out.raw(&format!("{source} | {inflate} | {TAR} --exclude='.wh.*' -xpf - -C \"$tree\""));
        }
        if self.mounted_on {
            out.raw(&rootfs::check_in_shell("$tree"));
        }
        out.raw(&format!("mv -T \"$tree\" {}", quote(&path)));
    }
}

/// Carries out the whiteouts in a list of names.
const HIDE: &str = r#"while IFS= read -r hidden; do
  name=${hidden##*/}
  case $hidden in */*) above=$tree/${hidden%/*} ;; *) above=$tree ;; esac
  case $name in
    .wh..wh..opq) [ ! -d "$above" ] || find "$above" -mindepth 1 -maxdepth 1 -exec rm -rf {} + ;;
    .wh..wh.*) ;;
    .wh.*) rm -rf -- "$above/${name#.wh.}" ;;
  esac
done"#;
