//! Where a container gets its network.

use clap::Args;

use crate::cmd::publish::PortArgs;

/// The network of a container: a sandbox's, a given namespace, or one of its own.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// Join the network, IPC and UTS namespaces of a sandbox
    #[arg(long, conflicts_with_all = ["netns", "network", "hostname"])]
    pub sandbox: Option<String>,
    /// Join a network namespace made by somebody else (name or path)
    #[arg(long, value_name = "NETNS", conflicts_with = "network")]
    pub netns: Option<String>,
    /// CNI network of its own; `none` for only lo, `host` for the host's
    #[arg(long = "net", alias = "network", value_name = "NETWORK")]
    pub network: Option<String>,
    /// What of it is reachable from outside.
    #[command(flatten)]
    pub ports: PortArgs,
    /// Publish every port that the image exposes on a free port of the host
    #[arg(short = 'P', long, conflicts_with_all = ["sandbox", "netns"])]
    pub publish_all: bool,
}
