//! Small parsers of arguments, and the host's facts that commands read.

use std::path::Path;

use crate::fault::{Fault, Result};
use crate::sys::file;

/// `KEY=VALUE`; the value may be empty, the key may not.
pub fn pair(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !text.contains('\0') => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Fault::invalid(format!("{text:?} is not KEY=VALUE")).hint("the form is KEY=VALUE; the value may be empty")),
    }
}

/// A host name: dot-separated labels of letters, digits and inner hyphens, at most 64 bytes (the kernel's bound).
pub fn hostname(text: &str) -> Result<String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 64 && text.split('.').all(label) {
        return Ok(text.to_owned());
    }
    Err(Fault::invalid(format!("host name {text:?} is not valid")).hint("use letters, digits, - and ., at most 64 in all"))
}

/// A working directory: absolute, as docker and podman want it, or the empty word.
pub fn workdir(text: &str) -> Result<String> {
    if text.is_empty() || text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(Fault::invalid(format!("working directory {text:?} is not absolute")).hint(format!("did you mean /{text}?")))
}

/// What an option says; an empty word says nothing, as with docker and podman: a variable of a script that is not set never means root.
pub fn said(word: Option<&String>) -> Option<&str> {
    word.map(String::as_str).filter(|word| !word.is_empty())
}

/// The host's resolv.conf as it is, for who shares its network; empty when there is none.
pub fn own_resolv_conf() -> String {
    file::read_following(Path::new("/etc/resolv.conf"), 1 << 20).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

/// The host's resolv.conf, the stub of systemd-resolved replaced by what stands behind it; empty when there is none.
pub fn host_resolv_conf() -> String {
    let at = |path: &str| file::read_following(Path::new(path), 1 << 20).map(|text| String::from_utf8_lossy(&text).into_owned());
    let text = at("/etc/resolv.conf").unwrap_or_default();
    let servers = || text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).map(str::trim);
    if servers().count() > 0 && servers().all(|server| server == "127.0.0.53") {
        return at("/run/systemd/resolve/resolv.conf").unwrap_or(text);
    }
    text
}

/// The command line, for the record: what was asked, however it was carried out.
pub fn command_line() -> serde_json::Value {
    let how = |word: &String| matches!(word.as_str(), "--explain" | "--timings");
    std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).filter(|word| !how(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_cannot_break_out_of_a_hosts_file() {
        for bad in ["", "a b", "a\nb", "-a", "a-", "a..b", "a\0", "\u{e9}", &"a".repeat(65)] {
            assert!(hostname(bad).is_err(), "{bad:?}");
        }
        assert_eq!(hostname("web-1.example").unwrap(), "web-1.example");
    }

    #[test]
    fn pairs_need_a_key() {
        assert_eq!(pair("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(pair("a=").unwrap(), ("a".to_owned(), String::new()));
        assert!(pair("=b").is_err());
        assert!(pair("a").is_err());
    }
}
