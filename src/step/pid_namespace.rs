//! Pins the pid namespace of a box that runs, for a container that joins it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::ids::{CgroupDriver, Id};
use crate::script::{Script, quote};
use crate::sys::runc::Runc;
use crate::sys::{Host, file, ns};

/// Pins the pid namespace of a box that runs, for a container that joins it: by its number its first process could be mistaken for
/// another, when the container is started again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PidNamespace {
    /// The box: a sandbox's pause process, or another container.
    pub of: Id,
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// Its state directory (`--root`).
    pub state: PathBuf,
    /// Where the runtime wrote the pid of that box.
    pub pid_file: PathBuf,
    /// The pin, in the volatile directory of the container.
    pub path: PathBuf,
}

impl fmt::Display for PidNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pin the pid namespace of {}", self.of.short())
    }
}

impl PidNamespace {
    fn first_process(&self) -> Result<i32> {
        let runtime = Runc::new(self.runtime.clone(), self.state.clone(), CgroupDriver::Cgroupfs);
        runtime.running_pid(self.of.as_str())?.ok_or_else(|| {
            Fault::new(Kind::FailedPrecondition, format!("{} does not run: it has no pid namespace that could be joined", self.of.short()))
        })
    }
}

impl Action for PidNamespace {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if file::exists(&self.path)? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is there already", self.path.display())));
        }
        self.first_process().map(drop)
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let pid = self.first_process()?;
        ns::pin_pid(pid, &self.path)?;
        // Still the same process: so its number was never another's.
        if self.first_process().is_ok_and(|again| again == pid) {
            return Ok(());
        }
        ns::unpin(&self.path)?;
        Err(Fault::new(Kind::FailedPrecondition, format!("{} ended just now", self.of.short())))
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        ns::unpin(&self.path)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let (path, pid_file) = (quote(&self.path.to_string_lossy()), quote(&self.pid_file.to_string_lossy()));
        match way {
            Way::Apply => {
                out.raw(&format!("(set -C; echo rkbox > {path}) && chmod 0444 {path}"));
                out.raw(&format!("mount --bind \"/proc/$(cat {pid_file})/ns/pid\" {path}"));
            }
            Way::Undo(()) => {
                out.run_ignoring(["umount", "-l", &self.path.to_string_lossy()]);
                out.run(["rm", "-f", &self.path.to_string_lossy()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bundle;
    use crate::bundle::spec::Namespace;
    use crate::step::{Process, Skeleton, test_world};
    use crate::sys::ns::NsKind;
    use crate::sys::{exec, proc};

    /// The namespace of a real pause process, pinned, in both ways; with the process the namespace is still there, but nobody can join it.
    #[test]
    fn the_namespace_of_a_process_is_pinned_and_let_go() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let host = test_world::host_at(dir.path());
        let at = |name: &str| dir.path().join(name);
        let id: Id = crate::ids::hex(&proc::random::<32>().unwrap()).parse().unwrap();
        Skeleton { path: at("rootfs"), pause: true, init: false, like: Vec::new() }.apply(&(), &host).unwrap();
        let mut request = bundle::pause::tests::request();
        (request.rootfs, request.cgroups_path, request.pid) = (at("rootfs"), format!("/{id}"), Namespace::New);
        (request.network, request.ipc, request.uts) = (None, None, None);
        std::fs::write(at("config.json"), bundle::pause::json(&request).unwrap()).unwrap();
        let process = Process {
            id: id.clone(),
            runtime: exec::find("runc").unwrap(),
            state: at("state"),
            systemd_cgroup: false,
            bundle: dir.path().to_owned(),
            pid_file: at("pid"),
            log: at("log"),
        };
        let step = PidNamespace { of: id, runtime: process.runtime.clone(), state: at("state"), pid_file: at("pid"), path: at("pidns") };
        assert_eq!(step.look(&host).unwrap_err().kind(), Kind::FailedPrecondition);
        step.undo(&(), &host).unwrap();
        process.apply(&(), &host).unwrap();
        let pid: i32 = std::fs::read_to_string(at("pid")).unwrap().trim().parse().unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
        for by_script in [false, true] {
            step.look(&host).unwrap();
            assert!(!step.path.exists(), "look changes nothing");
            if by_script { test_world::run(|out| step.script(Way::Apply, out)) } else { step.apply(&(), &host).unwrap() }
            assert!(ns::is_namespace(&step.path, NsKind::Pid).unwrap() && ns::is_ours(&step.path).unwrap());
            assert_eq!(inode(&step.path), inode(Path::new(&format!("/proc/{pid}/ns/pid"))));
            assert_eq!(step.look(&host).unwrap_err().kind(), Kind::AlreadyExists);
            if by_script { test_world::run(|out| step.script(Way::Undo(&()), out)) } else { step.undo(&(), &host).unwrap(); }
            step.undo(&(), &host).unwrap();
            assert!(!step.path.exists());
        }
        // What somebody else put there stays.
        std::fs::write(&step.path, "mine").unwrap();
        step.undo(&(), &host).unwrap();
        assert!(step.path.exists());
        process.undo(&(), &host).unwrap();
    }
}
