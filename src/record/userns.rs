//! The user namespace of a box, in its record.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::idmap::IdMap;

/// How the files of an image get the owners that the namespace knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shift {
    /// They have them: inside and outside are alike.
    #[default]
    None,
    /// The layers are mounted with other ids (Linux 5.12, and 5.19 below overlayfs); the disk is as it was.
    Mounts,
    /// The container has a copy of them, given to the ids outside.
    Copy,
}

/// A user namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserNs {
    /// As asked for.
    pub mode: String,
    /// Its pin; of a container in a sandbox that of the sandbox.
    pub pin: PathBuf,
    /// Its ids.
    pub map: IdMap,
    /// The claim of the range, of `auto`; none for a container in a sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<PathBuf>,
    /// A directory that its root may enter, for the root file system.
    pub root: PathBuf,
    /// How files are given to it.
    pub shift: Shift,
}

impl UserNs {
    /// The root file system as the runtime is told: it looks for it as the root of the namespace.
    pub fn rootfs(&self) -> PathBuf {
        self.root.join("rootfs")
    }

    /// The namespace whose ids are shown by mounts; `None` when they are not.
    pub fn shown(&self) -> Option<PathBuf> {
        (self.shift == Shift::Mounts).then(|| self.pin.clone())
    }
}
