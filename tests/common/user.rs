//! An ordinary user of a world: what a login gives him, and nothing of root's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use super::world::DIR;
use super::{Output, World, images};

/// An ordinary user of this world, with a home and what a login gives; his holder ends with this.
pub struct User {
    /// The world.
    pub world: World,
    /// His number.
    pub uid: u32,
}

/// Each has another number: the processes of one are nobody else's.
static NEXT: AtomicU32 = AtomicU32::new(2000);

impl User {
    /// Makes one, with the text of `/etc/subuid` and `/etc/subgid`.
    pub fn new(subordinate: &str) -> Self {
        let (mut world, uid) = (World::new(), NEXT.fetch_add(1, Ordering::Relaxed));
        fs::set_permissions(DIR, fs::Permissions::from_mode(0o755)).unwrap();
        world
            .sh(&format!(
                "cd {DIR}; mkdir home; mkdir -p /run/user/{uid}; chmod 0700 /run/user/{uid}; chown {uid}:{uid} home /run/user/{uid}
                 printf '{subordinate}' >subid; (cat /etc/passwd; echo 'ordinary:x:{uid}:{uid}::{DIR}/home:/bin/sh') >passwd; chmod 644 passwd subid
                 for file in subuid subgid; do [ -e /etc/$file ] || : >/etc/$file; mount --bind subid /etc/$file; done; mount --bind passwd /etc/passwd"
            ))
            .ok();
        // A checkout may lie where only root can look, in root's home for one.
        let (program, shown) = (world.program.display(), world.path("rkbox"));
        world.sh(&format!("touch {0}; mount --bind {program} {0}", shown.display())).ok();
        world.program = shown;
        User { world, uid }
    }

    /// Loads the images busybox and layers.
    pub fn with_images(self) -> User {
        for name in ["busybox", "layers"] {
            let archive = self.world.path(format!("{name}.tar"));
            fs::copy(images().oci_archive(name), &archive).unwrap();
            self.rk(&format!("image load {}", archive.display())).ok();
            fs::remove_file(&archive).unwrap();
        }
        self
    }

    /// Runs a script as he would.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        let mut command = self.world.command("setpriv");
        for name in ["RKBOX_ROOT", "RKBOX_RUN", "RKBOX_CNI_CONF_DIR", "RKBOX_CNI_STATE_DIR", "RKBOX_CGROUP_PARENT"] {
            command.env_remove(name);
        }
        command.env("HOME", format!("{DIR}/home")).env("XDG_RUNTIME_DIR", format!("/run/user/{}", self.uid));
        let ids = self.uid.to_string();
        command.args(["--reuid", &ids, "--regid", &ids, "--clear-groups", "--inh-caps=-all", "sh", "-euc"]);
        Output::of(command.arg(format!("rkbox() {{ {} \"$@\"; }}\n{script}", self.world.program.display())), self.world.limit)
    }

    /// Runs rkbox as he would.
    #[track_caller]
    pub fn rk(&self, line: &str) -> Output {
        self.sh(&format!("rkbox {line}"))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(format!("/run/user/{}/rkbox/holder.pid", self.uid)) {
            let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// A user with the images busybox and layers.
pub fn with_images() -> User {
    User::new("ordinary:200000:65536\\n").with_images()
}
