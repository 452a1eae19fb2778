//! What is said of a container, by words of the command line or by a file of crictl.

use super::from_file;
use super::request::{Facts, hostname};
use crate::bundle::user::Identity;
use crate::bundle::{process, user};
use crate::cmd::parse;
use crate::fault::{Context as _, Result};
use crate::ids::Name;
use crate::record::life::Life;
use crate::record::{FirstProcess, Metadata, Pairs, RawConfig};
use crate::sys::view;

/// What is said of a container, with what its image says where nothing is.
#[derive(Debug)]
pub struct Said {
    /// The unique name.
    pub name: Name,
    /// Who it is.
    pub metadata: Metadata,
    /// Labels.
    pub labels: Pairs,
    /// Annotations.
    pub annotations: Pairs,
    /// The process arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// As whom it runs.
    pub identity: Identity,
    /// What it may use, as the record keeps it.
    pub resources: serde_json::Value,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether it has an input.
    pub stdin: bool,
    /// Its stop signal.
    pub stop_signal: String,
    /// Restarts, stop, log, health.
    pub life: Life,
    /// The box whose pid namespace it joins.
    pub pid_namespace_of: Option<FirstProcess>,
    /// The request, verbatim.
    pub config: RawConfig,
}

/// What an image says.
#[derive(Debug, Default)]
pub struct ImageSays {
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Cmd.
    pub cmd: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// User.
    pub user: String,
    /// Working directory.
    pub cwd: String,
    /// Stop signal.
    pub stop_signal: String,
}

impl ImageSays {
    /// Reads the configuration of an image.
    pub fn read(facts: &Facts<'_>) -> Self {
        let config = facts.image.config.config().as_ref();
        let list = |pick: Option<&Option<Vec<String>>>| pick.cloned().flatten().unwrap_or_default();
        let text = |pick: Option<&Option<String>>| pick.cloned().flatten().unwrap_or_default();
        ImageSays {
            entrypoint: list(config.map(|c| c.entrypoint())),
            cmd: list(config.map(|c| c.cmd())),
            env: list(config.map(|c| c.env())),
            user: text(config.map(|c| c.user())),
            cwd: text(config.map(|c| c.working_dir())),
            stop_signal: text(config.map(|c| c.stop_signal())),
        }
    }
}

/// Everything that is said of the container of `facts`; `dir` is its own directory.
pub fn said(facts: &Facts<'_>, dir: &std::path::Path) -> Result<Said> {
    match facts.file {
        Some(file) => from_file::said(facts, file, dir),
        None => by_words(facts, dir),
    }
}

fn by_words(facts: &Facts<'_>, dir: &std::path::Path) -> Result<Said> {
    let (args, image) = (facts.args, ImageSays::read(facts));
    let name = match &args.name {
        Some(name) => name.clone(),
        None => facts.id.short().parse()?,
    };
    let entrypoint = process::parse_entrypoint(&args.process.entrypoint)?;
    let changes = args.process.env_changes()?;
    let wanted_user = parse::said(args.process.user.as_ref()).unwrap_or(&image.user);
    let identity = user::resolve(wanted_user, &view::read_accounts(facts.lowers)?, &args.process.group_add)
        .doing(|| format!("resolving user {wanted_user:?}"))?;
    Ok(Said {
        metadata: Metadata { name: name.to_string(), ..Metadata::default() },
        name,
        labels: args.process.labels.iter().cloned().collect(),
        annotations: args.process.annotations.iter().cloned().collect(),
        args: process::arguments(&image.entrypoint, &image.cmd, entrypoint.as_deref(), args.command())?,
        env: process::environment(&image.env, args.process.terminal(), Some(&hostname(facts)), &changes)?,
        cwd: process::working_directory(parse::said(args.process.workdir.as_ref()).unwrap_or(&image.cwd))?,
        identity,
        resources: args.resources.recorded()?,
        tty: args.process.tty,
        stdin: args.process.interactive,
        stop_signal: args.life.stop_signal(image.stop_signal)?,
        life: args.life.life(&facts.image.config_raw, dir)?,
        pid_namespace_of: None,
        config: RawConfig { kind: "rkbox.v1".to_owned(), raw: parse::command_line() },
    })
}
