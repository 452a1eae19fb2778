//! Blobs on their way: what one thread writes, others read as it comes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Session, held};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::Digest;
use crate::sys::{Halt, Host, blob_seal, store, tree};

/// How often somebody who waits for a blob looks around.
const GLANCE: Duration = Duration::from_millis(100);

/// One blob on its way.
pub(super) struct Flight {
    stage: Mutex<Stage>,
    moved: Condvar,
}

#[derive(Clone, Debug)]
enum Stage {
    /// It will come.
    Expected,
    /// So many bytes of the file are there and are good as far as one can know.
    Flying { path: PathBuf, bytes: u64 },
    /// It comes, but is not shown before it is whole: it goes on from what a former pull left, which nobody has verified.
    Hidden,
    /// It is stored.
    Landed,
    /// It will not come.
    Lost,
}

impl Flight {
    fn set(&self, stage: Stage) {
        *held(&self.stage) = stage;
        self.moved.notify_all();
    }

    /// Shows what comes into `path` from now on.
    pub fn start(&self, path: &Path, resumed: bool) {
        self.set(if resumed { Stage::Hidden } else { Stage::Flying { path: path.to_path_buf(), bytes: 0 } });
    }

    /// So many bytes are there.
    pub fn reach(&self, now: u64) {
        if let Stage::Flying { bytes, .. } = &mut *held(&self.stage) {
            *bytes = now;
        }
        self.moved.notify_all();
    }

    pub fn land(&self) {
        self.set(Stage::Landed);
    }

    pub fn lose(&self) {
        self.set(Stage::Lost);
    }

    /// Waits until `done` says so of the stage, at most for a glance at a time, between which `look` may end it.
    fn wait<T>(&self, mut done: impl FnMut(&Stage) -> Option<T>, mut look: impl FnMut() -> Option<T>) -> T {
        let mut stage = held(&self.stage);
        loop {
            if let Some(found) = done(&stage) {
                return found;
            }
            let (next, timeout) = self.moved.wait_timeout(stage, GLANCE).unwrap_or_else(PoisonError::into_inner);
            stage = next;
            if timeout.timed_out() {
                drop(stage);
                if let Some(found) = look() {
                    return found;
                }
                stage = held(&self.stage);
            }
        }
    }
}

impl Session {
    /// Says that the blob of `digest` will come, so that its layer waits for it; one that was lost may come after all.
    pub fn expect(&self, digest: &Digest) {
        let flight = self.flight(digest);
        let mut stage = held(&flight.stage);
        if matches!(*stage, Stage::Lost) {
            *stage = Stage::Expected;
        }
    }

    pub(super) fn flight(&self, digest: &Digest) -> Arc<Flight> {
        let new = || Arc::new(Flight { stage: Mutex::new(Stage::Expected), moved: Condvar::new() });
        held(&self.inner.flights).entry(digest.clone()).or_insert_with(new).clone()
    }
}

/// A stored blob, or one that is on its way.
pub struct BlobReader {
    file: File,
    position: u64,
    coming: Option<Coming>,
}

struct Coming {
    session: Session,
    digest: Digest,
    flight: Arc<Flight>,
    halt: Halt,
}

impl BlobReader {
    /// Opens the blob at `path`; when a session of this process fetches it, what has come of it so far.
    ///
    /// *Errors:* `Cancelled` when it was on its way and will not come.
    pub fn open(path: &Path, host: &Host) -> Result<Self> {
        let stored = |path: &Path| tree::open_blob(path, 0).map(|file| BlobReader { file, position: 0, coming: None });
        let flying = host.registry.as_ref().and_then(|session| {
            let digest = path.file_name().and_then(|name| name.to_str()).and_then(Digest::from_file_name)?;
            let flight = held(&session.inner.flights).get(&digest).cloned()?;
            Some(Coming { session: session.clone(), digest, flight, halt: host.halt.clone() })
        });
        let Some(coming) = flying.filter(|coming| !blob_seal::is_sealed(path, &coming.digest)) else { return stored(path) };
        let gone = || Err(Fault::new(Kind::Cancelled, format!("blob {} did not come", coming.digest)));
        let there = coming.flight.wait(
            |stage| match stage {
                Stage::Flying { path, .. } => Some(Ok(Some(path.clone()))),
                Stage::Landed => Some(Ok(None)),
                Stage::Lost => Some(gone()),
                Stage::Expected | Stage::Hidden => None,
            },
            || match blob_seal::is_sealed(path, &coming.digest) {
                _ if coming.halt.is_set() => Some(gone()),
                true => Some(Ok(None)),
                false => None,
            },
        )?;
        match there {
            // It may have got its name in between.
            Some(partial) => match File::open(&partial) {
                Ok(file) => Ok(BlobReader { file, position: 0, coming: Some(coming) }),
                Err(_) => stored(path),
            },
            None => stored(path),
        }
    }

    /// What came of reading the blob at `path`, in the light of what came of the blob: a layer cannot be blamed for one that did not
    /// come whole. One that lies there and may be damaged loses its seal.
    ///
    /// *Errors:* `Conflict` when a pull took a stored blob for good that is damaged: then it begins anew, and fetches it.
    pub fn judge<T>(outcome: Result<T>, (path, digest): (&Path, &str), host: &Host) -> Result<T> {
        let outcome = outcome.map_err(|fault| match digest.parse::<Digest>() {
            Ok(digest) if fault.kind() == Kind::DataLoss => accuse(fault, path, &digest, host),
            _ => fault,
        });
        let (Err(fault), Some(session)) = (&outcome, &host.registry) else { return outcome };
        let flight = digest.parse::<Digest>().ok().and_then(|digest| held(&session.inner.flights).get(&digest).cloned());
        let (true, Some(flight)) = (matches!(fault.kind(), Kind::DataLoss | Kind::Cancelled), flight) else { return outcome };
        let lost = flight.wait(
            |stage| match stage {
                Stage::Landed | Stage::Expected => Some(false),
                Stage::Lost => Some(true),
                Stage::Flying { .. } | Stage::Hidden => None,
            },
            || host.halt.is_set().then_some(true),
        );
        if lost { outcome.map_err(|fault| fault.of_kind(Kind::Cancelled)) } else { outcome }.doing(|| "unpacking it")
    }
}

/// Breaks the seal of a stored blob whose layer could not be unpacked.
fn accuse(fault: Fault, path: &Path, digest: &Digest, host: &Host) -> Fault {
    if !blob_seal::is_sealed(path, digest) {
        return fault;
    }
    blob_seal::break_seal(path);
    let damaged = store::digest_blob(path, digest.algorithm()).is_ok_and(|found| found != *digest);
    if damaged && host.registry.is_some() { fault.of_kind(Kind::Conflict) } else { fault }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(coming) = &self.coming else {
            let count = self.file.read_at(buffer, self.position)?;
            self.position += count as u64;
            return Ok(count);
        };
        let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the blob did not come whole");
        let here = self.position;
        let there = coming.flight.wait(
            |stage| match stage {
                Stage::Flying { bytes, .. } if *bytes > here => Some(Ok(*bytes)),
                Stage::Landed => Some(Ok(u64::MAX)),
                Stage::Lost | Stage::Hidden | Stage::Expected => Some(Err(cut())),
                Stage::Flying { .. } => None,
            },
            || coming.halt.is_set().then(|| Err(cut())),
        )?;
        let room = usize::try_from(there - here).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..room], here)?;
        self.position += count as u64;
        if count == 0 && room > 0 {
            coming.session.inner.options.watch.unpacked(&coming.digest);
        }
        Ok(count)
    }
}
