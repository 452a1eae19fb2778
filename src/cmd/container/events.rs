//! `rkbox events`: what happened to containers.

use std::path::PathBuf;

use crate::record::ContainerRecord;
use crate::record::life::{Event, EventKind};
use crate::sys::{Host, event_log, proc};

/// The log of this boot.
pub fn path(host: &Host) -> PathBuf {
    host.root.join("events").join(format!("{}.log", proc::boot_id().unwrap_or_default()))
}

/// Appends an event of a container. The container goes on without a line about it.
pub fn tell(host: &Host, record: &ContainerRecord, kind: EventKind) {
    let mut event = Event::new(proc::now_rfc3339(), kind, record.id.as_str(), record.name.as_ref());
    event.image = Some(record.image.requested.clone());
    let _ = event_log::append(&path(host), &event);
}

/// Appends an event with a detail.
pub fn tell_detail(host: &Host, record: &ContainerRecord, kind: EventKind, change: impl FnOnce(&mut Event)) {
    let mut event = Event::new(proc::now_rfc3339(), kind, record.id.as_str(), record.name.as_ref());
    change(&mut event);
    let _ = event_log::append(&path(host), &event);
}
