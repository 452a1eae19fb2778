//! A container from a file of crictl: what its fields ask, in the words that a container of the command line is made of.

mod limits;
mod mounts;
mod rights;

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::request::Facts;
use super::said::{ImageSays, Said};
use super::{ContainerArgs, run_dir, state};
use crate::bundle::process::{self, EnvChange, Terminal};
use crate::bundle::spec::Namespace;
use crate::bundle::user::{self, Identity};
use crate::cmd::{cri, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::Name;
use crate::pod::cri::{self as files, ContainerConfig, GroupsPolicy, Modes, NamespaceMode, PodMetadata};
use crate::record::life::{Life, LogOrder, parse_signal};
use crate::record::{FirstProcess, Metadata, SandboxRecord};
use crate::sys::{Host, view};

pub use limits::limits;
pub use mounts::asks;
pub use rights::posture;

/// A file, and what it comes to in its sandbox.
#[derive(Debug)]
pub struct ContainerFile {
    /// The document, verbatim.
    raw: Value,
    /// What it says.
    pub config: ContainerConfig,
    name: Name,
    metadata: Metadata,
    log: Option<PathBuf>,
    modes: Modes,
    pid_namespace_of: Option<FirstProcess>,
}

/// Reads the file that the caller names, for a container in `sandbox`; `None` when he names none.
///
/// *Errors:* as [`files::container`]; `FailedPrecondition` for what the sandbox is not made for.
pub fn read(host: &Host, args: &ContainerArgs, sandbox: Option<&SandboxRecord>) -> Result<Option<ContainerFile>> {
    let (Some(path), Some(sandbox)) = (&args.config, sandbox) else { return Ok(None) };
    one(host, path, sandbox).map(Some).doing(|| format!("reading {}", path.display()))
}

fn one(host: &Host, path: &Path, sandbox: &SandboxRecord) -> Result<ContainerFile> {
    let raw = cri::document(path)?;
    let config = files::container(&raw)?;
    let pod = cri::of_sandbox(sandbox)?;
    let own = Modes { host_network: sandbox.netns.is_none(), host_ipc: sandbox.ipcns.is_none(), host_pid: false };
    let modes = pod.as_ref().map_or(Ok(own), files::PodSandboxConfig::modes)?;
    let security = &config.linux.security_context;
    security.namespace_options.in_sandbox(modes)?;
    security.namespace_options.fit_users(sandbox.userns.as_ref().map(|userns| &userns.map))?;
    if security.privileged && pod.as_ref().is_some_and(|pod| !pod.linux.security_context.privileged) {
        return Err(Fault::new(
            Kind::FailedPrecondition,
            "linux.security_context.privileged: the sandbox is not made for privileged containers",
        )
        .hint("make the sandbox with linux.security_context.privileged too"));
    }
    let of = &sandbox.metadata;
    let who = PodMetadata { name: of.name.clone(), uid: of.uid.clone(), namespace: of.namespace.clone(), attempt: of.attempt };
    Ok(ContainerFile {
        name: files::container_name(&config.metadata, &who)?,
        metadata: Metadata { name: config.metadata.name.clone(), attempt: config.metadata.attempt, ..of.clone() },
        log: files::log_file(pod.as_ref().map_or("", |pod| &pod.log_directory), &config.log_path)?,
        pid_namespace_of: pid_namespace_of(host, &config, modes, sandbox)?,
        modes,
        raw,
        config,
    })
}

/// Whose pid namespace it joins: with POD, which is also what nothing said means, that of the pause process.
fn pid_namespace_of(host: &Host, config: &ContainerConfig, modes: Modes, sandbox: &SandboxRecord) -> Result<Option<FirstProcess>> {
    let options = &config.linux.security_context.namespace_options;
    match options.pid {
        NamespaceMode::Container | NamespaceMode::Node => Ok(None),
        NamespaceMode::Pod if modes.host_pid => Ok(None),
        NamespaceMode::Pod => {
            let pid_file = host.run.join("sandboxes").join(sandbox.id.as_str()).join("pid");
            Ok(Some(FirstProcess { id: sandbox.id.clone(), pid_file }))
        }
        NamespaceMode::Target => {
            let path = || "linux.security_context.namespace_options.target_id";
            let id = records::find(host, records::BoxKind::Container, &options.target_id).doing(path)?;
            let target = records::container(host, &id).doing(path)?;
            let refuse = |why: &str| Fault::new(Kind::FailedPrecondition, format!("{}: container {} {why}", path(), target.name));
            if target.sandbox_id.as_ref() != Some(&sandbox.id) {
                return Err(refuse("is in another sandbox"));
            }
            if state::of(host, &target)?.pid.is_none() {
                return Err(refuse("does not run"));
            }
            Ok(Some(FirstProcess { pid_file: run_dir(host, &id).join("pid"), id }))
        }
    }
}

impl ContainerFile {
    /// Its image, as it is asked for.
    pub fn image(&self) -> &str {
        &self.config.image.image
    }

    /// The pid namespace; `pin` is where that of another box is pinned.
    pub fn pid_namespace(&self, pin: PathBuf) -> Namespace {
        let of_host = match self.config.linux.security_context.namespace_options.pid {
            NamespaceMode::Node => true,
            mode => mode == NamespaceMode::Pod && self.modes.host_pid,
        };
        match (of_host, &self.pid_namespace_of) {
            (true, _) => Namespace::Host,
            (false, Some(_)) => Namespace::Join(pin),
            (false, None) => Namespace::New,
        }
    }

    /// Whether its shared memory is its own, not its sandbox's.
    pub fn has_own_ipc(&self) -> bool {
        self.config.linux.security_context.namespace_options.ipc == NamespaceMode::Container
    }
}

/// What the file says, with what the image says where it says nothing.
pub fn said(facts: &Facts<'_>, file: &ContainerFile, dir: &Path) -> Result<Said> {
    let (config, image) = (&file.config, ImageSays::read(facts));
    let command = (!config.command.is_empty()).then_some(config.command.as_slice());
    let changes: Vec<EnvChange> =
        config.envs.iter().map(|pair| EnvChange::Set { name: pair.key.clone(), value: pair.value.clone() }).collect();
    let terminal = if config.tty { Terminal::Pty } else { Terminal::None };
    let cwd = if config.working_dir.is_empty() { &image.cwd } else { &config.working_dir };
    let stop_signal =
        config.stop_signal().unwrap_or(if image.stop_signal.is_empty() { "SIGTERM".to_owned() } else { image.stop_signal.clone() });
    parse_signal(&stop_signal)?;
    Ok(Said {
        name: file.name.clone(),
        metadata: file.metadata.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        args: process::arguments(&image.entrypoint, &image.cmd, command, &config.args)?,
        env: process::environment(&image.env, terminal, Some(&super::request::hostname(facts)), &changes)?,
        cwd: process::working_directory(cwd).doing(|| "working_dir")?,
        identity: identity(file, &image.user, facts)?,
        resources: limits::recorded(file)?,
        tty: config.tty,
        stdin: config.stdin || config.stdin_once,
        stop_signal,
        life: Life {
            stdin_once: config.stdin_once,
            // A kubelet probes by itself: health checks of images are not CRI's.
            log: Some(LogOrder::new(file.log.clone().unwrap_or_else(|| dir.join("container.log")))),
            ..Life::default()
        },
        pid_namespace_of: file.pid_namespace_of.clone(),
        config: cri::raw(file.raw.clone()),
    })
}

/// The image's groups come too, unless the policy is strict; a primary group that is named takes the place of the image's.
fn identity(file: &ContainerFile, image_user: &str, facts: &Facts<'_>) -> Result<Identity> {
    let who = file.config.linux.security_context.who()?;
    let accounts = view::read_accounts(facts.lowers)?;
    let name = who.user.as_deref().unwrap_or(image_user);
    let doing = || match &who.user {
        Some(_) => "linux.security_context".to_owned(),
        None => format!("resolving user {image_user:?} of the image"),
    };
    let found = user::resolve(name, &accounts, &[]).doing(doing)?;
    let gid = who.group.unwrap_or(found.gid);
    let mut groups = match (who.policy, who.group) {
        (GroupsPolicy::Strict, _) => Vec::new(),
        (GroupsPolicy::Merge, None) => found.groups,
        (GroupsPolicy::Merge, Some(_)) => user::memberships(name, &accounts).doing(doing)?,
    };
    groups.extend(&who.groups);
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > user::MAX_GROUPS {
        return Err(Fault::invalid(format!("linux.security_context.supplemental_groups: {} are too many", groups.len())));
    }
    Ok(Identity { uid: found.uid, gid, groups })
}
