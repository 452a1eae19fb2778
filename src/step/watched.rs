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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::bundle;
    use crate::record::life::LogOrder;
    use crate::step::Skeleton;
    use crate::sys::{cgroup, proc};

    /// The monitor is this program executed again, and this one is the test's: so apply is told of in `tests/containers.rs`, through the real binary.
    /// Here: what a step leaves that is undone before, in the middle of, and after its act, made by the runtime itself.
    #[test]
    fn the_undo_takes_a_container_and_all_traces() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let host = crate::step::skeleton::tests::host(dir.path());
        let id: crate::ids::Id = crate::ids::hex(&proc::random::<32>().unwrap()).parse().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("bundle")).unwrap();
        fs::create_dir(at("run")).unwrap();
        Skeleton { path: at("bundle/rootfs"), pause: true, init: false, like: Vec::new() }.apply(&(), &host).unwrap();
        let mut request = bundle::pause::tests::request();
        (request.rootfs, request.cgroups_path) = (at("bundle/rootfs"), format!("/{id}"));
        (request.network, request.ipc, request.uts) = (None, None, None);
        fs::write(at("bundle/config.json"), bundle::pause::json(&request).unwrap()).unwrap();
        let step = Watched {
            order: Box::new(Order {
                name: "c".to_owned(),
                launch: Launch::Create,
                bundle: at("bundle"),
                run: at("run"),
                runtime: crate::record::RuntimeFacts {
                    path: crate::sys::exec::find("runc").unwrap(),
                    state: at("state"),
                    cgroup_driver: crate::ids::CgroupDriver::Cgroupfs,
                    cgroups_path: format!("/{id}"),
                },
                tty: false,
                stdin: false,
                stdin_once: false,
                awaits_client: false,
                log: Some(LogOrder::new(at("bundle/container.log"))),
                restart: Default::default(),
                health: None,
                events: at("events.log"),
                afterwards: Vec::new(),
                environment: Default::default(),
                id: id.clone(),
            }),
        };
        step.look(&host).unwrap();
        step.undo(&(), &host).unwrap();
        for launch in [Launch::Create, Launch::Run] {
            let mut step = step.clone();
            step.order.launch = launch;
            crate::step::test_world::run(|out| step.script(Way::Apply, out));
            assert_eq!(step.look(&host).unwrap_err().kind(), Kind::AlreadyExists);
            let process = step.runc().open_process(id.as_str()).unwrap().unwrap();
            assert_eq!(step.runc().is_created(id.as_str()), launch == Launch::Create);
            fs::write(at("run/stdout"), "").unwrap();
            if launch == Launch::Create {
                step.undo(&(), &host).unwrap();
            } else {
                crate::step::test_world::run(|out| step.script(Way::Undo(&()), out));
            }
            assert!(proc::wait_readable(process.as_fd(), Duration::from_secs(5)).unwrap());
            step.undo(&(), &host).unwrap();
            assert_eq!(fs::read_dir(at("run")).unwrap().count(), 0);
            assert!(cgroup::directories(&format!("/{id}")).is_empty() && !step.runc().knows(id.as_str()).unwrap());
        }
    }
}
