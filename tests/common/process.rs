//! The processes of a world: those in its cgroups, its network or mount namespace, or a namespace pinned in it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::World;

/// A process that belongs to a world.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// The command line, words joined by spaces; `[comm]` when it is empty.
    pub cmdline: String,
    /// Where it is seen: `cgroup`, `net`, `mnt`.
    pub places: Vec<&'static str>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}, seen in {})", self.cmdline, self.pid, self.places.join(" "))
    }
}

/// The living processes of `world`, this one left out.
pub fn of(world: &World) -> Vec<Process> {
    let [net, mnt] = world.namespaces();
    let nets: BTreeSet<PathBuf> = pinned().into_iter().map(|(_, id)| id).chain([net]).collect();
    let own = i32::try_from(std::process::id()).unwrap();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<Process> = pids.filter(|&pid| pid != own).filter_map(|pid| seen(pid, &nets, &mnt, &world.cgroup_parent)).collect();
    found.sort_by(|a, b| a.cmdline.cmp(&b.cmdline));
    found
}

fn seen(pid: i32, nets: &BTreeSet<PathBuf>, mnt: &PathBuf, cgroup: &str) -> Option<Process> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let namespace = |kind: &str| fs::read_link(proc.join("ns").join(kind)).ok();
    let inside = |line: &str| line.contains(&format!("{cgroup}/")) || line.ends_with(cgroup);
    let mut places = Vec::new();
    if fs::read_to_string(proc.join("cgroup")).ok()?.lines().any(inside) {
        places.push("cgroup");
    }
    if namespace("net").is_some_and(|id| nets.contains(&id)) {
        places.push("net");
    }
    if namespace("mnt").is_some_and(|id| id == *mnt) {
        places.push("mnt");
    }
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    if places.is_empty() || matches!(state, 'Z' | 'X') {
        return None;
    }
    let words = fs::read(proc.join("cmdline")).ok()?;
    let cmdline = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
    let cmdline = if cmdline.is_empty() { format!("[{}]", fs::read_to_string(proc.join("comm")).ok()?.trim_end()) } else { cmdline };
    Some(Process { pid, cmdline, places })
}

/// The network namespaces pinned under `/run/netns`, by name, with what `/proc/*/ns/net` calls them.
pub fn pinned() -> Vec<(String, PathBuf)> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir("/run/netns") else { return Vec::new() };
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let is_nsfs = |path: &str| mounts.lines().any(|line| line.split(' ').nth(4) == Some(path) && line.contains(" - nsfs "));
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let inode = fs::metadata(entry.path()).ok()?.ino();
            is_nsfs(&format!("/run/netns/{name}")).then(|| (name, PathBuf::from(format!("net:[{inode}]"))))
        })
        .collect();
    found.sort();
    found
}

/// Kills what belongs to `world`, by pid, until nothing does.
pub fn kill_all(world: &World) {
    let round = || {
        let left = of(world);
        for process in &left {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        left
    };
    if let Err(left) = until(Duration::from_secs(5), round, Vec::is_empty) {
        eprintln!("cannot be killed: {left:?}");
    }
}

/// Asks again and again until the answer is `good` (`Ok`) or `limit` has passed (`Err` with the last answer).
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> T, good: impl Fn(&T) -> bool) -> Result<T, T> {
    let started = Instant::now();
    loop {
        let answer = ask();
        if good(&answer) {
            return Ok(answer);
        }
        if started.elapsed() > limit {
            return Err(answer);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Waits until `good`; panics with `what` after 20 s.
#[track_caller]
pub fn wait_for(what: &str, mut good: impl FnMut() -> bool) {
    let started = Instant::now();
    while !good() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}
