//! `config.json` of a bundle: the image's own words, everything else fixed.

use std::path::Path;

use super::accounts;
use crate::bundle::mounts::{Access, Bind, KernelFiles, Shm};
use crate::bundle::posture::Posture;
use crate::bundle::process::{self, Terminal};
use crate::bundle::spec::{self, ContainerRequest, Isolation, Limits, Namespace};
use crate::cmd::image::SourceImage;
use crate::fault::{Fault, Result};
use crate::sys::{privilege, proc};

/// The host name of every bundle: no image chooses it. *Source:* `runc spec` says `runc`, umoci `umoci-default`.
pub const HOSTNAME: &str = "rkbox";
/// Size of `/dev/shm`, as docker, containerd and podman make it.
const SHM_KIB: u64 = 64 << 10;
/// What a bundle with mounts binds over the image's own.
pub const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Builds `config.json`; `files` is the directory of `hosts`, `hostname` and `resolv.conf`, none for a plain bundle.
///
/// All namespaces are new, the network's too; the control group is the runtime's choice. *Errors:* those of the image's USER, ENV,
/// WORKDIR, and `InvalidArgument` for an image without a command.
pub fn config(image: &SourceImage, files: Option<&Path>) -> Result<String> {
    let config = &image.config;
    let bind = |dir: &Path, name: &str| Bind { source: dir.join(name), destination: format!("/etc/{name}"), access: Access::ReadWrite };
    let request = ContainerRequest {
        args: process::arguments(config.entrypoint(), config.cmd(), None, &[]).map_err(|fault| of_image(fault, "cmd WORD"))?,
        env: process::environment(config.env(), Terminal::None, Some(HOSTNAME), &[]).map_err(|fault| of_image(fault, "env NAME=VALUE"))?,
        cwd: process::working_directory(config.working_dir()).map_err(|fault| of_image(fault, "workingdir DIR"))?,
        identity: accounts::identity(config.user(), &image.layers)?,
        terminal: Terminal::None,
        posture: Posture::confined(&proc::throttled_cpus())?,
        isolation: Isolation {
            network: Namespace::New,
            ipc: Namespace::New,
            uts: Namespace::New,
            pid: Namespace::New,
            cgroup: if privilege::has_cgroup_v2() { Namespace::New } else { Namespace::Host },
        },
        user: None,
        kernel_files: KernelFiles::Own,
        hostname: Some(HOSTNAME.to_owned()),
        rootfs: "rootfs".into(),
        root_access: Access::ReadWrite,
        shm: Shm::Private { size_kib: SHM_KIB },
        binds: files.map(|dir| FILES.map(|name| bind(dir, name)).to_vec()).unwrap_or_default(),
        mounts: Vec::new(),
        cgroups_path: String::new(),
        limits: Limits::new(proc::nofile_limit()?),
        annotations: std::collections::BTreeMap::new(),
    };
    String::from_utf8(spec::container_json(&request)?).map_err(|error| Fault::internal(error.to_string()))
}

/// The hint of a run would speak of an option that a bundle does not have.
fn of_image(fault: Fault, option: &str) -> Fault {
    Fault::new(fault.kind(), fault.to_string()).hint(format!("give the image another one: umoci config --config.{option} --image DIR:TAG"))
}
