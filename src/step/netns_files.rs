//! Gives a named network namespace the resolver of its sandbox, for `ip netns exec`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::Result;
use crate::script::{Script, quote};
use crate::sys::file::{self, Durable};
use crate::sys::Host;

/// A resolv.conf larger than this is not ours.
const LIMIT: u64 = 1 << 20;

/// Gives a named network namespace the resolver of its sandbox, so that `ip netns exec NAME` resolves like the pod.
///
/// *Shape:* `/etc/netns/NAME/resolv.conf`, which ip-netns(8) binds over `/etc/resolv.conf`. One that a user keeps there stays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetnsFiles {
    /// `/etc/netns/NAME`.
    pub dir: PathBuf,
    /// The text of `resolv.conf`.
    pub resolv_conf: String,
}

/// What stood there before.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct NetnsFilesBefore {
    /// The directory.
    pub dir: bool,
    /// The file in it.
    pub file: bool,
}

impl fmt::Display for NetnsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {}/resolv.conf", self.dir.display())
    }
}

impl Action for NetnsFiles {
    type Before = NetnsFilesBefore;

    fn look(&self, _: &Host) -> Result<NetnsFilesBefore> {
        Ok(NetnsFilesBefore { dir: file::exists(&self.dir)?, file: file::exists(&self.dir.join("resolv.conf"))? })
    }

    fn already(&self, before: &NetnsFilesBefore) -> bool {
        before.file
    }

    fn apply(&self, _: &NetnsFilesBefore, _: &Host) -> Result<()> {
        file::ensure_dir(&self.dir, 0o755)?;
        file::write_atomic(&self.dir.join("resolv.conf"), 0o644, self.resolv_conf.as_bytes(), Durable::No)?;
        Ok(())
    }

    /// Without a journal the text tells whose the file is; the empty text of a plan made again is no mark.
    fn undo(&self, before: &NetnsFilesBefore, _: &Host) -> Result<Undone> {
        let path = self.dir.join("resolv.conf");
        let ours = self.resolv_conf.is_empty() || file::find(&path, LIMIT)?.is_some_and(|found| found == self.resolv_conf.as_bytes());
        if !before.file && ours {
            file::remove_file(&path)?;
        }
        if !before.dir {
            file::remove_dir_if_empty(&self.dir)?;
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, NetnsFilesBefore>, out: &mut Script) {
        let (dir, path) = (self.dir.to_string_lossy(), self.dir.join("resolv.conf"));
        let path = path.to_string_lossy();
        match way {
            Way::Apply => {
                out.run(["mkdir", "-p", "-m", "0755", &dir]);
                out.write_file(&path, 0o644, self.resolv_conf.as_bytes());
            }
            Way::Undo(before) => {
                if !before.file {
                    out.run(["rm", "-f", &path]);
                }
                if !before.dir {
                    out.raw(&format!("[ -n \"$(ls -A {0} 2>/dev/null)\" ] || [ ! -d {0} ] || rmdir {0}", quote(&dir)));
                }
            }
        }
    }
}
