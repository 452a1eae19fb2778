//! A digest, parsed once: only what this type lets through may become a file name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use crate::fault::{Fault, Kind, Result};
use crate::ids::hex;

/// How a digest is computed. *Source:* image-spec `descriptor.md`, "Registered algorithms"; the third of them, blake3, is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, which every tool computes when nothing else is asked for.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// All that rkbox computes.
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// As a digest begins, and as the directory of its blobs is called: `sha256`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Hex digits of a digest.
    fn digits(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }

    /// The directory of an OCI image layout at `layout` in which its blobs are.
    pub fn blobs(self, layout: &Path) -> PathBuf {
        layout.join("blobs").join(self.name())
    }
}

/// A digest in the making.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// Of nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hash) => hash.update(bytes),
            Hasher::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all that was taken.
    pub fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hash) => Digest::from_hash(&hash.finalize().into()),
            Hasher::Sha512(hash) => Digest(format!("sha512:{}", hex(&hash.finalize()))),
        }
    }
}

/// The digest of some bytes.
///
/// *Shape:* `sha256:` and 64, or `sha512:` and 128 lowercase hex digits. *Source:* image-spec `descriptor.md`, "Registered algorithms";
/// CVE-2024-3727 is why nothing else passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest::from_hash(&Sha256::digest(bytes).into())
    }

    /// The digest of `bytes` by `algorithm`.
    pub fn by(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// A SHA-256 that somebody finished, as a digest.
    pub fn from_hash(hash: &[u8; 32]) -> Self {
        Digest(format!("sha256:{}", hex(hash)))
    }

    /// Reads 64 bare hex digits, of a SHA-256.
    pub fn from_hex(text: &str) -> Option<Self> {
        Algorithm::Sha256.read(text)
    }

    /// Reads the bare digits of a digest by their number, as the name of a blob or of a layer has them.
    pub fn from_file_name(name: &str) -> Option<Self> {
        Algorithm::ALL.into_iter().find_map(|algorithm| algorithm.read(name))
    }

    /// How it is computed.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha512:") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// With its algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits, which are safe as a file name.
    pub fn hex(&self) -> &str {
        &self.0[self.algorithm().name().len() + 1..]
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// Where an OCI image layout keeps the bytes, below its directory: `blobs/sha256/HEX`.
    pub fn member(&self) -> String {
        format!("blobs/{}/{}", self.algorithm().name(), self.hex())
    }

    /// Where an OCI image layout at `layout` keeps the bytes.
    pub fn blob(&self, layout: &Path) -> PathBuf {
        layout.join(self.member())
    }

    /// Refuses `bytes` that have another digest.
    ///
    /// *Errors:* `DataLoss`.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        let found = Digest::by(self.algorithm(), bytes);
        if found == *self {
            return Ok(());
        }
        Err(Fault::new(Kind::DataLoss, format!("content has digest {found}, not {self}")))
    }
}

impl Algorithm {
    fn read(self, digits: &str) -> Option<Digest> {
        let plain = digits.len() == self.digits() && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        plain.then(|| Digest(format!("{}:{digits}", self.name())))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Algorithms that image-spec or go-digest register and that rkbox does not compute.
const OTHERS: [&str; 4] = ["blake3", "sha384", "sha512-256", "sha512-224"];

impl FromStr for Digest {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        let (name, digits) = text.split_once(':').unwrap_or_default();
        let known = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        if let Some(digest) = known.and_then(|algorithm| algorithm.read(digits)) {
            return Ok(digest);
        }
        let shown: String = text.chars().take(100).collect();
        if OTHERS.contains(&name) {
            let fault = Fault::new(Kind::Unimplemented, format!("digest {shown:?} is by {name}, which rkbox does not compute"));
            return Err(fault.hint("rkbox reads sha256 and sha512 digests: copy the image with one of them"));
        }
        let algorithm = known.unwrap_or_default();
        let message = format!("digest {shown:?} is not {}: and {} lowercase hex digits", algorithm.name(), algorithm.digits());
        Err(Fault::invalid(message))
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
    fn only_plain_digests_pass() {
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
            &format!("sha512:{}", "a".repeat(127)),
            &format!("sha512:{}", "a".repeat(64)),
            &format!("sha512:{}", "A".repeat(128)),
            &format!("sha256:{}", "a".repeat(128)),
            "sha512:../../../../etc/passwd",
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
    fn sha512_is_computed_and_other_algorithms_are_refused_by_name() {
        let empty = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        let digest: Digest = empty.parse().unwrap();
        assert_eq!(Digest::by(Algorithm::Sha512, b""), digest);
        assert_eq!(digest.algorithm(), Algorithm::Sha512);
        assert_eq!(digest.blob(Path::new("/x")).to_str().unwrap(), format!("/x/blobs/sha512/{}", &empty[7..]));
        assert_eq!(Digest::from_file_name(digest.hex()), Some(digest.clone()));
        assert_eq!(Digest::from_hex(digest.hex()), None);
        digest.verify(b"").unwrap();
        assert!(digest.verify(b"x").unwrap_err().to_string().contains("content has digest sha512:"));
        for name in OTHERS {
            let fault = format!("{name}:{}", "a".repeat(64)).parse::<Digest>().unwrap_err();
            assert!(fault.kind() == Kind::Unimplemented && fault.to_string().contains(&format!("is by {name}, ")), "{fault}");
        }
    }

    #[test]
    fn the_empty_text_has_the_known_digest() {
        assert_eq!(Digest::of(b"").as_str(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert!(Digest::of(b"").verify(b"x").unwrap_err().to_string().contains("content has digest"));
    }
}
