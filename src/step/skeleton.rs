//! Makes the init layer: real /dev, /proc, /sys and mount points that no image can steer.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::bundle::{init, pause};
use crate::fault::{Context, Fault, Kind, Result};
use crate::script::{Script, quote};
use crate::sys::file::{self, Durable};
use crate::sys::{Host, rootfs};

/// Directories, parents first. On an overlay a directory up here hides a symlink of the image: that is their purpose.
const DIRECTORIES: [&str; 7] = ["dev", "dev/pts", "dev/shm", "dev/mqueue", "proc", "sys", "etc"];
/// Empty files that a sandbox binds its own on.
const FILES: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];
/// What the root of a pause process has: nothing else is mounted there.
const PAUSE_DIRECTORIES: [&str; 2] = ["dev", "proc"];

/// Makes the init layer: real /dev, /proc, /sys and mount points that no image can steer.
///
/// As an overlay's highest lower layer it wins over the image where both have a name: its three files hide the image's, and its
/// `/etc` would give the merged directory its own owner and mode, so it takes the image's from `like`. With `pause` it is a
/// whole root file system: `/pause` beside the mount points, nothing writable. With `init` it brings the init program of a
/// container along, so that no link of the image leads elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Skeleton {
    /// The directory, new.
    pub path: PathBuf,
    /// Also place the pause program at `/pause`.
    pub pause: bool,
    /// Also place the init program.
    #[serde(default)]
    pub init: bool,
    /// Layers of the image, highest first, whose `/etc` lends its owner and mode.
    #[serde(default)]
    pub like: Vec<PathBuf>,
}

impl fmt::Display for Skeleton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.pause { "pause root" } else { "init layer" };
        write!(f, "make {what} {path}", path = self.path.display())
    }
}

impl Skeleton {
    fn directories(&self) -> &'static [&'static str] {
        if self.pause { &PAUSE_DIRECTORIES } else { &DIRECTORIES }
    }

    fn directory_mode(&self) -> u32 {
        if self.pause { 0o555 } else { 0o755 }
    }

    fn make(&self, at: &Path) -> Result<()> {
        file::create_dir(at, 0o755)?;
        for name in self.directories() {
            file::create_dir(&at.join(name), self.directory_mode())?;
        }
        if self.pause {
            file::create_atomic(&at.join("pause"), 0o555, pause::PROGRAM, Durable::No)?;
            return Ok(());
        }
        for name in FILES {
            file::create_atomic(&at.join(name), 0o644, b"", Durable::No)?;
        }
        if self.init {
            file::create_atomic(&at.join(init::NAME), 0o555, init::PROGRAM, Durable::No)?;
        }
        if let Some(attributes) = rootfs::find_attributes(&self.like, "etc").doing(|| "reading the image's /etc")? {
            rootfs::set_attributes(&at.join("etc"), attributes)?;
        }
        Ok(())
    }

    /// Where the tree is made before it gets its name, so that it appears whole or not at all.
    fn partial(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    }
}

impl Action for Skeleton {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if file::exists(&self.path)? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is there already", self.path.display())).hint("rkbox gc removes what nothing uses"));
        }
        Ok(())
    }

    fn apply(&self, _: &(), _: &Host) -> Result<()> {
        let partial = self.partial();
        self.make(&partial)?;
        if self.pause {
            // Whoever writes here would write to every process of the sandbox's pid namespace.
            rootfs::set_attributes(&partial, rootfs::Attributes { mode: 0o555, uid: 0, gid: 0 })?;
        }
        file::rename(&partial, &self.path)?;
        Ok(())
    }

    fn undo(&self, _: &(), _: &Host) -> Result<Undone> {
        file::remove_tree(&self.partial())?;
        file::remove_tree(&self.path)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let root = self.path.to_string_lossy().into_owned();
        let inside = |name: &str| self.path.join(name).to_string_lossy().into_owned();
        if let Way::Undo(()) = way {
            return out.run(["rm", "-rf", "--one-file-system", &root]);
        }
        out.run(["mkdir", "-m", "0755", &root]);
        let mode = format!("{:04o}", self.directory_mode());
        let names: Vec<String> = self.directories().iter().map(|name| inside(name)).collect();
        out.run(["mkdir", "-m", &mode].into_iter().chain(names.iter().map(String::as_str)));
        if self.pause {
            out.write_file(&inside("pause"), 0o555, pause::PROGRAM);
            return out.run(["chmod", "0555", &root]);
        }
        for name in FILES {
            out.write_file(&inside(name), 0o644, b"");
        }
        if self.init {
            out.write_file(&inside(init::NAME), 0o555, init::PROGRAM);
        }
        // The same owner and mode as `find_attributes` reads, chosen when the script is printed.
        match rootfs::find_attributes(&self.like, "etc") {
            Ok(Some(attributes)) => {
                out.run(["chown", &format!("{}:{}", attributes.uid, attributes.gid), &inside("etc")]);
                out.run(["chmod", &format!("{:04o}", attributes.mode), &inside("etc")]);
            }
            Ok(None) => {}
            // The layers are made by this very script.
            Err(_) => {
                let layers = self.like.iter().map(|layer| quote(&layer.join("etc").to_string_lossy())).collect::<Vec<_>>().join(" ");
                let etc = quote(&inside("etc"));
                out.raw(&format!("for like in {layers}; do"));
                out.raw("  if [ -d \"$like\" ] && [ ! -L \"$like\" ]; then");
                out.raw(&format!("    chown --reference=\"$like\" {etc}; chmod --reference=\"$like\" {etc}; break"));
                out.raw("  fi");
                out.raw("done");
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    /// A host whose roots are all below `at`.
    pub fn host(at: &Path) -> Host {
        Host {
            root: at.join("lib"),
            run: at.join("run"),
            netns: at.join("netns"),
            cni_conf: at.join("net.d"),
            cni_state: at.join("cni"),
            plugins: crate::sys::Plugins::default(),
            runtime: "runc".to_owned(),
            cgroup_driver: crate::sys::CgroupDriver::Cgroupfs,
            cgroup_parent: "/rkbox".to_owned(),
            ..Host::below(at)
        }
    }

    /// Path, mode, owner and size of all below a directory.
    fn tree(at: &Path) -> Vec<(PathBuf, u32, u32, u64)> {
        let mut rows = Vec::new();
        let mut waiting = vec![at.to_path_buf()];
        while let Some(path) = waiting.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            let size = if meta.is_file() { meta.len() } else { 0 };
            rows.push((path.strip_prefix(at).unwrap().to_path_buf(), meta.permissions().mode(), meta.uid(), size));
            if meta.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        rows.sort();
        rows
    }

    #[test]
    fn a_skeleton_obeys_the_laws() {
        let world = tempfile::tempdir().unwrap();
        let host = host(world.path());
        let image = world.path().join("image");
        fs::create_dir_all(image.join("etc")).unwrap();
        fs::set_permissions(image.join("etc"), fs::Permissions::from_mode(0o750)).unwrap();
        nix::unistd::chown(&image.join("etc"), Some(7.into()), None).unwrap();
        for (pause, init) in [(false, false), (false, true), (true, false)] {
            let step = Skeleton { path: world.path().join("init"), pause, init, like: vec![image.clone()] };
            let before = tree(world.path());
            step.look(&host).unwrap();
            assert_eq!(tree(world.path()), before);
            step.undo(&(), &host).unwrap();
            step.apply(&(), &host).unwrap();
            let made = tree(&step.path);
            assert_eq!(step.look(&host).unwrap_err().kind(), Kind::AlreadyExists);
            step.undo(&(), &host).unwrap();
            step.undo(&(), &host).unwrap();
            assert_eq!(tree(world.path()), before);
            // A crash in the middle.
            step.make(&step.partial()).unwrap();
            step.undo(&(), &host).unwrap();
            assert_eq!(tree(world.path()), before);
            for (way, after) in [(Way::Apply, true), (Way::Undo(&()), false)] {
                let mut script = Script::new();
                step.script(way, &mut script);
                let done = crate::sys::exec::Exec::new(Path::new("/bin/sh")).args(["-c", script.as_str()]).capture(std::time::Duration::from_secs(9)).unwrap();
                assert!(done.status.success(), "{}", done.stderr);
                assert_eq!(step.path.exists(), after);
                if after {
                    assert_eq!(tree(&step.path), made);
                }
            }
            let etc = made.iter().find(|row| row.0 == Path::new("etc"));
            assert_eq!(made.iter().any(|row| row.0 == Path::new(init::NAME)), init);
            assert_eq!(etc.map(|row| (row.1 & 0o7777, row.2)), (!pause).then_some((0o750, 7)));
        }
    }
}
