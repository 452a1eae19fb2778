//! Kernel paths that a container must not read, or not write: the union of Docker's, podman's and CRI-O's lists.

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
