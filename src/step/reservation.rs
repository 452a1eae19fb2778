//! Reserves a name for a box: a symlink NAME -> id.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::holding::{Holding, Taken, is_alive};
use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::ids::Id;
use crate::script::Script;
use crate::sys::{Host, file};

/// Reserves a name for a box: a symlink NAME -> id, taken before any other work.
///
/// A reservation whose box has neither journal nor record is of a creator that died long ago, and is taken over.
/// *Source:* DATA-MODEL "Names".
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reservation {
    /// The symlink.
    pub path: PathBuf,
    /// Its target.
    pub id: Id,
}

impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reserve the name {}", self.name())
    }
}

impl Reservation {
    fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn holding(&self) -> Holding<'_> {
        Holding { path: &self.path, id: &self.id }
    }
}

impl Action for Reservation {
    /// The dead holder that is replaced.
    type Before = Option<String>;

    fn look(&self, host: &Host) -> Result<Option<String>> {
        let Some(holder) = file::find_symlink(&self.path)? else { return Ok(None) };
        if holder != self.id.as_str() && is_alive(&holder, host)? {
            let short = holder.get(..12).unwrap_or(&holder).to_owned();
            let fault = Fault::new(Kind::AlreadyExists, format!("the name {} is taken by {short}", self.name()));
            return Err(fault.hint(format!("choose another name, or remove it: rkbox rm {0} or rkbox sandbox rm {0}", self.name())));
        }
        Ok(Some(holder))
    }

    fn apply(&self, before: &Option<String>, _host: &Host) -> Result<()> {
        let lost = |what: String| Err(Fault::new(Kind::Conflict, what));
        match self.holding().take(before.as_deref())? {
            Taken::Ours => Ok(()),
            Taken::ByAnother => lost(format!("the name {} was just taken", self.name())),
            Taken::NoDirectory => lost(format!("the directory of the name {} was just removed", self.name())),
        }
    }

    fn undo(&self, _before: &Option<String>, _host: &Host) -> Result<Undone> {
        self.holding().give_back()
    }

    fn script(&self, way: Way<'_, Option<String>>, out: &mut Script) {
        self.holding().script(&way, out);
    }
}
