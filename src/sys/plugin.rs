//! CNI plugins that are other programs: found in the search path, started with a clean environment, given a deadline.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::exec::{Exec, ExecError, Stream, exit_code};
use super::file::{self, FileError};
use crate::cni::request;
use crate::fault::{Fault, Kind};

/// One call of a plugin.
#[derive(Clone, Copy, Debug)]
pub struct PluginCall<'a> {
    /// `CNI_COMMAND`.
    pub command: &'a str,
    /// The program and its arguments.
    pub words: &'a [String],
    /// Environment variables; nothing else of ours is handed on.
    pub env: &'a [(&'a str, String)],
    /// What it reads.
    pub stdin: &'a [u8],
    /// When it is killed.
    pub limit: Duration,
}

/// The error of a plugin, as it answered it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{command} of {program}: {msg}{details} (code {code}){stderr}")]
pub struct Refused {
    /// `CNI_COMMAND`.
    pub command: String,
    /// The program.
    pub program: String,
    /// Its code.
    pub code: u64,
    /// Its message.
    pub msg: String,
    /// Its details, after a semicolon.
    pub details: String,
    /// The end of its errors, after a line break.
    pub stderr: String,
}

/// What a plugin answered instead of a result.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No directory of the search path has it.
    #[error("failed to find plugin \"{kind}\" in path [{path}]")]
    Missing {
        /// Its type.
        kind: String,
        /// The directories, spaces between them.
        path: String,
    },
    /// It could not be started, or not in time.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// It answered with an error.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// It answered with something that is no document of CNI.
    #[error("{command} of {program} {what}{stderr}")]
    Garbage {
        /// `CNI_COMMAND`.
        command: String,
        /// The program.
        program: String,
        /// What it did instead.
        what: String,
        /// The end of its errors, after a line break.
        stderr: String,
    },
    /// Its input could not be made ready.
    #[error(transparent)]
    Input(#[from] FileError),
}

impl PluginError {
    /// The code that the plugin itself answered.
    pub fn code(&self) -> Option<u64> {
        match self {
            PluginError::Refused(refused) => Some(refused.code),
            _ => None,
        }
    }
}

impl From<PluginError> for Fault {
    fn from(error: PluginError) -> Fault {
        let kind = match &error {
            PluginError::Missing { .. } => {
                let hint = "install it there, or say where it is: --cni-path DIR:DIR (CNI_PATH)";
                return Fault::from_error(Kind::Unavailable, error).hint(hint);
            }
            PluginError::Exec(ExecError::TimedOut { .. }) => {
                return Fault::from_error(Kind::DeadlineExceeded, error).hint("--cni-timeout SECONDS gives it more time");
            }
            PluginError::Exec(_) => Kind::Unavailable,
            PluginError::Refused(refused) => match u32::try_from(refused.code).unwrap_or(request::INTERNAL) {
                request::INCOMPATIBLE_VERSION => Kind::Unimplemented,
                2..=8 => Kind::InvalidArgument,
                request::TRY_AGAIN_LATER => Kind::Unavailable,
                50 | 51 => Kind::FailedPrecondition,
                _ => Kind::Internal,
            },
            PluginError::Garbage { .. } | PluginError::Input(_) => Kind::Internal,
        };
        Fault::from_error(kind, error)
    }
}

/// Finds the program of a plugin type.
///
/// *Source:* libcni `invoke.FindInPath`: the first regular file of that name.
pub fn find(kind: &str, dirs: &[PathBuf]) -> Result<PathBuf, PluginError> {
    let missing = || {
        let path = dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" ");
        PluginError::Missing { kind: kind.to_owned(), path }
    };
    if kind.is_empty() || kind.contains(['/', '\0']) || matches!(kind, "." | "..") {
        return Err(missing());
    }
    dirs.iter().map(|dir| dir.join(kind)).find(|path| path.is_file()).ok_or_else(missing)
}

/// Calls a plugin; answers what it printed.
///
/// *Errors:* its own error with code, message, details and the end of its stderr. *Source:* libcni `RawExec.ExecPlugin`: an error is
/// a document on stdout, beside an exit status that is not 0.
pub fn run(call: &PluginCall<'_>) -> Result<Vec<u8>, PluginError> {
    let Some((program, arguments)) = call.words.split_first() else {
        return Err(PluginError::Missing { kind: String::new(), path: String::new() });
    };
    let mut exec = Exec::new(Path::new(program)).args(arguments).env("CNI_COMMAND", call.command);
    for (key, value) in call.env {
        exec = exec.env(key, value);
    }
    let input = file::anonymous(call.stdin)?;
    let captured = exec.streams(Stream::Fd(input), Stream::Null, Stream::Null).capture(call.limit)?;
    if captured.status.success() {
        return Ok(captured.stdout);
    }
    let (command, program) = (call.command.to_owned(), program.clone());
    let mut stderr = String::new();
    if !captured.stderr.is_empty() {
        let _ = write!(stderr, "\n{}", captured.stderr);
    }
    let told = serde_json::from_slice::<Value>(&captured.stdout).ok();
    let text = |key: &str| told.as_ref().and_then(|told| told.get(key)?.as_str()).unwrap_or_default().to_owned();
    match told.as_ref().and_then(|told| told.get("code")?.as_u64()) {
        Some(code) => {
            let details =
                Some(text("details")).filter(|details| !details.is_empty()).map_or(String::new(), |details| format!("; {details}"));
            Err(PluginError::Refused(Box::new(Refused { command, program, code, msg: text("msg"), details, stderr })))
        }
        None => {
            let what = format!("ended with status {} and no error that CNI knows", exit_code(captured.status));
            Err(PluginError::Garbage { command, program, what, stderr })
        }
    }
}
