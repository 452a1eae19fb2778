//! Starts pasta, the way out of an ordinary user's network namespace.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fault::Result;
use crate::script::{Script, quote};
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::{Host, rootless_netns};

/// Starts pasta, the way out of an ordinary user's network namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pasta {
    /// The file of the namespace.
    pub netns: PathBuf,
}

impl fmt::Display for Pasta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start pasta")
    }
}

/// What was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastaBefore {
    /// A way out.
    pub runs: bool,
}

impl Action for Pasta {
    type Before = PastaBefore;
    const TENURE: Tenure = Tenure::Shared;

    fn look(&self, _: &Host) -> Result<PastaBefore> {
        let runs = rootless_netns::has_way_out(&self.netns)?;
        if !runs {
            rootless_netns::find_program()?;
        }
        Ok(PastaBefore { runs })
    }

    fn already(&self, before: &PastaBefore) -> bool {
        before.runs
    }

    fn apply(&self, _: &PastaBefore, _: &Host) -> Result<()> {
        rootless_netns::start(&self.netns)
    }

    fn undo(&self, before: &PastaBefore, _: &Host) -> Result<Undone> {
        if before.runs {
            return Ok(Undone::Done);
        }
        if rootless_netns::is_used(&self.netns)? {
            return Ok(Undone::Kept);
        }
        rootless_netns::stop(&self.netns).map(|()| Undone::Done)
    }

    fn script(&self, way: Way<'_, PastaBefore>, out: &mut Script) {
        match way {
            Way::Apply => {
                let words = rootless_netns::words(&self.netns);
                let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
                out.raw(&format!("{} {} </dev/null >/dev/null 2>&1", rootless_netns::PROGRAM, words.join(" ")));
            }
            // It ends with the file of its namespace.
            Way::Undo(_) => {}
        }
    }
}
