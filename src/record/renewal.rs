//! What another boot changed of a box: written beside its record, which stays as it was, when the box is made ready again.

use serde::{Deserialize, Serialize};

use super::{Attachment, VERSION};
use crate::fault::{Fault, Kind, Result};

/// A box that was made ready again after a reboot.
///
/// *Shape:* `boot-BOOT_ID.json` in the directory of the record: `{"v": 1, "boot_id": "…", "attachments": […]}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Renewal {
    /// Version of the file.
    pub v: u32,
    /// The boot in which it is ready.
    pub boot_id: String,
    /// Its attachments in that boot: the addresses may have changed.
    pub attachments: Vec<Attachment>,
}

impl Renewal {
    /// Of this boot.
    pub fn new(boot_id: String, attachments: Vec<Attachment>) -> Self {
        Renewal { v: VERSION, boot_id, attachments }
    }

    /// The name of the file for a boot.
    pub fn file_name(boot_id: &str) -> String {
        format!("boot-{boot_id}.json")
    }

    /// Whether a file of this name is one, of any boot.
    pub fn is_name(name: &str) -> bool {
        name.starts_with("boot-") && name.ends_with(".json")
    }

    /// Reads one.
    ///
    /// *Errors:* `DataLoss`.
    pub fn parse(text: &[u8]) -> Result<Self> {
        serde_json::from_slice(text).map_err(|error| Fault::from_error(Kind::DataLoss, error))
    }

    /// Its text.
    pub fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Fault::from_error(Kind::Internal, error))
    }
}
