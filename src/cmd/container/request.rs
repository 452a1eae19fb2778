//! The facts of a container: arguments, image and sandbox made into a record and an OCI configuration.

use std::path::PathBuf;

use super::from_file::ContainerFile;
use super::said::said;
use super::{ContainerArgs, mounts};
use crate::cmd::image::store::Image;
use crate::cmd::{Context, records, userns};
use crate::fault::{Fault, Result};
use crate::ids::Id;
use crate::record::life::Launch;
use crate::record::{Attachment, ContainerRecord, ImageUsed, SandboxRecord, UserNs, VERSION};
use crate::sys::{Host, proc, rootfs};

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
    pub args: &'a ContainerArgs,
    /// The file that says what else they would.
    pub file: Option<&'a ContainerFile>,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// What its monitor does first; `None` for a container in the foreground, which has none.
    pub launch: Option<Launch>,
    /// Whether its output waits for a client.
    pub awaits_client: bool,
    /// Whether anything is changed, or only explained.
    pub acting: bool,
    /// The id.
    pub id: Id,
    /// The image.
    pub image: &'a Image,
    /// Directories of its layers, highest first.
    pub lowers: &'a [PathBuf],
    /// The sandbox it joins.
    pub sandbox: Option<&'a SandboxRecord>,
}

impl Facts<'_> {
    /// The image as it is asked for.
    pub fn image_name(&self) -> &str {
        self.file.map_or_else(|| self.args.image(), ContainerFile::image)
    }
}

/// Makes the record.
pub fn record(cx: &Context, facts: &Facts<'_>, net: Net) -> Result<ContainerRecord> {
    let (host, image) = (&cx.host, facts.image);
    let bundle = host.container_dir(facts.id.as_str());
    let said = said(facts, &bundle)?;
    let mut identity = said.identity;
    let userns = userns_of(host, facts)?;
    userns::fit_identity(userns.as_ref(), &mut identity)?;
    Ok(ContainerRecord {
        v: VERSION,
        sandbox_id: facts.sandbox.map(|sandbox| sandbox.id.clone()),
        metadata: said.metadata,
        name: said.name,
        labels: said.labels,
        annotations: said.annotations,
        image: ImageUsed {
            requested: facts.image_name().to_owned(),
            reference: image.references.first().map(ToString::to_string).unwrap_or_default(),
            id: image.id.clone(),
            manifest: image.manifest_digest.clone(),
            chain: image.layers.iter().map(|layer| layer.chain_id.clone()).collect(),
        },
        image_id: image.id.clone(),
        args: said.args,
        env: said.env,
        cwd: said.cwd,
        mounts: mounts::resolve(cx, facts, userns.as_ref(), (identity.uid, identity.gid))?,
        resources: said.resources,
        tty: said.tty,
        init: facts.args.process.init,
        stdin: said.stdin,
        stop_signal: said.stop_signal,
        user: (identity.uid, identity.gid, identity.groups),
        auto_remove: facts.auto_remove,
        owner: "cli".to_owned(),
        created_at: proc::now_rfc3339(),
        boot_id: proc::boot_id()?,
        rkbox: env!("CARGO_PKG_VERSION").to_owned(),
        userns,
        owns_netns: net.owned,
        netns: net.path,
        pid_namespace_of: said.pid_namespace_of,
        attachments: net.attachments,
        bundle,
        root_attributes: rootfs::find_attributes(facts.lowers, ".")?.map_or((0o755, (0, 0)), |root| (root.mode, (root.uid, root.gid))),
        lowers: facts.lowers.to_vec(),
        runtime: records::runtime_facts(host, &facts.id, facts.sandbox.map(|sandbox| &sandbox.runtime))?,
        life: said.life,
        config: said.config,
        id: facts.id.clone(),
        extra: serde_json::Map::new(),
    })
}

/// Its user namespace: its own, or its sandbox's.
fn userns_of(host: &Host, facts: &Facts<'_>) -> Result<Option<UserNs>> {
    let asked = facts.args.security.userns.as_deref();
    let Some(sandbox) = facts.sandbox else {
        return userns::settle(host, asked, &facts.id, &super::run_dir(host, &facts.id));
    };
    let theirs = sandbox.userns.as_ref().map_or("host", |userns| userns.mode.as_str());
    match asked {
        Some(mode) if mode != theirs => Err(Fault::invalid(format!("--userns {mode}: sandbox {} has {theirs}", sandbox.name))
            .hint("the containers of a sandbox share its user namespace: give --userns to rkbox sandbox create")),
        _ => Ok(sandbox.userns.as_ref().map(|userns| userns::joined(host, userns, &facts.id))),
    }
}

/// The host name inside.
pub fn hostname(facts: &Facts<'_>) -> String {
    match (facts.sandbox, &facts.args.process.hostname) {
        (Some(sandbox), _) => sandbox.hostname.clone(),
        (None, Some(hostname)) => hostname.clone(),
        (None, None) => facts.id.short().to_owned(),
    }
}
