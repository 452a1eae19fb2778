//! The ledger of shared things that rkbox made in this boot, so that `gc` can take back those that nobody uses.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::journal::{PATIENCE, append_line, lock_in_own_dir};
use super::reach;
use crate::fault::{Fault, Kind, Result};
use crate::step::{Step, Undone};
use crate::sys::lock::{self, Lock};
use crate::sys::{Host, file};

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    step: Step,
    before: Value,
}

fn path(host: &Host) -> PathBuf {
    host.run.join("shared.jsonl")
}

/// Appends shared steps that were applied, oldest first.
pub fn note(made: &[(Step, Value)], host: &Host) -> Result<()> {
    if made.is_empty() {
        return Ok(());
    }
    let mut lines = String::new();
    for (step, before) in made {
        let line = serde_json::to_string(&Entry { step: step.clone(), before: before.clone() });
        lines.push_str(&line.map_err(|error| Fault::from_error(Kind::Internal, error))?);
        lines.push('\n');
    }
    let held = lock_in_own_dir(&path(host))?;
    append_line(&held, lines.as_bytes())
}

/// Takes back what nobody uses, newest first; answers the phrases of what went. What is in use stays in the ledger.
///
/// What went may have been the last user of something older or newer, so the ledger is gone through until nothing more goes.
pub fn reclaim(host: &Host) -> Result<Vec<String>> {
    let Some(held) = lock::acquire_existing(&path(host), PATIENCE)? else { return Ok(Vec::new()) };
    let content = file::read(held.path(), 64 << 20)?;
    let text = String::from_utf8_lossy(&content);
    let mut left: Vec<Entry> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let (mut gone, listed) = (Vec::new(), left.len());
    loop {
        let before = left.len();
        let (kept, fault) = reclaim_once(left, &mut gone, host)?;
        left = kept;
        if left.len() == before || left.is_empty() {
            if left.len() < listed || left.is_empty() {
                rewrite(&left, &held)?;
            }
            return fault.map_or(Ok(gone), Err);
        }
    }
}

fn reclaim_once(entries: Vec<Entry>, gone: &mut Vec<String>, host: &Host) -> Result<(Vec<Entry>, Option<Fault>)> {
    // Who attaches holds the lock of the network's pool from planning until the link is up: what is unused under it stays unused. A pool
    // is the keeper of that lock and takes it itself.
    let (pools, others): (Vec<_>, Vec<_>) = entries.into_iter().enumerate().partition(|(_, entry)| entry.step.network_lock().is_some());
    let mut held = Vec::new();
    for path in pools.iter().filter_map(|(_, entry)| entry.step.network_lock()).collect::<BTreeSet<PathBuf>>() {
        held.extend(lock::acquire_existing(&path, PATIENCE)?);
    }
    let mut kept = Vec::new();
    let mut first: Option<Fault> = None;
    let mut undo = |(index, entry): (usize, Entry)| -> Result<()> {
        reach("reclaim", index)?;
        match entry.step.undo(&entry.before, host) {
            Ok(Undone::Done) => gone.push(entry.step.to_string()),
            Ok(Undone::Kept) => kept.push((index, entry)),
            Err(fault) => {
                first.get_or_insert(fault.doing(format!("undoing \"{}\"", entry.step)));
                kept.push((index, entry));
            }
        }
        Ok(())
    };
    others.into_iter().rev().try_for_each(&mut undo)?;
    drop(held);
    pools.into_iter().rev().try_for_each(&mut undo)?;
    kept.sort_by_key(|(index, _)| *index);
    Ok((kept.into_iter().map(|(_, entry)| entry).collect(), first))
}

fn rewrite(kept: &[Entry], held: &Lock) -> Result<()> {
    if kept.is_empty() {
        file::remove_file(held.path())?;
        return Ok(());
    }
    let mut lines = String::new();
    for entry in kept {
        lines.push_str(&serde_json::to_string(entry).map_err(|error| Fault::from_error(Kind::Internal, error))?);
        lines.push('\n');
    }
    match file::write_atomic(held.path(), 0o600, lines.as_bytes(), file::Durable::No).map_err(Fault::from) {
        // On a full disk what went stays listed: taking it back again does nothing.
        Err(fault) if fault.kind() == Kind::ResourceExhausted => Ok(()),
        other => other.map(drop),
    }
}
