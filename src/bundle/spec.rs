//! The runtime specification of a container, whole, through builders.
//!
//! Never from `Spec::default()`, which holds another project's version, host name and mounts. Labels of an image are not
//! copied into annotations: runtimes and hooks act on annotations, and labels are chosen by a stranger (CVE-2026-53488).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxHugepageLimitBuilder, LinuxIdMappingBuilder, LinuxNamespace,
    LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResources, LinuxResourcesBuilder, PosixRlimit, Process, ProcessBuilder, RootBuilder,
    Spec, SpecBuilder, UserBuilder,
};

use super::canonical;
use super::capabilities::{self, Holder};
use super::mounts::{self, Access, Bind, Entry, Kernel, KernelFiles, Shm};
use super::posture::{Ambience, Posture, Privileges};
use super::process::Terminal;
use super::resources::{DEFAULT_PIDS, Resources, Swap};
use super::ulimit::Ulimit;
use super::user::Identity;
use crate::fault::{Fault, Kind, Result};
use crate::idmap::{IdMap, IdRange};

/// The version of the runtime specification that is written; old runtimes accept it and nothing newer is used.
pub(super) const OCI_VERSION: &str = "1.0.2";

/// Soft and hard limit of open files that are asked for; the host may allow less.
pub const NOFILE: (u64, u64) = (1024, 524_288);

/// Which namespace of a kind a container lives in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// One of its own.
    New,
    /// The one pinned at this path.
    Join(PathBuf),
    /// The host's.
    Host,
}

/// The namespaces of a container; the mount namespace is always its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// Network.
    pub network: Namespace,
    /// Shared memory and message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// Processes.
    pub pid: Namespace,
    /// Control groups: `New` on cgroup v2, `Host` on v1, where the runtime binds the container's own groups.
    pub cgroup: Namespace,
}

/// A user namespace that is pinned, and its ids: the runtime wants both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserIds {
    /// Its pin.
    pub path: PathBuf,
    /// Its ids.
    pub map: IdMap,
}

/// What a container may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its control group.
    pub resources: Resources,
    /// Whether the kernel counts swap.
    pub swap: Swap,
    /// Bounds of huge pages, by their size: `2MB`, in bytes.
    pub hugepages: Vec<(String, i64)>,
    /// Limits of its processes, in place of the default ones of the same names.
    pub ulimits: Vec<Ulimit>,
    /// How soon it is killed when the host has no memory, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// The hard limit of open files that the host allows its own processes: a container cannot be given more.
    pub host_nofile: u64,
}

impl Limits {
    /// The default limits on a host whose hard limit of open files is `host_nofile`.
    pub fn new(host_nofile: u64) -> Self {
        Limits {
            resources: Resources { pids: Some(DEFAULT_PIDS), ..Resources::default() },
            swap: Swap::default(),
            hugepages: Vec::new(),
            ulimits: Vec::new(),
            oom_score_adj: None,
            host_nofile,
        }
    }
}

/// Everything that decides the configuration of a container.
#[derive(Clone, Debug)]
pub struct ContainerRequest {
    /// From [`super::process::arguments`].
    pub args: Vec<String>,
    /// From [`super::process::environment`].
    pub env: Vec<String>,
    /// From [`super::process::working_directory`].
    pub cwd: String,
    /// From [`super::user::resolve`].
    pub identity: Identity,
    /// Whether it has a terminal.
    pub terminal: Terminal,
    /// What it may do.
    pub posture: Posture,
    /// Which namespaces it lives in.
    pub isolation: Isolation,
    /// Its user namespace; `None` has the host's ids.
    pub user: Option<UserIds>,
    /// Where `/sys` comes from.
    pub kernel_files: KernelFiles,
    /// The host name, only with a uts namespace of its own; `None` where the namespace has one already.
    pub hostname: Option<String>,
    /// The root file system, absolute or relative to the bundle.
    pub rootfs: PathBuf,
    /// Whether the root file system can be written.
    pub root_access: Access,
    /// Where `/dev/shm` comes from.
    pub shm: Shm,
    /// `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf` of the sandbox, unless the user mounts something there.
    pub binds: Vec<Bind>,
    /// What the user mounts.
    pub mounts: Vec<Entry>,
    /// From [`super::cgroup`]; empty leaves the choice to the runtime.
    pub cgroups_path: String,
    /// What it may use.
    pub limits: Limits,
    /// Our own annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Builds the specification. *Errors:* `InvalidArgument` for a request that contradicts itself.
pub fn container(request: &ContainerRequest) -> Result<Spec> {
    if request.hostname.is_some() && request.isolation.uts == Namespace::Host {
        return Err(Fault::invalid("a host name cannot be set in the uts namespace of the host"));
    }
    let mut mounts = mounts::all(
        Kernel { files: request.kernel_files, ids: request.user.as_ref().map(|user| &user.map) },
        &request.shm,
        &request.binds,
        &request.mounts,
    )?;
    request.posture.open_kernel_mounts(&mut mounts);
    let root = RootBuilder::default().path(request.rootfs.clone()).readonly(request.root_access == Access::ReadOnly).build();
    let builder = SpecBuilder::default()
        .version(OCI_VERSION)
        .process(process(request)?)
        .root(root.map_err(internal)?)
        .mounts(mounts)
        .linux(linux(request)?)
        .annotations(request.annotations.clone().into_iter().collect::<HashMap<_, _>>());
    finish(builder, request.hostname.clone())
}

/// Builds the bytes of `config.json`, the same for the same request.
pub fn container_json(request: &ContainerRequest) -> Result<Vec<u8>> {
    canonical::bytes(&container(request)?)
}

/// Ends a builder: what it leaves unset comes from `Spec::default()`, whose host name is another project's.
pub(super) fn finish(builder: SpecBuilder, hostname: Option<String>) -> Result<Spec> {
    let mut spec = builder.build().map_err(internal)?;
    spec.set_hostname(hostname);
    Ok(spec)
}

fn process(request: &ContainerRequest) -> Result<Process> {
    let (identity, posture) = (&request.identity, &request.posture);
    let user = UserBuilder::default().uid(identity.uid).gid(identity.gid).umask(0o022_u32).additional_gids(identity.groups.clone());
    let holder = if identity.uid == 0 { Holder::Root } else { Holder::User };
    let none = BTreeSet::new();
    let ambient = if (holder, posture.ambience) == (Holder::Root, Ambience::Users) { &none } else { &posture.ambient };
    let builder = ProcessBuilder::default();
    let builder = if let Some(score) = request.limits.oom_score_adj { builder.oom_score_adj(score) } else { builder };
    let mut process = builder
        .terminal(request.terminal == Terminal::Pty)
        .user(user.build().map_err(internal)?)
        .args(request.args.clone())
        .env(request.env.clone())
        .cwd(request.cwd.clone())
        .capabilities(capabilities::linux_with(&posture.capabilities, ambient, holder)?)
        .rlimits(rlimits(&request.limits)?)
        .no_new_privileges(posture.privileges == Privileges::Fixed)
        .build()
        .map_err(internal)?;
    process.set_apparmor_profile(posture.apparmor.clone()).set_selinux_label(posture.process_label.clone());
    Ok(process)
}

fn rlimits(limits: &Limits) -> Result<Vec<PosixRlimit>> {
    let (soft, hard) = NOFILE;
    let hard = hard.min(limits.host_nofile);
    let defaults = [Ulimit { name: "core", soft: 0, hard: 0 }, Ulimit { name: "nofile", soft: soft.min(hard), hard }];
    let kept = defaults.iter().filter(|known| limits.ulimits.iter().all(|asked| asked.name != known.name));
    kept.chain(&limits.ulimits).map(Ulimit::rlimit).collect()
}

fn linux(request: &ContainerRequest) -> Result<Linux> {
    let posture = &request.posture;
    let mut linux = LinuxBuilder::default().build().map_err(internal)?;
    linux
        .set_namespaces(Some(namespaces(&request.isolation)?))
        .set_cgroups_path((!request.cgroups_path.is_empty()).then(|| PathBuf::from(&request.cgroups_path)))
        .set_resources(Some(resources(&request.limits, &posture.device_rules)?))
        .set_rootfs_propagation(mounts::root_propagation(&request.mounts))
        .set_masked_paths(Some(posture.masked.clone()))
        .set_readonly_paths(Some(posture.read_only.clone()))
        .set_seccomp(posture.seccomp.clone())
        .set_devices((!posture.devices.is_empty()).then(|| posture.devices.clone()))
        .set_sysctl((!posture.sysctls.is_empty()).then(|| posture.sysctls.clone().into_iter().collect()))
        .set_mount_label(posture.mount_label.clone());
    if let Some(user) = &request.user {
        join_user(&mut linux, user)?;
    }
    Ok(linux)
}

/// Puts a container or pause process into a user namespace.
pub(super) fn join_user(linux: &mut Linux, user: &UserIds) -> Result<()> {
    let mapping = |range: &IdRange| {
        LinuxIdMappingBuilder::default().container_id(range.inside).host_id(range.outside).size(range.size).build().map_err(internal)
    };
    let mappings = user.map.0.iter().map(mapping).collect::<Result<Vec<_>>>()?;
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.push(namespace(LinuxNamespaceType::User, Some(user.path.clone()))?);
    linux.set_namespaces(Some(namespaces)).set_uid_mappings(Some(mappings.clone())).set_gid_mappings(Some(mappings));
    Ok(())
}

fn namespaces(isolation: &Isolation) -> Result<Vec<LinuxNamespace>> {
    let mut list = vec![namespace(LinuxNamespaceType::Mount, None)?];
    let kinds = [
        (LinuxNamespaceType::Pid, &isolation.pid),
        (LinuxNamespaceType::Network, &isolation.network),
        (LinuxNamespaceType::Ipc, &isolation.ipc),
        (LinuxNamespaceType::Uts, &isolation.uts),
        (LinuxNamespaceType::Cgroup, &isolation.cgroup),
    ];
    for (kind, which) in kinds {
        match which {
            Namespace::New => list.push(namespace(kind, None)?),
            Namespace::Join(path) => list.push(namespace(kind, Some(path.clone()))?),
            Namespace::Host => {}
        }
    }
    Ok(list)
}

pub(super) fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> Result<LinuxNamespace> {
    let builder = LinuxNamespaceBuilder::default().typ(kind);
    let builder = if let Some(path) = path { builder.path(path) } else { builder };
    builder.build().map_err(internal)
}

fn resources(limits: &Limits, devices: &[LinuxDeviceCgroup]) -> Result<LinuxResources> {
    let mut builder = limits.resources.build(denied_devices(devices)?, limits.swap)?;
    if !limits.hugepages.is_empty() {
        let page = |(size, bytes): &(String, i64)| {
            LinuxHugepageLimitBuilder::default().page_size(size.clone()).limit(*bytes).build().map_err(internal)
        };
        builder = builder.hugepage_limits(limits.hugepages.iter().map(page).collect::<Result<Vec<_>>>()?);
    }
    builder.build().map_err(internal)
}

/// Denies every device but `allowed`; the runtime then allows its own defaults (null, zero, full, random, urandom, tty, the terminal).
pub(super) fn denied_devices(allowed: &[LinuxDeviceCgroup]) -> Result<LinuxResourcesBuilder> {
    let deny = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build().map_err(internal)?;
    Ok(LinuxResourcesBuilder::default().devices([[deny].as_slice(), allowed].concat()))
}

pub(super) fn internal(error: OciSpecError) -> Fault {
    Fault::from_error(Kind::Internal, error).doing("building the runtime specification")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bundle::process::{DEFAULT_PATH, Terminal};
    use oci_spec::runtime::PosixRlimitType;

    fn limits() -> Limits {
        let mut limits = Limits::new(20_000);
        limits.resources.memory = Some(64 << 20);
        limits.resources.cpu_shares = Some(512);
        (limits.resources.cpu_quota, limits.resources.cpu_period) = (Some(50_000), Some(100_000));
        limits
    }

    /// A request with something in every field.
    pub(crate) fn request() -> ContainerRequest {
        let joined = |kind: &str| Namespace::Join(format!("/run/rkbox/ns/web/{kind}").into());
        let bind = |source: &str, destination: &str, access| Bind { source: source.into(), destination: destination.to_owned(), access };
        ContainerRequest {
            args: vec!["nginx".to_owned(), "-g".to_owned(), "daemon off;".to_owned()],
            env: vec![format!("PATH={DEFAULT_PATH}"), "A=1".to_owned()],
            cwd: "/srv".to_owned(),
            identity: Identity { uid: 33, gid: 33, groups: vec![4, 33] },
            terminal: Terminal::None,
            posture: Posture { seccomp: None, ..Posture::confined(&[0]).unwrap() },
            isolation: Isolation {
                network: joined("net"),
                ipc: joined("ipc"),
                uts: joined("uts"),
                pid: Namespace::New,
                cgroup: Namespace::Host,
            },
            user: None,
            kernel_files: KernelFiles::Own,
            hostname: None,
            rootfs: "rootfs".into(),
            root_access: Access::ReadWrite,
            shm: Shm::Shared("/run/rkbox/shm/web".into()),
            binds: vec![bind("/run/rkbox/hosts", "/etc/hosts", Access::ReadWrite)],
            mounts: vec![Entry {
                destination: "/data".to_owned(),
                kind: "bind".to_owned(),
                source: "/srv/data".into(),
                options: ["rbind", "rprivate", "ro", "rro"].map(str::to_owned).to_vec(),
            }],
            cgroups_path: "/rkbox/ab".to_owned(),
            limits: limits(),
            annotations: [("dev.rkbox.sandbox".to_owned(), "web".to_owned())].into(),
        }
    }

    #[test]
    fn a_whole_configuration() {
        let json = String::from_utf8(container_json(&request()).unwrap()).unwrap();
        insta::assert_snapshot!(json);
    }

    #[test]
    fn equal_requests_are_equal_bytes() {
        let mut full = request();
        full.posture.capabilities = capabilities::select(&["ALL".to_owned()], &[]).unwrap();
        full.identity = Identity::root();
        full.annotations = (0..50).map(|nth| (format!("key{nth}"), nth.to_string())).collect();
        let first = container_json(&full).unwrap();
        for _ in 0..20 {
            assert_eq!(container_json(&full).unwrap(), first);
        }
    }

    #[test]
    fn limits_never_exceed_the_host_and_contradictions_are_refused() {
        let nofile =
            |host| rlimits(&Limits::new(host)).unwrap().into_iter().find(|limit| limit.typ() == PosixRlimitType::RlimitNofile).unwrap();
        assert_eq!((nofile(20_000).soft(), nofile(20_000).hard()), (1024, 20_000));
        assert_eq!((nofile(512).soft(), nofile(512).hard()), (512, 512));
        assert_eq!(nofile(u64::MAX).hard(), 524_288);
        let asked = Limits { ulimits: vec!["nofile=7:9".parse().unwrap(), "nproc=5".parse().unwrap()], ..Limits::new(20_000) };
        let asked: Vec<_> = rlimits(&asked).unwrap().iter().map(|limit| (limit.typ(), limit.soft(), limit.hard())).collect();
        let [core, nofile, nproc] = asked[..] else { panic!("{asked:?}") };
        assert_eq!((core.1, nofile.1, nofile.2, nproc.2), (0, 7, 9, 5));
        let mut host = request();
        host.isolation.uts = Namespace::Host;
        host.hostname = Some("youki".to_owned());
        assert!(container(&host).is_err());
        host.isolation.uts = Namespace::New;
        assert_eq!(container(&host).unwrap().hostname().as_deref(), Some("youki"));
    }
}
