//! Kernel parameters of links, and the boot id.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::file::{self, FileError};
use super::ns;
use crate::fault::{Fault, Result};

/// The boot id; empty where the kernel does not show one.
pub fn boot_id_or_empty() -> String {
    file::read_kernel(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default()
}

/// Makes a link of this network namespace deaf to router advertisements; a kernel without IPv6 has nothing to set.
pub fn ignore_router_advertisements(link: &str) -> std::result::Result<(), FileError> {
    match file::write_kernel(&parameter("ipv6", link, "accept_ra"), "0") {
        // Absent without IPv6, read-only where /proc/sys is not ours: IPv6 is then somebody else's choice.
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EROFS)) => Ok(()),
        result => result,
    }
}

/// Lets a link in the namespace at `netns` have IPv6 addresses, and keep them when it is set down.
///
/// *Source:* upstream's bridge plugin, `disable_ipv6=0` and `keep_addr_on_down=1` before an IPv6 address is added.
pub fn ready_for_ipv6(netns: &Path, link: &str) -> Result<()> {
    let write = || {
        file::write_kernel(&parameter("ipv6", link, "disable_ipv6"), "0")?;
        file::write_kernel(&parameter("ipv6", link, "keep_addr_on_down"), "1")
    };
    Ok(ns::inside(netns, write)??)
}

/// How many ticks of the packet scheduler a microsecond has.
///
/// *Source:* `/proc/net/psched`, as `tc` reads it: ticks and microseconds of a common time, then the resolution of the clock.
pub fn ticks_per_microsecond() -> Result<f64> {
    let text = file::read_kernel(Path::new("/proc/net/psched"))?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| u32::from_str_radix(word, 16).ok()).map(f64::from).collect();
    match numbers[..] {
        [ticks, microseconds, resolution, ..] if microseconds > 0.0 => Ok(ticks / microseconds * resolution / 1e6),
        _ => Err(Fault::internal("/proc/net/psched is not as expected")),
    }
}

fn parameter(family: &str, link: &str, name: &str) -> PathBuf {
    // The name of a link has no slash, and no `.` or `..`: see `IfName`.
    Path::new("/proc/sys/net").join(family).join("conf").join(link).join(name)
}
