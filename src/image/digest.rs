//! A digest, parsed once: only what this type lets through may become a file name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::fault::{Fault, Kind, Result};
use crate::ids::hex;

/// The SHA-256 of some bytes.
///
/// *Shape:* `sha256:` and 64 lowercase hex digits. *Source:* image-spec `descriptor.md`, "Registered algorithms"; CVE-2024-3727 is why
/// nothing else passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

const PREFIX: &str = "sha256:";

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest::from_hash(&Sha256::digest(bytes).into())
    }

    /// A hash that somebody finished, as a digest.
    pub fn from_hash(hash: &[u8; 32]) -> Self {
        Digest(format!("{PREFIX}{}", hex(hash)))
    }

    /// Reads 64 bare hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        is_hex64(text).then(|| Digest(format!("{PREFIX}{text}")))
    }

    /// With its algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits, which are safe as a file name.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// Where an OCI image layout at `layout` keeps the bytes.
    pub fn blob(&self, layout: &Path) -> PathBuf {
        layout.join("blobs/sha256").join(self.hex())
    }

    /// Refuses `bytes` that have another digest.
    ///
    /// *Errors:* `DataLoss`.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        let found = Digest::of(bytes);
        if found == *self {
            return Ok(());
        }
        Err(Fault::new(Kind::DataLoss, format!("content has digest {found}, not {self}")))
    }
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        if text.strip_prefix(PREFIX).is_some_and(is_hex64) {
            return Ok(Digest(text.to_owned()));
        }
        let shown: String = text.chars().take(100).collect();
        if text.starts_with("sha512:") {
            return Err(Fault::new(Kind::Unimplemented, format!("digest {shown:?} uses sha512, which is not done yet")));
        }
        Err(Fault::invalid(format!("digest {shown:?} is not sha256: and 64 lowercase hex digits")))
    }
}

impl TryFrom<String> for Digest {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_sha256_passes() {
        let good = "a".repeat(64);
        assert_eq!(format!("sha256:{good}").parse::<Digest>().unwrap().hex(), good);
        let long = format!("sha256:{}", "a".repeat(10_000));
        let hostile = [
            "",
            "sha256:",
            "sha256:../../../../etc/passwd",
            &format!("sha256:{}", "A".repeat(64)),
            &format!("sha256:{}", "a".repeat(63)),
            &format!("sha256:{}/", "a".repeat(63)),
            &format!("sha256:{good}\n"),
            &format!(" sha256:{good}"),
            &format!("md5:{}", "a".repeat(32)),
            &format!("sha512:{}", "a".repeat(128)),
            &format!("SHA256:{good}"),
            &good,
            &long,
        ];
        for text in hostile {
            let fault = text.parse::<Digest>().unwrap_err().to_string();
            assert!(fault.len() < 300 && !fault.contains('\n'), "{fault}");
        }
    }

    #[test]
    fn the_empty_text_has_the_known_digest() {
        assert_eq!(Digest::of(b"").as_str(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert!(Digest::of(b"").verify(b"x").unwrap_err().to_string().contains("content has digest"));
    }
}
