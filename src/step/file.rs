//! Writes a text file that must be new, atomically.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::script::Script;
use crate::sys::{Host, file};

/// Writes a text file that must be new, atomically: it appears complete or not at all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// The whole content.
    pub content: String,
    /// Whether it must survive a power cut once the plan is settled.
    pub durable: bool,
    /// Owner and group; root's by default.
    #[serde(default)]
    pub owner: (u32, u32),
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {}", self.path.display())
    }
}

impl Action for File {
    type Before = ();

    fn look(&self, _host: &Host) -> Result<()> {
        if file::exists(&self.path)? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is there already", self.path.display())));
        }
        Ok(())
    }

    fn apply(&self, (): &(), _host: &Host) -> Result<()> {
        file::create_atomic(&self.path, self.mode, self.content.as_bytes(), file::Durable::No)?;
        if self.owner != (0, 0) {
            file::change_owner(&self.path, self.owner)?;
        }
        Ok(())
    }

    fn durable(&self) -> Option<PathBuf> {
        self.durable.then(|| self.path.clone())
    }

    /// Whatever the content has become since: the path is of this box alone.
    fn undo(&self, (): &(), _host: &Host) -> Result<Undone> {
        file::remove_file(&self.path)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        match way {
            Way::Apply => {
                out.write_file(&path, self.mode, self.content.as_bytes());
                if self.owner != (0, 0) {
                    out.run(["chown", &format!("{}:{}", self.owner.0, self.owner.1), &path]);
                }
            }
            Way::Undo(()) => out.run(["rm", "-f", &path]),
        }
    }
}
