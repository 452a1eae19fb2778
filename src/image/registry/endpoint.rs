//! One place that serves a repository.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::fault::{Fault, Result};

/// The host that serves `docker.io`.
const HUB: &str = "registry-1.docker.io";
/// The longest URL of an endpoint, in bytes.
const LIMIT: usize = 2048;

/// Whom a connection trusts, and who it says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trust {
    /// Certificate authorities beside the system's own.
    pub ca: Vec<PathBuf>,
    /// Certificates of the client with their keys; the first is shown.
    pub client: Vec<(PathBuf, PathBuf)>,
    /// Whether any certificate will do.
    pub skip_verify: bool,
}

/// One place that serves a repository over the distribution API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://mirror.example:5000/v2`, without a slash at its end.
    pub base: String,
    /// The path of the repository there: `library/busybox`.
    pub repository: String,
    /// The registry that a mirror stands for, sent as `ns`.
    pub namespace: Option<String>,
    /// Whom it trusts.
    pub trust: Trust,
    /// Headers that are sent to it.
    pub headers: Vec<(String, String)>,
    /// Whether it is asked what a tag means.
    pub resolves: bool,
    /// Whether it is asked for what has a digest.
    pub pulls: bool,
    /// What its credentials are looked up by: `docker.io/library/busybox`.
    pub account: String,
    /// Whether it is the registry of the reference itself, and no mirror.
    pub own: bool,
}

impl Endpoint {
    /// Host and port, as the credentials name them: `mirror.example:5000`.
    pub fn host(&self) -> &str {
        authority(&self.base)
    }

    /// The URL of a manifest; `which` is a tag or a digest.
    pub fn manifest(&self, which: &str) -> String {
        self.at(&format!("manifests/{which}"))
    }

    /// The URL of a blob.
    pub fn blob(&self, digest: &str) -> String {
        self.at(&format!("blobs/{digest}"))
    }

    fn at(&self, below: &str) -> String {
        let query = self.namespace.as_ref().map_or(String::new(), |ns| format!("?ns={}", encoded(ns)));
        format!("{}/{}/{below}{query}", self.base, self.repository)
    }
}

/// Host and port of a URL: what lies between the scheme and the path.
pub fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

/// Scheme, host and port of a URL: what must be the same for a credential to be sent again.
pub fn origin(url: &str) -> (String, String, u16) {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    let (host, port) = split_port(authority(url));
    let port = port.unwrap_or(if scheme == "http" { 80 } else { 443 });
    (scheme, host.to_ascii_lowercase(), port)
}

/// Splits `host:port`; an address of version 6 keeps its brackets.
pub fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// Whether `authority` (with or without a port) is this machine.
pub fn is_loopback(authority: &str) -> bool {
    let (host, _) = split_port(authority);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host that serves a registry under its own name.
pub fn home(domain: &str) -> &str {
    if domain == "docker.io" { HUB } else { domain }
}

/// A place as configurations and options write it, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `http` or `https`, when it is said.
    pub scheme: Option<String>,
    /// Host and port.
    pub authority: String,
    /// Without a slash at its ends; empty when there is none.
    pub path: String,
}

impl Place {
    /// Reads `[http[s]://]HOST[:PORT][/PATH]`.
    ///
    /// *Errors:* `InvalidArgument`; a user name, a query and odd characters are refused.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            let shown: String = text.chars().take(200).collect();
            Fault::invalid(format!("{shown:?} is not the address of a registry: {why}")).hint("write https://HOST[:PORT][/PATH]")
        };
        if text.len() > LIMIT || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad("it is too long or has odd characters"));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme.to_owned()), rest),
            Some(_) => return Err(bad("it is neither http nor https")),
            None => (None, text),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(authority);
        let name = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        let is_host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
            None => !host.is_empty() && name(host),
        };
        if !is_host || (port.is_none() && host.len() != authority.len()) {
            return Err(bad("its host or port is not valid"));
        }
        if path.contains(['?', '#', '@', '\\']) || path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(bad("its path is not plain"));
        }
        Ok(Place { scheme, authority: authority.to_owned(), path: path.trim_matches('/').to_owned() })
    }

    /// The base of the API there: the path as it is, or with `/v2` at its end.
    pub fn base(&self, override_path: bool) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(if is_loopback(&self.authority) { "http" } else { "https" });
        let path = match self.path.as_str() {
            path if override_path => path.to_owned(),
            "" => "v2".to_owned(),
            path if path == "v2" || path.ends_with("/v2") => path.to_owned(),
            path => format!("{path}/v2"),
        };
        let base = format!("{scheme}://{}/{path}", self.authority);
        base.trim_end_matches('/').to_owned()
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            _ => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_bases() {
        for (text, override_path, base) in [
            ("https://mirror.example", false, "https://mirror.example/v2"),
            ("mirror.example:5000", false, "https://mirror.example:5000/v2"),
            ("localhost:5000", false, "http://localhost:5000/v2"),
            ("https://127.0.0.1:5000/", false, "https://127.0.0.1:5000/v2"),
            ("[::1]:5000", false, "http://[::1]:5000/v2"),
            ("https://h/v2/", false, "https://h/v2"),
            ("https://h/proxy/hub", false, "https://h/proxy/hub/v2"),
            ("https://h/v2/proxy", true, "https://h/v2/proxy"),
            ("https://h", true, "https://h"),
        ] {
            assert_eq!(Place::parse(text).unwrap().base(override_path), base, "{text}");
        }
        for bad in [
            "",
            "ftp://h",
            "https://",
            "https://u:p@h",
            "https://h/../x",
            "https://h/a?b",
            "https://h:port",
            "h:",
            "a b",
            "h\n",
            "é",
            "[::1]:x",
        ] {
            assert!(Place::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://A.example/x"), ("https".into(), "a.example".into(), 443));
        assert_eq!(origin("http://a.example:5000/x?y=https://b"), ("http".into(), "a.example".into(), 5000));
        assert_ne!(origin("https://a.example/"), origin("http://a.example/"));
        assert_ne!(origin("https://a.example"), origin("https://a.example.evil"));
    }

    #[test]
    fn this_machine_is_known() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.evil", "128.0.0.1", "example.com", "127.0.0.1.evil", "[::2]"] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn urls_are_encoded() {
        let endpoint = Endpoint {
            base: "https://m/v2".into(),
            repository: "library/busybox".into(),
            namespace: Some("quay.io:443".into()),
            trust: Trust::default(),
            headers: Vec::new(),
            resolves: true,
            pulls: true,
            account: "m".into(),
            own: false,
        };
        assert_eq!(endpoint.manifest("latest"), "https://m/v2/library/busybox/manifests/latest?ns=quay.io%3A443");
        assert_eq!(endpoint.host(), "m");
    }
}
