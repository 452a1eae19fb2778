//! Gives a name of a box back once the box has another one.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::holding::Holding;
use super::{Action, Undone, Way};
use crate::fault::Result;
use crate::ids::Id;
use crate::script::Script;
use crate::sys::Host;

/// Gives a name of a box back, once the plan holds: until then nobody else can take it, so that a rollback finds it as it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NameRelease {
    /// The symlink.
    pub path: PathBuf,
    /// Its target.
    pub id: Id,
}

impl fmt::Display for NameRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "give back the name {}", self.path.file_name().unwrap_or_default().to_string_lossy())
    }
}

impl NameRelease {
    fn holding(&self) -> Holding<'_> {
        Holding { path: &self.path, id: &self.id }
    }
}

impl Action for NameRelease {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        Ok(())
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        Ok(Undone::Done)
    }

    fn forget(&self, (): &(), _: &Host) -> Result<()> {
        self.holding().give_back().map(drop)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        if let Way::Apply = way {
            self.holding().script(&Way::Undo(&()), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::test_world::sh;
    use crate::sys::file;

    #[test]
    fn a_name_is_given_back_at_the_end_and_by_its_holder_only() {
        let world = tempfile::tempdir().unwrap();
        let (host, path) = (Host::below(world.path()), world.path().join("web"));
        let [id, other] = [1, 2].map(|byte| Id::from_bytes([byte; 32]));
        let step = NameRelease { path: path.clone(), id: id.clone() };
        let held = || file::find_symlink(&path).unwrap();
        file::create_symlink(id.as_str(), &path).unwrap();
        step.look(&host).unwrap();
        step.apply(&(), &host).unwrap();
        step.undo(&(), &host).unwrap();
        assert_eq!(held().as_deref(), Some(id.as_str()));
        for _ in 0..2 {
            step.forget(&(), &host).unwrap();
            assert_eq!(held(), None);
        }
        let script = |way| {
            let mut out = Script::new();
            step.script(way, &mut out);
            sh(out.as_str());
        };
        for (holder, left) in [(&id, None), (&other, Some(other.as_str()))] {
            file::create_symlink(holder.as_str(), &path).unwrap();
            script(Way::Undo(&()));
            assert_eq!(held().as_deref(), Some(holder.as_str()));
            script(Way::Apply);
            assert_eq!(held().as_deref(), left);
            step.forget(&(), &host).unwrap();
            assert_eq!(held().as_deref(), left);
        }
    }
}
