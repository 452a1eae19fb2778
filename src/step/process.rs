//! Starts a container, detached, through the OCI runtime.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::ids::Id;
use crate::script::Script;
use crate::sys::runc::{Launch, Runc};
use crate::sys::{CgroupDriver, Host, file};

/// Starts a container, detached, through the OCI runtime.
///
/// The undo ends it with SIGKILL, through a pidfd and never by its number alone, and removes what the runtime keeps of it and the two files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Container id.
    pub id: Id,
    /// The OCI runtime.
    pub runtime: PathBuf,
    /// Its state directory (`--root`).
    pub state: PathBuf,
    /// Pass `--systemd-cgroup`.
    pub systemd_cgroup: bool,
    /// The bundle.
    pub bundle: PathBuf,
    /// Where the runtime writes the pid.
    pub pid_file: PathBuf,
    /// Where the runtime writes its log, JSON lines.
    pub log: PathBuf,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start container {id}", id = self.id.short())
    }
}

impl Process {
    fn runc(&self) -> Runc {
        let driver = if self.systemd_cgroup { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
        Runc::new(self.runtime.clone(), self.state.clone(), driver)
    }

    fn words(&self) -> Vec<String> {
        let mut words = vec![self.runtime.to_string_lossy().into_owned(), "--root".to_owned(), self.state.to_string_lossy().into_owned()];
        if self.systemd_cgroup {
            words.push("--systemd-cgroup".to_owned());
        }
        words
    }

    fn words_with(&self, more: &[&str]) -> Vec<String> {
        self.words().into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    }
}

impl Action for Process {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if self.runc().knows(self.id.as_str())? {
            return Err(Fault::new(Kind::AlreadyExists, format!("the OCI runtime has a container {} already", self.id.short())));
        }
        Ok(())
    }

    fn apply(&self, _: &(), _: &Host) -> Result<()> {
        self.runc().run_detached(&Launch { id: self.id.as_str(), bundle: &self.bundle, pid_file: &self.pid_file, log: &self.log })
    }

    fn undo(&self, _: &(), _: &Host) -> Result<Undone> {
        self.runc().kill_and_delete(self.id.as_str(), &self.bundle, Duration::ZERO)?;
        file::remove_file(&self.pid_file)?;
        file::remove_file(&self.log)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let id = self.id.as_str();
        let (bundle, pid_file, log) = (self.bundle.to_string_lossy(), self.pid_file.to_string_lossy(), self.log.to_string_lossy());
        match way {
            Way::Apply => {
                let more = ["--log", &log, "--log-format", "json", "run", "--detach", "--pid-file", &pid_file, "--bundle", &bundle, id];
                let line: Vec<String> = self.words_with(&more).iter().map(|word| crate::script::quote(word)).collect();
                // The container inherits these streams.
                out.raw(&format!("{} </dev/null >/dev/null 2>&1", line.join(" ")));
            }
            Way::Undo(()) => {
                out.run_ignoring(self.words_with(&["kill", id, "KILL"]));
                out.raw("sleep 0.1");
                out.run_ignoring(self.words_with(&["delete", id]));
                out.run(["rm", "-f", &pid_file, &log]);
            }
        }
    }
}
