//! Mounts a file system.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layer::find_stamp;
use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::image::layer_stamp::{STAMP, TREE};
use crate::script::{Script, quote};
use crate::sys::{Host, file, mapped, mount};

/// A file system to mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// overlayfs.
    Overlay {
        /// Read-only layers, highest first.
        lowers: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Scratch of overlayfs beside the upper layer.
        work: PathBuf,
        /// The pin of a user namespace whose ids the layers show.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ids: Option<PathBuf>,
    },
    /// overlayfs, read-only: an image as it is.
    Layers {
        /// The layers, highest first; two or more, as overlayfs wants them without a writable one.
        lowers: Vec<PathBuf>,
    },
    /// tmpfs.
    Tmpfs {
        /// Size in KiB.
        size_kib: u64,
        /// Mode of its root.
        mode: u32,
    },
}

impl MountKind {
    fn file_system(&self) -> &'static str {
        match self {
            MountKind::Overlay { .. } | MountKind::Layers { .. } => "overlay",
            MountKind::Tmpfs { .. } => "tmpfs",
        }
    }
}

/// Mounts a file system, with the source `rkbox` as our mark.
///
/// The undo takes off what bears the mark, is of the same type and stands on exactly that path; anything else stays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Overlay or tmpfs.
    pub what: MountKind,
    /// An existing directory.
    pub target: PathBuf,
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount {} on {}", self.what.file_system(), self.target.display())
    }
}

impl Mount {
    fn is_ours(&self, row: &mount::MountRow) -> bool {
        row.source == mount::SOURCE && row.kind == self.what.file_system()
    }

    fn options(&self) -> Result<String> {
        Ok(match &self.what {
            MountKind::Overlay { lowers, upper, work, .. } => {
                let options = script_options(lowers, Some((upper, work)))?;
                format!("nodev,{options}")
            }
            MountKind::Layers { lowers } => format!("ro,nodev,{}", script_options(lowers, None)?),
            MountKind::Tmpfs { size_kib, mode } => format!("nosuid,nodev,noexec,size={size_kib}k,mode={mode:04o}"),
        })
    }
}

/// The lower directories down to a layer that hides all below it. A plan that unpacks its layers itself cannot know which one does;
/// what a layer is never changes once it is there.
pub(super) fn visible(lowers: &[PathBuf]) -> Result<&[PathBuf]> {
    for (nth, lower) in lowers.iter().enumerate().filter(|(_, lower)| lower.ends_with(TREE)) {
        if let Some(layer) = lower.parent()
            && find_stamp(layer)?.is_some_and(|stamp| stamp.opaque_root)
        {
            return Ok(&lowers[..=nth]);
        }
    }
    Ok(lowers)
}

/// The mount of layers that the same script unpacks: the shell looks which of them hides all below it.
fn script_of_unmade(lowers: &[PathBuf], upper: &Path, work: &Path, target: &str, out: &mut Script) {
    let words = lowers.iter().map(|lower| quote(&lower.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let rest = script_options(&[], Some((upper, work))).unwrap_or_default();
    let rest = rest.strip_prefix("lowerdir=").unwrap_or(&rest);
    out.raw("lowers=");
    out.raw(&format!("for lower in {words}; do"));
    out.raw("  lowers=$lowers${lowers:+:}$(printf %s \"$lower\" | sed 's/[\\\\,:]/\\\\&/g')");
    out.raw(&format!("  if grep -qs '\"opaque_root\":true' \"${{lower%/{TREE}}}/{STAMP}\"; then break; fi"));
    out.raw("done");
    out.raw(&format!("mount -t overlay {} -o nodev,lowerdir=\"$lowers\"{} {}", mount::SOURCE, quote(rest), quote(target)));
}

impl Mount {
    /// The namespace whose ids are shown.
    pub fn ids(&self) -> Option<&Path> {
        match &self.what {
            MountKind::Overlay { ids, .. } => ids.as_deref(),
            _ => None,
        }
    }
}

/// The mount of layers with other ids: the option of mount(8) is of util-linux 2.39, and an older one passes over it without a word.
fn script_of_mapped(lowers: &[PathBuf], writable: (&Path, &Path), userns: &Path, target: &str, out: &mut Script) {
    let visible = visible(lowers).unwrap_or(lowers);
    let aside = format!("{target}.ids");
    let places: Vec<PathBuf> = (0..visible.len()).map(|nth| PathBuf::from(format!("{aside}/{nth}"))).collect();
    out.run(["mkdir", &aside]);
    out.run(["mount", "-t", "tmpfs", "-o", "mode=0700", mount::SOURCE, &aside]);
    for (lower, place) in visible.iter().zip(&places) {
        let place = place.to_string_lossy();
        out.run(["mkdir", &place]);
        out.run(["mount", "--bind", "-o", &format!("X-mount.idmap={}", userns.display()), &lower.to_string_lossy(), &place]);
    }
    match script_options(&places, Some(writable)) {
        Ok(options) => {
            out.run(["mount", "-t", "overlay", mount::SOURCE, "-o", &format!("nodev,{options}"), target]);
            out.comment("overlayfs has copies of its own");
            out.run(["umount", "-l", &aside]);
            out.run(["rmdir", &aside]);
        }
        Err(fault) => {
            out.comment(&fault.to_string());
            out.run(["false"]);
        }
    }
}

fn script_options(lowers: &[PathBuf], writable: Option<(&Path, &Path)>) -> Result<String> {
    Ok(mount::overlay_options(mount::Overlay { lowers, writable })?.to_string_lossy().into_owned())
}

impl Action for Mount {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if mount::is_mountpoint(&self.target)? {
            return Err(Fault::new(Kind::FailedPrecondition, format!("something is mounted on {} already", self.target.display()))
                .hint(format!("umount {}", quote(&self.target.to_string_lossy()))));
        }
        Ok(())
    }

    fn apply(&self, _: &(), _: &Host) -> Result<()> {
        match &self.what {
            MountKind::Overlay { lowers, upper, work, ids } => {
                let overlay = mount::Overlay { lowers: visible(lowers)?, writable: Some((upper, work)) };
                match ids {
                    Some(userns) => mapped::overlay(overlay, &self.target, userns)?,
                    None => mount::overlay(overlay, &self.target)?,
                }
            }
            MountKind::Layers { lowers } => mount::overlay(mount::Overlay { lowers, writable: None }, &self.target)?,
            MountKind::Tmpfs { size_kib, mode } => mount::tmpfs(&self.target, *size_kib, *mode)?,
        }
        Ok(())
    }

    fn undo(&self, _: &(), _: &Host) -> Result<Undone> {
        if mount::find_at(&self.target)?.is_some_and(|row| self.is_ours(&row)) {
            mount::unmount(&self.target)?;
        }
        // overlayfs leaves a directory of mode 0000 in its scratch; only the kernel writes there.
        if let MountKind::Overlay { work, .. } = &self.what {
            file::remove_dir_if_empty(&work.join("work"))?;
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let target = self.target.to_string_lossy();
        match way {
            Way::Apply => match (&self.what, self.options()) {
                (MountKind::Overlay { lowers, upper, work, ids: Some(userns) }, _) => script_of_mapped(lowers, (upper, work), userns, &target, out),
                (MountKind::Overlay { lowers, upper, work, ids: None }, Ok(_)) if lowers.iter().any(|lower| lower.ends_with(TREE) && !file::is_dir(lower).unwrap_or(false)) => {
                    script_of_unmade(lowers, upper, work, &target, out);
                }
                (_, Ok(options)) => out.run(["mount", "-t", self.what.file_system(), mount::SOURCE, "-o", &options, &target]),
                // More layers than one option string holds: mount(8) has no other way to say them.
                (_, Err(fault)) => {
                    out.comment(&fault.to_string());
                    out.run(["false"]);
                }
            },
            Way::Undo(()) => {
                out.raw(&format!("if mountpoint -q {target}; then umount -l {target}; fi", target = quote(&target)));
                if let MountKind::Overlay { work, .. } = &self.what {
                    out.run_ignoring(["rmdir", &work.join("work").to_string_lossy()]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn world() -> (tempfile::TempDir, Host) {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let world = tempfile::tempdir().unwrap();
        mount::tmpfs(world.path(), 65536, 0o755).unwrap();
        let host = crate::step::skeleton::tests::host(world.path());
        (world, host)
    }

    fn steps(at: &Path) -> Vec<Mount> {
        for dir in ["low", "up", "work", "merged", "tmp", "shown"] {
            fs::create_dir(at.join(dir)).unwrap();
        }
        fs::write(at.join("low/file"), "x").unwrap();
        let what = MountKind::Overlay { lowers: vec![at.join("low")], upper: at.join("up"), work: at.join("work"), ids: None };
        let layers = MountKind::Layers { lowers: vec![at.join("low"), at.join("up")] };
        vec![
            Mount { what, target: at.join("merged") },
            Mount { what: layers, target: at.join("shown") },
            Mount { what: MountKind::Tmpfs { size_kib: 64, mode: 0o1777 }, target: at.join("tmp") },
        ]
    }

    #[test]
    fn a_mount_obeys_the_laws() {
        let (world, host) = world();
        for step in steps(world.path()) {
            let rows = mount::list().unwrap();
            step.look(&host).unwrap();
            assert_eq!(mount::list().unwrap(), rows);
            step.undo(&(), &host).unwrap();
            step.apply(&(), &host).unwrap();
            assert!(mount::find_at(&step.target).unwrap().is_some_and(|row| step.is_ours(&row)));
            assert_eq!(step.look(&host).unwrap_err().kind(), Kind::FailedPrecondition);
            for _ in 0..2 {
                step.undo(&(), &host).unwrap();
                assert_eq!(mount::list().unwrap(), rows);
            }
            // A stranger's mount on our path stays.
            nix::mount::mount(Some("theirs"), &step.target, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
            step.undo(&(), &host).unwrap();
            assert!(mount::is_mountpoint(&step.target).unwrap());
            mount::unmount(&step.target).unwrap();
        }
        assert!(fs::read_dir(world.path().join("work")).unwrap().next().is_none());
    }

    #[test]
    fn the_script_mounts_the_same() {
        let (world, host) = world();
        for step in steps(world.path()) {
            step.apply(&(), &host).unwrap();
            let ours = mount::find_at(&step.target).unwrap().unwrap();
            step.undo(&(), &host).unwrap();
            for (way, mounted) in [(Way::Apply, true), (Way::Undo(&()), false)] {
                let mut script = Script::new();
                step.script(way, &mut script);
                let done = crate::sys::exec::Exec::new(Path::new("/bin/sh")).args(["-c", script.as_str()]).capture(std::time::Duration::from_secs(9)).unwrap();
                assert!(done.status.success(), "{}", done.stderr);
                assert_eq!(mount::is_mountpoint(&step.target).unwrap(), mounted);
                if let Some(row) = mount::find_at(&step.target).unwrap() {
                    assert_eq!((row.kind, row.source), (ours.kind.clone(), ours.source.clone()));
                }
            }
        }
    }
}
