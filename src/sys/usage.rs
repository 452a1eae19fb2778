//! What a container uses now, from its control groups, its processes and its network namespace.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{cgroup, file};
use crate::bundle::usage::{Texts, Usage};

/// Reads what the group `cgroups_path` has used, and the network of process `pid`; `None` when there is no such group.
pub fn find(cgroups_path: &str, pid: i32) -> Option<Usage> {
    let dirs = cgroup::directories(cgroups_path);
    if dirs.is_empty() {
        return None;
    }
    let text = |names: &[&str]| -> String {
        let paths = names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        paths.into_iter().find_map(|path| file::read_kernel(&path).ok()).unwrap_or_default()
    };
    Some(Usage::read(&Texts {
        cpu_stat: text(&["cpu.stat"]),
        cpuacct_usage: text(&["cpuacct.usage"]),
        memory: text(&["memory.current", "memory.usage_in_bytes"]),
        memory_stat: text(&["memory.stat"]),
        memory_limit: text(&["memory.max", "memory.limit_in_bytes"]),
        pids: text(&["pids.current"]),
        pids_limit: text(&["pids.max"]),
        io_stat: text(&["io.stat"]),
        blkio: text(&["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"]),
        net_dev: file::read_kernel(&PathBuf::from(format!("/proc/{pid}/net/dev"))).unwrap_or_default(),
    }))
}

/// The processes and threads of a control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// How many there are.
    pub used: u64,
    /// How many there may be.
    pub limit: Option<u64>,
    /// How many were refused since the group was made.
    pub refused: u64,
}

impl Tasks {
    /// Reads those of the group `cgroups_path`; nothing of a group that is not there.
    pub fn of(cgroups_path: &str) -> Self {
        let dirs = cgroup::directories(cgroups_path);
        let text = |name: &str| dirs.iter().find_map(|dir| file::read_kernel(&dir.join(name)).ok()).unwrap_or_default();
        let refused = text("pids.events").lines().find_map(|line| line.strip_prefix("max ")?.trim().parse().ok());
        Tasks {
            used: text("pids.current").trim().parse().unwrap_or(0),
            limit: text("pids.max").trim().parse().ok(),
            refused: refused.unwrap_or(0),
        }
    }

    /// How many more there may be; `None` without a limit.
    pub fn room(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.used))
    }
}

/// The memory of the host, in bytes.
pub fn host_memory() -> u64 {
    let text = file::read_kernel(Path::new("/proc/meminfo")).unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// One process of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessRow {
    /// Effective uid, as the host counts.
    pub uid: u32,
    /// On the host.
    pub pid: i32,
    /// In the container.
    pub pid_inside: i32,
    /// Its parent, on the host.
    pub ppid: i32,
    /// `R`, `S`, `D`, `Z`, `T`…
    pub state: String,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
    /// Processor time, in milliseconds.
    pub cpu_millis: u64,
    /// Its arguments; its name in brackets when it has none.
    pub command: String,
}

/// The processes of the group `cgroups_path`, in the order of their pids; those that end meanwhile are left out.
pub fn processes(cgroups_path: &str) -> Vec<ProcessRow> {
    cgroup::processes(&cgroup::directories(cgroups_path)).into_iter().filter_map(process).collect()
}

fn process(pid: i32) -> Option<ProcessRow> {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim).unwrap_or_default();
    let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |nth: usize| fields.get(nth).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    let arguments = read("cmdline").unwrap_or_default();
    let words: Vec<String> =
        arguments.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    Some(ProcessRow {
        uid: field("Uid").split_whitespace().nth(1)?.parse().ok()?,
        pid,
        pid_inside: field("NSpid").split_whitespace().last().and_then(|inside| inside.parse().ok()).unwrap_or(pid),
        ppid: field("PPid").parse().ok()?,
        state: (*fields.first()?).to_owned(),
        memory_bytes: field("VmRSS").split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024,
        // The kernel tells 100 ticks a second to programs, whatever it counts itself.
        cpu_millis: (ticks(11) + ticks(12)) * 10,
        command: if words.is_empty() { format!("[{}]", field("Name")) } else { words.join(" ") },
    })
}
