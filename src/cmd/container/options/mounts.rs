//! What a container sees of the file system.

use clap::Args;

use crate::bundle::mounts::{self, Access, Ask};
use crate::bundle::size;
use crate::fault::{Context as _, Fault, Result};

/// What is mounted in memory over a root file system that cannot be written, so that most programs still start. *Source:* podman.
const WRITABLE: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// The mounts of a container.
#[derive(Debug, Args)]
#[command(next_help_heading = "File system")]
pub struct MountArgs {
    /// Path of the host, or named volume, to mount; without a source a new volume
    #[arg(short, long = "volume", value_name = "[SRC:]DST[:OPTS]")]
    pub volumes: Vec<String>,
    /// Mount, in keys: type=bind|volume|tmpfs|image,source=…,target=…
    #[arg(long = "mount", value_name = "KEY=VALUE,…")]
    pub mounts: Vec<String>,
    /// Memory to mount
    #[arg(long, value_name = "DST[:OPTS]")]
    pub tmpfs: Vec<String>,
    /// Size of /dev/shm (64m)
    #[arg(long, value_name = "SIZE", conflicts_with = "sandbox")]
    pub shm_size: Option<String>,
    /// Mount the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// With --read-only, memory on /run, /tmp and /var/tmp
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub read_only_tmpfs: bool,
}

impl MountArgs {
    /// Whether the root file system can be written.
    pub fn root_access(&self) -> Access {
        if self.read_only { Access::ReadOnly } else { Access::ReadWrite }
    }

    /// All that the user asked to be mounted, and what comes with `--read-only`.
    ///
    /// *Errors:* `InvalidArgument` for what cannot be read, and for two with one destination.
    pub fn asked(&self) -> Result<Vec<Ask>> {
        let mut asks = Vec::new();
        for text in &self.volumes {
            asks.push(mounts::parse_volume(text)?);
        }
        for text in &self.mounts {
            asks.push(mounts::parse_mount(text)?);
        }
        for text in &self.tmpfs {
            asks.push(mounts::parse_tmpfs(text)?);
        }
        for (nth, ask) in asks.iter().enumerate() {
            if asks[..nth].iter().any(|other| other.destination == ask.destination) {
                let twice = Fault::invalid(format!("two mounts have the destination {}", ask.destination));
                return Err(twice.hint("leave one of them out"));
            }
        }
        if self.read_only && self.read_only_tmpfs {
            for place in WRITABLE.iter().filter(|place| asks.iter().all(|ask| ask.destination != **place)).collect::<Vec<_>>() {
                asks.push(mounts::parse_tmpfs(&format!("{place}:exec"))?);
            }
        }
        Ok(asks)
    }

    /// The size of `/dev/shm`, in KiB.
    pub fn shm_kib(&self) -> Result<Option<u64>> {
        let Some(text) = &self.shm_size else { return Ok(None) };
        let bytes = size::parse(text).doing(|| "--shm-size")?;
        if bytes < 1024 {
            return Err(Fault::invalid(format!("--shm-size {text} is less than 1k")).hint("give a size such as 64m"));
        }
        Ok(Some(bytes.unsigned_abs() / 1024))
    }
}
