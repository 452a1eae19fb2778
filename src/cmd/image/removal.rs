//! Taking entries out of the index and, with them, what nobody needs any more: first the index, so that a crash leaves only garbage.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::catalog::{Catalog, Listed};
use super::store;
use super::sweep::{self, Use};
use crate::fault::Result;
use crate::image::{Reference, entry};
use crate::plan::reach;
use crate::script::Script;
use crate::sys::dir_lock::DirLock;
use crate::sys::{Host, file, store as disk};

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// The ids of images that are gone too.
    pub deleted: Vec<String>,
    /// Warnings for people.
    pub notes: Vec<String>,
    /// Bytes of the blobs that are gone.
    pub freed: u64,
    /// Layers that have lost their names and are still to be removed.
    pub trash: Vec<PathBuf>,
}

impl Removed {
    /// Removes the trash; a large layer takes its time, so the answer is printed before. Whatever a crash leaves of it, `gc` takes.
    pub fn empty_trash(&self) -> Result<()> {
        Ok(self.trash.iter().try_for_each(|tree| file::remove_tree(tree))?)
    }
}

/// What a removal will do, decided under the lock of the index.
pub(super) struct Removal {
    _held: DirLock,
    kept: crate::image::layout::Index,
    orphans: disk::Reach,
    needed: disk::Reach,
    uses: Vec<Use>,
    answer: Removed,
}

impl Removal {
    /// The removal of the entries `gone`. An image that keeps others stays, and stays pinned if it was.
    pub fn of(host: &Host, held: DirLock, catalog: &Catalog, gone: &BTreeSet<usize>, uses: Vec<Use>) -> Result<Self> {
        let images = host.images();
        let index = &catalog.index;
        let survives = |image: &&Listed| image.entries.iter().any(|nth| !gone.contains(nth));
        let repinned: BTreeSet<usize> =
            catalog.images.iter().filter(|image| image.pinned).filter(survives).flat_map(|image| image.entries.clone()).collect();
        let (mut rest, mut taken) = (Vec::new(), Vec::new());
        for (nth, raw) in index.raw_entries().iter().enumerate() {
            match (gone.contains(&nth), repinned.contains(&nth)) {
                (true, _) => taken.push(raw.clone()),
                (false, true) => rest.push(entry::with_pin(raw.clone(), true)),
                (false, false) => rest.push(raw.clone()),
            }
        }
        let (kept, removed) = (index.with_entries(rest)?, index.with_entries(taken)?);
        let orphans = disk::Reach::of(&images, &removed)?;
        let needed = disk::Reach::of_sharing(&images, &kept, &orphans)?;
        let untagged = gone.iter().filter_map(|&nth| store::reference_of(&index.entries()[nth])).collect();
        let touched = |image: &&Listed| image.entries.iter().all(|nth| gone.contains(nth));
        let deleted = catalog.images.iter().filter(touched).map(|image| image.id.clone()).collect();
        let mut answer = Removed { untagged, deleted, ..Removed::default() };
        if !needed.broken.is_empty() {
            answer.notes.clone_from(&needed.broken);
            answer.notes.push("blobs and layers stay, because not all of the other images can be read".to_owned());
        }
        Ok(Removal { _held: held, kept, orphans, needed, uses, answer })
    }

    /// Takes the entries out, then the blobs; the layers lose their names.
    pub fn carry_out(mut self, host: &Host) -> Result<Removed> {
        reach("remove", 0)?;
        disk::write_index(&host.images(), &self.kept)?;
        reach("remove", 1)?;
        if self.needed.broken.is_empty() {
            let (blobs, _) = sweep::to_discard(host, &self.orphans, &self.needed, &self.uses);
            for blob in &blobs {
                self.answer.freed += disk::find_blob_size(blob)?.unwrap_or(0);
            }
            self.answer.trash = sweep::discard(host, &self.orphans, &self.needed, &self.uses)?;
            drop(self._held);
            reach("remove", 2)?;
        }
        Ok(self.answer)
    }

    /// The same as a script, from the store as it is now.
    pub fn script(&self, host: &Host, what: &str) -> Script {
        let mut script = Script::new();
        script.comment(what);
        script.blank();
        script.comment("take its names out of the index");
        let index = disk::index_path(&host.images()).to_string_lossy().into_owned();
        script.write_file(&index, 0o644, self.kept.to_text().as_bytes());
        if self.needed.broken.is_empty() {
            let (blobs, layers) = sweep::to_discard(host, &self.orphans, &self.needed, &self.uses);
            script.blank();
            script.comment("remove the blobs and layers that nobody needs any more");
            blobs.iter().for_each(|blob| script.run(["rm", "-f", &blob.to_string_lossy()]));
            layers.iter().for_each(|layer| script.run(["rm", "-rf", "--one-file-system", &layer.to_string_lossy()]));
        }
        script
    }
}
