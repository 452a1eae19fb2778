//! Starts a container, detached, through the OCI runtime.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::ids::Id;
use crate::script::Script;
use crate::sys::runc::{Launch, Runc};
use crate::sys::{CgroupDriver, Host, file};

/// Starts a container, detached, through the OCI runtime.
///
/// The undo ends it with SIGKILL, through a pidfd and never by its number alone, and removes what the runtime keeps of it and the two files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Container id.
    pub id: Id,
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// Its state directory (`--root`).
    pub state: PathBuf,
    /// Pass `--systemd-cgroup`.
    pub systemd_cgroup: bool,
    /// The bundle.
    pub bundle: PathBuf,
    /// Where the runtime writes the pid.
    pub pid_file: PathBuf,
    /// Where the runtime writes its log, JSON lines.
    pub log: PathBuf,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start container {id}", id = self.id.short())
    }
}

impl Process {
    fn runc(&self) -> Runc {
        let driver = if self.systemd_cgroup { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
        Runc::new(self.runtime.clone(), self.state.clone(), driver)
    }

    fn words(&self) -> Vec<String> {
        let mut words = vec![self.runtime.to_string_lossy().into_owned(), "--root".to_owned(), self.state.to_string_lossy().into_owned()];
        if self.systemd_cgroup {
            words.push("--systemd-cgroup".to_owned());
        }
        words
    }

    fn words_with(&self, more: &[&str]) -> Vec<String> {
        self.words().into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    }
}

impl Action for Process {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if self.runc().knows(self.id.as_str())? {
            return Err(Fault::new(Kind::AlreadyExists, format!("the OCI runtime has a container {} already", self.id.short())));
        }
        Ok(())
    }

    fn apply(&self, _: &(), _: &Host) -> Result<()> {
        self.runc().run_detached(&Launch { id: self.id.as_str(), bundle: &self.bundle, pid_file: &self.pid_file, log: &self.log })
    }

    fn undo(&self, _: &(), _: &Host) -> Result<Undone> {
        self.runc().kill_and_delete(self.id.as_str(), &self.bundle, Duration::ZERO)?;
        file::remove_file(&self.pid_file)?;
        file::remove_file(&self.log)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let id = self.id.as_str();
        let (bundle, pid_file, log) = (self.bundle.to_string_lossy(), self.pid_file.to_string_lossy(), self.log.to_string_lossy());
        match way {
            Way::Apply => {
                let more = ["--log", &log, "--log-format", "json", "run", "--detach", "--pid-file", &pid_file, "--bundle", &bundle, id];
                let line: Vec<String> = self.words_with(&more).iter().map(|word| crate::script::quote(word)).collect();
                // The container inherits these streams.
                out.raw(&format!("{} </dev/null >/dev/null 2>&1", line.join(" ")));
            }
            Way::Undo(()) => {
                out.run_ignoring(self.words_with(&["kill", id, "KILL"]));
                out.raw("sleep 0.1");
                out.run_ignoring(self.words_with(&["delete", id]));
                out.run(["rm", "-f", &pid_file, &log]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::Instant;

    use nix::sched::CloneFlags;

    use super::*;
    use crate::bundle::spec::{ContainerRequest, Isolation, Namespace};
    use crate::bundle::mounts::{Access, Bind, Shm};
    use crate::bundle::{self, cgroup};
    use crate::ids::hex;
    use crate::step::Skeleton;
    use crate::sys::runc::Input;
    use crate::sys::{cgroup as groups, exec, mount, proc, runc_log};

    /// A namespace of this thread, by a path that the runtime can open.
    fn own_namespace(kind: &str) -> PathBuf {
        format!("/proc/{}/task/{}/ns/{kind}", std::process::id(), nix::unistd::gettid()).into()
    }

    /// A mount namespace of the test's own, and a container directory in it.
    struct World {
        dir: tempfile::TempDir,
        host: Host,
        step: Process,
    }

    impl World {
        fn new() -> Self {
            let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
            nix::sched::unshare(own).unwrap();
            let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
            nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            let dir = tempfile::tempdir().unwrap();
            mount::tmpfs(dir.path(), 65536, 0o755).unwrap();
            // The program in a root file system must be executable.
            nix::mount::mount(None::<&str>, dir.path(), None::<&str>, nix::mount::MsFlags::MS_REMOUNT, None::<&str>).unwrap();
            let at = |name: &str| dir.path().join(name);
            fs::create_dir(at("bundle")).unwrap();
            let id: Id = hex(&proc::random::<32>().unwrap()).parse().unwrap();
            let step = Process {
                id,
                runtime: exec::find("runc").unwrap(),
                state: at("state"),
                systemd_cgroup: false,
                bundle: at("bundle"),
                pid_file: at("pid"),
                log: at("log"),
            };
            let host = crate::step::skeleton::tests::host(dir.path());
            World { dir, host, step }
        }

        fn cgroups_path(&self) -> String {
            cgroup::cgroupfs_path("/", self.step.id.as_str()).unwrap()
        }

        fn pause(self) -> Self {
            let rootfs = self.dir.path().join("bundle/rootfs");
            Skeleton { path: rootfs.clone(), pause: true, init: false, like: Vec::new() }.apply(&(), &self.host).unwrap();
            let mut request = bundle::pause::tests::request();
            request.rootfs = rootfs;
            request.cgroups_path = self.cgroups_path();
            let own = |kind: &str| Some(own_namespace(kind));
            (request.network, request.ipc, request.uts) = (own("net"), own("ipc"), own("uts"));
            fs::write(self.step.bundle.join("config.json"), bundle::pause::json(&request).unwrap()).unwrap();
            self
        }

        fn busybox(self, change: impl FnOnce(&mut ContainerRequest)) -> Self {
            let rootfs = self.dir.path().join("bundle/rootfs");
            Skeleton { path: rootfs.clone(), pause: false, init: false, like: Vec::new() }.apply(&(), &self.host).unwrap();
            fs::create_dir(rootfs.join("bin")).unwrap();
            fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
            std::os::unix::fs::symlink("busybox", rootfs.join("bin/sh")).unwrap();
            fs::write(self.dir.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
            let mut request = bundle::spec::tests::request();
            let new = || Namespace::New;
            request.isolation = Isolation { network: new(), ipc: new(), uts: new(), pid: new(), cgroup: Namespace::Host };
            request.hostname = Some("web".to_owned());
            request.shm = Shm::Private { size_kib: 1024 };
            request.cgroups_path = self.cgroups_path();
            request.limits.host_nofile = proc::nofile_limit().unwrap();
            request.binds.retain(|bind| bind.destination == "/etc/hosts");
            request.binds[0].source = self.dir.path().join("hosts");
            request.mounts.clear();
            request.cwd = "/".to_owned();
            change(&mut request);
            fs::write(self.step.bundle.join("config.json"), bundle::spec::container_json(&request).unwrap()).unwrap();
            self
        }

        fn foreground(&self) -> Result<std::process::ExitStatus> {
            let step = &self.step;
            let launch = Launch { id: step.id.as_str(), bundle: &step.bundle, pid_file: &step.pid_file, log: &step.log };
            step.runc().run_foreground(&launch, Input::Null)
        }

        fn assert_nothing_left(&self) {
            assert!(!self.step.runc().knows(self.step.id.as_str()).unwrap());
            assert_eq!(groups::directories(&self.cgroups_path()), Vec::<PathBuf>::new());
        }
    }

    #[test]
    fn a_process_obeys_the_laws() {
        let World { dir, host, step } = World::new().pause();
        let world = World { dir, host, step };
        let (step, host) = (&world.step, &world.host);
        step.look(host).unwrap();
        step.undo(&(), host).unwrap();
        step.apply(&(), host).unwrap();
        assert_eq!(step.look(host).unwrap_err().kind(), Kind::AlreadyExists);
        let runc = step.runc();
        assert_eq!(runc.state(step.id.as_str()).unwrap().unwrap().status, "running");
        let process = runc.open_process(step.id.as_str()).unwrap().unwrap();
        let pid = runc.state(step.id.as_str()).unwrap().unwrap().pid;
        for kind in ["net", "ipc", "uts"] {
            let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            assert_eq!(theirs, fs::read_link(own_namespace(kind)).unwrap());
        }
        let started = Instant::now();
        step.undo(&(), host).unwrap();
        let took = started.elapsed();
        assert!(proc::wait_readable(process.as_fd(), Duration::ZERO).unwrap());
        step.undo(&(), host).unwrap();
        world.assert_nothing_left();
        assert!(runc.state(step.id.as_str()).unwrap().is_none());
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(!step.pid_file.exists() && !step.log.exists());
    }

    #[test]
    fn the_pause_program_ends_at_once_when_asked() {
        let world = World::new().pause();
        let step = &world.step;
        step.apply(&(), &world.host).unwrap();
        let started = Instant::now();
        step.runc().kill_and_delete(step.id.as_str(), &step.bundle, Duration::from_secs(10)).unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "SIGTERM was not obeyed");
        world.assert_nothing_left();
    }

    #[test]
    fn a_damaged_state_does_not_save_a_container() {
        for damage in ["", "{", "{\"init_process_pid\":1,\"init_process_start\":0}"] {
            let world = World::new().pause();
            let step = &world.step;
            step.apply(&(), &world.host).unwrap();
            let process = step.runc().open_process(step.id.as_str()).unwrap().unwrap();
            fs::write(step.state.join(step.id.as_str()).join("state.json"), damage).unwrap();
            step.undo(&(), &world.host).unwrap();
            assert!(proc::wait_readable(process.as_fd(), Duration::ZERO).unwrap(), "{damage:?}");
            world.assert_nothing_left();
        }
    }

    #[test]
    fn scripts_start_and_end_the_same_container() {
        let world = World::new().pause();
        for (way, running) in [(Way::Apply, true), (Way::Undo(&()), false)] {
            let mut script = Script::new();
            world.step.script(way, &mut script);
            let done = exec::Exec::new(Path::new("/bin/sh")).args(["-c", script.as_str()]).capture(Duration::from_secs(20)).unwrap();
            assert!(done.status.success(), "{}", done.stderr);
            assert_eq!(world.step.runc().knows(world.step.id.as_str()).unwrap(), running);
        }
        world.assert_nothing_left();
    }

    #[test]
    fn a_container_is_as_bounded_as_its_configuration_says() {
        let script = "set -e
            [ $(hostname) = web ]; [ $(id -u):$(id -g) = 33:33 ]; [ \"$(id -G)\" = '33 4' ]
            grep -q 'CapEff:.0000000000000000' /proc/self/status
            grep -q 'CapInh:.0000000000000000' /proc/self/status; grep -q 'CapAmb:.0000000000000000' /proc/self/status
            grep -q 'NoNewPrivs:.1' /proc/self/status; grep -q localhost /etc/hosts
            [ $(ulimit -n) = 1024 ]; [ $(ulimit -c) = 0 ]; [ -c /dev/null ]; [ -d /dev/shm ]; [ -z \"$(cat /proc/keys)\" ]
            if (echo 1 > /proc/sys/kernel/domainname) 2>/dev/null; then exit 7; fi
            if (echo 1 > /sys/kernel/mm/ksm/run) 2>/dev/null; then exit 8; fi
            [ $A = 1 ]; [ $(ls /proc/self/fd | wc -l) -le 4 ]; exit 42";
        let world = World::new().busybox(|request| {
            request.args = ["/bin/sh", "-c", &format!("for tool in hostname id grep ls wc cat; do alias $tool=\"busybox $tool\"; done; {script}")]
                .map(str::to_owned)
                .to_vec();
        });
        assert_eq!(world.foreground().unwrap().code(), Some(42));
        world.assert_nothing_left();
    }

    #[test]
    fn failures_of_the_runtime_and_of_the_container_are_told_apart() {
        for (args, own, start) in [
            (vec!["/bin/sh", "-c", "exit 1"], Some(1), 0),
            (vec!["no-such-program"], None, 127),
            (vec!["/no/such/program"], None, 127),
            (vec!["/etc"], None, 126),
            (vec!["/etc/hosts"], None, 126),
        ] {
            let world = World::new().busybox(|request| request.args = args.iter().map(|arg| (*arg).to_owned()).collect());
            match world.foreground() {
                Ok(status) => assert_eq!(status.code(), own, "{args:?}"),
                Err(fault) => {
                    assert_eq!((own, runc_log::start_status(&fault.to_string())), (None, start), "{args:?}: {fault}");
                }
            }
            world.step.undo(&(), &world.host).unwrap();
            world.assert_nothing_left();
        }
    }

    #[test]
    fn a_container_of_a_sandbox_shares_its_namespaces_and_volumes() {
        let world = World::new();
        let at = |name: &str| world.dir.path().join(name);
        for dir in ["shm", "data", "data/below"] {
            fs::create_dir(at(dir)).unwrap();
        }
        mount::tmpfs(&at("data/below"), 64, 0o777).unwrap();
        let (shm, data) = (at("shm"), at("data"));
        let script = "set -e; echo x > /dev/shm/from-inside
            if echo x > /data/f 2>/dev/null; then exit 3; fi
            if echo x > /data/below/f 2>/dev/null; then exit 4; fi
            if echo x > /f 2>/dev/null; then exit 5; fi
            exit 42";
        let world = world.busybox(|request| {
            let own = |kind: &str| Namespace::Join(own_namespace(kind));
            request.isolation = Isolation { network: own("net"), ipc: own("ipc"), uts: own("uts"), pid: Namespace::New, cgroup: Namespace::Host };
            request.hostname = None;
            request.identity = bundle::user::Identity::root();
            request.posture.capabilities = bundle::capabilities::default_set();
            request.root_access = Access::ReadOnly;
            request.shm = Shm::Shared(shm);
            request.binds.push(Bind { source: data, destination: "/data".to_owned(), access: Access::ReadOnly });
            request.args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
            // A read-only root has its mount points already.
            fs::create_dir(Path::new(&world_rootfs(&request.binds[0].source)).join("data")).unwrap();
        });
        assert_eq!(world.foreground().unwrap().code(), Some(42));
        assert!(world.dir.path().join("shm/from-inside").exists());
        world.assert_nothing_left();
    }

    /// The root file system beside the hosts file of a world.
    fn world_rootfs(hosts: &Path) -> PathBuf {
        hosts.with_file_name("bundle").join("rootfs")
    }
}
