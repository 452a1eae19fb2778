//! Copies one blob into the image store, verified.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::Result;
use crate::image::Digest;
use crate::script::{Script, quote};
use crate::sys::archive::Span;
use crate::sys::{Host, file, store};

/// Where the bytes of a blob come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlobSource {
    /// A span of a file: the file itself, or a member of an archive.
    Span {
        /// The file.
        path: PathBuf,
        /// Where the bytes start.
        offset: u64,
    },
    /// Bytes made by rkbox (a manifest for a docker-archive).
    Text(String),
}

/// Copies one blob into the image store, verified.
///
/// The digest is the mark: whoever made it, a blob that an index entry leads to is never taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Blob {
    /// The OCI layout of the store.
    pub store: PathBuf,
    /// `sha256:HEX`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Where the bytes come from.
    pub source: BlobSource,
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store blob {}", self.digest)
    }
}

/// What stood in the blob's place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Before {
    /// The size of the file; `None` when there was none.
    pub size: Option<u64>,
    /// Whether that is the whole blob; a torn one is written again.
    pub whole: bool,
}

impl Blob {
    fn digest(&self) -> Result<Digest> {
        self.digest.parse()
    }
}

impl Action for Blob {
    type Before = Before;

    fn look(&self, _host: &Host) -> Result<Before> {
        let size = store::find_blob_size(&self.digest()?.blob(&self.store))?;
        Ok(Before { size, whole: size == Some(self.size) })
    }

    fn already(&self, before: &Before) -> bool {
        before.whole
    }

    fn apply(&self, _before: &Before, _host: &Host) -> Result<()> {
        let digest = self.digest()?;
        match &self.source {
            BlobSource::Text(text) => store::write_blob(&self.store, &digest, self.size, &mut text.as_bytes()),
            BlobSource::Span { path, offset } => {
                let span = Span { path: path.clone(), offset: *offset, size: self.size };
                store::write_blob(&self.store, &digest, self.size, &mut span.reader()?)
            }
        }
    }

    /// Also right when another load came to need the blob: then an index entry leads to it, or that load's tag finds it gone and plans
    /// again.
    fn undo(&self, before: &Before, _host: &Host) -> Result<Undone> {
        let digest = self.digest()?;
        store::remove_partials(&self.store, Some(&digest))?;
        let path = digest.blob(&self.store);
        if before.size.is_some() || !file::exists(&path)? {
            return Ok(Undone::Done);
        }
        let Some(_held) = store::lock_index(&self.store)? else { return Ok(Undone::Done) };
        if let Some(index) = store::find_index(&self.store)?
            && store::Reach::of(&self.store, &index)?.blobs.contains(&digest)
        {
            return Ok(Undone::Kept);
        }
        if file::remove_file(&path)? {
            file::sync_parent(&path)?;
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, Before>, out: &mut Script) {
        let Ok(digest) = self.digest() else { return out.comment("the digest is not valid") };
        let path = digest.blob(&self.store).to_string_lossy().into_owned();
        let partial = format!("{path}.partial");
        match way {
            Way::Apply => {
                out.raw(&format!("if [ ! -e {} ]; then", quote(&path)));
                match &self.source {
                    BlobSource::Text(text) => out.write_file(&partial, 0o644, text.as_bytes()),
                    BlobSource::Span { path, offset: 0 } => out.run(["cp", "--", &path.to_string_lossy(), &partial]),
                    BlobSource::Span { path, offset } => out.run([
                        "dd".to_owned(),
                        format!("if={}", path.display()),
                        format!("of={partial}"),
                        "bs=1M".to_owned(),
                        "iflag=skip_bytes,count_bytes".to_owned(),
                        format!("skip={offset}"),
                        format!("count={}", self.size),
                        "status=none".to_owned(),
                    ]),
                }
                let line = format!("{}  {partial}", digest.hex());
                out.raw(&format!("printf '%s\\n' {} | sha256sum -c --status", quote(&line)));
                out.run(["chmod", "0644", &partial]);
                out.run(["sync", &partial]);
                out.run(["mv", "--", &partial, &path]);
                out.raw("fi");
            }
            Way::Undo(before) if before.size.is_none() => out.run(["rm", "-f", "--", &path, &partial]),
            Way::Undo(_) => out.comment("it was there before"),
        }
    }
}
