//! The stamp of an unpacked layer: a layer without one does not exist.

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Kind, Result};

use super::tar_entry::Moment;

/// The name of the stamp in the directory of a layer.
pub const STAMP: &str = "layer.json";
/// The name of the list of files in the directory of a layer.
pub const LIST: &str = "layer.mtree";
/// The name of the overlayfs directory in the directory of a layer.
pub const TREE: &str = "fs";

/// `layers/<chain id in hex>/layer.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The version of this shape: 1.
    pub v: u32,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// Digest of the blob.
    pub digest: String,
    /// Bytes of the blob.
    pub size: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// Bytes of content of the files.
    pub bytes: u64,
    /// Whether the layer hides all layers below it.
    #[serde(default)]
    pub opaque_root: bool,
    /// Who made it: the random word of the step's `Before`.
    #[serde(default)]
    pub made_by: String,
    /// Digest of the list of files beside the stamp; absent in a layer that a script unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// When the list was written, by the clock of the file system: what has a later change time was changed afterwards.
    ///
    /// *Shape:* RFC 3339 with nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

impl Stamp {
    /// Reads a stamp.
    ///
    /// *Errors:* `DataLoss` when it does not parse, `FailedPrecondition` when a newer rkbox wrote it.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let stamp: Stamp =
            serde_json::from_slice(text).map_err(|error| Fault::from_error(Kind::DataLoss, error).doing(format!("reading {STAMP}")))?;
        if stamp.v == 1 {
            return Ok(stamp);
        }
        Err(Fault::new(Kind::FailedPrecondition, format!("{STAMP} has version {}, this rkbox knows 1", stamp.v)))
    }

    /// [`Self::sealed`] as a moment; `None` when there is none or it is not a time.
    pub fn sealed_at(&self) -> Option<Moment> {
        let time: jiff::Timestamp = self.sealed.as_ref()?.parse().ok()?;
        let nanos = i64::from(time.subsec_nanosecond());
        let seconds = time.as_second() - i64::from(nanos < 0);
        Some(Moment { seconds, nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()? })
    }

    /// A moment as [`Self::sealed`] has it.
    pub fn sealed_text(moment: Moment) -> Option<String> {
        let nanos = i32::try_from(moment.nanos).ok()?;
        Some(jiff::Timestamp::new(moment.seconds, nanos).ok()?.to_string())
    }

    /// Writes the stamp as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self).map_err(|error| Fault::from_error(Kind::Internal, error))?;
        text.push(b'\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_moment_survives_its_text() {
        for moment in [Moment { seconds: 1_700_000_000, nanos: 123_456_789 }, Moment { seconds: 5, nanos: 0 }, Moment::default()] {
            let text = format!(
                r#"{{"v":1,"diff_id":"","digest":"","size":0,"entries":0,"bytes":0,"sealed":"{}"}}"#,
                Stamp::sealed_text(moment).unwrap()
            );
            assert_eq!(Stamp::parse(text.as_bytes()).unwrap().sealed_at(), Some(moment), "{text}");
        }
    }
}
