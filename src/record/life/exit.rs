//! The exit file: what came of a container, written once by whoever waited for it.

use serde::{Deserialize, Serialize};

/// Why a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Its first process ended, by itself or by a signal.
    Exited,
    /// The kernel killed it for lack of memory.
    OomKilled,
    /// Nobody was there to see it: the exit code is 255 for want of a better one.
    Unknown,
}

/// What came of a container.
///
/// *Shape:* `exit.json` in its directory, one line, keys sorted. *Source:* DATA-MODEL; the reasons follow CRI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code, or 128 and the signal.
    pub exit_code: u8,
    /// When, RFC 3339 with nanoseconds.
    pub finished_at: String,
    /// More than the reason says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether the kernel killed one of its processes for lack of memory; `None` when nobody looked.
    pub oom_killed: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Version.
    pub v: u32,
}

impl Exit {
    /// The exit code when nobody saw the end. *Source:* CRI runtimes.
    pub const UNKNOWN: u8 = 255;

    /// The end of a first process that was waited for: its code, or 128 and the signal.
    pub fn seen(code: u8, signal: Option<i32>, oom_killed: Option<bool>, finished_at: String) -> Self {
        // A kill for lack of memory is SIGKILL; a child of the first process that was killed so is no reason for its end.
        let oom = oom_killed == Some(true) && code == 137;
        let reason = if oom { Reason::OomKilled } else { Reason::Exited };
        Exit { exit_code: code, finished_at, message: String::new(), oom_killed, reason, signal, v: super::super::VERSION }
    }

    /// An end that nobody saw.
    pub fn unseen(message: impl Into<String>, finished_at: String) -> Self {
        let v = super::super::VERSION;
        Exit { exit_code: Self::UNKNOWN, finished_at, message: message.into(), oom_killed: None, reason: Reason::Unknown, signal: None, v }
    }

    /// Reads an exit file; `None` when it is torn or of another make.
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The bytes of an exit file.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_needs_sigkill_of_the_first_process() {
        let at = || "2026-01-01T00:00:00.000000000Z".to_owned();
        assert_eq!(Exit::seen(137, Some(9), Some(true), at()).reason, Reason::OomKilled);
        assert_eq!(Exit::seen(1, None, Some(true), at()).reason, Reason::Exited);
        assert_eq!(Exit::seen(137, Some(9), Some(false), at()).reason, Reason::Exited);
        let unknown = Exit::unseen("its monitor is gone", at());
        assert_eq!((unknown.exit_code, Exit::parse(&unknown.to_bytes()).unwrap()), (255, unknown.clone()));
        assert_eq!(Exit::parse(b"{\"exit_code\":"), None);
    }
}
