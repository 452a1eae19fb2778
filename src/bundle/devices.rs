//! `--device` and `--device-cgroup-rule`: device nodes of the host in a container, and what its device group allows.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};

use super::process::clean_absolute;
use super::spec::internal;
use crate::fault::{Fault, Result};

/// One `--device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceWish {
    /// On the host; a directory stands for every device below it.
    pub source: PathBuf,
    /// In the container.
    pub destination: String,
    /// Of `rwm`.
    pub access: String,
}

/// A device node of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Block device, or character device.
    pub block: bool,
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Reads one `--device SOURCE[:DESTINATION[:ACCESS]]`; the second part is the access when it is made of `r`, `w` and `m`.
///
/// *Errors:* `InvalidArgument`, also for a name of the Container Device Interface (`vendor.com/class=name`), which needs its registry.
pub fn parse(text: &str) -> Result<DeviceWish> {
    let bad = |why: &str| Fault::invalid(format!("device {text:?} {why}")).hint("the form is /dev/NAME[:/dev/NAME][:rwm]");
    if text.contains('=') && !text.starts_with('/') {
        return Err(bad("is a name of the Container Device Interface, which rkbox does not read"));
    }
    if text.chars().any(char::is_control) {
        return Err(bad("has a control character"));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, second] if is_access(second) => (source, source, second),
        [source, destination] => (source, destination, "rwm"),
        [source, destination, access] => (source, destination, access),
        _ => return Err(bad("does not have one, two or three parts")),
    };
    if !source.starts_with('/') || !destination.starts_with('/') || destination.split('/').any(|part| part == "..") {
        return Err(bad("is not an absolute path"));
    }
    if !is_access(access) {
        return Err(bad("has an access that is not made of r, w and m"));
    }
    Ok(DeviceWish { source: PathBuf::from(source), destination: clean_absolute(destination), access: access.to_owned() })
}

fn is_access(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| matches!(c, 'r' | 'w' | 'm'))
}

/// Reads one `--device-cgroup-rule "TYPE MAJOR:MINOR ACCESS"`; `*` is every number.
pub fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let bad = || {
        Fault::invalid(format!("device rule {text:?} is not valid"))
            .hint("the form is \"c 1:3 rwm\"; the type is a, b or c, a number may be *")
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = words[..] else { return Err(bad()) };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(bad()),
    };
    let number = |text: &str| if text == "*" { Ok(None) } else { text.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| bad()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    if !is_access(access) {
        return Err(bad());
    }
    rule(kind, number(major)?, number(minor)?, access)
}

fn rule(kind: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str) -> Result<LinuxDeviceCgroup> {
    let builder = LinuxDeviceCgroupBuilder::default().allow(true).typ(kind).access(access);
    let builder = if let Some(major) = major { builder.major(major) } else { builder };
    let builder = if let Some(minor) = minor { builder.minor(minor) } else { builder };
    builder.build().map_err(internal)
}

/// Allows every device (`--privileged`).
pub fn every() -> Result<LinuxDeviceCgroup> {
    LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build().map_err(internal)
}

/// The node in the container and the rule of its device group.
pub fn linux(destination: &str, access: &str, node: &Node) -> Result<(LinuxDevice, LinuxDeviceCgroup)> {
    let kind = if node.block { LinuxDeviceType::B } else { LinuxDeviceType::C };
    let (major, minor) = (node.major.cast_signed(), node.minor.cast_signed());
    let device = LinuxDeviceBuilder::default().path(destination).typ(kind).major(major).minor(minor);
    let device = device.file_mode(node.mode & 0o777).uid(node.uid).gid(node.gid).build().map_err(internal)?;
    Ok((device, rule(kind, Some(major), Some(minor), access)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_paths_with_an_access() {
        let wish = parse("/dev/fuse").unwrap();
        assert_eq!((wish.destination.as_str(), wish.access.as_str()), ("/dev/fuse", "rwm"));
        assert_eq!(parse("/dev/fuse:r").unwrap().access, "r");
        assert_eq!(parse("/dev/sda:/dev//disk/./a:rw").unwrap().destination, "/dev/disk/a");
        for bad in ["", "fuse", "/dev/a:/dev/b:x", "/dev/a:b", "/dev/a:/../b", "a:b:c:d", "nvidia.com/gpu=0", "/dev/a\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rules_are_those_of_the_device_group() {
        let rule = parse_rule("c 10:* rw").unwrap();
        assert_eq!((rule.major(), rule.minor(), rule.access().as_deref()), (Some(10), None, Some("rw")));
        for bad in ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c -1:3 r"] {
            assert!(parse_rule(bad).is_err(), "{bad:?}");
        }
    }
}
