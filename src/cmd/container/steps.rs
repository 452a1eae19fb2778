//! The plan of a container: a function of its record and of the texts that its files hold.

use std::path::PathBuf;

use super::{mounts, run_dir};
use crate::cmd::records::BoxKind;
use crate::cmd::sandbox::cgroup_parent;
use crate::cmd::userns;
use crate::record::{ContainerRecord, Shift, UserNs};
use crate::step::mount::MountKind;
use crate::step::{Directory, File, Home, LogPlace, Mount, Namespaces, NetnsRoot, PidNamespace, Reservation, ShiftedCopy, Skeleton, Step};
use crate::sys::Host;

/// What the files of a container hold; empty texts are enough to take a container back.
#[derive(Debug, Default)]
pub struct Texts {
    /// `record.json`.
    pub record: String,
    /// `config.json`.
    pub config: String,
    /// `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`; none when they are a sandbox's.
    pub files: Vec<(&'static str, String)>,
}

/// Where the pid namespace that the container joins is pinned.
pub fn pid_pin(host: &Host, record: &ContainerRecord) -> PathBuf {
    run_dir(host, &record.id).join("pidns")
}

/// The pid namespace that it joins, held for its whole life.
fn joined_pids(host: &Host, record: &ContainerRecord) -> Option<Step> {
    let of = record.pid_namespace_of.as_ref()?;
    let step = PidNamespace {
        of: of.id.clone(),
        runtime: record.runtime.path.clone(),
        state: record.runtime.state.clone(),
        pid_file: of.pid_file.clone(),
        path: pid_pin(host, record),
    };
    Some(step.into())
}

/// The step that mounts the root file system of `record`.
pub fn of_root(host: &Host, record: &ContainerRecord) -> Vec<Step> {
    let rootfs = record.bundle.join("rootfs");
    let (all, _) = steps(host, record, Texts::default(), Vec::new());
    all.into_iter().filter(|step| matches!(step, Step::Mount(mount) if mount.target == rootfs)).collect()
}

/// Puts the steps of `record` in order; answers also the index of the last one of its network.
pub fn steps(host: &Host, record: &ContainerRecord, texts: Texts, network: Vec<Step>) -> (Vec<Step>, usize) {
    let dir = &record.bundle;
    let dirs =
        [host.root.clone(), host.root.join("names"), host.root.join(BoxKind::Container.names()), host.root.join(BoxKind::Container.dir())];
    let dirs = dirs.into_iter().chain([host.run.clone(), host.run.join("containers"), host.runtime_root()]).collect();
    let mut all: Vec<Step> = vec![
        Home { dirs }.into(),
        Reservation { path: host.root.join(BoxKind::Container.names()).join(record.name.as_ref()), id: record.id.clone() }.into(),
    ];
    all.extend(userns::claim_steps(host, record.userns.as_ref(), &record.id));
    all.extend::<[Step; 3]>([
        Directory::new(dir.clone(), 0o700).into(),
        File { path: dir.join("record.json"), mode: 0o600, content: texts.record, durable: !record.auto_remove, owner: (0, 0) }.into(),
        Directory::new(run_dir(host, &record.id), 0o700).into(),
    ]);
    all.extend(cgroup_parent(&record.runtime));
    let user = userns::new(record.userns.as_ref().filter(|_| record.sandbox_id.is_none()));
    if record.owns_netns {
        all.push(NetnsRoot { path: host.netns.clone() }.into());
    }
    if record.owns_netns || user.is_some() {
        let net = record.netns.clone().filter(|_| record.owns_netns);
        all.push(Namespaces { net, ipc: None, uts: None, hostname: None, user }.into());
    }
    all.extend(joined_pids(host, record));
    all.extend(network);
    let network_end = all.len() - 1;
    let [init, upper, work, rootfs] = ["init", "upper", "work", "rootfs"].map(|name| dir.join(name));
    let mut lowers = vec![init.clone()];
    lowers.extend(record.lowers.iter().cloned());
    all.push(Skeleton { path: init, pause: false, init: record.init, like: record.lowers.clone() }.into());
    let ids = record.userns.as_ref();
    let owned = |owner| ids.map_or(owner, |userns| userns.map.shift(owner));
    if let Some(userns) = ids.filter(|userns| userns.shift == Shift::Copy) {
        let copy = dir.join("image");
        all.push(ShiftedCopy { lowers, path: copy.clone(), map: userns.map.clone() }.into());
        lowers = vec![copy];
    }
    all.extend::<[Step; 4]>([
        // The merged root has the attributes of the upper one.
        Directory { path: upper.clone(), mode: record.root_attributes.0, owner: owned(record.root_attributes.1), like: Vec::new() }.into(),
        Directory::new(work.clone(), 0o700).into(),
        Directory::new(rootfs.clone(), 0o755).into(),
        Mount { what: MountKind::Overlay { lowers, upper, work, ids: ids.and_then(UserNs::shown) }, target: rootfs.clone() }.into(),
    ]);
    all.extend(userns::root_steps(host, ids, rootfs));
    all.extend(mounts::steps(host, record));
    for (name, content) in texts.files {
        all.push(File { path: dir.join(name), mode: 0o644, content, durable: false, owner: owned((0, 0)) }.into());
    }
    if let Some(log) = record.life.log.as_ref().filter(|log| !log.path.starts_with(dir)) {
        all.push(LogPlace { path: log.path.clone() }.into());
    }
    all.push(File { path: dir.join("config.json"), mode: 0o600, content: texts.config, durable: false, owner: (0, 0) }.into());
    (all, network_end)
}
