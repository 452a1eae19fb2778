//! The plan of a sandbox: a function of its record and of the texts that its files hold.

use std::path::PathBuf;

use crate::bundle::cgroup;
use crate::cmd::records::BoxKind;
use crate::cmd::userns;
use crate::fault::Result;
use crate::ids::CgroupDriver;
use crate::record::{RuntimeFacts, SandboxRecord};
use crate::step::mount::MountKind;
use crate::step::{
    CgroupParent, Directory, File, Home, HostsName, Mount, Namespaces, NetnsFiles, NetnsRoot, Process, Reservation, SharedDir, Skeleton,
    Step,
};
use crate::sys::Host;

/// Size of `/dev/shm`, as docker, containerd and podman make it.
const SHM_KIB: u64 = 64 << 10;

/// What the files of a sandbox hold; empty texts are enough to take a sandbox back.
#[derive(Debug, Default)]
pub struct Texts {
    /// `record.json`.
    pub record: String,
    /// `config.json` of the pause bundle.
    pub config: String,
    /// `/etc/hosts`.
    pub hosts: String,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
}

/// The steps of a sandbox, and the index of the first that `stop` takes back.
#[derive(Debug)]
pub struct Steps {
    /// All of them.
    pub all: Vec<Step>,
    /// The first after the record.
    pub stop_at: usize,
    /// The last of the network.
    pub network_end: usize,
}

/// Where the volatile things of sandbox `id` are.
pub fn run_dir(host: &Host, id: &str) -> PathBuf {
    host.run.join("sandboxes").join(id)
}

/// The parent control group of a box; systemd keeps its own slices.
pub fn cgroup_parent(facts: &RuntimeFacts) -> Option<Step> {
    match facts.cgroup_driver {
        CgroupDriver::Cgroupfs => Some(CgroupParent { parent: cgroup::parent(&facts.cgroups_path)?.to_owned() }.into()),
        CgroupDriver::Systemd => None,
    }
}

/// Puts the steps of `record` in order, those of its network between the namespaces and the pause process.
pub fn steps(host: &Host, record: &SandboxRecord, texts: Texts, network: Vec<Step>) -> Result<Steps> {
    let dir = host.sandbox_dir(record.id.as_str());
    let run = run_dir(host, record.id.as_str());
    let dirs =
        [host.root.clone(), host.root.join("names"), host.root.join(BoxKind::Sandbox.names()), host.root.join(BoxKind::Sandbox.dir())];
    let dirs = dirs.into_iter().chain([host.run.clone(), host.run.join("sandboxes"), host.runtime_root()]).collect();
    let mut all: Vec<Step> = vec![
        Home { dirs }.into(),
        Reservation { path: host.root.join(BoxKind::Sandbox.names()).join(record.name.as_ref()), id: record.id.clone() }.into(),
    ];
    all.extend(userns::claim_steps(host, record.userns.as_ref(), &record.id));
    all.extend::<[Step; 2]>([
        Directory::new(dir.clone(), 0o700).into(),
        File { path: dir.join("record.json"), mode: 0o600, content: texts.record, durable: true, owner: (0, 0) }.into(),
    ]);
    let stop_at = all.len();
    all.push(Directory::new(run.clone(), 0o700).into());
    all.extend(cgroup_parent(&record.runtime));
    if record.netns.is_some() {
        all.push(NetnsRoot { path: host.netns.clone() }.into());
    }
    let ids = record.userns.as_ref();
    let root = ids.map_or((0, 0), |userns| userns.map.root());
    let (ipc, uts) = (record.ipcns.clone(), Some(record.utsns.clone()));
    all.push(Namespaces { net: record.netns.clone(), ipc, uts, hostname: Some(record.hostname.clone()), user: userns::new(ids) }.into());
    all.extend(network);
    let network_end = all.len() - 1;
    let named = netns_files(host, record, &texts.resolv_conf);
    let file = |name: &str, content: String| File { path: dir.join(name), mode: 0o644, content, durable: false, owner: root }.into();
    if record.ipcns.is_some() {
        all.push(Directory::new(record.shm.clone(), 0o755).into());
        all.push(Mount { what: MountKind::Tmpfs { size_kib: SHM_KIB, mode: 0o1777 }, target: record.shm.clone() }.into());
    }
    all.extend::<[Step; 3]>([
        file("hosts", texts.hosts),
        file("hostname", format!("{}\n", record.hostname)),
        file("resolv.conf", texts.resolv_conf),
    ]);
    all.extend(named);
    all.extend(names(host, record));
    all.push(Skeleton { path: dir.join("rootfs"), pause: true, init: false, like: Vec::new() }.into());
    all.extend(userns::root_steps(host, ids, dir.join("rootfs")));
    all.extend::<[Step; 2]>([
        File { path: dir.join("config.json"), mode: 0o600, content: texts.config, durable: false, owner: (0, 0) }.into(),
        Process {
            id: record.id.clone(),
            runtime: record.runtime.path.clone(),
            state: record.runtime.state.clone(),
            systemd_cgroup: record.runtime.cgroup_driver == CgroupDriver::Systemd,
            bundle: dir.clone(),
            pid_file: run.join("pid"),
            log: run.join("runtime.log"),
        }
        .into(),
    ]);
    Ok(Steps { all, stop_at, network_end })
}

/// The resolver of the sandbox for `ip netns exec`.
fn netns_files(host: &Host, record: &SandboxRecord, resolv_conf: &str) -> Vec<Step> {
    if record.netns.is_none() {
        return Vec::new();
    }
    let dir = host.netns_files().join(record.name.as_ref());
    vec![SharedDir { path: host.netns_files(), mode: 0o755 }.into(), NetnsFiles { dir, resolv_conf: resolv_conf.to_owned() }.into()]
}

/// Its name for the other sandboxes of its networks, and theirs for it.
fn names(host: &Host, record: &SandboxRecord) -> Vec<Step> {
    let mut all: Vec<Step> = Vec::new();
    for attachment in &record.attachments {
        let network = host.names_of(&attachment.network);
        let names =
            if record.hostname == record.name.as_ref() { record.hostname.clone() } else { format!("{} {}", record.name, record.hostname) };
        let lines = attachment.addresses.iter().map(|address| format!("{}\t{names}", address.ip())).collect();
        all.push(Home { dirs: vec![host.run.join("hosts"), network.clone()] }.into());
        all.push(HostsName { network, id: record.id.clone(), hosts: record.files.join("hosts"), lines }.into());
    }
    all
}
