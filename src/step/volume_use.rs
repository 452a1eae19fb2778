//! Notes that a container has a volume mounted.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::volume::{USERS, lock, name_of, users};
use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::ids::Id;
use crate::script::{Script, quote};
use crate::sys::file::{self, Durable};
use crate::sys::{Host, tree_partial};

/// What becomes of a volume when its container goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    /// It stays.
    Keep,
    /// It goes too, when nobody else has it: an anonymous volume of a container that is removed when it ends.
    Remove,
    /// It goes too, because `rm --volumes` said so just now; `gc` takes that back when the command died before it began.
    Asked,
}

impl Release {
    /// What the file of the user holds.
    pub fn word(self) -> &'static str {
        match self {
            Release::Keep => "keep\n",
            Release::Remove => "remove\n",
            Release::Asked => "asked\n",
        }
    }
}

/// Notes that a container has a volume mounted, so that nobody removes it; the undo may take the volume along.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeUse {
    /// `volumes/NAME`.
    pub volume: PathBuf,
    /// The container.
    pub container: Id,
    /// What becomes of the volume when the container goes.
    pub release: Release,
}

impl fmt::Display for VolumeUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "use volume {} in container {}", name_of(&self.volume), self.container)
    }
}

impl VolumeUse {
    fn note(&self) -> PathBuf {
        self.volume.join(USERS).join(self.container.as_str())
    }
}

impl Action for VolumeUse {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if file::exists(&self.note())? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is there already", self.note().display())));
        }
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let gone = || Fault::new(Kind::Conflict, format!("volume {} was just removed", name_of(&self.volume)));
        let _held = lock(&self.volume)?.ok_or_else(gone)?;
        file::create_atomic(&self.note(), 0o600, self.release.word().as_bytes(), Durable::No)?;
        Ok(())
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        let Some(_held) = lock(&self.volume)? else { return Ok(Undone::Done) };
        let Some(said) = file::find(&self.note(), 64)? else { return Ok(Undone::Done) };
        let alone = users(&self.volume)?.iter().all(|user| user == self.container.as_str());
        if alone && said != Release::Keep.word().as_bytes() {
            // The name goes first: a death from here on leaves a directory of nobody, which `gc` knows by its name.
            tree_partial::discard(&self.volume)?;
        } else {
            file::remove_file(&self.note())?;
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let (note, volume) = (self.note(), self.volume.to_string_lossy());
        let (note, users) = (note.to_string_lossy(), self.volume.join(USERS));
        match way {
            Way::Apply => out.write_file(&note, 0o600, self.release.word().as_bytes()),
            Way::Undo(()) => {
                let note = quote(&note);
                out.raw(&format!("case $(cat {note} 2>/dev/null) in"));
                out.raw(&format!("remove | asked) [ \"$(ls {})\" != {} ] || rm -rf --one-file-system {} ;;", quote(&users.to_string_lossy()), self.container, quote(&volume)));
                out.raw("esac");
                out.raw(&format!("rm -f {note}"));
            }
        }
    }
}
