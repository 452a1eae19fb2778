//! `rkbox events`: what happened to containers.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::logs::moment;
use crate::cmd::image::store;
use crate::cmd::{Context, Format, output, records};
use crate::fault::Result;
use crate::ids::{Id, shorten};
use crate::record::life::{Event, EventKind};
use crate::record::{ContainerRecord, MountFrom};
use crate::sys::changes::Changes;
use crate::sys::log_reader::LogReader;
use crate::sys::{Host, event_log, file, proc};

/// The log of this boot.
pub fn path(host: &Host) -> PathBuf {
    host.root.join("events").join(format!("{}.log", proc::boot_id().unwrap_or_default()))
}

/// Appends an event of a container, and notes that its images are used. The container goes on without a line about it.
pub fn tell(host: &Host, record: &ContainerRecord, kind: EventKind) {
    let mut event = Event::new(proc::now_rfc3339(), kind, record.id.as_str(), record.name.as_ref());
    event.image = Some(record.image.requested.clone());
    let _ = event_log::append(&path(host), &event);
    if matches!(kind, EventKind::Create | EventKind::Remove) {
        store::note_use(host, &record.image_id);
        let mounted = record
            .mounts
            .iter()
            .filter_map(|mount| if let MountFrom::Image { image_id, .. } = &mount.from { Some(image_id) } else { None });
        mounted.for_each(|id| store::note_use(host, id));
    }
}

/// Appends an event with a detail.
pub fn tell_detail(host: &Host, record: &ContainerRecord, kind: EventKind, change: impl FnOnce(&mut Event)) {
    let mut event = Event::new(proc::now_rfc3339(), kind, record.id.as_str(), record.name.as_ref());
    change(&mut event);
    let _ = event_log::append(&path(host), &event);
}

/// Arguments of `rkbox events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on with those that come
    #[arg(short, long)]
    pub follow: bool,
    /// From then: RFC 3339, Unix seconds, or how long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<String>,
    /// Until then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<String>,
    /// Only of this container: name, id or the start of an id
    #[arg(long, value_name = "CONTAINER")]
    pub container: Option<String>,
    /// Only this kind (create, start, die, …), may be repeated
    #[arg(long = "event", value_name = "KIND")]
    pub kinds: Vec<String>,
}

/// How long a follower waits before it looks by itself.
const TURN: Duration = Duration::from_secs(5);

/// Prints the events of this boot, oldest first.
pub fn run(cx: &Context, args: &EventsArgs) -> Result<u8> {
    let path = path(&cx.host);
    // Whatever it was named when they happened.
    let id = args.container.as_ref().and_then(|key| records::find(&cx.host, records::BoxKind::Container, key).ok());
    let changes = Changes::new()?;
    let dir = path.parent().unwrap_or(&cx.host.root);
    if args.follow {
        file::ensure_dir(dir, 0o700)?;
        changes.of(dir)?;
    }
    let (mut reader, mut line) = (LogReader::oldest(&path), Vec::new());
    loop {
        while reader.next(&mut line) {
            let Ok(event) = serde_json::from_slice::<Event>(&line) else { continue };
            if args.fits(&event, id.as_ref()) && !print(cx.format, &event) {
                return Ok(0);
            }
        }
        let now = proc::now_rfc3339();
        if !args.follow || args.until.as_ref().is_some_and(|until| now > *until) {
            return Ok(0);
        }
        changes.wait(&[], TURN)?;
    }
}

impl EventsArgs {
    fn fits(&self, event: &Event, id: Option<&Id>) -> bool {
        self.since.as_ref().is_none_or(|since| event.time >= *since)
            && self.until.as_ref().is_none_or(|until| event.time <= *until)
            && self.container.as_ref().is_none_or(|key| {
                event.name == *key || event.container.starts_with(key.as_str()) || id.is_some_and(|id| event.container == id.as_str())
            })
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == event.event.word()))
    }
}

/// One event a line, as it is written or in columns; false when nobody reads.
fn print(format: Format, event: &Event) -> bool {
    let text = match format {
        Format::Json => event.line(),
        Format::Table => {
            let mut row = vec![event.time.clone(), event.event.word().to_owned(), shorten(&event.container), event.name.clone()];
            row.extend(event.image.iter().map(|image| format!("image={image}")));
            row.extend(event.exit_code.iter().map(|code| format!("exit_code={code}")));
            row.extend(event.detail.clone());
            row.join(" ") + "\n"
        }
    };
    output::bytes(text.as_bytes())
}
