//! Volumes in containers: the steps that make, fill and note them, and what `rm --volumes` and `gc` do.

use super::{create, dir, names, users_dir};
use crate::cmd::records;
use crate::fault::Result;
use crate::ids::Id;
use crate::plan::journal;
use crate::record::{ContainerRecord, MountFrom, Pairs, Shift};
use crate::step::volume_use::Release;
use crate::step::{CopyUp, Step, VolumeUse};
use crate::sys::file::{self, Durable};
use crate::sys::{Host, tree_partial};

/// Adds the steps of the volumes of `record`: made when missing, noted as used, and filled when new.
///
/// The text of a new volume's record has its moment of birth: an undo that was planned again from the container's record takes no volume back.
pub fn use_steps(host: &Host, record: &ContainerRecord, all: &mut Vec<Step>) {
    let mut noted: Vec<&str> = Vec::new();
    for mount in &record.mounts {
        let MountFrom::Volume { name, anonymous, copy, .. } = &mount.from else { continue };
        let volume = dir(host).join(name);
        if !noted.contains(&name.as_str()) {
            noted.push(name);
            let made = create::record(name, Pairs::new(), *anonymous);
            all.extend(create::steps(host, &made, !record.auto_remove).unwrap_or_default());
            let release = if *anonymous && record.auto_remove { Release::Remove } else { Release::Keep };
            all.push(VolumeUse { volume: volume.clone(), container: record.id.clone(), release }.into());
        }
        if *copy {
            let inside = mount.destination.clone();
            let ids = record.userns.as_ref().filter(|userns| userns.shift == Shift::Mounts).map(|userns| userns.map.clone());
            all.push(CopyUp { rootfs: record.bundle.join("rootfs"), inside, volume, container: record.id.clone(), ids }.into());
        }
    }
}

/// Notes that the anonymous volumes of container `id` go when it goes; `gc` forgets that again when its removal never began.
pub fn ask_removal(host: &Host, id: &Id) -> Result<()> {
    let Ok(record) = records::container(host, id) else { return Ok(()) };
    for mount in &record.mounts {
        let MountFrom::Volume { name, anonymous: true, .. } = &mount.from else { continue };
        let note = users_dir(&dir(host).join(name)).join(id.as_str());
        if file::find(&note, 64)?.is_some_and(|said| said == Release::Keep.word().as_bytes()) {
            file::write_atomic(&note, 0o600, Release::Asked.word().as_bytes(), Durable::No)?;
        }
    }
    Ok(())
}

/// Takes back what dead commands left: half-made volumes, notes of containers that are gone, requests whose removal never began.
pub fn reclaim(host: &Host) -> Result<Vec<String>> {
    let removed = tree_partial::remove_dead_in(&dir(host))?;
    let mut gone: Vec<String> = removed.iter().map(|path| format!("what was left of volume {}", path.display())).collect();
    for name in names(host)? {
        let users = users_dir(&dir(host).join(&name));
        for note in file::list(&users)? {
            let path = users.join(&note);
            let Ok(id) = note.parse::<Id>() else { continue };
            let living = file::exists(&host.container_dir(id.as_str()))? || file::exists(&journal::path(host, id.as_str()))?;
            if !living {
                gone.push(format!("the use of volume {name} by container {}, which is gone", id.short()));
                file::remove_file(&path)?;
            } else if file::find(&path, 64)?.is_some_and(|said| said == Release::Asked.word().as_bytes()) && !is_being_removed(host, &id)? {
                file::write_atomic(&path, 0o600, Release::Keep.word().as_bytes(), Durable::No)?;
            }
        }
    }
    if names(host)?.is_empty() && file::list(&dir(host))?.is_empty() {
        file::remove_dir_if_empty(&dir(host))?;
    }
    Ok(gone)
}

/// Whether a removal of the container is under way (its command lives and holds the journal), or was begun.
fn is_being_removed(host: &Host, id: &Id) -> Result<bool> {
    let path = journal::path(host, id.as_str());
    Ok(match journal::Journal::open_free(&path)? {
        Some(open) => !open.is_blank() && open.status()?.removing.is_some(),
        None => file::exists(&path)?,
    })
}
