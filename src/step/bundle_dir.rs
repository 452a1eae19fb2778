//! Makes the directory of a bundle at a path that a user chose; its undo removes the whole tree.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layer::token;
use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::script::{Script, quote};
use crate::sys::file::{self, Durable};
use crate::sys::tree_partial::{Committed, INFIX, Partial};
use crate::sys::{Host, mount, tree};

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

    /// A tree with a mount in it would be torn, and moved away from under the step that can unmount it.
    fn refuse_mounts(&self) -> Result<()> {
        match mount::list()?.iter().find(|row| row.target.starts_with(&self.path)) {
            Some(row) => Err(Fault::new(Kind::FailedPrecondition, format!("something is mounted on {}", row.target.display()))
                .hint(format!("umount {}", quote(&row.target.to_string_lossy())))),
            None => Ok(()),
        }
    }

    /// A free name beside the bundle, as [`Partial`] makes them.
    fn aside(&self) -> Result<PathBuf> {
        let mut nth = 0;
        loop {
            let mut name = self.path.file_name().unwrap_or_default().to_os_string();
            name.push(format!("{INFIX}{}-{nth}", std::process::id()));
            let path = self.path.with_file_name(name);
            if !file::exists(&path)? {
                return Ok(path);
            }
            nth += 1;
        }
    }

    /// What a dead command left beside the bundle: by its name, and with nothing in it but the mark and unfinished files. The directory
    /// around it is a user's.
    fn left_aside(&self, mark: &str) -> Result<Vec<PathBuf>> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let prefix = format!("{}{INFIX}", self.path.file_name().unwrap_or_default().to_string_lossy());
        let numbered = |name: &str| {
            let numbers = name.strip_prefix(&prefix).and_then(|numbers| numbers.split_once('-'));
            numbers.is_some_and(|(pid, nth)| [pid, nth].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())))
        };
        let mut left = Vec::new();
        for path in file::list(parent)?.into_iter().filter(|name| numbered(name)).map(|name| parent.join(name)) {
            if tree::find_identity(&path)?.is_none() {
                continue;
            }
            let ours = |name: &String| name == mark || (name.starts_with(&format!(".{mark}.")) && name.ends_with(".tmp"));
            if file::list(&path)?.iter().all(ours) {
                left.push(path);
            }
        }
        Ok(left)
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
        let mark = self.mark(before);
        let mark = mark.as_deref().and_then(Path::file_name).map_or(RECORD.into(), |name| name.to_string_lossy().into_owned());
        if self.is_ours(before)? {
            self.refuse_mounts()?;
            empty(&self.path, &mark)?;
            // With its name goes the claim to it: what a crash leaves from here on is known by name and content.
            file::rename(&self.path, &self.aside()?)?;
        }
        for left in self.left_aside(&mark)? {
            empty(&left, "")?;
            file::remove_dir_if_empty(&left)?;
        }
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

/// Removes all that is in `dir` but `kept`.
fn empty(dir: &Path, kept: &str) -> Result<()> {
    for name in file::list(dir)?.iter().filter(|name| *name != kept) {
        file::remove_tree(&dir.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
    fn what_a_crash_leaves_goes_and_what_only_looks_like_it_stays() {
        let world = tempfile::tempdir().unwrap();
        let host = Host::below(world.path());
        for step in steps(world.path()) {
            let before = step.look(&host).unwrap();
            let mark = step.mark(&before).map_or(RECORD.into(), |mark| mark.file_name().unwrap().to_owned());
            for (left, file) in [("out.partial-1-0", Some(mark)), ("out.partial-2-0", None)] {
                fs::create_dir(world.path().join(left)).unwrap();
                if let Some(file) = file {
                    fs::write(world.path().join(left).join(file), "").unwrap();
                }
            }
            for mine in ["out.partial-backup", "out.partial-3-0"] {
                fs::create_dir_all(world.path().join(mine).join("data")).unwrap();
            }
            step.undo(&before, &host).unwrap();
            assert_eq!(file::list(world.path()).unwrap(), ["out.partial-3-0", "out.partial-backup"]);
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
