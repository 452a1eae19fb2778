//! The options about registries that every command has which may pull.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::progress;
use crate::fault::Result;
use crate::image::registry::Credential;
use crate::image::registry::endpoint::Place;
use crate::sys::registry::{Options, Session};

/// Options about registries.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Name and password for the registry, not for its mirrors
    #[arg(long, value_name = "USER:PASSWORD", env = "RKBOX_CREDS", hide_env = true, hide_env_values = true)]
    pub creds: Option<String>,
    /// File with credentials, instead of REGISTRY_AUTH_FILE and the usual ones
    #[arg(long, value_name = "PATH")]
    pub authfile: Option<PathBuf>,
    /// Try this host first, for this one time; may be repeated
    #[arg(long, value_name = "URL")]
    pub mirror: Vec<String>,
    /// Directory with HOST/hosts.toml, instead of the usual ones; may be
    /// repeated
    #[arg(long, value_name = "DIR", env = "RKBOX_HOSTS_DIR", hide_env = true)]
    pub hosts_dir: Vec<PathBuf>,
    /// false: take any certificate, and plain HTTP where there is no HTTPS
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tls_verify: Option<bool>,
}

/// How much a command says while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Progress, on standard error.
    Progress,
    /// Nothing.
    Quiet,
}

impl RegistryArgs {
    /// Opens the session of a command that fetches at most `jobs` blobs at the same time.
    pub fn session(&self, jobs: usize, talk: Talk) -> Result<Session> {
        let watch: Arc<dyn crate::sys::registry::Watch> = match talk {
            Talk::Progress => progress::watch(),
            Talk::Quiet => Arc::new(crate::sys::registry::Blind),
        };
        Session::open(Options {
            mirrors: self.mirror.iter().map(|mirror| Place::parse(mirror)).collect::<Result<_>>()?,
            credential: self.creds.as_deref().map(Credential::parse).transpose()?,
            auth_file: self.authfile.clone(),
            hosts_dirs: self.hosts_dir.clone(),
            verify: self.tls_verify != Some(false),
            jobs,
            watch,
        })
    }
}
