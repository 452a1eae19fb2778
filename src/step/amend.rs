//! Changes or takes out entries of the index of the image store.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tag::rewrite;
use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::image::layout::Index;
use crate::script::{Script, quote};
use crate::sys::{Host, store};

/// Changes or takes out entries of the index of the image store: pins, names taken away.
///
/// The entries are named by all that they say, so that a change by another command is a `Conflict` and never lost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Amend {
    /// The OCI layout of the store.
    pub store: PathBuf,
    /// `pin image busybox`.
    pub phrase: String,
    /// In the order of the index.
    pub changes: Vec<Change>,
}

/// One entry before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its place in the index.
    pub at: usize,
    /// The entry.
    pub old: Value,
    /// What it becomes; it is taken out when absent.
    pub new: Option<Value>,
}

impl fmt::Display for Amend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.phrase)
    }
}

impl Amend {
    fn lost(&self) -> Fault {
        Fault::new(Kind::Conflict, "the index was changed by another command")
    }

    fn index(&self) -> Result<Index> {
        store::find_index(&self.store)?.ok_or_else(|| self.lost())
    }

    /// The entries with all changes made; `None` when one of the old ones is not there.
    fn amended(&self, index: &Index) -> Option<Vec<Value>> {
        let mut entries = index.raw_entries().to_vec();
        for change in &self.changes {
            let place = entries.iter().position(|entry| *entry == change.old)?;
            match &change.new {
                Some(new) => entries[place] = new.clone(),
                None => drop(entries.remove(place)),
            }
        }
        Some(entries)
    }

    fn restored(&self, index: &Index) -> Vec<Value> {
        let mut entries = index.raw_entries().to_vec();
        for change in &self.changes {
            let there = entries.contains(&change.old);
            match &change.new {
                Some(new) => {
                    if let Some(place) = entries.iter().position(|entry| entry == new) {
                        entries[place] = change.old.clone();
                    }
                }
                None if !there => entries.insert(change.at.min(entries.len()), change.old.clone()),
                None => {}
            }
        }
        entries
    }
}

impl Action for Amend {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        self.amended(&self.index()?).map(drop).ok_or_else(|| self.lost())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let _held = store::lock_index(&self.store)?.ok_or_else(|| self.lost())?;
        let index = self.index()?;
        let entries = self.amended(&index).ok_or_else(|| self.lost())?;
        store::write_index(&self.store, &index.with_entries(entries)?)
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        let Some(_held) = store::lock_index(&self.store)? else { return Ok(Undone::Done) };
        let Some(index) = store::find_index(&self.store)? else { return Ok(Undone::Done) };
        let entries = self.restored(&index);
        if entries != index.raw_entries() {
            store::write_index(&self.store, &index.with_entries(entries)?)?;
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let index = store::index_path(&self.store).to_string_lossy().into_owned();
        let Ok(changes) = serde_json::to_value(&self.changes) else { return out.comment("the changes are no JSON") };
        let filter = match way {
            Way::Apply => {
                ".manifests |= [.[] as $e | ([$c[] | select(.old == $e)][0]) as $m | if $m == null then $e elif $m.new == null then empty \
                 else $m.new end]"
            }
            Way::Undo(()) => {
                ".manifests |= reduce $c[] as $m (.; if $m.new then map(if . == $m.new then $m.old else . end) \
                 elif any(.[]; . == $m.old) then . else .[:$m.at] + [$m.old] + .[$m.at:] end)"
            }
        };
        out.raw(&format!("[ -e {} ]", quote(&index)));
        rewrite(out, &index, filter, &[("c", &changes)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::test_world::sh;
    use crate::sys::file;
    use serde_json::json;

    fn entry(name: &str) -> Value {
        let digest = crate::image::Digest::of(b"m");
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1, "annotations": {"n": name}})
    }

    #[test]
    fn an_amendment_obeys_the_laws() {
        let world = tempfile::tempdir().unwrap();
        let (host, at) = (Host::below(world.path()), world.path().to_path_buf());
        let text = |entries: &[Value]| Index::empty().with_entries(entries.to_vec()).unwrap().to_text();
        let (old, new) = (text(&[entry("a"), entry("b"), entry("c"), entry("d")]), text(&[entry("a"), entry("B"), entry("d")]));
        let write = |text: &str| file::write_atomic(&store::index_path(&at), 0o644, text.as_bytes(), file::Durable::No).unwrap();
        let seen = || String::from_utf8(file::read(&store::index_path(&at), 1 << 20).unwrap()).unwrap();
        let changes = vec![Change { at: 1, old: entry("b"), new: Some(entry("B")) }, Change { at: 2, old: entry("c"), new: None }];
        let step = Amend { store: at.clone(), phrase: "amend".into(), changes };
        write(&old);
        step.look(&host).unwrap();
        step.undo(&(), &host).unwrap();
        assert_eq!(seen(), old);
        step.apply(&(), &host).unwrap();
        assert_eq!(seen(), new);
        for failed in [step.look(&host), step.apply(&(), &host)] {
            assert_eq!(failed.unwrap_err().kind(), Kind::Conflict);
        }
        for _ in 0..2 {
            step.undo(&(), &host).unwrap();
            assert_eq!(seen(), old);
        }
        for (way, text) in [(Way::Apply, &new), (Way::Undo(&()), &old), (Way::Undo(&()), &old)] {
            let mut script = Script::new();
            step.script(way, &mut script);
            sh(script.as_str());
            assert_eq!(seen(), *text);
        }
    }
}
