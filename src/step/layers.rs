//! Unpacks several layers side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::fault::{Context as _, Fault, Faults, Kind, Result};
use crate::script::Script;
use crate::sys::registry::BlobReader;
use crate::sys::room::Reserve;
use crate::sys::{Host, signal};

use super::layer::{Layer, LayerBefore, overlay_lowers};
use super::{Action, Undone, Way};

/// Layers that are unpacked at once, on any machine: each takes up to 8 MiB, and 32 more for the largest window of zstd.
const AT_ONCE: usize = 4;

/// Unpacks several layers side by side, as many as there are cores.
///
/// *Shape:* in an order in which each comes after those below it. A layer needs those below where it hides something of them, links
/// to it or adds to directories that it does not describe; there it waits. Nothing is shared: the whole is what [`Layer`]s one after
/// another make. Layers in zstd go one by one, because the windows of several would pass the 64 MiB that any image may cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layers {
    /// The layers.
    pub layers: Vec<Layer>,
}

/// The bytes of a blob, as they come.
pub type Bytes<'a> = Box<dyn Read + Send + 'a>;

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layers.as_slice() {
            [only] => only.fmt(f),
            several => write!(f, "unpack {} layers", several.len()),
        }
    }
}

impl Layers {
    /// [`Action::apply`] with the bytes of each blob from `open`, which is called when the layer's turn comes: a blob may still be on
    /// its way, and what comes later may wait for what comes first. A reader that fails ends the others too.
    pub fn apply_from<'a>(&self, befores: &[LayerBefore], open: &(dyn Fn(&Layer) -> Result<Bytes<'a>> + Sync)) -> Result<()> {
        self.apply_judged(befores, Reserve::default(), open, &|_, outcome| outcome)
    }

    /// As [`Layers::apply_from`]; `judge` says what came of a layer in the light of what came of its blob.
    fn apply_judged<'a>(
        &self,
        befores: &[LayerBefore],
        kept: Reserve,
        open: &(dyn Fn(&Layer) -> Result<Bytes<'a>> + Sync),
        judge: &(dyn Fn(&Layer, Result<()>) -> Result<()> + Sync),
    ) -> Result<()> {
        let ends = Mutex::new(BTreeMap::new());
        let work = Work { several: self.layers.len() > 1, kept, ends, ended: Condvar::new(), first: Mutex::new(None) };
        for (layer, before) in self.layers.iter().zip(self.all(befores)) {
            work.ends().insert(layer.path.clone(), before.present.then_some(true));
        }
        let next = AtomicUsize::new(0);
        let turns = || {
            while let Some((layer, before)) = take(&next, &self.layers, befores) {
                work.one(layer, &before, open, judge);
            }
        };
        std::thread::scope(|scope| {
            (1..self.at_once()).for_each(|_| drop(scope.spawn(turns)));
            turns();
        });
        signal::check()?;
        work.first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// What came of one layer, named where there are several: one alone gives the step its name.
    fn of<T>(&self, layer: &Layer, outcome: Result<T>) -> Result<T> {
        if self.layers.len() > 1 { outcome.doing(|| layer.to_string()) } else { outcome }
    }

    fn at_once(&self) -> usize {
        if self.layers.iter().any(|layer| layer.media_type.contains("zstd")) {
            return 1;
        }
        std::thread::available_parallelism().map_or(1, usize::from).min(AT_ONCE).min(self.layers.len())
    }

    fn all<'a>(&self, befores: &'a [LayerBefore]) -> impl Iterator<Item = LayerBefore> + 'a {
        let missing = self.layers.len().saturating_sub(befores.len());
        befores.iter().cloned().chain(std::iter::repeat_n(LayerBefore::default(), missing))
    }
}

/// The next layer, and what stood there before it.
fn take<'a>(next: &AtomicUsize, layers: &'a [Layer], befores: &[LayerBefore]) -> Option<(&'a Layer, LayerBefore)> {
    let nth = next.fetch_add(1, Ordering::Relaxed);
    Some((layers.get(nth)?, befores.get(nth).cloned().unwrap_or_default()))
}

/// What the threads know of each other.
struct Work {
    several: bool,
    kept: Reserve,
    /// Whether each layer is whole; absent while it is on its way.
    ends: Mutex<BTreeMap<PathBuf, Option<bool>>>,
    ended: Condvar,
    /// What went wrong first: what goes wrong after it is its consequence.
    first: Mutex<Option<Fault>>,
}

impl Work {
    fn ends(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Option<bool>>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first(&self) -> MutexGuard<'_, Option<Fault>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one<'a>(
        &self,
        layer: &Layer,
        before: &LayerBefore,
        open: &(dyn Fn(&Layer) -> Result<Bytes<'a>> + Sync),
        judge: &(dyn Fn(&Layer, Result<()>) -> Result<()> + Sync),
    ) {
        if before.present {
            return;
        }
        // Whatever happens, nobody waits for this layer for ever.
        let mut end = End { work: self, path: &layer.path, whole: false };
        let unpacked = self.go_on().and_then(|()| layer.turn(|| self.go_on())).and_then(|turn| match turn {
            None => Ok(()),
            Some(_turn) => open(layer)
                .and_then(|blob| layer.apply_from(before, Stoppable { blob, work: self }, Box::new(|| self.below(layer)), self.kept)),
        });
        let unpacked = judge(layer, unpacked);
        // One alone gives the step its name.
        let unpacked = if self.several { unpacked.doing(|| layer.to_string()) } else { unpacked };
        // Said before the layer's end is: who waits for it fails at once.
        match unpacked {
            Ok(()) => end.whole = true,
            Err(fault) => {
                self.first().get_or_insert(fault);
            }
        }
    }

    fn go_on(&self) -> Result<()> {
        signal::check()?;
        match *self.first() {
            Some(_) => Err(Fault::new(Kind::Cancelled, "another layer could not be unpacked")),
            None => Ok(()),
        }
    }

    /// The directories below `layer`, once all of them are whole.
    fn below(&self, layer: &Layer) -> Result<Vec<PathBuf>> {
        let mut ends = self.ends();
        for lower in &layer.lowers {
            while ends.get(lower).is_some_and(Option::is_none) {
                ends = self.ended.wait(ends).unwrap_or_else(PoisonError::into_inner);
            }
            if ends.get(lower) == Some(&Some(false)) {
                return Err(Fault::new(Kind::Cancelled, "a layer below could not be unpacked"));
            }
        }
        drop(ends);
        overlay_lowers(&layer.lowers)
    }
}

/// Tells the end of a layer when it is dropped.
struct End<'a> {
    work: &'a Work,
    path: &'a Path,
    whole: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.work.ends().insert(self.path.to_path_buf(), Some(self.whole));
        self.work.ended.notify_all();
    }
}

/// A blob whose reader ends when another layer has failed or a signal came.
struct Stoppable<'a, R> {
    blob: R,
    work: &'a Work,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.work.go_on().map_err(|fault| io::Error::other(fault.to_string()))?;
        self.blob.read(buffer)
    }
}

impl Action for Layers {
    type Before = Vec<LayerBefore>;

    fn look(&self, host: &Host) -> Result<Vec<LayerBefore>> {
        self.layers.iter().map(|layer| self.of(layer, layer.look(host))).collect()
    }

    fn already(&self, befores: &Vec<LayerBefore>) -> bool {
        self.layers.iter().zip(self.all(befores)).all(|(layer, before)| layer.already(&before))
    }

    fn apply(&self, befores: &Vec<LayerBefore>, host: &Host) -> Result<()> {
        let open = |layer: &Layer| -> Result<Bytes<'_>> { Ok(Box::new(BlobReader::open(&layer.blob, host)?)) };
        self.apply_judged(befores, host.keep_free, &open, &|layer, outcome| BlobReader::judge(outcome, (&layer.blob, &layer.digest), host))
    }

    fn undo(&self, befores: &Vec<LayerBefore>, host: &Host) -> Result<Undone> {
        let (mut faults, mut undone) = (Faults::default(), Undone::Done);
        let befores: Vec<LayerBefore> = self.all(befores).collect();
        for (layer, before) in self.layers.iter().zip(&befores).rev() {
            if faults.keep(self.of(layer, layer.undo(before, host))) == Some(Undone::Kept) {
                undone = Undone::Kept;
            }
        }
        faults.or(undone)
    }

    fn script(&self, way: Way<'_, Vec<LayerBefore>>, out: &mut Script) {
        match way {
            Way::Apply => self.layers.iter().for_each(|layer| layer.script(Way::Apply, out)),
            Way::Undo(befores) => {
                let befores: Vec<LayerBefore> = self.all(befores).collect();
                self.layers.iter().zip(&befores).rev().for_each(|(layer, before)| layer.script(Way::Undo(before), out));
            }
        }
    }
}
