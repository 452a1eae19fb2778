//! Copies what an image has at the place of a new volume into the volume.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::volume::{DATA, FRESH, lock, name_of, users};
use super::{Action, Tenure, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::idmap::IdMap;
use crate::ids::Id;
use crate::script::{Script, quote};
use crate::sys::file::{self, Durable};
use crate::sys::{Host, tree_clone};

/// Copies what an image has at the place of a new volume into the volume, which takes that directory's owner and mode too.
///
/// Only into a volume that no container had before and that is empty (CVE-2020-1726), and only what the image itself has: no link of it
/// leads out (CVE-2022-23648). *Source:* Docker, podman.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyUp {
    /// The merged root file system.
    pub rootfs: PathBuf,
    /// The place in it, absolute.
    pub inside: String,
    /// `volumes/NAME`.
    pub volume: PathBuf,
    /// The container that has the volume first.
    pub container: Id,
    /// The ids that the root file system is shown with and the volume will be; the disk has those inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<IdMap>,
}

/// What stood there before a [`CopyUp`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct CopyUpBefore {
    /// Whether no container had the volume before.
    pub fresh: bool,
}

impl fmt::Display for CopyUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copy {} of the image into volume {}", self.inside, name_of(&self.volume))
    }
}

impl Action for CopyUp {
    type Before = CopyUpBefore;
    const TENURE: Tenure = Tenure::Shared;
    const RECLAIMED: bool = false;

    /// A volume that the same plan will make is new.
    fn look(&self, _: &Host) -> Result<CopyUpBefore> {
        Ok(CopyUpBefore { fresh: !file::exists(&self.volume)? || file::exists(&self.volume.join(FRESH))? })
    }

    fn already(&self, before: &CopyUpBefore) -> bool {
        !before.fresh
    }

    fn apply(&self, _: &CopyUpBefore, _: &Host) -> Result<()> {
        let gone = || Fault::new(Kind::Conflict, format!("volume {} was just removed", name_of(&self.volume)));
        let _held = lock(&self.volume)?.ok_or_else(gone)?;
        // Another container may have had it while the lock was waited for.
        if !file::exists(&self.volume.join(FRESH))? {
            return Ok(());
        }
        let data = self.volume.join(DATA);
        if file::list_bytes(&data)?.is_empty() {
            tree_clone::copy_content(&self.rootfs, &self.inside, &data, &|owner| self.ids.as_ref().map_or(owner, |map| map.unshift(owner)))?;
        }
        file::remove_file(&self.volume.join(FRESH))?;
        Ok(())
    }

    fn undo(&self, before: &CopyUpBefore, _: &Host) -> Result<Undone> {
        let Some(_held) = lock(&self.volume)? else { return Ok(Undone::Done) };
        if !before.fresh {
            return Ok(Undone::Done);
        }
        if users(&self.volume)?.iter().any(|user| user != self.container.as_str()) {
            return Ok(Undone::Kept);
        }
        tree_clone::clear(&self.volume.join(DATA))?;
        if !file::exists(&self.volume.join(FRESH))? {
            file::create_atomic(&self.volume.join(FRESH), 0o600, b"", Durable::No)?;
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, CopyUpBefore>, out: &mut Script) {
        let at = |name: &str| quote(&self.volume.join(name).to_string_lossy());
        let (data, fresh) = (at(DATA), at(FRESH));
        match way {
            Way::Apply => {
                let source = quote(&self.rootfs.join(self.inside.trim_start_matches('/')).to_string_lossy());
                // A link of the image would be followed on the host: the shell has no way to stay inside.
                out.raw(&format!("[ ! -e {source} ] || [ \"$(realpath {source})\" = {source} ]"));
                out.raw(&format!("if [ -d {source} ] && [ -z \"$(ls -A {data})\" ]; then cp -a {source}/. {data}/; fi"));
                out.raw(&format!("rm -f {fresh}"));
            }
            Way::Undo(before) if !before.fresh => {}
            Way::Undo(_) => {
                out.raw(&format!("if [ -d {data} ]; then"));
                out.raw(&format!("  find {data} -xdev -mindepth 1 -delete; chown 0:0 {data}; chmod 00755 {data}; : >{fresh}; chmod 0600 {fresh}"));
                out.raw("fi");
            }
        }
    }
}
