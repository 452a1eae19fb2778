//! Copies the files of an image for one container and gives them to the ids of its user namespace.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mount::visible;
use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::idmap::IdMap;
use crate::script::{Script, quote};
use crate::sys::{Host, file, mapped};

/// Copies the merged files of an image for one container and gives them to the ids of its user namespace: what is done where the kernel or
/// the file system cannot show other owners than the disk has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShiftedCopy {
    /// The layers, highest first.
    pub lowers: Vec<PathBuf>,
    /// The copy, new.
    pub path: PathBuf,
    /// The ids.
    pub map: IdMap,
}

impl fmt::Display for ShiftedCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copy the image to {} for ids from {}", self.path.display(), self.map.root().0)
    }
}

impl Action for ShiftedCopy {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if file::exists(&self.path)? {
            return Err(Fault::new(Kind::AlreadyExists, format!("{} is there already", self.path.display())));
        }
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        file::create_dir(&self.path, 0o700)?;
        mapped::copy_merged(visible(&self.lowers)?, &self.path, &|owner| self.map.shift(owner))
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        file::remove_tree(&self.path)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let path = quote(&self.path.to_string_lossy());
        if let Way::Undo(()) = way {
            return out.run(["rm", "-rf", "--one-file-system", &self.path.to_string_lossy()]);
        }
        let layers: Vec<String> = visible(&self.lowers).unwrap_or(&self.lowers).iter().map(|layer| layer.to_string_lossy().into_owned()).collect();
        let lowerdir = quote(&format!("lowerdir={}", layers.join(":")));
        out.run(["mkdir", "-m", "0700", &self.path.to_string_lossy()]);
        out.raw(&format!("mount -t overlay rkbox -o ro,nodev,{lowerdir} {path}"));
        out.raw(&format!("tar --xattrs --xattrs-include='*' -C {path} -cf {path}.tar . ; umount -l {path}"));
        out.raw(&format!("tar --xattrs --xattrs-include='*' -C {path} -xpf {path}.tar --same-owner; rm {path}.tar"));
        // The set-uid bits go with a change of owner, and come back.
        out.raw(&format!("find {path} -xdev -printf '%U %G %m %p\\n' | while read -r uid gid mode file; do"));
        for range in &self.map.0 {
            let end = u64::from(range.inside) + u64::from(range.size);
            for id in ["uid", "gid"] {
                out.raw(&format!("  [ ${id} -lt {} ] || [ ${id} -ge {end} ] || new_{id}=$(({} + ${id} - {}))", range.inside, range.outside, range.inside));
            }
        }
        out.raw("  chown -h \"${new_uid:-$uid}:${new_gid:-$gid}\" \"$file\"; [ -L \"$file\" ] || chmod \"$mode\" \"$file\"");
        out.raw("  unset new_uid new_gid");
        out.raw("done");
    }
}
