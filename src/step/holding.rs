//! Symlinks NAME -> id that say which box holds a thing: names, ranges of ids. What the steps that take one share.

use std::path::Path;

use super::{Undone, Way};
use crate::fault::Result;
use crate::ids::Id;
use crate::script::{Script, quote};
use crate::sys::{Errno, Host, file};

/// A symlink whose target is the id of the box that holds what it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    /// The symlink.
    pub path: &'a Path,
    /// Its target.
    pub id: &'a Id,
}

/// How taking one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is ours.
    Ours,
    /// Another was faster.
    ByAnother,
    /// `gc` took the directory while it was empty.
    NoDirectory,
}

/// Whether the box of that id is there, or is being made.
pub fn is_alive(holder: &str, host: &Host) -> Result<bool> {
    Ok(file::exists(&host.sandbox_dir(holder))?
        || file::exists(&host.container_dir(holder))?
        || file::exists(&host.journals().join(format!("{holder}.jsonl")))?)
}

impl Holding<'_> {
    /// Takes it, from the dead holder that `look` has found, if there was one.
    pub fn take(self, dead: Option<&str>) -> Result<Taken> {
        if let Some(dead) = dead
            && !self.move_away(dead)?
        {
            return Ok(Taken::ByAnother);
        }
        match file::create_symlink(self.id.as_str(), self.path) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(Taken::ByAnother),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Taken::NoDirectory),
            other => Ok(other.map(|()| Taken::Ours)?),
        }
    }

    /// Moves that of a dead holder away; whoever finds another holder there has lost the race, puts it back and answers false.
    fn move_away(self, dead: &str) -> Result<bool> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.path.with_file_name(format!(".{name}.{}", self.id.short()));
        match file::rename(self.path, &aside) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(true),
            other => other?,
        }
        let found = file::find_symlink(&aside)?.unwrap_or_default();
        if found != dead {
            let restored = file::create_symlink(&found, self.path);
            file::remove_file(&aside)?;
            restored?;
            return Ok(false);
        }
        file::remove_file(&aside)?;
        Ok(true)
    }

    /// Gives it back, when it is ours.
    pub fn give_back(self) -> Result<Undone> {
        if file::find_symlink(self.path)?.as_deref() == Some(self.id.as_str()) {
            file::remove_file(self.path)?;
        }
        Ok(Undone::Done)
    }

    /// The same as shell text.
    pub fn script<B>(self, way: &Way<'_, B>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        match way {
            Way::Apply => out.run(["ln", "-sn", self.id.as_str(), &path]),
            Way::Undo(_) => {
                let (path, id) = (quote(&path), quote(self.id.as_str()));
                out.raw(&format!("if [ \"$(readlink {path} || true)\" = {id} ]; then rm -f {path}; fi"));
            }
        }
    }
}
