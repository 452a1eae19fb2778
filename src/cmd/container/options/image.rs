//! Where its image comes from.

use clap::Args;

use crate::cmd::Context;
use crate::cmd::image::{Finding, PullPolicy, RegistryArgs, Talk, find_or_pull, store};
use crate::fault::Result;
use crate::image::Platform;

/// Options about the image of a container.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry options")]
pub struct ImageArgs {
    /// When the image is pulled: always, missing, never, newer
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = true)]
    pub pull: PullPolicy,
    /// Platform to choose when it is pulled
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// `--creds` and its like.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

impl ImageArgs {
    /// Finds the image `text`, pulled first when it must be; never while a command is only explained.
    pub fn find(&self, cx: &Context, text: &str, explain: bool) -> Result<store::Image> {
        let policy = if explain { PullPolicy::Never } else { self.pull };
        find_or_pull(cx, text, &Finding { policy, registry: &self.registry, platform: self.platform.as_ref(), talk: Talk::Progress })
    }
}
