//! New monitors for containers whose own were killed.

use super::state::{self, Watcher};
use super::{events, launch};
use crate::cmd::records;
use crate::fault::{Context as _, Faults, Result};
use crate::ids::Id;
use crate::plan::journal::{self, Journal};
use crate::record::life::{EventKind, Launch};
use crate::sys::{Host, monitor};

/// Gives each container that runs unwatched a new monitor; answers their names, and the faults of those that could not have one.
///
/// The new monitor goes on with the log where the old one stopped: what was printed meanwhile waits in the pipes. A terminal cannot be taken
/// over. How the container ends is known on Linux 6.15 and newer, and else reported as unknown.
pub fn adopt_all(host: &Host) -> Result<(Vec<String>, Faults)> {
    let (mut adopted, mut faults) = (Vec::new(), Faults::default());
    for id in records::ids(host, records::BoxKind::Container)? {
        let tried = adopt(host, &id).doing(|| format!("cannot watch container {} again", id.short()));
        adopted.extend(faults.keep(tried).flatten());
    }
    Ok((adopted, faults))
}

/// `None` when there is nothing to do: it is watched, or does not run, or somebody is at work with it.
fn adopt(host: &Host, id: &Id) -> Result<Option<String>> {
    let Ok(record) = records::container(host, id) else { return Ok(None) };
    let Some(held) = Journal::open_free(&journal::path(host, id.as_str()))? else { return Ok(None) };
    let state = state::of(host, &record)?;
    if state.pid.is_none() || state.watcher != Watcher::Lost {
        return Ok(None);
    }
    monitor::start(&launch::order(host, &record, Launch::Adopt, false))?;
    events::tell(host, &record, EventKind::Adopt);
    drop(held);
    Ok(Some(record.name.to_string()))
}
