//! Kernel paths that a container must not read, or not write: the union of Docker's, podman's and CRI-O's lists.

use super::security_opt::ALL;

/// Hidden from every container. The runtime skips those that the host does not have.
pub const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Read-only in every container.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The masked paths, with the thermal counters of the given processors (a side channel; podman and Docker mask them too).
pub fn masked(throttled_cpus: &[u32]) -> Vec<String> {
    let thermal = throttled_cpus.iter().map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    MASKED.iter().map(|path| (*path).to_owned()).chain(thermal).collect()
}

/// The read-only paths.
pub fn read_only() -> Vec<String> {
    READ_ONLY.iter().map(|path| (*path).to_owned()).collect()
}

/// Leaves out what `unmask` names: a path, all below one (`/proc/*`), or everything (`ALL`).
pub fn without(paths: Vec<String>, unmask: &[String]) -> Vec<String> {
    let opened = |path: &String| {
        unmask.iter().any(|word| match word.strip_suffix("/*") {
            Some(dir) => path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')),
            None => word == ALL || word == path,
        })
    };
    paths.into_iter().filter(|path| !opened(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_a_directory_or_everything_is_unmasked() {
        let left = |words: &[&str]| without(masked(&[0]), &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(left(&[]).len(), MASKED.len() + 1);
        assert!(!left(&["/proc/kcore"]).contains(&"/proc/kcore".to_owned()));
        assert!(left(&["/proc/*"]).iter().all(|path| path.starts_with("/sys/")));
        assert_eq!(left(&["/pro/*", "/proc"]).len(), MASKED.len() + 1);
        assert!(left(&["ALL"]).is_empty());
    }
}
