//! What is said on the control socket of a monitor: frames with a length and a channel.
//!
//! *Shape:* `u32` length of the payload, little endian; one byte for the channel; the payload. A connection starts with one request; only
//! that of an attached client goes on with frames of input and is answered with frames of output.

use serde::{Deserialize, Serialize};

use super::{Exit, HealthState, RestartPolicy};

/// Bytes of a frame before its payload.
pub const HEADER: usize = 5;
/// The most bytes of a payload.
pub const CHUNK: usize = 64 << 10;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A request or reply, JSON.
    Word,
    /// Bytes for standard input; none: the input has ended.
    Stdin,
    /// Bytes of standard output, or of the terminal.
    Stdout,
    /// Bytes of standard error.
    Stderr,
    /// How many bytes a slow client missed here, as text.
    Missed,
}

/// The start of a frame, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it carries.
    pub channel: Channel,
    /// Bytes of payload.
    pub length: usize,
}

impl Header {
    /// The bytes of the start of a frame.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let [a, b, c, d] = u32::try_from(self.length).unwrap_or(0).to_le_bytes();
        [a, b, c, d, self.channel as u8]
    }

    /// Reads the start of a frame; `None` when it is longer than [`CHUNK`] or of no known channel.
    pub fn parse(bytes: [u8; HEADER]) -> Option<Self> {
        let [a, b, c, d, channel] = bytes;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let channel = match channel {
            0 => Channel::Word,
            1 => Channel::Stdin,
            2 => Channel::Stdout,
            3 => Channel::Stderr,
            4 => Channel::Missed,
            _ => return None,
        };
        (length <= CHUNK).then_some(Header { channel, length })
    }
}

/// What a monitor is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// How is it?
    Status,
    /// Tell me how it ended, when it has.
    Wait,
    /// It is being stopped: do not start it again, and tell me how it ended.
    Stop,
    /// Copy the streams.
    Attach {
        /// Whether input comes from this client.
        stdin: bool,
        /// Whether this client's pace is the container's; else what it is too slow for is left out.
        pace: bool,
    },
    /// The terminal has another size.
    Resize {
        /// Lines.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Its input has ended.
    CloseStdin,
    /// The log was moved away: make a new one.
    ReopenLog,
    /// Another bound of the log.
    LogLimit {
        /// Bytes of one file.
        max_bytes: u64,
        /// How many there are at most, the current one included.
        max_files: u32,
    },
    /// The container has another name.
    Name {
        /// The new one.
        name: String,
    },
    /// Something else happens when it ends.
    Restart {
        /// What.
        policy: RestartPolicy,
    },
}

/// What a monitor answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Reply {
    /// It is done, or begins.
    Done,
    /// It cannot be done.
    Refused {
        /// Why, a phrase.
        why: String,
    },
    /// How it is.
    Status {
        /// The first process; `None` between two lives.
        pid: Option<i32>,
        /// How many times it was started again.
        restarts: u32,
        /// Whether it waits to be started again.
        waiting: bool,
        /// What the last check said; `None` without one.
        health: Option<HealthState>,
    },
    /// How it ended.
    Exited(Exit),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_bounded() {
        let header = Header { channel: Channel::Stderr, length: CHUNK };
        assert_eq!(Header::parse(header.to_bytes()), Some(header));
        assert_eq!(Header::parse([1, 0, 1, 0, 0]), None);
        assert_eq!(Header::parse([0, 0, 0, 0, 9]), None);
    }

    #[test]
    fn words_are_tagged() {
        let text = serde_json::to_string(&Request::Attach { stdin: true, pace: false }).unwrap();
        assert_eq!(text, r#"{"ask":"attach","stdin":true,"pace":false}"#);
        let exited = Reply::Exited(Exit::unseen("", String::new()));
        assert_eq!(serde_json::from_str::<Reply>(&serde_json::to_string(&exited).unwrap()).unwrap(), exited);
    }
}
