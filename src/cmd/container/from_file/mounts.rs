//! The mounts of a file.

use std::path::PathBuf;

use super::ContainerFile;
use crate::bundle::mounts::{self, Access, Ask, Options, Reach, Relabel, Source};
use crate::fault::{Context as _, Fault, Result};
use crate::pod::cri::{Mount, Propagation};

/// What is asked to be mounted.
///
/// *Errors:* `InvalidArgument` for a place that cannot be mounted on, and for two of the same place.
pub fn asks(file: &ContainerFile) -> Result<Vec<Ask>> {
    let mut asks: Vec<Ask> = Vec::new();
    for (nth, mount) in file.config.mounts.iter().enumerate() {
        let ask = ask(mount).doing(|| format!("mounts[{nth}].container_path"))?;
        if asks.iter().any(|other| other.destination == ask.destination) {
            return Err(Fault::invalid(format!("mounts[{nth}].container_path: {} is mounted twice", ask.destination)));
        }
        asks.push(ask);
    }
    Ok(asks)
}

fn ask(mount: &Mount) -> Result<Ask> {
    let destination = mounts::check_destination(&mount.container_path)?;
    let mut options = Options {
        relabel: mount.selinux_relabel.then_some(Relabel::Shared),
        // A volume of a pod is what it is on the host: CRI knows no nosuid and no nodev.
        suid: Some(true),
        dev: Some(true),
        ..Options::default()
    };
    if let Some(image) = &mount.image {
        options.relabel = None;
        options.access = Some(Access::ReadOnly);
        options.subpath = (!mount.image_sub_path.is_empty()).then(|| mounts::subpath(&mount.image_sub_path)).transpose()?;
        return Ok(Ask { source: Source::Image(image.image.clone()), destination, options });
    }
    options.access = Some(match (mount.readonly, mount.recursive_read_only) {
        (_, true) => Access::ReadOnlyBelow,
        (true, false) => Access::ReadOnlyTop,
        (false, false) => Access::ReadWrite,
    });
    options.propagation = Some(match mount.propagation {
        Propagation::Private => (mounts::Propagation::Private, Reach::Below),
        Propagation::HostToContainer => (mounts::Propagation::Slave, Reach::Below),
        Propagation::Bidirectional => (mounts::Propagation::Shared, Reach::Below),
    });
    Ok(Ask { source: Source::Host { path: PathBuf::from(&mount.host_path), create: true }, destination, options })
}
