//! Recovery: a crash is a journal whose lock is free and which is not settled. It only goes backwards.

use super::journal::{self, Journal};
use super::{Keep, apply, unwind};
use crate::fault::{Faults, Result};
use crate::sys::{Host, file};

/// What recovery did with one box.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Recovered {
    /// The box.
    pub box_id: String,
    /// What its plan was for.
    pub command: String,
}

/// Takes back what dead commands left: unsettled plans and removals begun.
///
/// *Errors:* the first, after every journal was tried.
pub fn recover(host: &Host) -> Result<Vec<Recovered>> {
    let mut recovered = Vec::new();
    let mut faults = Faults::default();
    for name in file::list(&host.journals())? {
        let Some(box_id) = name.strip_suffix(".jsonl") else { continue };
        match recover_one(host, box_id) {
            Ok(Some(command)) => recovered.push(Recovered { box_id: box_id.to_owned(), command }),
            Ok(None) => {}
            Err(fault) => {
                let fault = fault.doing(format!("recovering {box_id}"));
                faults.note(fault);
            }
        }
    }
    faults.or(recovered)
}

fn recover_one(host: &Host, box_id: &str) -> Result<Option<String>> {
    let Some(open) = Journal::open_free(&journal::path(host, box_id))? else { return Ok(None) };
    if open.is_blank() {
        return open.remove().map(|()| Some("start a command".to_owned()));
    }
    let status = open.status()?;
    let command = status.command.clone();
    match (status.settled, status.removing, status.keep) {
        (false, ..) => unwind::roll_back_held(open, host)?,
        (true, Some(down_to), _) if down_to == 0 || status.standing().any(|(index, ..)| index >= down_to) => {
            unwind::remove_held(open, host, down_to)?
        }
        (true, _, Keep::Result) => apply::end_of_result(open, host)?,
        (true, ..) => return Ok(None),
    }
    Ok(Some(command))
}
