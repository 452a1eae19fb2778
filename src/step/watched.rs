//! Makes a container under a monitor of its own, and starts it where that is ordered.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::record::life::{Launch, Order};
use crate::script::{Script, quote};
use crate::sys::runc::{self, Runc};
use crate::sys::{Host, file, monitor};

/// What a monitor and the runtime keep in the volatile directory of a container.
const TRACES: [&str; 8] =
    ["pid", "runtime.log", "stdout", "stderr", "control.sock", "console.sock", "monitor.json", "health.json"];

/// Makes a container under a monitor of its own, and starts it where that is ordered.
///
/// The undo ends the monitor and the container with SIGKILL, through pidfds, and removes what both keep of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Watched {
    /// What the monitor is told.
    pub order: Box<Order>,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.order.launch == Launch::Create { "create" } else { "start" };
        write!(f, "{verb} container {id} under a monitor", id = self.order.id.short())
    }
}

impl Watched {
    fn runc(&self) -> Runc {
        let facts = &self.order.runtime;
        Runc::new(facts.path.clone(), facts.state.clone(), facts.cgroup_driver)
    }
}

impl Action for Watched {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        if self.runc().knows(self.order.id.as_str())? {
            return Err(Fault::new(Kind::AlreadyExists, format!("the OCI runtime has a container {} already", self.order.id.short())));
        }
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        monitor::start(&self.order).map(drop)
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        // First: it would write an exit file, or start the container again.
        monitor::kill(&self.order.run)?;
        self.runc().kill_and_delete(self.order.id.as_str(), &self.order.bundle, Duration::ZERO)?;
        for name in TRACES {
            file::remove_file(&self.order.run.join(name))?;
        }
        Ok(Undone::Done)
    }

    /// The same container without a monitor: nobody keeps its output or sees its end.
    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let order = &self.order;
        let (log, pid_file) = (order.run.join("runtime.log"), order.run.join("pid"));
        let launch = runc::Launch { id: order.id.as_str(), bundle: &order.bundle, log: &log, pid_file: &pid_file };
        let mut words = self.runc().create_words(&launch);
        match way {
            Way::Apply => {
                if order.launch != Launch::Create
                    && let Some(at) = words.iter().position(|word| word == "create")
                {
                    words.splice(at..=at, ["run".to_owned(), "--detach".to_owned()]);
                }
                let line: Vec<String> = words.iter().map(|word| quote(word)).collect();
                out.raw(&format!("{} </dev/null >/dev/null 2>&1", line.join(" ")));
            }
            Way::Undo(()) => {
                let global = words.iter().position(|word| word == "--log").unwrap_or(1);
                let verb = |more: &[&str]| words[..global].iter().cloned().chain(more.iter().map(|word| (*word).to_owned())).collect::<Vec<_>>();
                out.run_ignoring(verb(&["kill", order.id.as_str(), "KILL"]));
                out.raw("sleep 0.1");
                out.run_ignoring(verb(&["delete", order.id.as_str()]));
                let paths: Vec<String> = TRACES.iter().map(|name| order.run.join(name).to_string_lossy().into_owned()).collect();
                out.run(["rm", "-f"].into_iter().chain(paths.iter().map(String::as_str)));
            }
        }
    }
}
