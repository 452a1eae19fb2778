//! What a file lets its container use.

use super::ContainerFile;
use crate::bundle::resources::{DEFAULT_PIDS, Resources, Swap};
use crate::bundle::spec::Limits;
use crate::bundle::unified;
use crate::cmd::container::options::{fitting, spared, swap};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::pod::cri::LinuxResources;
use crate::sys::{cgroup, proc};

const PATH: &str = "linux.resources";

/// The bounds that are asked for.
fn asked(said: &LinuxResources) -> Resources {
    let set = |number: i64| (number != 0).then_some(number);
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    Resources {
        memory: set(said.memory_limit_in_bytes),
        // Nothing said is no bound; the command line would bound both by twice the memory.
        memory_swap: set(said.memory_swap_limit_in_bytes)
            .or_else(|| set(said.memory_limit_in_bytes).filter(|_| swap() == Swap::Counted).map(|_| -1)),
        cpu_shares: set(said.cpu_shares).map(i64::unsigned_abs),
        cpu_quota: set(said.cpu_quota),
        cpu_period: set(said.cpu_period).map(i64::unsigned_abs),
        cpuset_cpus: text(&said.cpuset_cpus),
        cpuset_mems: text(&said.cpuset_mems),
        unified: said.unified.clone(),
        ..Resources::default()
    }
}

fn bounds(file: &ContainerFile) -> Resources {
    Resources { pids: Some(DEFAULT_PIDS), ..Resources::default() }.changed_by(&asked(&file.config.linux.resources))
}

/// The bounds as the record keeps them.
pub(super) fn recorded(file: &ContainerFile) -> Result<serde_json::Value> {
    serde_json::to_value(bounds(file)).map_err(|error| Fault::from_error(Kind::Internal, error))
}

/// What it may use on this host.
///
/// *Errors:* `FailedPrecondition` for a bound that this host cannot hold, by the path of its field.
pub fn limits(file: &ContainerFile) -> Result<Limits> {
    let said = &file.config.linux.resources;
    let lacking = |field: &str, why: &str| Fault::new(Kind::FailedPrecondition, format!("{PATH}.{field}: {why}")).hint("leave it out");
    if said.memory_swap_limit_in_bytes != 0 && swap() == Swap::Uncounted {
        return Err(lacking("memory_swap_limit_in_bytes", "this kernel does not count swap"));
    }
    if !said.unified.is_empty() && cgroup::layout() == cgroup::Layout::V1 {
        return Err(lacking("unified", "this host has control groups of version 1"));
    }
    unified::check(&said.unified).doing(|| format!("{PATH}.unified"))?;
    let mut hugepages = Vec::new();
    for (nth, page) in said.hugepage_limits.iter().enumerate() {
        if !cgroup::bounds_hugepages(&page.page_size) {
            return Err(lacking(&format!("hugepage_limits[{nth}]"), &format!("this host does not bound pages of {}", page.page_size)));
        }
        hugepages.push((page.page_size.clone(), page.limit));
    }
    let score = i32::try_from(said.oom_score_adj).ok().filter(|score| *score != 0);
    Ok(Limits {
        resources: fitting(bounds(file), &asked(said)).doing(|| PATH)?,
        swap: swap(),
        hugepages,
        oom_score_adj: score.map(|score| spared("linux.resources.oom_score_adj", score)).transpose()?,
        ..Limits::new(proc::nofile_limit()?)
    })
}
