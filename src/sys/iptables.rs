//! iptables, by its programs: rules read in one call and changed in another, which takes effect as a whole.

use std::time::Duration;

use super::exec::{self, Exec, Stream, exit_code};
use super::file;
use crate::fault::{Fault, Kind, Result};

/// How long a program may take; iptables waits for others that hold its lock.
const PATIENCE: Duration = Duration::from_secs(30);

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

impl Tables {
    /// The program.
    pub fn program(self) -> &'static str {
        match self {
            Tables::V4 => "iptables",
            Tables::V6 => "ip6tables",
        }
    }

    /// Whether the program is a face of nf_tables, and not of the older interface of the kernel.
    ///
    /// Both are one binary with many names: `xtables-nft-multi` and `xtables-legacy-multi` (iptables 1.8).
    pub fn is_nft(self) -> bool {
        let real = exec::find(self.program()).ok().and_then(|path| file::find_real_path(&path).ok().flatten());
        real.is_some_and(|path| path.file_name().is_some_and(|name| name == "xtables-nft-multi"))
    }

    /// Whether the program is there.
    pub fn is_there(self) -> bool {
        exec::find(self.program()).is_ok()
    }

    /// The chains and rules of a table as `-S` prints them.
    ///
    /// *Errors:* `FailedPrecondition` when the program is not there.
    pub fn rules(self, table: &str) -> Result<Vec<String>> {
        let out = self.run(self.program(), &["-w", "-t", table, "-S"], Stream::Null)?;
        Ok(out.lines().map(str::to_owned).collect())
    }

    /// Carries lines of `iptables-restore` out; all take effect, or none.
    pub fn restore(self, table: &str, lines: &[String]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let text = format!("*{table}\n{}\nCOMMIT\n", lines.join("\n"));
        let input = file::anonymous(text.as_bytes())?;
        self.run(&format!("{}-restore", self.program()), &["-w", "-n"], Stream::Fd(input)).map(drop)
    }

    fn run(self, program: &str, words: &[&str], stdin: Stream) -> Result<String> {
        let path = exec::find(program).map_err(|error| {
            let fault = Fault::from_error(Kind::FailedPrecondition, error);
            fault.hint("install iptables, or leave the plugin that needs it out of the list")
        })?;
        let done = Exec::new(&path).args(words).streams(stdin, Stream::Null, Stream::Null).capture(PATIENCE)?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        let code = exit_code(done.status);
        Err(Fault::new(Kind::Internal, format!("{program} ended with status {code}: {}", done.stderr.trim())))
    }
}
