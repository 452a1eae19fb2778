//! Makes /run/netns the shared mount that `ip netns` keeps there.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::Result;
use crate::script::{Script, quote};
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::{Host, ns};

use std::path::PathBuf;

/// Makes /run/netns the shared mount that `ip netns` keeps there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetnsRoot {
    /// `/run/netns`.
    pub path: PathBuf,
}

impl fmt::Display for NetnsRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prepare {path}", path = self.path.display())
    }
}

/// What was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootBefore {
    /// The directory.
    pub existed: bool,
    /// A mount on it.
    pub mounted: bool,
}

impl Action for NetnsRoot {
    type Before = RootBefore;
    const TENURE: Tenure = Tenure::Shared;

    fn look(&self, _: &Host) -> Result<RootBefore> {
        let (existed, mounted) = ns::find_root(&self.path)?;
        Ok(RootBefore { existed, mounted })
    }

    fn already(&self, before: &RootBefore) -> bool {
        before.mounted
    }

    fn apply(&self, _: &RootBefore, _: &Host) -> Result<()> {
        Ok(ns::ensure_root(&self.path)?)
    }

    fn undo(&self, before: &RootBefore, _: &Host) -> Result<Undone> {
        // A mount that was there stays; ours goes while no namespace is pinned in it.
        if before.mounted || ns::remove_root(&self.path, !before.existed)? { Ok(Undone::Done) } else { Ok(Undone::Kept) }
    }

    fn script(&self, way: Way<'_, RootBefore>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        match way {
            Way::Apply => {
                out.run(["mkdir", "-p", "-m", "0755", &path]);
                let quoted = quote(&path);
                // Not `mountpoint`: it also takes a mount for there that another one hides.
                let share = format!("mount --make-rshared {quoted}");
                out.raw(&format!("{share} 2>/dev/null || {{ mount --rbind {quoted} {quoted}; {share}; }}"));
            }
            Way::Undo(before) if before.mounted => {}
            Way::Undo(before) => {
                let rmdir = if before.existed { String::new() } else { format!(" && rmdir {}", quote(&path)) };
                out.raw(&format!("[ -n \"$(ls -A {0})\" ] || {{ umount {0}{rmdir}; }}", quote(&path)));
            }
        }
    }
}
