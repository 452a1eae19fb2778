//! The log of the OCI runtime: why a container did not start.
//!
//! *Shape:* JSON lines, `{"level":"error","msg":"runc run failed: …","time":"…"}`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use crate::fault::{Fault, Kind};

/// How much of the end of a log is read, in bytes.
const TAIL: u64 = 64 << 10;
/// What runc puts before the errors of `runc run`.
const PREFIX: &str = "runc run failed: ";

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// The length of the log now: what a runtime started next will write begins there.
pub fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |meta| meta.len())
}

/// Whether an error was logged after `mark`.
pub fn has_error(log: &Path, mark: u64) -> bool {
    !errors(log, mark).is_empty()
}

/// Whether the last error of a log is one that the runtime prints on standard error too, word for word.
///
/// *Source:* runc `main.go` `fatal`, which gets the errors of `runc run` under this prefix.
pub fn is_printed_too(log: &Path) -> bool {
    errors(log, 0).last().is_some_and(|message| message.starts_with(PREFIX))
}

/// The fault of a runtime that failed: its last logged error, or else `ending`.
pub fn failure(log: &Path, mark: u64, ending: &str) -> Fault {
    let Some(message) = errors(log, mark).pop() else {
        return Fault::new(Kind::Unavailable, ending).hint("see whether it works by itself, or name another one with --runtime");
    };
    let kind = match start_status(&message) {
        127 => Kind::NotFound,
        126 => Kind::PermissionDenied,
        _ if message.contains("already exists") || message.contains("id already in use") => Kind::AlreadyExists,
        _ => Kind::Internal,
    };
    Fault::new(kind, without_prefix(&message))
}

/// The exit status by which `run` reports a start that failed: 127 not found, 126 not executable, 125 all else.
///
/// Only what is said of the program counts: a mount source that is missing is 125. *Source:* Docker's and podman's convention.
pub fn start_status(message: &str) -> u8 {
    let Some(at) = message.find("exec: ").or_else(|| message.find("exec /")).or_else(|| message.find("executable file")) else {
        return 125;
    };
    let about = &message[at..];
    let says = |texts: &[&str]| texts.iter().any(|text| about.contains(text));
    if says(&["executable file not found", "no such file or directory", "not found in $PATH"]) {
        127
    } else if says(&["permission denied", "exec format error", "is a directory", "operation not permitted"]) {
        126
    } else {
        125
    }
}

/// The text of the last line of a stream, taken out of its JSON or logfmt form where it has one.
pub fn last_line(stderr: &str) -> String {
    let line = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    match serde_json::from_str::<Line>(line) {
        Ok(line) => without_prefix(&line.msg),
        Err(_) => without_prefix(line),
    }
}

fn without_prefix(message: &str) -> String {
    message.trim_start_matches(PREFIX).trim().to_owned()
}

fn errors(log: &Path, mark: u64) -> Vec<String> {
    let text = read_tail(log, mark).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.filter(|line| matches!(line.level.as_str(), "error" | "fatal" | "panic")).map(|line| line.msg).collect()
}

fn read_tail(log: &Path, mark: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let from = mark.max(file.metadata()?.len().saturating_sub(TAIL));
    file.seek(SeekFrom::Start(from))?;
    let mut content = Vec::new();
    file.take(TAIL).read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_the_program_counts() {
        for (message, status) in [
            ("runc run failed: unable to start container process: exec: \"nope\": executable file not found in $PATH", 127),
            ("runc run failed: unable to start container process: exec: \"/nope\": stat /nope: no such file or directory", 127),
            ("unable to start container process: exec: \"/etc/passwd\": permission denied", 126),
            ("exec /x: exec format error", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("executable file `nope` not found in $PATH: No such file or directory", 127),
            ("error mounting \"/none\" to rootfs at \"/x\": stat /none: no such file or directory", 125),
            ("container with given ID already exists", 125),
        ] {
            assert_eq!(start_status(message), status, "{message}");
        }
    }

    #[test]
    fn old_errors_and_warnings_do_not_count() {
        let world = tempfile::tempdir().unwrap();
        let log = world.path().join("log");
        std::fs::write(&log, "{\"level\":\"error\",\"msg\":\"old\"}\n").unwrap();
        let mark = length(&log);
        assert!(has_error(&log, 0) && !has_error(&log, mark));
        let more = "{\"level\":\"warning\",\"msg\":\"w\"}\nnot json\n{\"level\":\"error\",\"msg\":\"runc run failed: new\"}\n";
        std::fs::write(&log, format!("{{\"level\":\"error\",\"msg\":\"old\"}}\n{more}")).unwrap();
        let fault = failure(&log, mark, "ended");
        assert_eq!((fault.to_string().as_str(), fault.kind()), ("new", Kind::Internal));
        assert!(!has_error(&world.path().join("none"), 0));
    }
}
