//! What a container runs: its process, streams and names.

use clap::Args;

use crate::bundle::process::Terminal;
use crate::cmd::parse;

/// The process of a container.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessArgs {
    /// Environment variable; without a value it comes from the caller
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
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
    /// Label, may be repeated
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = parse::pair)]
    pub labels: Vec<(String, String)>,
}

impl ProcessArgs {
    /// Whether it has a terminal.
    pub fn terminal(&self) -> Terminal {
        if self.tty { Terminal::Pty } else { Terminal::None }
    }
}
