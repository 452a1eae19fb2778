//! What can be said of a container: one group of options a file, shared by all commands that make one.

mod image;
mod life;
mod mounts;
mod network;
mod process;
mod resources;
mod security;
mod units;

use std::path::PathBuf;

use clap::Args;

pub use image::ImageArgs;
pub use life::LifeArgs;
pub use mounts::MountArgs;
pub use network::NetworkArgs;
pub use process::ProcessArgs;
pub use resources::{GroupArgs, ResourceArgs, fitting, spared, swap};
pub use security::{Owns, SecurityArgs};
pub use units::span;

use crate::cmd::names::NamesArgs;
use crate::ids::Name;

/// What a file says, so that nobody else may.
const OF_THE_FILE: &[&str] = &[
    "words",
    "name",
    "netns",
    "network",
    "publish",
    "publish_all",
    "env",
    "env_file",
    "workdir",
    "user",
    "group_add",
    "entrypoint",
    "hostname",
    "interactive",
    "tty",
    "init",
    "labels",
    "annotations",
    "NamesArgs",
    "LifeArgs",
    "MountArgs",
    "ResourceArgs",
    "GroupArgs",
    "SecurityArgs",
];

/// The arguments that describe a container.
#[derive(Debug, Args)]
pub struct ContainerArgs {
    /// Name; by default the first digits of the id
    #[arg(long)]
    pub name: Option<Name>,
    /// All of it from a file, a ContainerConfig as `crictl create` takes it
    /// (JSON or YAML), in a --sandbox
    #[arg(long, value_name = "FILE", requires = "sandbox", conflicts_with_all = OF_THE_FILE)]
    pub config: Option<PathBuf>,
    /// Where it gets its network.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// What it runs.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// What it knows by name.
    #[command(flatten)]
    pub names: NamesArgs,
    /// Its life.
    #[command(flatten)]
    pub life: LifeArgs,
    /// What it sees of the file system.
    #[command(flatten)]
    pub mounts: MountArgs,
    /// What it may use.
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// What it may do.
    #[command(flatten)]
    pub security: SecurityArgs,
    /// Where its image comes from.
    #[command(flatten)]
    pub source: ImageArgs,
    /// Image (a reference, an id or a unique prefix of one), then command
    /// and arguments, instead of the image's CMD
    // One argument: what follows the image is the command's, also where it looks like an option of ours.
    #[arg(required_unless_present = "config", trailing_var_arg = true, value_name = "IMAGE [COMMAND]", help_heading = clap::builder::Resettable::Reset)]
    words: Vec<String>,
}

impl ContainerArgs {
    /// The image as it was given.
    pub fn image(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Command and arguments.
    pub fn command(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}
