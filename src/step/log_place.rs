//! Makes the place of a log outside the container's own directory: the directories above it, and the file.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::Result;
use crate::script::{Script, quote};
use crate::sys::file::{self, Durable};
use crate::sys::Host;

/// Makes the place of a log that its caller named, and keeps.
///
/// What was written stays when the container goes, as CRI has it: whoever named the place reads and removes it. An empty file goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogPlace {
    /// The file, absolute.
    pub path: PathBuf,
}

/// What was there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Before {
    /// The directories that were not there, parents first.
    pub missing: Vec<PathBuf>,
    /// Whether the file was.
    pub file: bool,
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make the log {}", self.path.display())
    }
}

impl Action for LogPlace {
    type Before = Before;
    const RECLAIMED: bool = false;

    fn look(&self, _: &Host) -> Result<Before> {
        let mut missing = Vec::new();
        for dir in self.path.ancestors().skip(1) {
            if file::exists(dir)? {
                break;
            }
            missing.insert(0, dir.to_path_buf());
        }
        Ok(Before { missing, file: file::exists(&self.path)? })
    }

    fn already(&self, before: &Before) -> bool {
        before.file
    }

    fn apply(&self, _: &Before, _: &Host) -> Result<()> {
        if let Some(dir) = self.path.parent() {
            file::ensure_dir(dir, 0o755)?;
        }
        Ok(file::create_atomic(&self.path, 0o600, &[], Durable::No)?)
    }

    fn undo(&self, before: &Before, _: &Host) -> Result<Undone> {
        let is_empty = file::find_age(&self.path)?.is_some_and(|(_, size)| size == 0);
        if !before.file && is_empty {
            file::remove_file(&self.path)?;
        }
        Ok(if file::remove_dirs_if_empty(&before.missing)? { Undone::Done } else { Undone::Kept })
    }

    fn script(&self, way: Way<'_, Before>, out: &mut Script) {
        let path = quote(&self.path.to_string_lossy());
        match way {
            Way::Apply => {
                if let Some(dir) = self.path.parent() {
                    out.run(["mkdir", "-p", "--", &dir.to_string_lossy()]);
                }
                out.raw(&format!("(umask 077; set -C; : > {path})"));
            }
            Way::Undo(before) => {
                if !before.file {
                    out.raw(&format!("if [ -f {path} ] && [ ! -L {path} ] && [ ! -s {path} ]; then rm -f {path}; fi"));
                }
                for dir in before.missing.iter().rev() {
                    out.run_ignoring(["rmdir", "--", &dir.to_string_lossy()]);
                }
            }
        }
    }
}
