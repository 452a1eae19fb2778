//! What a command answered, and the assertions on it; each shows everything when it fails.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a finished command answered.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command, for people.
    pub command: String,
    /// Exit status; 128+n after signal n, as a shell says it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// From spawn to exit.
    pub took: Duration,
}

impl Output {
    /// Asserts exit status 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.fails(0)
    }

    /// Asserts exit status `code`.
    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert!(self.code == code, "expected exit {code} from {self}");
        self
    }

    /// Asserts that standard error contains `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected {text:?} on stderr of {self}");
        self
    }

    /// Asserts that nothing is on standard error.
    #[track_caller]
    pub fn quiet(self) -> Self {
        assert!(self.stderr.is_empty(), "expected nothing on stderr of {self}");
        self
    }

    /// Asserts that standard output contains `text`.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "expected {text:?} on stdout of {self}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }

    /// Runs `command` to its end. Streams go to files, so that a daemon that keeps one open holds nobody up.
    #[track_caller]
    pub fn of(command: &mut Command, limit: Duration) -> Self {
        let shown = format!("{command:?}");
        let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        let (code, late) = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break (status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)), false);
            }
            if started.elapsed() > limit {
                child.kill().unwrap();
                child.wait().unwrap();
                break (137, true);
            }
            std::thread::sleep(Duration::from_micros(500));
        };
        let output = Output { command: shown, code, stdout: whole(&mut out), stderr: whole(&mut err), took: started.elapsed() };
        assert!(!late, "still running after {limit:?}, killed: {output}");
        output
    }
}

fn whole(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Output { command, code, stdout, stderr, took } = self;
        write!(f, "{command}\n  exit {code} after {took:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}
