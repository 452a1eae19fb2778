//! Platforms in the words of the image-spec (those of Go).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Result};

/// An operating system, an architecture and its variant.
///
/// *Shape:* `linux/amd64`, `linux/arm/v7`. *Source:* image-spec `image-index.md`, "platform".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `GOARCH`.
    #[serde(default)]
    pub architecture: String,
    /// `GOOS`.
    #[serde(default)]
    pub os: String,
    /// Empty when it does not matter.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform that rkbox was built for.
    pub fn of_host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: String::new() }
    }

    /// How well what is made for `offered` runs here: lower is better, `None` not at all.
    ///
    /// Without a wished variant the most general one is the best: v8 on arm64, v1 on amd64, the highest on arm (v7, v6, v5).
    pub fn rank(&self, offered: &Platform) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let plain = |platform: &Platform| match (platform.architecture.as_str(), platform.variant.as_str()) {
            ("arm64", "" | "v8") | ("amd64", "" | "v1") => 0,
            ("arm", "") => 7,
            (_, variant) => variant.strip_prefix('v').and_then(|digits| digits.parse().ok()).unwrap_or(0),
        };
        let (mine, theirs) = (plain(self), plain(offered));
        if self.architecture == "arm" {
            return (theirs <= mine).then(|| mine - theirs);
        }
        (self.variant.is_empty() && theirs == 0 || mine == theirs).then_some(0)
    }
}

impl fmt::Display for Platform {
    /// Escapes what is not plain: the text may come from an image.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os.escape_debug(), self.architecture.escape_debug())?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant.escape_debug()) }
    }
}

impl FromStr for Platform {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let variant = match parts.as_slice() {
            [_, _] => "",
            [_, _, variant] => variant,
            _ => "?",
        };
        if variant == "?" || !parts.iter().all(word) {
            return Err(Fault::invalid(format!("platform {text:?} is not valid")).hint("write linux/amd64 or linux/arm/v7"));
        }
        Ok(Platform { architecture: parts[1].to_owned(), os: parts[0].to_owned(), variant: variant.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_rank_from_near_to_far() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        assert_eq!(platform("linux/amd64").rank(&platform("linux/amd64")), Some(0));
        assert_eq!(platform("linux/amd64").rank(&platform("linux/amd64/v3")), None);
        assert_eq!(platform("linux/arm64").rank(&platform("linux/arm64/v8")), Some(0));
        assert_eq!(platform("linux/arm").rank(&platform("linux/arm/v6")), Some(1));
        assert_eq!(platform("linux/arm/v6").rank(&platform("linux/arm/v7")), None);
        assert_eq!(platform("linux/amd64").rank(&platform("windows/amd64")), None);
        assert!("linux".parse::<Platform>().is_err());
        assert!("linux/../x".parse::<Platform>().is_err());
    }
}
