//! Reserves a name for a box: a symlink NAME -> id.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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

    /// Moves the reservation of a dead holder away; whoever finds another holder there has lost the race and puts it back.
    fn take_over(&self, dead: &str) -> Result<()> {
        let aside = self.path.with_file_name(format!(".{}.{}", self.name(), self.id.short()));
        match file::rename(&self.path, &aside) {
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => return Ok(()),
            other => other?,
        }
        let found = file::find_symlink(&aside)?.unwrap_or_default();
        if found != dead {
            let restored = file::create_symlink(&found, &self.path);
            file::remove_file(&aside)?;
            restored?;
            return Err(Fault::new(Kind::Conflict, format!("the name {} was just taken", self.name())));
        }
        file::remove_file(&aside)?;
        Ok(())
    }

    fn is_alive(&self, holder: &str, host: &Host) -> Result<bool> {
        Ok(file::exists(&host.sandbox_dir(holder))?
            || file::exists(&host.container_dir(holder))?
            || file::exists(&host.journals().join(format!("{holder}.jsonl")))?)
    }
}

impl Action for Reservation {
    /// The dead holder that is replaced.
    type Before = Option<String>;

    fn look(&self, host: &Host) -> Result<Option<String>> {
        let Some(holder) = file::find_symlink(&self.path)? else { return Ok(None) };
        if holder != self.id.as_str() && self.is_alive(&holder, host)? {
            let short = holder.get(..12).unwrap_or(&holder).to_owned();
            let fault = Fault::new(Kind::AlreadyExists, format!("the name {} is taken by {short}", self.name()));
            return Err(fault.hint(format!("choose another name, or remove it: rkbox rm {0} or rkbox sandbox rm {0}", self.name())));
        }
        Ok(Some(holder))
    }

    fn apply(&self, before: &Option<String>, _host: &Host) -> Result<()> {
        if let Some(dead) = before {
            self.take_over(dead)?;
        }
        match file::create_symlink(self.id.as_str(), &self.path) {
            Err(error) if error.errno() == Some(nix::errno::Errno::EEXIST) => {
                Err(Fault::new(Kind::Conflict, format!("the name {} was just taken", self.name())))
            }
            // `gc` took the directory of names while it was empty.
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => {
                Err(Fault::new(Kind::Conflict, format!("the directory of the name {} was just removed", self.name())))
            }
            other => Ok(other?),
        }
    }

    fn undo(&self, _before: &Option<String>, _host: &Host) -> Result<Undone> {
        if file::find_symlink(&self.path)?.as_deref() == Some(self.id.as_str()) {
            file::remove_file(&self.path)?;
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, Option<String>>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        match way {
            Way::Apply => out.run(["ln", "-sn", self.id.as_str(), &path]),
            Way::Undo(_) => {
                let (path, id) = (crate::script::quote(&path), crate::script::quote(self.id.as_str()));
                out.raw(&format!("if [ \"$(readlink {path} || true)\" = {id} ]; then rm -f {path}; fi"));
            }
        }
    }
}
