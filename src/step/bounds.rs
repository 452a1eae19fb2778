//! Changes what a container may use.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Action, Undone, Way};
use crate::fault::{Context, Fault, Kind, Result};
use crate::ids::{CgroupDriver, Id};
use crate::script::{Script, quote};
use crate::sys::file::{self, Durable};
use crate::sys::runc::Runc;
use crate::sys::Host;

/// A configuration larger than this is not ours.
const LIMIT: u64 = 4 << 20;
/// What the bounds are now, beside the record, which never changes.
pub const FILE: &str = "resources.json";

/// Changes what a container may use: in its control group when it runs, in its configuration and record for its next start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bounds {
    /// The container.
    pub id: Id,
    /// The runtime.
    pub runtime: PathBuf,
    /// Its state directory.
    pub state: PathBuf,
    /// Whether it asks systemd.
    pub systemd_cgroup: bool,
    /// The bundle.
    pub bundle: PathBuf,
    /// Whether it runs.
    pub running: bool,
    /// What changes, as `linux.resources` says it.
    pub change: Value,
    /// What puts that back in the control group.
    pub revert: Value,
    /// All bounds from now on, for the record.
    pub recorded: Value,
}

/// What stood there before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BoundsBefore {
    /// `linux.resources` of the configuration.
    pub configured: Value,
    /// The text of the file beside the record.
    pub recorded: Option<String>,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "change what container {} may use", self.id)
    }
}

/// Lays `change` over `whole`, objects into objects.
fn merge(whole: &mut Value, change: &Value) {
    match (whole, change) {
        (Value::Object(whole), Value::Object(change)) => {
            for (key, value) in change {
                merge(whole.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (whole, change) => *whole = change.clone(),
    }
}

impl Bounds {
    fn config(&self) -> PathBuf {
        self.bundle.join("config.json")
    }

    fn read_config(&self) -> Result<Value> {
        let content = file::read(&self.config(), LIMIT)?;
        serde_json::from_slice(&content).map_err(|error| Fault::from_error(Kind::DataLoss, error)).doing(|| format!("reading {}", self.config().display()))
    }

    /// Writes the configuration anew with other resources, and the file beside the record.
    fn write(&self, resources: &Value, recorded: Option<&str>) -> Result<()> {
        let mut config = self.read_config()?;
        config["linux"]["resources"] = resources.clone();
        write_json(&self.config(), &config)?;
        match recorded {
            Some(text) => file::write_atomic(&self.bundle.join(FILE), 0o600, text.as_bytes(), Durable::Yes)?,
            None => drop(file::remove_file(&self.bundle.join(FILE))?),
        }
        Ok(())
    }

    fn runc(&self) -> Runc {
        let driver = if self.systemd_cgroup { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
        Runc::new(self.runtime.clone(), self.state.clone(), driver)
    }

    fn recorded_text(&self) -> String {
        format!("{}\n", self.recorded)
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Fault::from_error(Kind::Internal, error))?;
    text.push('\n');
    Ok(file::write_atomic(path, 0o600, text.as_bytes(), Durable::No)?)
}

impl Action for Bounds {
    type Before = BoundsBefore;

    fn look(&self, _: &Host) -> Result<BoundsBefore> {
        let configured = self.read_config()?["linux"]["resources"].clone();
        let recorded = file::find(&self.bundle.join(FILE), LIMIT)?.map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(BoundsBefore { configured, recorded })
    }

    fn apply(&self, before: &BoundsBefore, _: &Host) -> Result<()> {
        if self.running {
            self.runc().update(self.id.as_str(), &self.change)?;
        }
        let mut resources = before.configured.clone();
        merge(&mut resources, &self.change);
        self.write(&resources, Some(&self.recorded_text()))
    }

    fn undo(&self, before: &BoundsBefore, _: &Host) -> Result<Undone> {
        if !file::exists(&self.config())? || before.configured.is_null() {
            return Ok(Undone::Done);
        }
        if self.running {
            self.runc().update(self.id.as_str(), &self.revert)?;
        }
        self.write(&before.configured, before.recorded.as_deref())?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, BoundsBefore>, out: &mut Script) {
        let change = match way {
            Way::Apply => &self.change,
            Way::Undo(_) => &self.revert,
        };
        if self.running {
            let (runtime, state) = (self.runtime.to_string_lossy(), self.state.to_string_lossy());
            let words = [&*runtime, "--root", &*state].into_iter().chain(self.systemd_cgroup.then_some("--systemd-cgroup"));
            out.feed(words.chain(["update", "--resources", "-", self.id.as_str()]), &change.to_string());
        }
        let (config, file) = (self.config(), self.bundle.join(FILE));
        let (config, file) = (quote(&config.to_string_lossy()), file.to_string_lossy());
        match way {
            Way::Apply => {
                out.raw(&format!("changed=$(jq -S --argjson change {} '.linux.resources *= $change' {config})", quote(&change.to_string())));
                out.raw(&format!("printf '%s\\n' \"$changed\" >{config}"));
                out.write_file(&file, 0o600, self.recorded_text().as_bytes());
            }
            Way::Undo(before) => {
                out.raw(&format!("changed=$(jq -S --argjson old {} '.linux.resources = $old' {config})", quote(&before.configured.to_string())));
                out.raw(&format!("printf '%s\\n' \"$changed\" >{config}"));
                match &before.recorded {
                    Some(text) => out.write_file(&file, 0o600, text.as_bytes()),
                    None => out.run(["rm", "-f", &file]),
                }
            }
        }
    }
}
