//! What is mounted in a container, in its record.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One mount of a container, as asked for and as it was resolved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Where it comes from.
    pub from: MountFrom,
    /// What the runtime is given: a path of the host, `tmpfs` for one.
    pub source: PathBuf,
    /// In the container.
    pub destination: String,
    /// Option words of the runtime.
    pub options: Vec<String>,
    /// Whom the content is given to (`U`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
}

/// Where a mount comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum MountFrom {
    /// A path of the host.
    Bind {
        /// As asked for.
        path: PathBuf,
        /// Without links.
        real: PathBuf,
        /// Whether it is made when it is missing.
        create: bool,
    },
    /// A volume.
    Volume {
        /// Its name.
        name: String,
        /// Whether it was made for this container, without a name.
        anonymous: bool,
        /// Whether a new one gets what the image has at the destination.
        copy: bool,
        /// A path in it, instead of the whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// The files of an image.
    Image {
        /// As asked for.
        reference: String,
        /// Digest of its configuration.
        image_id: String,
        /// Chain ids, lowest first, where `image rm` looks for them.
        chain: Vec<String>,
        /// Overlay layers, highest first.
        lowers: Vec<PathBuf>,
        /// A path in it, instead of the whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// Memory.
    Tmpfs,
}

impl MountFrom {
    /// The word for people and programs.
    pub fn word(&self) -> &'static str {
        match self {
            MountFrom::Bind { .. } => "bind",
            MountFrom::Volume { .. } => "volume",
            MountFrom::Image { .. } => "image",
            MountFrom::Tmpfs => "tmpfs",
        }
    }
}

impl Mount {
    /// Whether the container may write to it.
    pub fn is_writable(&self) -> bool {
        !self.options.iter().any(|word| word == "ro")
    }
}

/// What was asked of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// [`super::VERSION`].
    pub v: u32,
    /// The name; 64 hex digits for an anonymous one.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: super::Pairs,
    /// Whether a container needed it and nobody named it.
    #[serde(default)]
    pub anonymous: bool,
    /// When, RFC 3339 with nanoseconds.
    pub created_at: String,
    /// Version of rkbox.
    pub rkbox: String,
    /// What a later version wrote.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}
