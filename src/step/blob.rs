//! Copies one blob into the image store, verified.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Result};
use crate::image::Digest;
use crate::script::{Script, quote};
use crate::sys::archive::Span;
use crate::sys::registry::{Access, Remote};
use crate::sys::{Host, blob_seal, file, store};

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
    /// A registry; the session of the host fetches it.
    Registry(Remote),
}

/// Copies one blob into the image store, verified.
///
/// The digest is the mark: whoever made it, a blob that an index entry leads to is never taken back. What came from a registry is not
/// taken back either, whole or not: the next pull goes on from it, and `gc` takes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Blob {
    /// The OCI layout of the store.
    pub store: PathBuf,
    /// `sha256:HEX` or `sha512:HEX`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Where the bytes come from.
    pub source: BlobSource,
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if matches!(self.source, BlobSource::Registry(_)) { "fetch" } else { "store" };
        write!(f, "{verb} blob {}", self.digest)
    }
}

/// What stood in the blob's place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Before {
    /// The size of the file; `None` when there was none.
    pub size: Option<u64>,
    /// Whether that is the whole blob, by its seal and (for a small one) its digest; one without a seal is read, and written again when
    /// it is torn or damaged.
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
        let digest = self.digest()?;
        let path = digest.blob(&self.store);
        Ok(Before { size: store::find_blob_size(&path)?, whole: blob_seal::is_good(&path, &digest, self.size)? })
    }

    fn already(&self, before: &Before) -> bool {
        before.whole
    }

    fn apply(&self, before: &Before, host: &Host) -> Result<()> {
        let digest = self.digest()?;
        let local = !matches!(self.source, BlobSource::Registry(_));
        if local && before.size == Some(self.size) && blob_seal::settle(&digest.blob(&self.store), &digest, self.size)? {
            return Ok(());
        }
        match &self.source {
            BlobSource::Text(text) => store::write_blob(&self.store, &digest, self.size, &mut text.as_bytes()),
            BlobSource::Span { path, offset } => {
                let span = Span { path: path.clone(), offset: *offset, size: self.size };
                store::write_blob(&self.store, &digest, self.size, &mut span.reader()?)
            }
            BlobSource::Registry(remote) => {
                let session = host.registry.as_ref().ok_or_else(|| Fault::internal("a blob of a registry, and no dealings with any"))?;
                session.fetch(&self.store, (&digest, self.size), remote, &host.halt)
            }
        }
    }

    /// Also right when another load came to need the blob: then an index entry leads to it, or that load's tag finds it gone and plans
    /// again.
    fn undo(&self, before: &Before, _host: &Host) -> Result<Undone> {
        if matches!(self.source, BlobSource::Registry(_)) {
            return Ok(Undone::Done);
        }
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
                let sum = format!("{}sum -c --status", digest.algorithm().name());
                let whole = format!("printf '%s\\n' {} | {sum}", quote(&format!("{}  {path}", digest.hex())));
                out.raw(&format!("if [ ! -e {} ] || ! {whole}; then", quote(&path)));
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
                    BlobSource::Registry(remote) => fetch_in_shell(remote, &partial, out),
                }
                let line = format!("{}  {partial}", digest.hex());
                out.raw(&format!("printf '%s\\n' {} | {sum}", quote(&line)));
                out.run(["chmod", "0644", &partial]);
                out.run(["touch", "-m", "-d", &format!("@{}", blob_seal::mark(&digest)), &partial]);
                out.run(["sync", &partial]);
                out.run(["mv", "--", &partial, &path]);
                out.raw("fi");
            }
            Way::Undo(_) if matches!(self.source, BlobSource::Registry(_)) => out.comment("the next pull goes on from it"),
            Way::Undo(before) if before.size.is_none() => out.run(["rm", "-f", "--", &path, &partial]),
            Way::Undo(_) => out.comment("it was there before"),
        }
    }
}

/// Prints the fetch of a blob with curl, which like rkbox sends no login on to another host. `$RKBOX_CREDS` may hold USER:PASSWORD.
fn fetch_in_shell(remote: &Remote, to: &str, out: &mut Script) {
    let (url, to, creds) = (quote(&remote.url), quote(to), "${RKBOX_CREDS:+-u \"$RKBOX_CREDS\"}");
    match &remote.access {
        Access::Open => out.raw(&format!("curl -fsSL --retry 3 -o {to} {url}")),
        Access::Basic => out.raw(&format!("curl -fsSL --retry 3 {creds} -o {to} {url}")),
        Access::Token(at) => {
            out.raw(&format!("token=$(curl -fsSL --retry 3 {creds} {} | jq -r '.token // .access_token')", quote(at)));
            out.raw(&format!("curl -fsSL --retry 3 -H \"Authorization: Bearer $token\" -o {to} {url}"));
        }
    }
}
