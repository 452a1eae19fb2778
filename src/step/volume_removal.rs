//! Removes a volume that nobody uses.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::volume::{lock, name_of, users};
use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::script::Script;
use crate::sys::{Host, file};

/// Takes the name from a volume that nobody uses; what it holds is removed once the plan holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeRemoval {
    /// `volumes/NAME`.
    pub path: PathBuf,
}

impl fmt::Display for VolumeRemoval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove volume {}", name_of(&self.path))
    }
}

impl VolumeRemoval {
    /// Where it waits for its end; no volume has such a name.
    fn aside(&self) -> PathBuf {
        self.path.with_file_name(format!(".{}.gone", name_of(&self.path)))
    }
}

impl Action for VolumeRemoval {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        let name = name_of(&self.path);
        if !file::exists(&self.path)? {
            return Err(Fault::not_found(format!("no volume is named {name}")).hint("rkbox volume ls shows them"));
        }
        match users(&self.path)?.first() {
            None => Ok(()),
            Some(first) => {
                let short = first.get(..12).unwrap_or(first);
                Err(Fault::new(Kind::FailedPrecondition, format!("volume {name} is used by container {short}")).hint(format!("remove that first: rkbox rm {short}")))
            }
        }
    }

    fn apply(&self, (): &(), host: &Host) -> Result<()> {
        let _held = lock(&self.path)?;
        self.look(host)?;
        // What a removal left that died after it held.
        file::remove_tree(&self.aside())?;
        Ok(file::rename(&self.path, &self.aside())?)
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        if file::exists(&self.aside())? && !file::exists(&self.path)? {
            file::rename(&self.aside(), &self.path)?;
        }
        Ok(Undone::Done)
    }

    fn forget(&self, (): &(), _: &Host) -> Result<()> {
        Ok(file::remove_tree(&self.aside())?)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        if let Way::Apply = way {
            out.run(["rm", "-rf", "--one-file-system", &self.path.to_string_lossy()]);
        }
    }
}
