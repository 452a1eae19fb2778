//! Names of images as people write them, and the one form in which they are stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Digest;
use crate::fault::{Fault, Result};

/// A normalised image reference.
///
/// *Shape:* `busybox` → `docker.io/library/busybox:latest`; `quay.io/a/b@sha256:…`; `localhost:5000/x:1`.
/// *Source:* distribution/reference `ParseDockerRef` and its grammar.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The longest domain and path together, in bytes.
const NAME_LIMIT: usize = 255;
/// The longest tag, in bytes.
const TAG_LIMIT: usize = 128;
/// The longest digest, a SHA-512, in bytes, with its algorithm and the signs before it and the tag.
const DIGEST_LIMIT: usize = 140;

impl Reference {
    /// Registry host, with its port if any.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Path on the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Domain and path.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag; `latest` was put in when there was neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// What has `digest` in the same repository, whatever its tag.
    pub fn at(&self, digest: &Digest) -> Reference {
        Reference { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// The digest of a manifest or index.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            let shown: String = text.chars().take(300).collect();
            Fault::invalid(format!("image reference {shown:?} is not valid: {why}"))
                .hint("the form is [REGISTRY/]NAME[:TAG], such as busybox:latest")
        };
        if text.len() > NAME_LIMIT + TAG_LIMIT + DIGEST_LIMIT {
            return Err(bad("it is too long"));
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest.parse::<Digest>().map_err(|fault| bad(&fault.to_string()))?)),
            None => (text, None),
        };
        // The tag's colon comes after the last slash; a colon before it belongs to a port.
        let last = named.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match named[last..].split_once(':') {
            Some((_, tag)) => (&named[..named.len() - tag.len() - 1], Some(tag)),
            None => (named, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(bad("a tag is a letter, digit or _, then up to 127 of these and . -"));
        }
        if Digest::from_hex(name).is_some() {
            return Err(bad("64 hex digits name an image id"));
        }
        let (domain, path) = split_domain(name);
        if !is_domain(&domain) {
            return Err(bad("its registry is not a host name with an optional port"));
        }
        if !path.split('/').all(is_component) {
            return Err(bad("a path has lowercase letters and digits, with single . _ - or double __ between them"));
        }
        if domain.len() + path.len() + 1 > NAME_LIMIT {
            return Err(bad("its name is longer than 255 bytes"));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Reference { domain, path, tag, digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) => {
            (first, rest)
        }
        _ => ("docker.io", name),
    };
    let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
    let path = if domain == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
    (domain.to_owned(), path)
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_LIMIT && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|port| port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes
        .split(|&b| alphanumeric(b))
        .filter(|run| !run.is_empty())
        .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|&b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_become_full_ones() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (short, full) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/app:v1", "localhost:5000/app:v1".to_owned()),
            ("[::1]:5000/app", "[::1]:5000/app:latest".to_owned()),
            ("quay.io/a/b__c/d--e", "quay.io/a/b__c/d--e:latest".to_owned()),
            (&format!("busybox@{digest}"), format!("docker.io/library/busybox@{digest}")),
            (&format!("busybox:1@{digest}"), format!("docker.io/library/busybox:1@{digest}")),
        ] {
            let parsed: Reference = short.parse().unwrap();
            assert_eq!(parsed.to_string(), full);
            assert_eq!(full.parse::<Reference>().unwrap(), parsed, "normal forms are fixed points");
        }
    }

    #[test]
    fn hostile_references_are_refused_and_quoted() {
        let long = "a".repeat(256);
        let hex = "a".repeat(64);
        let tag = format!("a:{}", "t".repeat(129));
        for text in [
            "",
            ":",
            "/",
            "@",
            "a:",
            "a@",
            ":latest",
            "../etc",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/",
            "A",
            "a:b:c",
            "a b",
            "a\nb",
            "a\x1b[31m",
            "a\0",
            "é",
            "a.",
            ".a",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a:-x",
            "a:.x",
            "a.b:99999999/c",
            "a.b:/c",
            "-.io/a",
            "a..io/b",
            "a@sha256:12",
            "a@md5:d41d8cd98f00b204e9800998ecf8427e",
            "a@b@c",
            "[::1/a",
            "$(id)",
            "a;b",
            "a`b",
            &long,
            &hex,
            &tag,
        ] {
            let fault = text.parse::<Reference>().unwrap_err().to_string();
            assert!(!fault.chars().any(char::is_control), "{fault:?}");
        }
    }
}
