//! The OCI configuration of a container and the texts of its files, from its facts and record.

use std::path::{Path, PathBuf};

use super::mounts;
use super::options::Owns;
use super::request::{Facts, hostname};
use super::steps::Texts;
use crate::bundle::mounts::{Bind, KernelFiles, Shm};
use crate::bundle::spec::{self, ContainerRequest, Isolation, Namespace, UserIds};
use crate::bundle::user;
use crate::cmd::names::Reach;
use crate::cmd::records;
use crate::fault::{Fault, Result};
use crate::record::{ContainerRecord, UserNs};
use crate::sys::{privilege, rootless};

/// Size of `/dev/shm` of a container without a sandbox.
const SHM_KIB: u64 = 64 << 10;

/// Makes the texts of its files.
pub fn texts(facts: &Facts<'_>, record: &ContainerRecord) -> Result<Texts> {
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
            let (hosts, resolv_conf) = (names.hosts(&hostname, reach)?, names.resolv_conf(reach)?);
            vec![("hosts", hosts), ("hostname", format!("{hostname}\n")), ("resolv.conf", resolv_conf)]
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
        ipc: facts.sandbox.map_or(Namespace::New, |sandbox| sandbox.ipcns.as_deref().map_or(Namespace::Host, join)),
        uts: facts.sandbox.map_or(Namespace::New, |sandbox| join(&sandbox.utsns)),
        pid: Namespace::New,
        cgroup: if privilege::has_cgroup_v2() { Namespace::New } else { Namespace::Host },
    };
    let ids = record.userns.as_ref();
    let owns = Owns { network: record.owns_netns, ipc: facts.sandbox.is_none(), ids: ids.map(|userns| &userns.map) };
    // A file system of the kernel can be mounted anew only by the root of the user namespace that the network namespace belongs to.
    let owns_net = record.owns_netns || facts.sandbox.is_some_and(|sandbox| sandbox.netns.is_some());
    let files = facts.sandbox.map_or(&record.bundle, |sandbox| &sandbox.files);
    let etc = ["hosts", "hostname", "resolv.conf"].map(|name| Bind {
        source: files.join(name),
        destination: format!("/etc/{name}"),
        access: facts.args.mounts.root_access(),
    });
    Ok(ContainerRequest {
        args: record.args.clone(),
        env: record.env.clone(),
        cwd: record.cwd.clone(),
        identity: user::Identity { uid: record.user.0, gid: record.user.1, groups: record.user.2.clone() },
        terminal: facts.args.process.terminal(),
        posture: facts.args.security.posture(owns)?,
        kernel_files: if (ids.is_some() || rootless::is_rootless()) && !owns_net { KernelFiles::OfTheHost } else { KernelFiles::Own },
        isolation,
        hostname: facts.sandbox.is_none().then(|| hostname.to_owned()),
        rootfs: ids.map_or_else(|| PathBuf::from("rootfs"), UserNs::rootfs),
        user: ids.map(|userns| UserIds { path: userns.pin.clone(), map: userns.map.clone() }),
        root_access: facts.args.mounts.root_access(),
        shm: match facts.sandbox {
            Some(sandbox) => Shm::Shared(sandbox.shm.clone()),
            None => Shm::Private { size_kib: facts.args.mounts.shm_kib()?.unwrap_or(SHM_KIB) },
        },
        binds: etc.to_vec(),
        mounts: mounts::entries(record),
        cgroups_path: record.runtime.cgroups_path.clone(),
        limits: facts.args.resources.limits()?,
        annotations: record.annotations.clone().into_iter().chain([("org.rkbox.id".to_owned(), record.id.to_string())]).collect(),
    })
}
