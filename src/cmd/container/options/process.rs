//! What a container runs: its process, streams and names.

use std::path::PathBuf;

use clap::Args;

use crate::bundle::process::{self, EnvChange, Terminal};
use crate::cmd::parse;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::sys::file::{self, Durable};

/// A larger file of variables is none.
const ENV_FILE_LIMIT: u64 = 1 << 20;

/// The process of a container.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessArgs {
    /// Environment variable; without a value it comes from the caller
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// File of them, one a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory, made where it is missing
    #[arg(short, long, value_name = "DIR", value_parser = parse::workdir)]
    pub workdir: Option<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Further group, by name or number
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Instead of the image's entrypoint; repeat it, or give a JSON array
    #[arg(long, value_name = "WORD")]
    pub entrypoint: Vec<String>,
    /// Host name inside
    #[arg(long, value_parser = parse::hostname)]
    pub hostname: Option<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Run the command under an init that hands signals on to it and reaps
    /// the orphans it leaves
    #[arg(long)]
    pub init: bool,
    /// Label, may be repeated
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse::pair)]
    pub labels: Vec<(String, String)>,
    /// Annotation of the runtime configuration, may be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = parse::pair)]
    pub annotations: Vec<(String, String)>,
    /// Write the id to this file, which must be new
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Write the pid of its first process to this file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
}

impl ProcessArgs {
    /// Whether it has a terminal.
    pub fn terminal(&self) -> Terminal {
        if self.tty { Terminal::Pty } else { Terminal::None }
    }

    /// The changes of the environment in their order: files first, then single variables.
    pub fn env_changes(&self) -> Result<Vec<EnvChange>> {
        let of_caller = |name: &str| std::env::var(name).ok();
        let mut changes = Vec::new();
        for path in &self.env_file {
            let text = file::read_following(path, ENV_FILE_LIMIT)?;
            let text = String::from_utf8(text).map_err(|_| Fault::invalid(format!("{} is not UTF-8", path.display())))?;
            changes.extend(process::parse_env_file(&text, of_caller).doing(|| format!("reading {}", path.display()))?);
        }
        for text in &self.env {
            changes.push(process::parse_env(text, of_caller)?);
        }
        Ok(changes)
    }

    /// Refuses an id file that is there already.
    pub fn check_cidfile(&self) -> Result<()> {
        match &self.cidfile {
            Some(path) if file::exists(path)? => {
                let fault = Fault::new(Kind::AlreadyExists, format!("{} is there already", path.display()));
                Err(fault.hint("remove it, or name another file with --cidfile"))
            }
            _ => Ok(()),
        }
    }

    /// Writes the files that the caller wants to have of a container.
    pub fn write_id_files(&self, id: &str, pid: Option<i32>) -> Result<()> {
        if let Some(path) = &self.cidfile {
            file::create_atomic(path, 0o644, id.as_bytes(), Durable::No)?;
        }
        if let (Some(path), Some(pid)) = (&self.pidfile, pid) {
            file::write_atomic(path, 0o644, pid.to_string().as_bytes(), Durable::No)?;
        }
        Ok(())
    }
}
