//! Events: one line for each change of a container's state, appended by whoever made or saw it.

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// It was made.
    Create,
    /// Its first process runs.
    Start,
    /// Its first process ended.
    Die,
    /// The kernel killed it for lack of memory.
    Oom,
    /// It is started again by its policy.
    Restart,
    /// A check said another thing than the one before.
    Health,
    /// It has a new monitor.
    Adopt,
    /// Its processes are frozen.
    Pause,
    /// They go on.
    Unpause,
    /// It has another name.
    Rename,
    /// It is gone.
    Remove,
}

impl EventKind {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            EventKind::Create => "create",
            EventKind::Start => "start",
            EventKind::Die => "die",
            EventKind::Oom => "oom",
            EventKind::Restart => "restart",
            EventKind::Health => "health",
            EventKind::Adopt => "adopt",
            EventKind::Pause => "pause",
            EventKind::Unpause => "unpause",
            EventKind::Rename => "rename",
            EventKind::Remove => "remove",
        }
    }
}

/// One line of the event log.
///
/// *Shape:* `{"time":"…","event":"die","container":"<id>","name":"web","exit_code":0}`, shorter than PIPE_BUF so that appends do not mix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// RFC 3339 with nanoseconds.
    pub time: String,
    /// What happened.
    pub event: EventKind,
    /// The container's id.
    pub container: String,
    /// Its name then.
    pub name: String,
    /// What it was made of, as asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// What a check said; the name before a renaming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Event {
    /// An event without particulars.
    pub fn new(time: String, event: EventKind, container: &str, name: &str) -> Self {
        Event { time, event, container: container.to_owned(), name: name.to_owned(), image: None, exit_code: None, detail: None }
    }

    /// The line, its newline included.
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}
