//! What a container sees of the file system.

use std::path::PathBuf;

use clap::Args;

use crate::bundle::mounts::{self, Access, VolumeSource};
use crate::fault::{Fault, Kind, Result};
use crate::record::Volume;
use crate::sys::file;

/// The mounts of a container.
#[derive(Debug, Args)]
#[command(next_help_heading = "File system")]
pub struct MountArgs {
    /// Bind mount
    #[arg(short, long = "volume", value_name = "HOST:CTR[:ro]")]
    pub volumes: Vec<String>,
    /// Mount the root file system read-only
    #[arg(long)]
    pub read_only: bool,
}

impl MountArgs {
    /// Whether the root file system can be written.
    pub fn root_access(&self) -> Access {
        if self.read_only { Access::ReadOnly } else { Access::ReadWrite }
    }

    /// The volumes, their sources looked at.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        self.volumes.iter().map(|text| volume(text)).collect()
    }
}

fn volume(text: &str) -> Result<Volume> {
    let volume = mounts::parse_volume(text)?;
    let source = match volume.source {
        VolumeSource::Host(path) => path,
        VolumeSource::Named(name) => {
            let fault = Fault::new(Kind::Unimplemented, format!("named volume {name:?}: named volumes come with a later version"));
            return Err(fault.hint("give an absolute path of the host"));
        }
    };
    if !file::exists(&source)? {
        return Err(Fault::not_found(format!("{} is not there", source.display()))
            .doing(format!("volume {text}"))
            .hint("make it first, or mend the path"));
    }
    Ok(Volume { source, destination: PathBuf::from(volume.destination), read_only: volume.access == Access::ReadOnly })
}
