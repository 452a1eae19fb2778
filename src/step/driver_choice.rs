//! Remembers which cgroup driver the boxes of this host use (shared: forgotten with the last box).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Tenure, Undone, Way};
use crate::fault::Result;
use crate::record::driver::DriverRecord;
use crate::script::{Script, quote};
use crate::sys::{Host, file};

/// A record of the driver is smaller than this.
const LIMIT: u64 = 4096;

/// Remembers which cgroup driver the boxes of this host use (shared: forgotten with the last box).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DriverChoice {
    /// The file.
    pub path: PathBuf,
    /// What it then says.
    pub record: DriverRecord,
}

impl fmt::Display for DriverChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remember the cgroup driver {}", self.record.driver.word())
    }
}

impl Action for DriverChoice {
    /// What the file said.
    type Before = Option<String>;
    const TENURE: Tenure = Tenure::Shared;

    fn look(&self, _host: &Host) -> Result<Option<String>> {
        Ok(file::find(&self.path, LIMIT)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn already(&self, before: &Option<String>) -> bool {
        before.as_deref() == Some(self.record.text().as_str())
    }

    fn apply(&self, _before: &Option<String>, _host: &Host) -> Result<()> {
        file::write_atomic(&self.path, 0o600, self.record.text().as_bytes(), file::Durable::No)?;
        Ok(())
    }

    /// What another command has written since stays, and so does all while there is a box that relies on it. What it took the place of was of
    /// no use, and does not come back.
    fn undo(&self, _before: &Option<String>, host: &Host) -> Result<Undone> {
        if !self.already(&self.look(host)?) {
            return Ok(Undone::Done);
        }
        for boxes in ["sandboxes", "containers"] {
            if !file::list(&host.root.join(boxes))?.is_empty() {
                return Ok(Undone::Kept);
            }
        }
        file::remove_file(&self.path)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, Option<String>>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        match way {
            Way::Apply => out.write_file(&path, 0o600, self.record.text().as_bytes()),
            Way::Undo(_) => {
                let boxes = ["sandboxes", "containers"].map(|name| quote(&self.path.with_file_name(name).to_string_lossy())).join(" ");
                out.raw(&format!("if [ -z \"$(find {boxes} -mindepth 1 2>/dev/null)\" ]; then"));
                out.run(["rm", "-f", &path]);
                out.raw("fi");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CgroupDriver;

    #[test]
    fn a_choice_obeys_the_laws_and_stays_while_there_is_a_box() {
        let world = tempfile::tempdir().unwrap();
        let host = Host::below(world.path());
        std::fs::create_dir_all(host.root.join("containers")).unwrap();
        let step = DriverChoice { path: host.root.join("driver"), record: DriverRecord::new(CgroupDriver::Cgroupfs, "x") };
        for old in [None, Some("old\n".to_owned())] {
            if let Some(old) = &old {
                std::fs::write(&step.path, old).unwrap();
            }
            let before = step.look(&host).unwrap();
            assert_eq!(before, old);
            assert!(!step.already(&before));
            step.apply(&before, &host).unwrap();
            assert!(step.already(&step.look(&host).unwrap()));
            let of_a_box = host.root.join("containers/a");
            std::fs::create_dir(&of_a_box).unwrap();
            assert_eq!(step.undo(&before, &host).unwrap(), Undone::Kept);
            assert!(step.already(&step.look(&host).unwrap()));
            std::fs::remove_dir(&of_a_box).unwrap();
            for _ in 0..2 {
                assert_eq!(step.undo(&before, &host).unwrap(), Undone::Done);
                assert_eq!(step.look(&host).unwrap(), None);
            }
        }
        // What another command wrote is not ours.
        std::fs::write(&step.path, "old\n").unwrap();
        step.undo(&None, &host).unwrap();
        assert_eq!(step.look(&host).unwrap().as_deref(), Some("old\n"));
    }
}
