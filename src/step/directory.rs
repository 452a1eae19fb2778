//! Makes a directory that must be new; its undo removes the whole tree.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::script::Script;
use crate::sys::{Host, file, rootfs};

/// Makes a directory that must be new; its undo removes the whole tree.
///
/// The path carries the id of its box (or was just seen to be free), which is our mark on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Directory {
    /// Where.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group; root's by default.
    #[serde(default)]
    pub owner: (u32, u32),
    /// Layers of an image, highest first, whose root lends its owner and mode instead: they may be made by the same plan.
    #[serde(default)]
    pub like: Vec<PathBuf>,
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make directory {}", self.path.display())
    }
}

impl Directory {
    /// A directory of root's.
    pub fn new(path: impl Into<PathBuf>, mode: u32) -> Self {
        Directory { path: path.into(), mode, owner: (0, 0), like: Vec::new() }
    }
}

impl Action for Directory {
    type Before = ();

    fn look(&self, _host: &Host) -> Result<()> {
        if file::exists(&self.path)? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is there already", self.path.display())));
        }
        Ok(())
    }

    fn apply(&self, (): &(), _host: &Host) -> Result<()> {
        match file::create_dir(&self.path, self.mode) {
            // The planner knows that what is above is there: `gc` took it while it was empty.
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => {
                return Err(Fault::new(Kind::Conflict, format!("what is above {} was just removed", self.path.display())));
            }
            other => other?,
        }
        if self.owner != (0, 0) {
            file::change_owner(&self.path, self.owner)?;
        }
        if let Some(attributes) = rootfs::find_attributes(&self.like, ".")? {
            rootfs::set_attributes(&self.path, attributes)?;
        }
        Ok(())
    }

    fn undo(&self, (): &(), _host: &Host) -> Result<Undone> {
        file::remove_tree(&self.path)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        match way {
            Way::Apply => {
                out.run(["mkdir", "-m", &format!("{:04o}", self.mode), &path]);
                if self.owner != (0, 0) {
                    out.run(["chown", &format!("{}:{}", self.owner.0, self.owner.1), &path]);
                }
                if let Some(first) = self.like.first() {
                    let reference = format!("--reference={}", first.display());
                    out.run(["chown", &reference, &path]);
                    out.run(["chmod", &reference, &path]);
                }
            }
            Way::Undo(()) => out.run(["rm", "-rf", "--one-file-system", &path]),
        }
    }
}
