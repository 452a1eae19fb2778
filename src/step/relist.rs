//! Makes the index of the image store anew, and its mark, where they were lost or damaged.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::image::layout::Index;
use crate::script::{Script, quote};
use crate::sys::{Host, file, store};

/// The largest damaged index that is kept, in bytes.
const KEPT_LIMIT: u64 = 64 << 20;

/// Makes the index of the image store anew, and its mark, where they were lost or damaged.
///
/// A damaged index is kept beside the new one, as `index.json.damaged`. There is no way back: nobody wants the damage again.
/// *Errors:* `Conflict` when another command has written a good index meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Relist {
    /// The OCI layout of the store.
    pub store: PathBuf,
    /// The new index, as JSON text; `None` when the old one is good.
    pub index: Option<String>,
    /// Whether `oci-layout` is written.
    pub marker: bool,
}

impl fmt::Display for Relist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.index.is_some() { "make the index of the image store anew" } else { "mark the image store as an OCI layout" })
    }
}

fn damaged(index: &Path) -> PathBuf {
    index.with_file_name("index.json.damaged")
}

impl Relist {
    fn write(&self, text: &str) -> Result<()> {
        if store::find_index(&self.store).is_ok_and(|index| index.is_some()) {
            return Err(Fault::new(Kind::Conflict, "the index was written by another command"));
        }
        let path = store::index_path(&self.store);
        // The new index takes the name of the old one only when that is safe elsewhere.
        if let Some(old) = file::find(&path, KEPT_LIMIT)? {
            file::write_atomic(&damaged(&path), 0o644, &old, file::Durable::Yes)?;
        }
        store::write_index(&self.store, &Index::parse(text.as_bytes())?)
    }
}

impl Action for Relist {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let gone = || Fault::new(Kind::Conflict, format!("{} is not there any more", self.store.display()));
        let _held = store::lock_index(&self.store)?.ok_or_else(gone)?;
        if self.marker {
            file::write_atomic(&self.store.join("oci-layout"), 0o644, store::MARKER.as_bytes(), file::Durable::Yes)?;
        }
        self.index.as_ref().map_or(Ok(()), |text| self.write(text))
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let Way::Apply = way else { return out.comment("nobody wants the damage again") };
        if self.marker {
            out.write_file(&self.store.join("oci-layout").to_string_lossy(), 0o644, store::MARKER.as_bytes());
        }
        if let Some(text) = &self.index {
            let path = store::index_path(&self.store);
            let (old, kept) = (path.to_string_lossy().into_owned(), damaged(&path).to_string_lossy().into_owned());
            out.raw(&format!("[ ! -e {} ] || cp -- {} {}", quote(&old), quote(&old), quote(&kept)));
            out.write_file(&old, 0o644, text.as_bytes());
        }
    }
}
