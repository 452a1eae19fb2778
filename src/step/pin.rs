//! Holds a path of the host for a container.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::script::{Script, quote};
use crate::sys::{Host, file, pin};

/// Holds a path of the host for a container: mounts it where the runtime finds it, so that a link that somebody puts in its place
/// afterwards is not followed (CVE-2021-30465, CVE-2021-25741).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pin {
    /// On the host, without links.
    pub source: PathBuf,
    /// A path below it; links there stay below it.
    #[serde(default)]
    pub below: Option<String>,
    /// Among the mounts of the container; its id is our mark.
    pub target: PathBuf,
    /// Whether mounts of the container are seen on the host.
    #[serde(default)]
    pub shared: bool,
    /// The pin of a user namespace whose ids are shown, without what is mounted below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<PathBuf>,
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.below {
            None => write!(f, "hold {}", self.source.display()),
            Some(below) => write!(f, "hold {}/{below}", self.source.display()),
        }
    }
}

impl Action for Pin {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if file::exists(&self.target)? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is there already", self.target.display())));
        }
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let side = match &self.ids {
            Some(userns) => pin::Side::Mapped(userns),
            None if self.shared => pin::Side::Shares,
            None => pin::Side::Follows,
        };
        pin::hold(&self.source, self.below.as_deref(), &self.target, side)
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        pin::release(&self.target)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let source = match &self.below {
            None => self.source.clone(),
            Some(below) => self.source.join(below),
        };
        let (source, target) = (quote(&source.to_string_lossy()), quote(&self.target.to_string_lossy()));
        match way {
            Way::Apply => {
                out.raw(&format!("[ \"$(realpath {source})\" = {source} ]"));
                out.raw(&format!("if [ -d {source} ]; then mkdir -m 0700 {target}; else (umask 077; : >{target}); fi"));
                match &self.ids {
                    Some(userns) => {
                        let option = quote(&format!("X-mount.idmap={}", userns.display()));
                        out.raw(&format!("mount --bind -o {option} {source} {target}"));
                    }
                    None => out.raw(&format!("mount --rbind {source} {target}")),
                }
                if !self.shared {
                    out.raw(&format!("mount --make-rslave {target}"));
                }
            }
            Way::Undo(()) => {
                out.raw(&format!("while mountpoint -q {target}; do mount --make-rslave {target}; umount -l {target}; done"));
                out.raw(&format!("if [ -d {target} ]; then rmdir {target}; else rm -f {target}; fi"));
            }
        }
    }
}
