//! Makes the directory of a bundle at a path that a user chose; its undo removes the whole tree.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layer::token;
use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::script::Script;
use crate::sys::file::{self, Durable};
use crate::sys::tree_partial::{self, Committed, Partial};
use crate::sys::{Host, tree};

/// The name of the record in a bundle.
pub const RECORD: &str = "record.json";
/// A record larger than this is not ours.
const LIMIT: u64 = 16 << 20;

/// Makes the directory of a bundle at a path that a user chose; its undo removes the whole tree.
///
/// Others may make a directory of this name at the same moment, so the mark is inside: `record.json` with exactly our record, or, when the
/// bundle has none, the file `.rkbox-WORD` that is there until the plan holds. The directory is made beside its name with the mark in it
/// and renamed. *Errors:* `AlreadyExists`, `Conflict` for a lost race.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BundleDir {
    /// Where; absolute, its parent is there.
    pub path: PathBuf,
    /// What `record.json` holds; no such file when empty.
    pub record: String,
}

/// What stood there before a [`BundleDir`]: nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BundleDirBefore {
    /// The word in the name of the mark.
    pub made_by: String,
}

impl fmt::Display for BundleDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make bundle directory {}", self.path.display())
    }
}

impl BundleDir {
    fn mark(&self, before: &BundleDirBefore) -> Option<PathBuf> {
        (self.record.is_empty() && !before.made_by.is_empty()).then(|| self.path.join(format!(".rkbox-{}", before.made_by)))
    }

    fn is_ours(&self, before: &BundleDirBefore) -> Result<bool> {
        if tree::find_identity(&self.path)?.is_none() {
            return Ok(false);
        }
        match self.mark(before) {
            Some(mark) => Ok(file::exists(&mark)?),
            None if self.record.is_empty() => Ok(false),
            None => Ok(file::find(&self.path.join(RECORD), LIMIT)?.is_some_and(|found| found == self.record.as_bytes())),
        }
    }
}

impl Action for BundleDir {
    type Before = BundleDirBefore;

    fn look(&self, _: &Host) -> Result<BundleDirBefore> {
        if file::exists(&self.path)? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is there already", self.path.display()))
                .hint("name a new directory, or remove that one"));
        }
        Ok(BundleDirBefore { made_by: token() })
    }

    fn apply(&self, before: &BundleDirBefore, _: &Host) -> Result<()> {
        let partial = Partial::create(&self.path)?;
        let (name, content) = match self.mark(before).as_ref().and_then(|mark| mark.file_name()) {
            Some(name) => (name.to_owned(), ""),
            None => (RECORD.into(), self.record.as_str()),
        };
        file::create_atomic(&partial.path().join(name), 0o600, content.as_bytes(), Durable::No)?;
        match partial.commit()? {
            Committed::Ours => Ok(()),
            Committed::Theirs => Err(Fault::new(Kind::Conflict, format!("{} was taken by something else", self.path.display()))),
        }
    }

    fn undo(&self, before: &BundleDirBefore, _: &Host) -> Result<Undone> {
        if self.is_ours(before)? {
            tree_partial::discard(&self.path)?;
        }
        tree_partial::remove_dead_of(&self.path)?;
        Ok(Undone::Done)
    }

    fn forget(&self, before: &BundleDirBefore, _: &Host) -> Result<()> {
        if let Some(mark) = self.mark(before) {
            file::remove_file(&mark)?;
        }
        Ok(())
    }

    fn script(&self, way: Way<'_, BundleDirBefore>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        match way {
            Way::Apply => {
                out.run(["mkdir", "-m", "0700", "--", &path]);
                if !self.record.is_empty() {
                    out.write_file(&self.path.join(RECORD).to_string_lossy(), 0o600, self.record.as_bytes());
                }
            }
            Way::Undo(_) => out.run(["rm", "-rf", "--one-file-system", "--", &path]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn steps(at: &Path) -> [BundleDir; 2] {
        ["", "{\"v\":1}\n"].map(|record| BundleDir { path: at.join("out"), record: record.to_owned() })
    }

    #[test]
    fn a_bundle_directory_obeys_the_laws() {
        let world = tempfile::tempdir().unwrap();
        let host = Host::below(world.path());
        for step in steps(world.path()) {
            let before = step.look(&host).unwrap();
            step.undo(&before, &host).unwrap();
            step.apply(&before, &host).unwrap();
            assert_eq!(step.look(&host).unwrap_err().kind(), Kind::AlreadyExists);
            fs::create_dir(step.path.join("rootfs")).unwrap();
            for _ in 0..2 {
                step.undo(&before, &host).unwrap();
                assert_eq!(fs::read_dir(world.path()).unwrap().count(), 0);
            }
        }
    }

    #[test]
    fn a_directory_of_somebody_else_stays() {
        let world = tempfile::tempdir().unwrap();
        let host = Host::below(world.path());
        for step in steps(world.path()) {
            let before = step.look(&host).unwrap();
            fs::create_dir(&step.path).unwrap();
            fs::write(step.path.join(RECORD), "{}").unwrap();
            assert_eq!(step.apply(&before, &host).unwrap_err().kind(), Kind::Conflict);
            step.undo(&before, &host).unwrap();
            assert_eq!(fs::read_dir(&step.path).unwrap().count(), 1);
            fs::remove_dir_all(&step.path).unwrap();
        }
    }

    #[test]
    fn a_plain_directory_has_no_mark_once_it_holds_and_is_not_taken_any_more() {
        let world = tempfile::tempdir().unwrap();
        let host = Host::below(world.path());
        let [plain, _] = steps(world.path());
        let before = plain.look(&host).unwrap();
        plain.apply(&before, &host).unwrap();
        for _ in 0..2 {
            plain.forget(&before, &host).unwrap();
            assert_eq!(fs::read_dir(&plain.path).unwrap().count(), 0);
        }
        plain.undo(&before, &host).unwrap();
        assert!(plain.path.exists());
    }
}
