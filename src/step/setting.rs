//! Changes what may be changed of a container whose record never changes: its name, its restart policy.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::ids::{Id, Name};
use crate::record::life::{Reply, Request, RestartPolicy};
use crate::record::{NAME_FILE, RESTART_FILE};
use crate::script::Script;
use crate::sys::file::{self, Durable};
use crate::sys::{Host, control};

/// A file larger than this is not ours.
const LIMIT: u64 = 4096;
/// How long the monitor may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes a new value beside the record, and tells it to the monitor that runs.
///
/// *Shape:* the file `name` or `restart` in the directory of the container, one line. *Errors:* `DeadlineExceeded` when the monitor does
/// not answer. The script writes the file only: a monitor that runs hears of it when the container is started again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setting {
    /// The container.
    pub id: Id,
    /// The directory of its record.
    pub bundle: PathBuf,
    /// Its volatile directory, where its monitor listens.
    pub run: PathBuf,
    /// What changes.
    pub change: Change,
}

/// One value, before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The name.
    Name {
        /// Before.
        from: Name,
        /// After.
        to: Name,
    },
    /// What happens when it ends.
    Restart {
        /// Before.
        from: RestartPolicy,
        /// After.
        to: RestartPolicy,
    },
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Name { to, .. } => write!(f, "name container {} {to}", self.id.short()),
            Change::Restart { to, .. } => write!(f, "set the restart policy of container {} to {to}", self.id.short()),
        }
    }
}

impl Setting {
    fn path(&self) -> PathBuf {
        self.bundle.join(match self.change {
            Change::Name { .. } => NAME_FILE,
            Change::Restart { .. } => RESTART_FILE,
        })
    }

    fn text(&self) -> String {
        match &self.change {
            Change::Name { to, .. } => format!("{to}\n"),
            Change::Restart { to, .. } => format!("{to}\n"),
        }
    }

    fn tell(&self, way: Way<'_, ()>) -> Result<()> {
        let request = match (&self.change, way) {
            (Change::Name { to: name, .. }, Way::Apply) | (Change::Name { from: name, .. }, Way::Undo(())) => {
                Request::Name { name: name.to_string() }
            }
            (Change::Restart { to: policy, .. }, Way::Apply) | (Change::Restart { from: policy, .. }, Way::Undo(())) => {
                Request::Restart { policy: *policy }
            }
        };
        match control::ask(&self.run, &request, Some(PATIENCE))? {
            Some(Reply::Refused { why }) => Err(Fault::new(Kind::FailedPrecondition, why).doing("telling the monitor")),
            _ => Ok(()),
        }
    }
}

impl Action for Setting {
    /// The text of the file.
    type Before = Option<String>;

    fn look(&self, _: &Host) -> Result<Option<String>> {
        Ok(file::find(&self.path(), LIMIT)?.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    fn apply(&self, _: &Option<String>, _: &Host) -> Result<()> {
        file::write_atomic(&self.path(), 0o600, self.text().as_bytes(), Durable::Yes)?;
        self.tell(Way::Apply)
    }

    fn undo(&self, before: &Option<String>, _: &Host) -> Result<Undone> {
        if !file::exists(&self.bundle)? {
            return Ok(Undone::Done);
        }
        match before {
            Some(text) => file::write_atomic(&self.path(), 0o600, text.as_bytes(), Durable::Yes)?,
            None => drop(file::remove_file(&self.path())?),
        }
        self.tell(Way::Undo(&()))?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, Option<String>>, out: &mut Script) {
        let path = self.path().to_string_lossy().into_owned();
        match way {
            Way::Apply => out.write_file(&path, 0o600, self.text().as_bytes()),
            Way::Undo(Some(text)) => out.write_file(&path, 0o600, text.as_bytes()),
            Way::Undo(None) => out.run(["rm", "-f", &path]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::test_world::sh;

    #[test]
    fn a_setting_obeys_the_laws() {
        let world = tempfile::tempdir().unwrap();
        let host = Host::below(world.path());
        let name = |text: &str| text.parse::<Name>().unwrap();
        let policy = |text: &str| text.parse::<RestartPolicy>().unwrap();
        for (file, old, change, new) in [
            ("name", None, Change::Name { from: name("a"), to: name("b") }, "b\n"),
            ("name", Some("a\n"), Change::Name { from: name("a"), to: name("b") }, "b\n"),
            ("restart", None, Change::Restart { from: policy("no"), to: policy("on-failure:3") }, "on-failure:3\n"),
        ] {
            let bundle = world.path().join(format!("{file}{}", old.is_some()));
            std::fs::create_dir(&bundle).unwrap();
            let path = bundle.join(file);
            if let Some(old) = old {
                std::fs::write(&path, old).unwrap();
            }
            let seen = || std::fs::read_to_string(&path).ok();
            let step = Setting { id: Id::from_bytes([1; 32]), bundle, run: world.path().join("run"), change };
            let before = step.look(&host).unwrap();
            step.undo(&before, &host).unwrap();
            assert_eq!(seen().as_deref(), old);
            step.apply(&before, &host).unwrap();
            assert_eq!(seen().as_deref(), Some(new));
            for _ in 0..2 {
                step.undo(&before, &host).unwrap();
                assert_eq!(seen().as_deref(), old);
            }
            for (way, text) in [(Way::Apply, Some(new)), (Way::Undo(&before), old), (Way::Undo(&before), old)] {
                let mut script = Script::new();
                step.script(way, &mut script);
                sh(script.as_str());
                assert_eq!(seen().as_deref(), text);
            }
            std::fs::remove_dir_all(&step.bundle).unwrap();
            assert_eq!(step.undo(&before, &host).unwrap(), Undone::Done);
            assert!(step.apply(&before, &host).is_err() && !step.bundle.exists());
        }
    }
}
