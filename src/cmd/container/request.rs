//! The facts of a container: arguments, image and sandbox made into a record and an OCI configuration.

use std::path::{Path, PathBuf};

use super::RunArgs;
use super::steps::Texts;
use crate::bundle::mounts::{self, Access, Bind, Shm, VolumeSource};
use crate::bundle::process::{self, Terminal};
use crate::bundle::spec::{self, ContainerRequest, Isolation, Limits, Namespace, Privileges};
use crate::bundle::{capabilities, etc, user};
use crate::cmd::image::store::Image;
use crate::cmd::{Context, parse, records};
use crate::fault::{Context as _, Fault, Result};
use crate::ids::Id;
use crate::record::{Attachment, ContainerRecord, ImageUsed, Metadata, RawConfig, SandboxRecord, VERSION, Volume};
use crate::sys::{file, privilege, proc, rootfs, view};

/// Size of `/dev/shm` of a container without a sandbox.
const SHM_KIB: u64 = 64 << 10;

/// Where a container gets its network.
#[derive(Debug)]
pub struct Net {
    /// The namespace; `None` is the host's.
    pub path: Option<PathBuf>,
    /// Whether the plan makes it.
    pub owned: bool,
    /// Attachments of its own.
    pub attachments: Vec<Attachment>,
}

/// What is known before planning.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The arguments.
    pub args: &'a RunArgs,
    /// The id.
    pub id: Id,
    /// The image.
    pub image: &'a Image,
    /// Directories of its layers, highest first.
    pub lowers: &'a [PathBuf],
    /// The sandbox it joins.
    pub sandbox: Option<&'a SandboxRecord>,
}

/// Makes the record.
pub fn record(cx: &Context, facts: &Facts<'_>, net: Net) -> Result<ContainerRecord> {
    let (host, args, image) = (&cx.host, facts.args, facts.image);
    let name = match &args.name {
        Some(name) => name.clone(),
        None => facts.id.short().parse()?,
    };
    let hostname = hostname(facts);
    let config = image.config.config().as_ref();
    let list = |pick: Option<&Option<Vec<String>>>| pick.cloned().flatten().unwrap_or_default();
    let entrypoint = process::parse_entrypoint(&args.entrypoint)?;
    let (image_entrypoint, image_cmd) = (list(config.map(|c| c.entrypoint())), list(config.map(|c| c.cmd())));
    let changes = args.env.iter().map(|text| process::parse_env(text, |name| std::env::var(name).ok())).collect::<Result<Vec<_>>>()?;
    let image_env = list(config.map(|c| c.env()));
    let text = |pick: Option<&Option<String>>| pick.cloned().flatten().unwrap_or_default();
    let wanted_user = args.user.clone().unwrap_or_else(|| text(config.map(|c| c.user())));
    let identity =
        user::resolve(&wanted_user, &view::read_accounts(facts.lowers)?, &[]).doing(|| format!("resolving user {wanted_user:?}"))?;
    Ok(ContainerRecord {
        v: VERSION,
        sandbox_id: facts.sandbox.map(|sandbox| sandbox.id.clone()),
        metadata: Metadata { name: name.to_string(), ..Metadata::default() },
        name,
        labels: args.labels.iter().cloned().collect(),
        annotations: crate::record::Pairs::new(),
        image: ImageUsed {
            requested: args.image.clone(),
            reference: image.references.first().map(ToString::to_string).unwrap_or_default(),
            id: image.id.clone(),
            manifest: image.manifest_digest.clone(),
            chain: image.layers.iter().map(|layer| layer.chain_id.clone()).collect(),
        },
        image_id: image.id.clone(),
        args: process::arguments(&image_entrypoint, &image_cmd, entrypoint.as_deref(), &args.command)?,
        env: process::environment(&image_env, terminal(args), Some(&hostname), &changes)?,
        cwd: process::working_directory(&args.workdir.clone().unwrap_or_else(|| text(config.map(|c| c.working_dir()))))?,
        volumes: args.volumes.iter().map(|volume| self::volume(volume)).collect::<Result<_>>()?,
        tty: args.tty,
        stdin: args.interactive,
        stop_signal: Some(text(config.map(|c| c.stop_signal())))
            .filter(|signal| !signal.is_empty())
            .unwrap_or_else(|| "SIGTERM".to_owned()),
        user: (identity.uid, identity.gid, identity.groups),
        auto_remove: args.rm,
        owner: "cli".to_owned(),
        created_at: proc::now_rfc3339(),
        boot_id: proc::boot_id()?,
        rkbox: env!("CARGO_PKG_VERSION").to_owned(),
        owns_netns: net.owned,
        netns: net.path,
        attachments: net.attachments,
        bundle: host.container_dir(facts.id.as_str()),
        root_attributes: rootfs::find_attributes(facts.lowers, ".")?.map_or((0o755, (0, 0)), |root| (root.mode, (root.uid, root.gid))),
        lowers: facts.lowers.to_vec(),
        runtime: records::runtime_facts(host, &facts.id)?,
        config: RawConfig { kind: "rkbox.v1".to_owned(), raw: parse::command_line() },
        id: facts.id.clone(),
        extra: serde_json::Map::new(),
    })
}

/// Makes the texts of its files.
pub fn texts(facts: &Facts<'_>, record: &ContainerRecord) -> Result<Texts> {
    let hostname = hostname(facts);
    let files = match facts.sandbox {
        Some(_) => Vec::new(),
        None => {
            let addresses: Vec<_> = record.attachments.iter().flat_map(|a| &a.addresses).map(ipnetwork::IpNetwork::ip).collect();
            let resolv_conf = etc::resolv_conf(&parse::host_resolv_conf());
            vec![("hosts", etc::hosts(&hostname, &addresses)), ("hostname", format!("{hostname}\n")), ("resolv.conf", resolv_conf)]
        }
    };
    let config = spec::container_json(&oci_request(facts, record, &hostname)?)?;
    let config = String::from_utf8(config).map_err(|error| Fault::internal(error.to_string()))?;
    Ok(Texts { record: records::write(record)?, config, files })
}

fn oci_request(facts: &Facts<'_>, record: &ContainerRecord, hostname: &str) -> Result<ContainerRequest> {
    let join = |path: &Path| Namespace::Join(path.to_path_buf());
    let isolation = Isolation {
        network: record.netns.as_deref().map_or(Namespace::Host, join),
        ipc: facts.sandbox.map_or(Namespace::New, |sandbox| join(&sandbox.ipcns)),
        uts: facts.sandbox.map_or(Namespace::New, |sandbox| join(&sandbox.utsns)),
        pid: Namespace::New,
        cgroup: if privilege::has_cgroup_v2() { Namespace::New } else { Namespace::Host },
    };
    let files = facts.sandbox.map_or(&record.bundle, |sandbox| &sandbox.files);
    let etc = ["hosts", "hostname", "resolv.conf"].map(|name| Bind {
        source: files.join(name),
        destination: format!("/etc/{name}"),
        access: if facts.args.read_only { Access::ReadOnly } else { Access::ReadWrite },
    });
    let volumes = record.volumes.iter().map(|volume| Bind {
        source: volume.source.clone(),
        destination: volume.destination.to_string_lossy().into_owned(),
        access: if volume.read_only { Access::ReadOnly } else { Access::ReadWrite },
    });
    let volumes: Vec<Bind> = volumes.collect();
    let etc = etc.into_iter().filter(|bind| volumes.iter().all(|volume| volume.destination != bind.destination));
    Ok(ContainerRequest {
        args: record.args.clone(),
        env: record.env.clone(),
        cwd: record.cwd.clone(),
        identity: user::Identity { uid: record.user.0, gid: record.user.1, groups: record.user.2.clone() },
        terminal: terminal(facts.args),
        privileges: Privileges::Fixed,
        capabilities: capabilities::default_set(),
        isolation,
        hostname: facts.sandbox.is_none().then(|| hostname.to_owned()),
        rootfs: PathBuf::from("rootfs"),
        root_access: if facts.args.read_only { Access::ReadOnly } else { Access::ReadWrite },
        shm: facts.sandbox.map_or(Shm::Private { size_kib: SHM_KIB }, |sandbox| Shm::Shared(sandbox.shm.clone())),
        binds: etc.chain(volumes.iter().cloned()).collect(),
        cgroups_path: record.runtime.cgroups_path.clone(),
        limits: Limits::new(proc::nofile_limit()?),
        throttled_cpus: proc::throttled_cpus(),
        annotations: [("org.rkbox.id".to_owned(), record.id.to_string())].into(),
    })
}

fn terminal(args: &RunArgs) -> Terminal {
    if args.tty { Terminal::Pty } else { Terminal::None }
}

fn hostname(facts: &Facts<'_>) -> String {
    match (facts.sandbox, &facts.args.hostname) {
        (Some(sandbox), _) => sandbox.hostname.clone(),
        (None, Some(hostname)) => hostname.clone(),
        (None, None) => facts.id.short().to_owned(),
    }
}

fn volume(text: &str) -> Result<Volume> {
    let volume = mounts::parse_volume(text)?;
    let source = match volume.source {
        VolumeSource::Host(path) => path,
        VolumeSource::Named(name) => {
            let fault =
                Fault::new(crate::fault::Kind::Unimplemented, format!("named volume {name:?}: named volumes come with a later version"));
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
