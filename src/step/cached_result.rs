//! Writes libcni's entry of an attachment whose result another program has given.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::cni::cache::Attachment;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::script::{Script, quote};
use crate::sys::{Host, file};

/// A result larger than this is none.
const LIMIT: u64 = 4 << 20;

/// Writes libcni's entry of an attachment whose result another program has given: it is not known before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CachedResult {
    /// Where.
    pub path: PathBuf,
    /// The entry without its result.
    pub entry: String,
    /// The file that holds the result.
    pub result: PathBuf,
}

impl fmt::Display for CachedResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {}", self.path.display())
    }
}

impl Action for CachedResult {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if file::exists(&self.path)? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is there already", self.path.display())));
        }
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let mut entry = Attachment::parse(self.entry.as_bytes())?;
        let text = file::read(&self.result, LIMIT)?;
        entry.result = serde_json::from_slice(&text)
            .map_err(|error| Fault::from_error(Kind::DataLoss, error))
            .doing(|| format!("reading {}", self.result.display()))?;
        file::create_atomic(&self.path, 0o600, entry.to_text()?.as_bytes(), file::Durable::No)?;
        Ok(())
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        file::remove_file(&self.path)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let path = quote(&self.path.to_string_lossy());
        match way {
            Way::Apply => {
                let result = quote(&self.result.to_string_lossy());
                let add = format!("jq -c --slurpfile result {result} '. + {{result: $result[0]}}' > {path}");
                out.feed(["sh", "-c", &add], &self.entry);
                out.raw(&format!("chmod 0600 {path}"));
            }
            Way::Undo(()) => out.raw(&format!("rm -f {path}")),
        }
    }
}
