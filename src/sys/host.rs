//! The host as rkbox sees it: its roots and the settings of one command.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::registry::Session;
use super::room::Reserve;
use crate::cni::built_in::Policy;
use crate::ids::CgroupDriver;

/// The roots and settings of one command; every door is reached through it.
#[derive(Clone, Debug)]
pub struct Host {
    /// What survives a reboot: `/var/lib/rkbox`.
    pub root: PathBuf,
    /// What dies with the kernel objects it describes: `/run/rkbox`.
    pub run: PathBuf,
    /// Named network namespaces, as `ip netns` keeps them: `/run/netns`.
    pub netns: PathBuf,
    /// Where bridges are, when not in the network namespace of rkbox itself: an ordinary user's.
    pub rootless_netns: Option<PathBuf>,
    /// CNI configurations: `/etc/cni/net.d`.
    pub cni_conf: PathBuf,
    /// Leases (`networks/`) and attachments (`results/`): `/var/lib/cni`.
    pub cni_state: PathBuf,
    /// How CNI plugins are carried out.
    pub plugins: Plugins,
    /// The OCI runtime: a path, or a name looked up in `PATH`.
    pub runtime: String,
    /// Who writes cgroups.
    pub cgroup_driver: CgroupDriver,
    /// The parent cgroup: `/rkbox` for cgroupfs, `system.slice` for systemd.
    pub cgroup_parent: String,
    /// What unpacked layers leave free on their file system.
    pub keep_free: Reserve,
    /// The dealings with registries of a command that has any.
    pub registry: Option<Session>,
    /// Set when what runs side by side should stop.
    pub halt: Halt,
}

/// Tells the steps that run side by side to stop: one of them failed.
#[derive(Clone, Debug, Default)]
pub struct Halt(Arc<AtomicBool>);

impl Halt {
    /// Asks the others to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How CNI plugins are carried out.
#[derive(Clone, Debug)]
pub struct Plugins {
    /// Where other programs are, directories with `:` between them: `CNI_PATH`.
    pub path: String,
    /// Which plugins are other programs.
    pub policy: Policy,
    /// How long another program may take.
    pub limit: Duration,
}

impl Default for Plugins {
    fn default() -> Self {
        Plugins { path: "/opt/cni/bin:/usr/lib/cni".to_owned(), policy: Policy::default(), limit: Duration::from_secs(120) }
    }
}

impl Plugins {
    /// The directories of the search path, in order.
    pub fn dirs(&self) -> Vec<PathBuf> {
        std::env::split_paths(&self.path).filter(|dir| dir.is_absolute()).collect()
    }
}

impl Host {
    /// The same host with a halt of its own.
    pub fn with_own_halt(&self) -> Self {
        Host { halt: Halt::default(), ..self.clone() }
    }

    /// A host whose roots are all below `dir`: nothing of the real one can be reached by mistake.
    pub fn below(dir: &Path) -> Self {
        Host {
            root: dir.join("lib"),
            run: dir.join("run"),
            netns: dir.join("netns"),
            rootless_netns: None,
            cni_conf: dir.join("net.d"),
            cni_state: dir.join("cni"),
            plugins: Plugins::default(),
            runtime: "runc".to_owned(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_parent: "/rkbox-below".to_owned(),
            keep_free: Reserve::default(),
            registry: None,
            halt: Halt::default(),
        }
    }

    /// Files for `ip netns exec`, a directory for each namespace: `/etc/netns`.
    pub fn netns_files(&self) -> PathBuf {
        if self.netns == Path::new("/run/netns") { PathBuf::from("/etc/netns") } else { self.netns.with_file_name("etc-netns") }
    }

    /// Which sandboxes of a network know each other by name.
    pub fn names_of(&self, network: &str) -> PathBuf {
        self.run.join("hosts").join(network)
    }

    /// Record directory of sandbox `id`.
    pub fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.root.join("sandboxes").join(id)
    }

    /// Record directory, and OCI bundle, of container `id`.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// The OCI image layout of the store.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The unpacked layers, one directory per chain id.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Journals of the running boot, one per box.
    pub fn journals(&self) -> PathBuf {
        self.run.join("journals")
    }

    /// State of the OCI runtime (`runc --root`).
    pub fn runtime_root(&self) -> PathBuf {
        self.run.join("runtime")
    }

    /// Root file systems of boxes with a user namespace, beside `run`: their roots must be able to enter, and into `run` nobody can.
    pub fn userns_roots(&self) -> PathBuf {
        let mut name = self.run.file_name().unwrap_or_default().to_owned();
        name.push("-userns");
        self.run.with_file_name(name)
    }

    /// Claims of subordinate ids.
    pub fn id_claims(&self) -> PathBuf {
        self.root.join("userns")
    }

    /// The lease directory of a host-local network.
    pub fn pool(&self, network: &str) -> PathBuf {
        self.cni_state.join("networks").join(network)
    }

    /// Where a namespace named or pathed by a user is: a name is under `/run/netns`, a path stays as it is.
    pub fn netns_path(&self, name_or_path: &str) -> PathBuf {
        if name_or_path.contains('/') { Path::new(name_or_path).to_path_buf() } else { self.netns.join(name_or_path) }
    }
}
