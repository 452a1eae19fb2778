//! The OCI configuration of a container and the texts of its files, from its facts and record.

use std::path::{Path, PathBuf};

use super::from_file::{self, ContainerFile};
use super::mounts;
use super::options::Owns;
use super::request::{Facts, hostname};
use super::steps::{Texts, pid_pin};
use crate::bundle::init;
use crate::bundle::mounts::{Access, Bind, KernelFiles, Shm};
use crate::bundle::process::Terminal;
use crate::bundle::spec::{self, ContainerRequest, Isolation, Namespace, UserIds};
use crate::bundle::user;
use crate::cmd::names::Reach;
use crate::cmd::records;
use crate::fault::{Fault, Result};
use crate::record::{ContainerRecord, Pairs, UserNs};
use crate::sys::{Host, privilege, rootless};

/// Size of `/dev/shm` of a container without a sandbox.
const SHM_KIB: u64 = 64 << 10;

/// Makes the texts of its files.
pub fn texts(host: &Host, facts: &Facts<'_>, record: &ContainerRecord) -> Result<Texts> {
    let hostname = hostname(facts);
    let files = match facts.sandbox {
        Some(_) if !facts.args.names.is_empty() => {
            return Err(Fault::invalid("the names of a container in a sandbox are the sandbox's")
                .hint("give --dns and --add-host to rkbox sandbox create"));
        }
        Some(_) => Vec::new(),
        None => {
            let reach = if record.netns.is_some() { Reach::Own(&record.attachments) } else { Reach::Host };
            let names = &facts.args.names;
            let own = if record.name.as_ref() == hostname { hostname.clone() } else { format!("{hostname} {}", record.name) };
            let (hosts, resolv_conf) = (names.hosts(&own, reach)?, names.resolv_conf(reach)?);
            vec![("hosts", hosts), ("hostname", format!("{hostname}\n")), ("resolv.conf", resolv_conf)]
        }
    };
    let config = spec::container_json(&oci_request(host, facts, record, &hostname)?)?;
    let config = String::from_utf8(config).map_err(|error| Fault::internal(error.to_string()))?;
    Ok(Texts { record: records::write(record)?, config, files })
}

fn oci_request(host: &Host, facts: &Facts<'_>, record: &ContainerRecord, hostname: &str) -> Result<ContainerRequest> {
    let root_access = match facts.file {
        Some(file) if file.config.linux.security_context.readonly_rootfs => Access::ReadOnly,
        Some(_) => Access::ReadWrite,
        None => facts.args.mounts.root_access(),
    };
    let ids = record.userns.as_ref();
    let owns = Owns { network: record.owns_netns, ipc: facts.sandbox.is_none(), ids: ids.map(|userns| &userns.map) };
    // A file system of the kernel can be mounted anew only by the root of the user namespace that the network namespace belongs to.
    let owns_net = record.owns_netns || facts.sandbox.is_some_and(|sandbox| sandbox.netns.is_some());
    let files = facts.sandbox.map_or(&record.bundle, |sandbox| &sandbox.files);
    let etc = ["hosts", "hostname", "resolv.conf"].map(|name| Bind {
        source: files.join(name),
        destination: format!("/etc/{name}"),
        access: root_access,
    });
    let own_ipc = facts.file.is_some_and(ContainerFile::has_own_ipc);
    Ok(ContainerRequest {
        args: if record.init { init::before(&record.args) } else { record.args.clone() },
        env: record.env.clone(),
        cwd: record.cwd.clone(),
        identity: user::Identity { uid: record.user.0, gid: record.user.1, groups: record.user.2.clone() },
        terminal: if record.tty { Terminal::Pty } else { Terminal::None },
        posture: match facts.file {
            Some(file) => from_file::posture(file, owns)?,
            None => facts.args.security.posture(owns)?,
        },
        kernel_files: if (ids.is_some() || rootless::is_rootless()) && !owns_net { KernelFiles::OfTheHost } else { KernelFiles::Own },
        isolation: isolation(host, facts, record),
        hostname: facts.sandbox.is_none().then(|| hostname.to_owned()),
        rootfs: ids.map_or_else(|| PathBuf::from("rootfs"), UserNs::rootfs),
        user: ids.map(|userns| UserIds { path: userns.pin.clone(), map: userns.map.clone() }),
        root_access,
        shm: match facts.sandbox {
            Some(sandbox) if !own_ipc => Shm::Shared(sandbox.shm.clone()),
            _ => Shm::Private { size_kib: facts.args.mounts.shm_kib()?.unwrap_or(SHM_KIB) },
        },
        binds: etc.to_vec(),
        mounts: mounts::entries(record),
        cgroups_path: record.runtime.cgroups_path.clone(),
        limits: facts.file.map_or_else(|| facts.args.resources.limits(), from_file::limits)?,
        annotations: annotations(facts, record),
    })
}

fn isolation(host: &Host, facts: &Facts<'_>, record: &ContainerRecord) -> Isolation {
    let join = |path: &Path| Namespace::Join(path.to_path_buf());
    let own_ipc = facts.file.is_some_and(ContainerFile::has_own_ipc);
    Isolation {
        network: record.netns.as_deref().map_or(Namespace::Host, join),
        ipc: match facts.sandbox {
            Some(sandbox) if !own_ipc => sandbox.ipcns.as_deref().map_or(Namespace::Host, join),
            _ => Namespace::New,
        },
        uts: facts.sandbox.map_or(Namespace::New, |sandbox| join(&sandbox.utsns)),
        pid: facts.file.map_or(Namespace::New, |file| file.pid_namespace(pid_pin(host, record))),
        cgroup: if privilege::has_cgroup_v2() { Namespace::New } else { Namespace::Host },
    }
}

/// Those of a file are its caller's own: no runtime and no hook is to act on them.
fn annotations(facts: &Facts<'_>, record: &ContainerRecord) -> Pairs {
    let mut all = if facts.file.is_some() { Pairs::new() } else { record.annotations.clone() };
    all.insert("org.rkbox.id".to_owned(), record.id.to_string());
    all
}
