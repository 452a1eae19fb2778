//! The files of a container that a reboot has ended: mounted for one command, seen by nobody else.

use std::path::Path;
use std::time::Duration;

use crate::cmd::container::{mount_steps, root_steps};
use crate::cmd::renewal;
use crate::fault::{Context as _, Fault, Result};
use crate::ids::Id;
use crate::record::{ContainerRecord, Shift};
use crate::step::Step;
use crate::step::mount::MountKind;
use crate::sys::dir_lock::{self, Beside, DirLock};
use crate::sys::ns::NsKind;
use crate::sys::ns::holder::Holder;
use crate::sys::{Host, file, mount, privilege};

/// How long a start, or another copy, may take that is not done yet.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is mounted, and held: while this lives nobody starts the container, whose writable layer two mounts cannot share.
#[derive(Debug)]
pub struct Former {
    id: Id,
    /// None beside another one of the same container, which holds it.
    _alone: Option<DirLock>,
}

/// Mounts the root file system of a container, or its `nth` mount, where it is not mounted: in mounts of this process's own, which go with it.
///
/// Answers `None` when there is nothing to do. `beside` is what this command has mounted already. *Errors:* `DeadlineExceeded` while somebody else does the same for too long.
pub fn mount_for_now(host: &Host, record: &ContainerRecord, nth: Option<usize>, beside: Option<&Former>) -> Result<Option<Former>> {
    let place = nth.map_or_else(|| record.bundle.join("rootfs"), |nth| record.mounts[nth].source.clone());
    let is_there = || Ok::<bool, Fault>(!place.starts_with(&record.bundle) || mount::is_mountpoint(&place)?);
    if is_there()? {
        return Ok(None);
    }
    privilege::require()?;
    let gone = || Fault::not_found(format!("container {} was removed just now", record.name));
    let waiting = || format!("waiting for the files of container {}", record.name);
    let alone = match beside {
        Some(beside) if beside.id == record.id => None,
        _ => Some(dir_lock::acquire(&record.bundle, Beside::Nobody, PATIENCE).doing(waiting)?.ok_or_else(gone)?),
    };
    // A start that was waited for has mounted it.
    if is_there()? {
        return Ok(None);
    }
    let doing = || format!("mounting the files of container {}, which a reboot has ended", record.name);
    mount_all(host, record, nth).doing(doing)?;
    Ok(Some(Former { id: record.id.clone(), _alone: alone }))
}

fn mount_all(host: &Host, record: &ContainerRecord, nth: Option<usize>) -> Result<()> {
    mount::leave(&record.bundle)?;
    let ids = match &record.userns {
        // Its own user namespace went with the reboot.
        Some(userns) if userns.shift == Shift::Mounts => Some(Holder::of_ids(&userns.map).doing(|| "making a user namespace")?),
        _ => None,
    };
    let steps = match nth {
        None => root_steps(host, record),
        Some(nth) => {
            // What the last boot left there is not looked at.
            let place = record.bundle.join(renewal::MOUNTS);
            file::ensure_dir(&place, 0o700)?;
            mount::tmpfs(&place, 1 << 20, 0o700)?;
            mount_steps(host, record, nth)
        }
    };
    for mut step in steps {
        if let Some(ids) = &ids {
            show_ids(&mut step, &ids.namespace(NsKind::User));
        }
        let before = step.look(host)?;
        step.apply(&before, host).doing(|| step.to_string())?;
    }
    Ok(())
}

fn show_ids(step: &mut Step, userns: &Path) {
    match step {
        Step::Mount(step) => {
            if let MountKind::Overlay { ids: Some(ids), .. } = &mut step.what {
                *ids = userns.to_path_buf();
            }
        }
        Step::Pin(step) => {
            if let Some(ids) = &mut step.ids {
                *ids = userns.to_path_buf();
            }
        }
        _ => {}
    }
}
