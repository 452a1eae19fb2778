//! The pause program and its configuration: the process that keeps a sandbox's pid namespace and reaps its orphans.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use oci_spec::runtime::{LinuxBuilder, LinuxNamespaceType, LinuxSeccomp, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder};

use super::capabilities::{self, CapabilitySet, Holder};
use super::spec::{Namespace, OCI_VERSION, UserIds, denied_devices, finish, internal, join_user, namespace};
use super::user::Identity;
use super::{canonical, mounts};
use crate::fault::Result;

/// The static program, about 1 KB; built from `freestanding/pause.rs` by `build.rs`.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// Where the program is in the root file system of a sandbox.
pub const PATH: &str = "/pause";

/// Everything that decides the configuration of a pause process.
#[derive(Clone, Debug)]
pub struct PauseRequest {
    /// A directory with `/pause`, `/dev` and `/proc`; never written.
    pub rootfs: PathBuf,
    /// The pinned network namespace; `None` for the host's.
    pub network: Option<PathBuf>,
    /// The pinned ipc namespace; `None` for the host's.
    pub ipc: Option<PathBuf>,
    /// The pinned uts namespace, which has its host name already; `None` for the host's.
    pub uts: Option<PathBuf>,
    /// Its user namespace; `None` has the host's ids.
    pub user: Option<UserIds>,
    /// Its processes: a namespace of its own, or the host's.
    pub pid: Namespace,
    /// As whom it runs; it needs no right.
    pub identity: Identity,
    /// What confines it besides.
    pub confinement: Confinement,
    /// Settings of the network and the ipc namespace.
    pub sysctls: BTreeMap<String, String>,
    /// From [`super::cgroup`].
    pub cgroups_path: String,
    /// Our own annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What confines a pause process besides that it holds no capability; nothing unless somebody asks for it: it makes six system calls.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    /// The filter.
    pub seccomp: Option<LinuxSeccomp>,
    /// The AppArmor profile.
    pub apparmor: Option<String>,
    /// The SELinux label.
    pub label: Option<String>,
}

/// Builds the specification: no capability, two mounts, a read-only root.
pub fn spec(request: &PauseRequest) -> Result<Spec> {
    let mut namespaces = vec![namespace(LinuxNamespaceType::Mount, None)?];
    match &request.pid {
        Namespace::New => namespaces.push(namespace(LinuxNamespaceType::Pid, None)?),
        Namespace::Join(path) => namespaces.push(namespace(LinuxNamespaceType::Pid, Some(path.clone()))?),
        Namespace::Host => {}
    }
    let joined =
        [(LinuxNamespaceType::Network, &request.network), (LinuxNamespaceType::Ipc, &request.ipc), (LinuxNamespaceType::Uts, &request.uts)];
    for (kind, path) in joined {
        if let Some(path) = path {
            namespaces.push(namespace(kind, Some(path.clone()))?);
        }
    }
    let mut linux = LinuxBuilder::default().build().map_err(internal)?;
    linux
        .set_namespaces(Some(namespaces))
        .set_cgroups_path(Some(PathBuf::from(&request.cgroups_path)))
        .set_resources(Some(denied_devices(&[])?.build().map_err(internal)?))
        .set_sysctl((!request.sysctls.is_empty()).then(|| request.sysctls.clone().into_iter().collect()))
        .set_seccomp(request.confinement.seccomp.clone())
        .set_masked_paths(None)
        .set_readonly_paths(None);
    if let Some(user) = &request.user {
        join_user(&mut linux, user)?;
    }
    let identity = &request.identity;
    let user = UserBuilder::default().uid(identity.uid).gid(identity.gid);
    let user = if *identity == Identity::root() { user } else { user.additional_gids(identity.groups.clone()) };
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(user.build().map_err(internal)?)
        .args(vec![PATH.to_owned()])
        .env(vec![format!("PATH={}", super::process::DEFAULT_PATH)])
        .cwd("/")
        .capabilities(capabilities::linux(&CapabilitySet::new(), Holder::Root)?)
        .no_new_privileges(true);
    let mut process = process.build().map_err(internal)?;
    process.set_rlimits(None).set_apparmor_profile(request.confinement.apparmor.clone());
    process.set_selinux_label(request.confinement.label.clone());
    finish(
        SpecBuilder::default()
            .version(OCI_VERSION)
            .process(process)
            .root(RootBuilder::default().path(request.rootfs.clone()).readonly(true).build().map_err(internal)?)
            .mounts(vec![mounts::proc()?, mounts::dev()?])
            .annotations(request.annotations.clone().into_iter().collect::<HashMap<_, _>>())
            .linux(linux),
        None,
    )
}

/// Builds the bytes of `config.json`, the same for the same request.
pub fn json(request: &PauseRequest) -> Result<Vec<u8>> {
    canonical::bytes(&spec(request)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn request() -> PauseRequest {
        PauseRequest {
            rootfs: "/run/rkbox/pause".into(),
            network: Some("/run/netns/web".into()),
            ipc: None,
            uts: None,
            user: None,
            pid: Namespace::New,
            identity: Identity::root(),
            confinement: Confinement::default(),
            sysctls: BTreeMap::new(),
            cgroups_path: "/rkbox/ab".to_owned(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn a_pause_configuration() {
        insta::assert_snapshot!(String::from_utf8(json(&request()).unwrap()).unwrap());
    }

    #[test]
    fn the_program_is_a_small_static_executable() {
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
        assert!(PROGRAM.len() < 2048, "{} bytes", PROGRAM.len());
    }
}
