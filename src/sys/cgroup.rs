//! Control groups of containers, below both versions' hierarchies: who is in them, and ending those.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file;
use super::proc;
use super::rootless::is_rootless;
use crate::bundle::cgroup;
use crate::fault::{Fault, Kind, Result};

/// Where the hierarchies are mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// Which version a host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One directory per controller (also "hybrid").
    V1,
    /// One tree.
    V2,
}

/// Tells which version the host runs.
pub fn layout() -> Layout {
    if Path::new(ROOT).join("cgroup.controllers").exists() { Layout::V2 } else { Layout::V1 }
}

/// The mounted hierarchies: `/sys/fs/cgroup` itself on version 2, one below it per controller on version 1.
///
/// A directory of the unified hierarchy is not one, nor is a link to another (`cpu` → `cpu,cpuacct`).
pub fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let is_hierarchy = |dir: &Path| dir.join("cgroup.procs").exists() && !dir.is_symlink();
    if is_hierarchy(root) {
        return vec![root.to_path_buf()];
    }
    file::list(root).unwrap_or_default().iter().map(|name| root.join(name)).filter(|dir| is_hierarchy(dir)).collect()
}

/// The directories of the control group `cgroups_path` (as in `config.json`) that are there, one per hierarchy.
///
/// *Errors:* none; a path that is not ours to read as one gives an empty list.
pub fn directories(cgroups_path: &str) -> Vec<PathBuf> {
    let Some(relative) = cgroup::relative(cgroups_path) else { return Vec::new() };
    let root = Path::new(ROOT);
    let mut roots = vec![root.to_path_buf()];
    roots.extend(file::list(root).unwrap_or_default().iter().map(|name| root.join(name)));
    roots.iter().map(|hierarchy| hierarchy.join(&relative)).filter(|dir| dir.join("cgroup.procs").exists()).collect()
}

/// The controllers that bound containers here, by the names of version 2 (`io` is version 1's `blkio`).
///
/// On version 1 a controller counts when its hierarchy is mounted where the runtime looks for it.
pub fn controllers() -> Vec<String> {
    let root = Path::new(ROOT);
    // An ordinary user's containers have no group of their own.
    if is_rootless() {
        return Vec::new();
    }
    if layout() == Layout::V2 {
        let text = file::read_kernel(&root.join("cgroup.controllers")).unwrap_or_default();
        return text.split_whitespace().map(str::to_owned).collect();
    }
    let text = file::read_kernel(Path::new("/proc/cgroups")).unwrap_or_default();
    let names = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_whitespace().next());
    let mounted = names.filter(|name| root.join(name).join("cgroup.procs").exists());
    mounted.map(|name| if name == "blkio" { "io" } else { name }.to_owned()).collect()
}

/// The controllers of the outermost group around this process that this user may write to; `None` where there is none, or on version 1.
pub fn delegated_controllers() -> Option<Vec<String>> {
    let own = file::read_kernel(Path::new("/proc/self/cgroup")).ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/').to_owned();
    let may_write =
        |dir: &&Path| nix::unistd::access(&Path::new(ROOT).join(dir).join("cgroup.procs"), nix::unistd::AccessFlags::W_OK).is_ok();
    let group = Path::new(&own).ancestors().filter(may_write).last()?.to_path_buf();
    let text = file::read_kernel(&Path::new(ROOT).join(group).join("cgroup.controllers")).ok()?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}

/// Whether the kernel counts swap for control groups.
pub fn counts_swap() -> bool {
    match layout() {
        Layout::V1 => Path::new(ROOT).join("memory/memory.memsw.limit_in_bytes").exists(),
        // The root group has no bounds: its children tell.
        Layout::V2 => {
            let children = file::list(Path::new(ROOT)).unwrap_or_default();
            let mut groups =
                children.iter().map(|name| Path::new(ROOT).join(name)).filter(|group| group.join("memory.max").exists()).peekable();
            groups.peek().is_none() || groups.any(|group| group.join("memory.swap.max").exists())
        }
    }
}

/// Whether the kernel bounds huge pages of a size (`2MB`) for control groups.
pub fn bounds_hugepages(size: &str) -> bool {
    if !controllers().iter().any(|name| name == "hugetlb") {
        return false;
    }
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &size[digits.len()..] {
        "KB" => 0,
        "MB" => 10,
        "GB" => 20,
        _ => return false,
    };
    let kilobytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    kilobytes.is_some_and(|size| Path::new(&format!("/sys/kernel/mm/hugepages/hugepages-{size}kB")).exists())
}

/// Whether the kernel weighs the block device requests of control groups.
pub fn weighs_block_io() -> bool {
    match layout() {
        Layout::V1 => ["blkio.weight", "blkio.bfq.weight"].iter().any(|name| Path::new(ROOT).join("blkio").join(name).exists()),
        Layout::V2 => {
            file::read_kernel(&Path::new(ROOT).join("cgroup.controllers")).is_ok_and(|all| all.split(' ').any(|name| name == "io"))
        }
    }
}

/// Lists the processes in the groups and in the groups below them, each once.
pub fn processes(directories: &[PathBuf]) -> Vec<i32> {
    let mut pids: Vec<i32> = Vec::new();
    let mut waiting = directories.to_vec();
    while let Some(dir) = waiting.pop() {
        let text = file::read_kernel(&dir.join("cgroup.procs")).unwrap_or_default();
        // A process of another pid namespace shows as 0: it is not ours to name.
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1));
        let names = file::list(&dir).unwrap_or_default();
        waiting.extend(names.iter().map(|name| dir.join(name)).filter(|path| path.is_dir()));
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Kills every process in the group until it is empty.
///
/// A pid is opened first and looked up in the group again, so that a signal never reaches a process that got the number later.
/// *Errors:* `DeadlineExceeded` when some are left after `limit`.
pub fn kill_all(cgroups_path: &str, limit: Duration) -> Result<()> {
    kill_in(&directories(cgroups_path), limit)
}

/// As [`kill_all`], in groups given by their directories.
pub fn kill_in(dirs: &[PathBuf], limit: Duration) -> Result<()> {
    let started = Instant::now();
    loop {
        let pids = processes(dirs);
        if pids.is_empty() {
            return Ok(());
        }
        let opened: Vec<_> = pids.iter().filter_map(|pid| proc::open_pidfd(*pid).ok().map(|pidfd| (*pid, pidfd))).collect();
        let still = processes(dirs);
        for (pid, pidfd) in &opened {
            if still.contains(pid) {
                proc::send_signal(pidfd.as_fd(), libc::SIGKILL)?;
            }
        }
        for (_, pidfd) in &opened {
            proc::wait_readable(pidfd.as_fd(), limit.saturating_sub(started.elapsed()).min(Duration::from_millis(500)))?;
        }
        if started.elapsed() >= limit {
            return Err(Fault::new(Kind::DeadlineExceeded, format!("processes {pids:?} of {} survive SIGKILL", dirs[0].display())));
        }
    }
}

/// How often the kernel killed a process of the group for lack of memory; `None` when it does not say.
///
/// *Source:* `memory.events` (`oom_kill`, version 2), `memory.oom_control` (`oom_kill`, version 1, Linux 4.13).
pub fn oom_kills(cgroups_path: &str) -> Option<u64> {
    directories(cgroups_path).iter().find_map(|dir| {
        let text = ["memory.events", "memory.oom_control"].iter().find_map(|name| file::read_kernel(&dir.join(name)).ok())?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    })
}

/// Whether the processes of the group are frozen.
pub fn is_frozen(cgroups_path: &str) -> bool {
    directories(cgroups_path).iter().any(|dir| {
        let says = |name: &str, frozen: &str| file::read_kernel(&dir.join(name)).is_ok_and(|text| text == frozen);
        says("cgroup.freeze", "1") || says("freezer.state", "FROZEN")
    })
}

/// Removes the empty directories of the group, deepest first; what is busy or gone is left.
pub fn remove(cgroups_path: &str) {
    for dir in directories(cgroups_path) {
        remove_below(&dir, 8);
    }
}

fn remove_below(dir: &Path, depth: usize) {
    if depth > 0 {
        for name in file::list(dir).unwrap_or_default() {
            let child = dir.join(name);
            if child.is_dir() {
                remove_below(&child, depth - 1);
            }
        }
    }
    let _ = file::remove_dir_if_empty(dir);
}
