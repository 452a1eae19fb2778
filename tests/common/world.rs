//! A world: network and mount namespaces, roots and a cgroup parent that belong to one test alone.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::{Observation, Output, cgroup, images, process};

/// Where each world keeps its files: the same path in all of them (each sees a tmpfs of its own there), so that two worlds
/// can be compared byte for byte.
pub const DIR: &str = "/tmp/rkbox-world";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A host in miniature. It lives on the thread that made it; threads and processes started from there inherit it.
pub struct World {
    /// The cgroup all of this world's containers are below: `/rkbox-test-<pid>-<n>`.
    pub cgroup_parent: String,
    /// The program under test.
    pub program: PathBuf,
    /// Longest time any one command may take.
    pub limit: Duration,
    old_net: File,
    old_mount: File,
    old_dir: File,
    leaks_allowed: bool,
}

impl World {
    /// Makes a world on this thread: own network (lo up) and mounts, empty `/run`, empty [`DIR`], empty CNI directories.
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "integration tests need root: sudo -E scripts/test");
        let open = |path: &str| File::open(path).unwrap_or_else(|error| panic!("cannot open {path}: {error}"));
        let (old_net, old_mount, old_dir) = (open("/proc/thread-self/ns/net"), open("/proc/thread-self/ns/mnt"), open("."));
        // Tests abort rkbox on purpose, a hundred times.
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).unwrap();
        fs::create_dir_all(DIR).unwrap();
        // `ip netns`, and a plugin that is started without our options, know no other places; a world has a tmpfs there.
        for dir in ["/etc/netns", "/var/lib/cni"] {
            fs::create_dir_all(dir).unwrap();
        }
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("cannot unshare net and mount namespaces");
        nix::unistd::fchdir(&old_dir).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("cannot make / private");
        tmpfs("/run");
        for dir in ["/etc/netns", "/var/lib/cni", DIR] {
            tmpfs(dir);
        }
        for dir in ["/var/lib/rkbox", "/etc/cni", "/var/lib/containers"] {
            if Path::new(dir).is_dir() {
                tmpfs(dir);
            }
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup_parent = format!("/rkbox-test-{}-{number}", std::process::id());
        let program = PathBuf::from(env!("CARGO_BIN_EXE_rkbox"));
        let world = World { cgroup_parent, program, limit: Duration::from_secs(60), old_net, old_mount, old_dir, leaks_allowed: false };
        world.sh("ip link set lo up").ok();
        world
    }

    /// A path below this world's directory.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        Path::new(DIR).join(below)
    }

    /// `--root`.
    pub fn root(&self) -> PathBuf {
        self.path("lib")
    }

    /// `--run`.
    pub fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// `--cni-conf-dir`.
    pub fn cni_conf(&self) -> PathBuf {
        self.path("cni-conf")
    }

    /// `--cni-state-dir`.
    pub fn cni_state(&self) -> PathBuf {
        self.path("cni")
    }

    /// Writes a CNI configuration.
    pub fn configure(&self, file: &str, text: &str) {
        fs::create_dir_all(self.cni_conf()).unwrap();
        fs::write(self.cni_conf().join(file), text).unwrap();
    }

    /// A command with this world's environment and nothing of the tester's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", DIR).env("LC_ALL", "C");
        command.env("RKBOX_ROOT", self.root()).env("RKBOX_RUN", self.run_dir());
        command.env("RKBOX_CNI_CONF_DIR", self.cni_conf()).env("RKBOX_CNI_STATE_DIR", self.cni_state());
        command.env("RKBOX_CGROUP_PARENT", &self.cgroup_parent).current_dir("/");
        command
    }

    /// Runs rkbox to its end.
    #[track_caller]
    pub fn rkbox<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        Output::of(self.command(&self.program).args(args), self.limit)
    }

    /// Runs rkbox to its end with `RKBOX_FAULT` set (debug builds honour it).
    #[track_caller]
    pub fn rkbox_faulty<S: AsRef<OsStr>>(&self, fault: &str, args: impl IntoIterator<Item = S>) -> Output {
        Output::of(self.command(&self.program).env("RKBOX_FAULT", fault).args(args), self.limit)
    }

    /// Runs rkbox to its end; it writes the points that it reaches to the file `trace`.
    #[track_caller]
    pub fn rkbox_traced<S: AsRef<OsStr>>(&self, trace: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Output {
        Output::of(self.command(&self.program).env("RKBOX_FAULT_TRACE", trace).args(args), self.limit)
    }

    /// Runs rkbox with its arguments in one string, split at spaces.
    #[track_caller]
    pub fn rk(&self, line: &str) -> Output {
        self.rkbox(line.split_whitespace())
    }

    /// Runs a script with `sh -eu`; it finds the program under test as `rkbox`.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        let script = format!("rkbox() {{ {} \"$@\"; }}\n{script}", self.program.display());
        Output::of(self.command("/bin/sh").args(["-euc", &script]), self.limit)
    }

    /// What there is now.
    pub fn observe(&self) -> Observation {
        Observation::take(self)
    }

    /// Lets this world end with things left in it; they are removed all the same.
    pub fn allow_leaks(&mut self) {
        self.leaks_allowed = true;
    }

    /// What would be left if this world ended now.
    pub fn leaks(&self) -> Vec<String> {
        let cgroups = cgroup::below(&self.cgroup_parent).into_iter().map(|path| format!("cgroup {path}"));
        process::of(self).into_iter().map(|process| format!("process {process}")).chain(cgroups).collect()
    }

    /// Network and mount namespaces of this world, as `/proc/*/ns` names them.
    pub fn namespaces(&self) -> [PathBuf; 2] {
        ["net", "mnt"].map(|kind| fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap())
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    /// Kills and removes what is left, fails the test if that was anything, and puts the thread back (it may be the only one).
    fn drop(&mut self) {
        let leaks = process::until(Duration::from_millis(500), || self.leaks(), Vec::is_empty).err().unwrap_or_default();
        process::kill_all(self);
        cgroup::remove(&self.cgroup_parent);
        setns(self.old_net.as_fd(), CloneFlags::CLONE_NEWNET).expect("cannot go back to the old network");
        setns(self.old_mount.as_fd(), CloneFlags::CLONE_NEWNS).expect("cannot go back to the old mounts");
        nix::unistd::fchdir(&self.old_dir).unwrap();
        if !std::thread::panicking() && !self.leaks_allowed {
            assert!(leaks.is_empty(), "left in the world at its end (now removed):\n  {}", leaks.join("\n  "));
        }
    }
}

fn tmpfs(dir: &str) {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = "mode=0755";
    // Device nodes and setuid files of images live below DIR.
    let flags = if dir == DIR { MsFlags::empty() } else { flags };
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options)).unwrap_or_else(|error| panic!("cannot mount tmpfs on {dir}: {error}"));
}

/// A world that has the busybox image.
pub fn with_busybox() -> World {
    let world = World::new();
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    world
}

/// A world that has the busybox image, and of the loading nothing else.
pub fn with_busybox_only() -> World {
    let world = with_busybox();
    world.rk("gc").ok();
    world
}
