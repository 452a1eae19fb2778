//! Devices of the host in a container (`--device`).

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};

use super::process::clean_absolute;
use super::spec::internal;
use crate::fault::{Fault, Result};

/// One `--device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAsk {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub destination: String,
    /// `r`, `w`, `m`: read, write, make more of its kind.
    pub access: String,
}

/// A device node, as the host has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    /// In the container.
    pub path: PathBuf,
    /// Whether it is a block device; else a character device.
    pub block: bool,
    /// Major and minor number.
    pub number: (i64, i64),
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// What may be done: `r`, `w`, `m`.
    pub access: String,
}

/// Reads one `--device SOURCE[:DESTINATION][:rwm]`. *Source:* docker run, podman run.
pub fn parse(text: &str) -> Result<DeviceAsk> {
    let bad = |why: &str| Fault::invalid(format!("device {text:?} {why}")).hint("the form is /dev/sda[:/dev/xvda][:rwm]");
    let is_access = |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|byte| b"rwm".contains(&byte)) && distinct(part);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if is_access(access) => (source, source, access),
        [source, destination] => (source, destination, "rwm"),
        [source, destination, access] if is_access(access) => (source, destination, access),
        [_, _, _] => return Err(bad("has an access that is not of r, w and m")),
        _ => return Err(bad("has more than three parts")),
    };
    let below_dev =
        |path: &str| path.starts_with("/dev/") && path.len() > 5 && !path.split('/').any(|part| part == "..") && !path.contains('\0');
    if !below_dev(source) {
        return Err(bad("is not a path below /dev of the host"));
    }
    if !below_dev(destination) {
        return Err(bad("has a place that is not below /dev of the container"));
    }
    Ok(DeviceAsk { source: PathBuf::from(source), destination: clean_absolute(destination), access: access.to_owned() })
}

fn distinct(part: &str) -> bool {
    part.bytes().enumerate().all(|(nth, byte)| !part.as_bytes()[..nth].contains(&byte))
}

impl Device {
    fn kind(&self) -> LinuxDeviceType {
        if self.block { LinuxDeviceType::B } else { LinuxDeviceType::C }
    }

    /// The node.
    pub fn node(&self) -> Result<LinuxDevice> {
        let (major, minor) = self.number;
        let builder = LinuxDeviceBuilder::default().path(self.path.clone()).typ(self.kind()).major(major).minor(minor);
        builder.file_mode(self.mode).uid(self.owner.0).gid(self.owner.1).build().map_err(internal)
    }

    /// The right to use it.
    pub fn rule(&self) -> Result<LinuxDeviceCgroup> {
        let (major, minor) = self.number;
        let builder = LinuxDeviceCgroupBuilder::default().allow(true).typ(self.kind()).major(major).minor(minor);
        builder.access(self.access.clone()).build().map_err(internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_docker_reads_them() {
        let read = |text: &str| parse(text).map(|ask| format!("{} {} {}", ask.source.display(), ask.destination, ask.access));
        assert_eq!(read("/dev/fuse").unwrap(), "/dev/fuse /dev/fuse rwm");
        assert_eq!(read("/dev/fuse:rw").unwrap(), "/dev/fuse /dev/fuse rw");
        assert_eq!(read("/dev/sda:/dev/x//y:r").unwrap(), "/dev/sda /dev/x/y r");
        for bad in [
            "",
            "fuse",
            "/dev",
            "/dev/",
            "/dev/../etc/passwd",
            "/etc/x",
            "/dev/a:/etc/b",
            "/dev/a:/dev/b:x",
            "/dev/a:/dev/b:rr",
            "/dev/a:b:c:d",
            "/dev/a:/dev/../b",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
