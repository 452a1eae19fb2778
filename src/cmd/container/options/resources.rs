//! What a container may use.

use clap::Args;

use crate::bundle::resources::{DEFAULT_PIDS, Resources, Swap, Words};
use crate::bundle::spec::Limits;
use crate::bundle::ulimit::Ulimit;
use crate::bundle::unified;
use crate::cmd::output;
use crate::fault::{Fault, Kind, Result};
use crate::sys::rootless::is_rootless;
use crate::sys::{cgroup, proc};

/// The bounds of a control group, which can be changed while it runs.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Resources")]
pub struct GroupArgs {
    /// Memory, such as 64m
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Memory that it is pressed to when the host has little
    #[arg(long, value_name = "SIZE")]
    pub memory_reservation: Option<String>,
    /// Memory and swap together; -1 is no bound
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Processors, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Weight against other containers (1024)
    #[arg(short, long, value_name = "NUMBER")]
    pub cpu_shares: Option<u64>,
    /// Processor time in a period, in microseconds
    #[arg(long, value_name = "MICROS", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// The period, in microseconds
    #[arg(long, value_name = "MICROS")]
    pub cpu_period: Option<u64>,
    /// Processors to run on, such as 0-3,5
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads (2048); -1 is no bound
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Weight of block device requests, 10 to 1000
    #[arg(long, value_name = "NUMBER")]
    pub blkio_weight: Option<u16>,
    /// A file of its control group of version 2, such as memory.high=1g
    #[arg(long = "cgroup-conf", value_name = "KEY=VALUE")]
    pub unified: Vec<String>,
}

impl GroupArgs {
    /// What was said; all else is none.
    pub fn read(&self) -> Result<Resources> {
        Resources::parse(&Words {
            memory: self.memory.as_deref(),
            memory_reservation: self.memory_reservation.as_deref(),
            memory_swap: self.memory_swap.as_deref(),
            cpus: self.cpus.as_deref(),
            cpu_shares: self.cpu_shares,
            cpu_quota: self.cpu_quota,
            cpu_period: self.cpu_period,
            cpuset_cpus: self.cpuset_cpus.as_deref(),
            cpuset_mems: self.cpuset_mems.as_deref(),
            pids: self.pids_limit,
            blkio_weight: self.blkio_weight,
            unified: &self.unified,
        })
    }
}

/// The limits of a container.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Resources")]
pub struct ResourceArgs {
    /// The bounds of its control group.
    #[command(flatten)]
    pub group: GroupArgs,
    /// Limit of its processes, such as nofile=1024:4096
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub ulimits: Vec<String>,
    /// How soon it is killed when memory runs out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub oom_score_adj: Option<i32>,
}

impl ResourceArgs {
    /// What its control group is bounded by, defaults included.
    pub fn bounds(&self) -> Result<Resources> {
        let defaults = Resources { pids: Some(DEFAULT_PIDS), ..Resources::default() };
        let bounds = defaults.changed_by(&self.group.read()?);
        bounds.check_memory()?;
        Ok(bounds)
    }

    /// The bounds as the record keeps them.
    pub fn recorded(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self.bounds()?).map_err(|error| Fault::from_error(Kind::Internal, error))
    }

    /// What it may use on this host; what the host cannot give is left out with a warning.
    pub fn limits(&self) -> Result<Limits> {
        let mut limits =
            Limits { resources: fitting(self.bounds()?, &self.group.read()?)?, swap: swap(), ..Limits::new(proc::nofile_limit()?) };
        for text in &self.ulimits {
            let asked: Ulimit = text.parse()?;
            limits.ulimits.retain(|known| known.name != asked.name);
            limits.ulimits.push(lowered(asked));
        }
        limits.oom_score_adj = self.oom_score_adj.map(|asked| spared("--oom-score-adj", asked)).transpose()?;
        Ok(limits)
    }
}

/// Whether this kernel counts swap.
pub fn swap() -> Swap {
    if cgroup::counts_swap() { Swap::Counted } else { Swap::Uncounted }
}

/// The bounds that this host can hold, of which `asked` were asked for.
///
/// *Errors:* `FailedPrecondition` for one that was asked for and whose controller is missing. One that is only a default is left out, with a
/// warning that names the controller.
pub fn fitting(mut bounds: Resources, asked: &Resources) -> Result<Resources> {
    let there = cgroup::controllers();
    let is_missing = |name: &str| !there.iter().any(|known| known == name);
    unified_held(asked, is_missing)?;
    if let Some((option, controller, _)) = asked.held().into_iter().find(|(_, controller, set)| *set && is_missing(controller)) {
        let way = if is_rootless() {
            "run rkbox as root"
        } else {
            "boot with the controller or have it delegated: rkbox doctor tells which there are"
        };
        return Err(Fault::new(Kind::FailedPrecondition, format!("{option} cannot be held: {}", lacking(controller)))
            .hint(format!("leave {option} out, or {way}")));
    }
    if bounds.pids.is_some() && is_missing("pids") {
        output::note(&format!("warning: the number of processes is not bounded: {}", lacking("pids")));
        bounds.pids = None;
    }
    if bounds.memory_swap.is_some() && swap() == Swap::Uncounted {
        output::note("warning: --memory-swap has no effect: this kernel does not count swap");
    }
    if bounds.blkio_weight.is_some() && !cgroup::weighs_block_io() {
        output::note("warning: --blkio-weight has no effect: this kernel does not weigh block device requests");
        bounds.blkio_weight = None;
    }
    Ok(bounds)
}

/// Refuses files of version 2 that no group of this host has.
fn unified_held(asked: &Resources, is_missing: impl Fn(&str) -> bool) -> Result<()> {
    let refuse = |key: &str, why: String, way: &str| {
        Err(Fault::new(Kind::FailedPrecondition, format!("--cgroup-conf {key} cannot be held: {why}")).hint(way.to_owned()))
    };
    for key in asked.unified.keys() {
        let controller = unified::controller(key);
        if is_rootless() {
            return refuse(key, lacking(controller), "leave --cgroup-conf out, or run rkbox as root");
        }
        if cgroup::layout() == cgroup::Layout::V1 {
            let why = "this host has control groups of version 1, which have no such files".to_owned();
            return refuse(key, why, "give --memory, --cpus and the others, or boot with systemd.unified_cgroup_hierarchy=1");
        }
        if controller != "cgroup" && is_missing(controller) {
            return refuse(key, lacking(controller), "leave it out; rkbox doctor tells which controllers there are");
        }
    }
    Ok(())
}

fn lacking(controller: &str) -> String {
    match is_rootless() {
        true => "the containers of an ordinary user have no control groups".to_owned(),
        false => format!("this host lacks the cgroup controller {controller}"),
    }
}

fn lowered(asked: Ulimit) -> Ulimit {
    let Some(hard) = proc::find_hard_limit(asked.name).filter(|_| !proc::may_raise_limits()) else { return asked };
    let (fitting, changed) = asked.lowered_to(hard);
    if changed {
        output::note(&format!("warning: --ulimit {} is lowered to {hard}: rkbox may not raise it without CAP_SYS_RESOURCE", asked.name));
    }
    fitting
}

/// The score that this process may give, with a warning under the `name` that it was asked for by.
pub fn spared(name: &str, asked: i32) -> Result<i32> {
    if !(-1000..=1000).contains(&asked) {
        return Err(Fault::invalid(format!("{name} {asked} is not between -1000 and 1000")).hint("1000 is killed first, -1000 never"));
    }
    let own = proc::oom_score_adj();
    if asked < own && !proc::may_raise_limits() {
        output::note(&format!("warning: {name} is {own} and not {asked}: rkbox may not lower it without CAP_SYS_RESOURCE"));
        return Ok(own);
    }
    Ok(asked)
}
