//! Claims a range of subordinate ids for a box.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::holding::{Holding, Taken, is_alive};
use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::idmap::Span;
use crate::ids::Id;
use crate::script::Script;
use crate::sys::dir_lock::{self, Beside};
use crate::sys::{Host, file};

/// How long other claims may take.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// Claims a range of subordinate ids for a box: a symlink START-SIZE -> id. It outlives a reboot, as the files that belong to these ids do.
///
/// A claim whose box has neither journal nor record is of a creator that died long ago, and is taken over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdClaim {
    /// The symlink.
    pub path: PathBuf,
    /// Its target.
    pub id: Id,
}

impl fmt::Display for IdClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claim the ids {}", self.path.file_name().unwrap_or_default().to_string_lossy())
    }
}

impl IdClaim {
    /// The claim of another box that lives which has an id of this one.
    fn overlapping(&self, dir: &Path, host: &Host) -> Result<Option<String>> {
        let own = Span::of_claim(&self.path.file_name().unwrap_or_default().to_string_lossy());
        for name in file::list(dir)? {
            if !Span::of_claim(&name).zip(own).is_some_and(|(other, own)| other.meets(own)) {
                continue;
            }
            let holder = file::find_symlink(&dir.join(&name))?;
            if let Some(holder) = holder.filter(|holder| holder != self.id.as_str())
                && is_alive(&holder, host)?
            {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn holding(&self) -> Holding<'_> {
        Holding { path: &self.path, id: &self.id }
    }
}

impl Action for IdClaim {
    /// The dead holder that is replaced.
    type Before = Option<String>;

    fn look(&self, host: &Host) -> Result<Option<String>> {
        let holder = file::find_symlink(&self.path)?;
        match &holder {
            Some(other) if other != self.id.as_str() && is_alive(other, host)? => Err(Fault::new(Kind::Conflict, format!("{self}: they were just taken"))),
            _ => Ok(holder),
        }
    }

    /// Claims are compared and made under the lock of their directory: two of different sizes are different names, and could overlap.
    fn apply(&self, before: &Option<String>, host: &Host) -> Result<()> {
        let dir = self.path.parent().unwrap_or(&self.path);
        let _held = dir_lock::acquire(dir, Beside::Nobody, LOCK_LIMIT)?;
        if let Some(other) = self.overlapping(dir, host)? {
            return Err(Fault::new(Kind::Conflict, format!("{self}: {other} were just taken")));
        }
        match self.holding().take(before.as_deref())? {
            Taken::Ours => Ok(()),
            Taken::ByAnother | Taken::NoDirectory => Err(Fault::new(Kind::Conflict, format!("{self}: they were just taken"))),
        }
    }

    fn undo(&self, _before: &Option<String>, _host: &Host) -> Result<Undone> {
        self.holding().give_back()
    }

    fn script(&self, way: Way<'_, Option<String>>, out: &mut Script) {
        self.holding().script(&way, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_obeys_the_laws_and_a_dead_ones_place_is_taken() {
        let world = tempfile::tempdir().unwrap();
        let host = Host::below(world.path());
        std::fs::create_dir_all(host.root.join("userns")).unwrap();
        let path = host.root.join("userns/100-10");
        let [one, two] = [1, 2].map(|byte| IdClaim { path: path.clone(), id: Id::from_bytes([byte; 32]) });
        let before = one.look(&host).unwrap();
        assert_eq!(before, None);
        one.apply(&before, &host).unwrap();
        // Its box is being made: nobody else gets the range, by a look or by a race.
        let of_one = host.container_dir(one.id.as_str());
        std::fs::create_dir_all(&of_one).unwrap();
        assert_eq!(two.look(&host).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(two.apply(&None, &host).unwrap_err().kind(), Kind::Conflict);
        two.undo(&None, &host).unwrap();
        assert_eq!(file::find_symlink(&path).unwrap().as_deref(), Some(one.id.as_str()));
        // It died.
        std::fs::remove_dir(&of_one).unwrap();
        let before = two.look(&host).unwrap();
        let three = IdClaim { path: path.clone(), id: Id::from_bytes([3; 32]) };
        let seen = three.look(&host).unwrap();
        two.apply(&before, &host).unwrap();
        // Who saw the same dead holder and comes second takes nothing from the first.
        assert_eq!(three.apply(&seen, &host).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(file::find_symlink(&path).unwrap().as_deref(), Some(two.id.as_str()));
        one.undo(&None, &host).unwrap();
        assert_eq!(file::find_symlink(&path).unwrap().as_deref(), Some(two.id.as_str()));
        for _ in 0..2 {
            two.undo(&before, &host).unwrap();
            assert_eq!(file::find_symlink(&path).unwrap(), None);
        }
    }

    /// Many at once, of all sizes and places: no id is in two claims that were given.
    #[test]
    fn claims_of_different_sizes_never_overlap() {
        let world = tempfile::tempdir().unwrap();
        let host = Host::below(world.path());
        let mut refused = 0;
        for round in 0..40_u32 {
            std::fs::create_dir_all(host.id_claims()).unwrap();
            let start = std::sync::Barrier::new(8);
            let claims: Vec<IdClaim> = (0..8_u32)
                .map(|nth| {
                    let (first, size) = (1000 + (nth * 7 + round) % 20, 5 + nth * 3);
                    IdClaim { path: host.id_claims().join(format!("{first}-{size}")), id: Id::from_bytes([1 + nth as u8; 32]) }
                })
                .collect();
            for claim in &claims {
                std::fs::create_dir_all(host.container_dir(claim.id.as_str())).unwrap();
            }
            let given: Vec<&IdClaim> = std::thread::scope(|scope| {
                let claim = |claim: &'_ IdClaim| {
                    let before = claim.look(&host).ok();
                    start.wait();
                    before.is_some_and(|before| claim.apply(&before, &host).is_ok())
                };
                let all: Vec<_> = claims.iter().map(|one| (one, scope.spawn(move || claim(one)))).collect();
                all.into_iter().filter_map(|(one, thread)| thread.join().unwrap().then_some(one)).collect()
            });
            let span = |claim: &IdClaim| Span::of_claim(&claim.path.file_name().unwrap().to_string_lossy()).unwrap();
            for (nth, one) in given.iter().enumerate() {
                for other in &given[nth + 1..] {
                    assert!(!span(one).meets(span(other)), "{one} and {other}");
                }
            }
            assert!(!given.is_empty());
            refused += claims.len() - given.len();
            for claim in &claims {
                claim.undo(&None, &host).unwrap();
            }
        }
        assert!(refused > 40, "they never met: {refused}");
    }
}
