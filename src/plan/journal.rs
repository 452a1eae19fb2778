//! The journal of a box: append-only JSON lines on `/run`, whose lock is its owner's life.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Keep;
use crate::fault::{Context, Fault, Kind, Result, kind_of_errno};
use crate::step::Step;
use crate::sys::lock::{self, Lock};
use crate::sys::{Host, file};

/// Version of the format, in the first line.
pub const VERSION: u32 = 1;
/// How long a command waits for the owner of a box.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A journal larger than this is not ours.
const LIMIT: u64 = 64 << 20;

/// One line of a journal: a fact, never changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The plan, before anything is done.
    Planned {
        /// [`VERSION`].
        v: u32,
        /// What it is for, in words.
        command: String,
        /// The boot in which it holds.
        boot: String,
        /// What recovery does once it is settled.
        keep: Keep,
        /// The steps, in order.
        steps: Vec<Step>,
    },
    /// A step is about to be applied.
    Started {
        /// Its place in the plan.
        index: usize,
        /// What stood there.
        before: Value,
    },
    /// A step is applied.
    Done {
        /// Its place in the plan.
        index: usize,
        /// What it took.
        micros: u64,
    },
    /// The point of no return: the plan holds as a whole.
    Settled,
    /// A removal has begun, down to and including step `down_to`.
    Removing {
        /// The lowest step to take back; 0 is all.
        down_to: usize,
    },
    /// A step is taken back.
    Undone {
        /// Its place in the plan.
        index: usize,
    },
}

/// What a journal says, folded.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What it was for.
    pub command: String,
    /// The boot in which it holds.
    pub boot: String,
    /// What recovery does once it is settled.
    pub keep: Keep,
    /// The steps.
    pub steps: Vec<Step>,
    /// Steps begun, with what stood there before.
    pub started: BTreeMap<usize, Value>,
    /// Steps taken back.
    pub undone: BTreeSet<usize>,
    /// Whether the plan holds as a whole.
    pub settled: bool,
    /// The lowest step of a removal that has begun.
    pub removing: Option<usize>,
}

/// An open journal; holds its lock.
#[derive(Debug)]
pub struct Journal {
    lock: Lock,
    /// Held for one append: steps that run side by side write to it.
    writing: Mutex<()>,
}

/// Where the journal of `box_id` is.
pub fn path(host: &Host, box_id: &str) -> PathBuf {
    host.journals().join(format!("{box_id}.jsonl"))
}

impl Journal {
    fn of(lock: Lock) -> Self {
        Journal { lock, writing: Mutex::new(()) }
    }

    /// Makes the journal of a new box and locks it.
    ///
    /// *Errors:* `AlreadyExists` when the box has a journal. One that was left unsettled by a dead command is the caller's to unwind first.
    pub fn create(host: &Host, box_id: &str) -> Result<Self> {
        let lock = lock_in_own_dir(&path(host, box_id))?;
        if lock.file().metadata().map_or(0, |meta| meta.len()) > 0 {
            return Err(Fault::new(Kind::AlreadyExists, format!("box {box_id} has a journal already")));
        }
        Ok(Journal::of(lock))
    }

    /// Opens the journal of `box_id`, waiting for its owner; `None` when there is none.
    pub fn open(host: &Host, box_id: &str) -> Result<Option<Self>> {
        Ok(lock::acquire_existing(&path(host, box_id), PATIENCE)?.map(Journal::of))
    }

    /// Opens a journal whose owner is dead or done; `None` when somebody holds it or there is none.
    pub fn open_free(path: &Path) -> Result<Option<Self>> {
        Ok(lock::find_free_existing(path)?.map(Journal::of))
    }

    /// Appends one event in one write.
    pub fn append(&self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_vec(event).map_err(|error| Fault::from_error(Kind::Internal, error))?;
        line.push(b'\n');
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        append_line(&self.lock, &line)
    }

    /// Appends one event of a removal. On a full disk it may be missing: a removal can be begun again, an undo done twice.
    pub fn append_if_room(&self, event: &Event) -> Result<()> {
        match self.append(event) {
            Err(fault) if fault.kind() == Kind::ResourceExhausted => Ok(()),
            other => other,
        }
    }

    /// Folds what is written.
    pub fn status(&self) -> Result<Status> {
        read(self.lock.path())?.ok_or_else(|| Fault::new(Kind::DataLoss, format!("journal {} is empty", self.lock.path().display())))
    }

    /// Removes the journal; its lock goes with it.
    pub fn remove(self) -> Result<()> {
        file::remove_file(self.lock.path())?;
        Ok(())
    }

    /// Whether nothing was written yet.
    pub fn is_blank(&self) -> bool {
        self.lock.file().metadata().map_or(0, |meta| meta.len()) == 0
    }

    /// How long the lock was waited for.
    pub fn waited(&self) -> Duration {
        self.lock.waited()
    }
}

/// Appends whole lines to a locked file; on a full disk none of them.
pub(super) fn append_line(held: &Lock, lines: &[u8]) -> Result<()> {
    let Err(error) = held.file().write_all(lines) else { return Ok(()) };
    // Half a line would spoil the next one.
    if let Ok(content) = file::read(held.path(), LIMIT) {
        let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let _ = held.file().set_len(whole as u64);
    }
    let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0));
    Err(Fault::new(kind_of_errno(errno), error.to_string()).doing(format!("writing {}", held.path().display())))
}

/// Takes the lock of a file of rkbox's own, making its directory; once more when `gc` took that while it was empty.
pub(super) fn lock_in_own_dir(path: &Path) -> Result<Lock> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut tries = 0;
    loop {
        tries += 1;
        file::ensure_dir(dir, 0o700)?;
        match lock::acquire(path, PATIENCE) {
            Err(fault) if fault.kind() == Kind::NotFound && tries < 8 => {}
            other => return other,
        }
    }
}

/// Folds the journal at `path` without taking its lock; `None` when it is not there or empty.
pub fn read(path: &Path) -> Result<Option<Status>> {
    let Ok(open) = std::fs::File::open(path) else { return Ok(None) };
    let mut text = String::new();
    open.take(LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| Fault::new(Kind::DataLoss, error.to_string()))
        .doing(|| format!("reading {}", path.display()))?;
    fold(&text).doing(|| format!("reading {}", path.display()))
}

/// Folds the text of a journal. A last line without its newline was never acted upon and does not count.
fn fold(text: &str) -> Result<Option<Status>> {
    let mut status: Option<Status> = None;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else { break };
        let event =
            serde_json::from_str(line).map_err(|error| Fault::from_error(Kind::DataLoss, error).doing(format!("line {}", number + 1)))?;
        match (event, &mut status) {
            (Event::Planned { v, command, boot, keep, steps }, None) if v == VERSION => {
                status = Some(Status { command, boot, keep, steps, ..Status::default() });
            }
            (Event::Planned { v, .. }, None) => return Err(Fault::new(Kind::DataLoss, format!("version {v} is not known, {VERSION} is"))),
            (Event::Started { index, before }, Some(status)) => {
                status.started.insert(index, before);
                status.undone.remove(&index);
            }
            (Event::Done { .. }, Some(_)) => {}
            (Event::Settled, Some(status)) => status.settled = true,
            (Event::Removing { down_to }, Some(status)) => status.removing = Some(down_to),
            (Event::Undone { index }, Some(status)) => {
                status.undone.insert(index);
            }
            _ => return Err(Fault::new(Kind::DataLoss, format!("line {} does not follow", number + 1))),
        }
    }
    Ok(status)
}

impl Status {
    /// The steps that stand: begun and not taken back, last first.
    pub fn standing(&self) -> impl Iterator<Item = (usize, &Step, &Value)> {
        self.started
            .iter()
            .rev()
            .filter(|(index, _)| !self.undone.contains(index))
            .filter_map(|(index, before)| Some((*index, self.steps.get(*index)?, before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANNED: &str = r#"{"event":"planned","v":1,"command":"c","boot":"b","keep":"until-removed","steps":[{"step":"nat-table"}]}"#;

    #[test]
    fn a_torn_last_line_was_never_acted_upon() {
        let whole = format!("{PLANNED}\n{{\"event\":\"started\",\"index\":0,\"before\":null}}\n{{\"event\":\"sett");
        let status = fold(&whole).unwrap().unwrap();
        assert!(!status.settled);
        assert_eq!(status.standing().count(), 1);
        assert!(fold("{\"event\":\"pla").unwrap().is_none());
    }

    #[test]
    fn undone_steps_do_not_stand() {
        let whole = format!("{PLANNED}\n{{\"event\":\"started\",\"index\":0,\"before\":null}}\n{{\"event\":\"undone\",\"index\":0}}\n");
        assert_eq!(fold(&whole).unwrap().unwrap().standing().count(), 0);
    }

    #[test]
    fn damage_is_named() {
        assert_eq!(fold("nonsense\n").unwrap_err().kind(), Kind::DataLoss);
        assert!(fold(&PLANNED.replace("\"v\":1", "\"v\":9")).unwrap().is_none());
        let newer = format!("{}\n", PLANNED.replace("\"v\":1", "\"v\":9"));
        assert!(fold(&newer).unwrap_err().to_string().contains("version 9"));
        assert!(fold("{\"event\":\"settled\"}\n").is_err());
    }
}
