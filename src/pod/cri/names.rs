//! The names that pods and their containers are reserved under, and paths that follow from a configuration.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::container::ContainerMetadata;
use super::sandbox::PodMetadata;
use crate::fault::{Fault, Result};
use crate::ids::{Name, hex};

/// The longest name; a longer one is cut, and told apart by a digest of the whole.
const LONGEST: usize = 128;

/// Refuses parts of a name that could not stand in a path.
pub(super) fn check_parts(parts: &[(&str, &String)]) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    for (path, text) in parts {
        if !text.chars().all(plain) || text.starts_with(['.', '-', '_']) || text.len() > 253 {
            return Err(Fault::invalid(format!("{path}: {text:?} is not valid"))
                .hint("use letters, digits, _ . -, a letter or digit first, at most 253 in all"));
        }
    }
    Ok(())
}

/// `NAME_NAMESPACE_UID_ATTEMPT`.
pub fn sandbox_name(pod: &PodMetadata) -> Result<Name> {
    fitting(format!("{}_{}_{}_{}", pod.name, pod.namespace, pod.uid, pod.attempt))
}

/// `NAME_POD_NAMESPACE_UID_ATTEMPT`, the attempt being the container's; a sandbox of the command line has neither namespace nor uid.
pub fn container_name(container: &ContainerMetadata, pod: &PodMetadata) -> Result<Name> {
    let attempt = container.attempt.to_string();
    let parts = [&container.name, &pod.name, &pod.namespace, &pod.uid, &attempt];
    fitting(parts.iter().filter(|part| !part.is_empty()).map(|part| part.as_str()).collect::<Vec<_>>().join("_"))
}

fn fitting(whole: String) -> Result<Name> {
    if whole.len() <= LONGEST {
        return whole.parse();
    }
    let digest = hex(&Sha256::digest(whole.as_bytes())[..8]);
    format!("{}-{digest}", &whole[..LONGEST - 17]).parse()
}

/// 16 random bytes as a uid, for a pod that has none. *Source:* crictl; RFC 9562, version 4.
pub fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// The host name of a pod that names none: its own name, cut to what a host name may be. *Source:* the kubelet's `truncatePodHostnameIfNeeded`.
pub fn hostname_of(pod: &PodMetadata) -> String {
    let cut: String = pod.name.chars().map(|c| if c == '_' { '-' } else { c }).take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The log of a container, below the directory of its sandbox; `None` when neither is named.
///
/// *Errors:* `InvalidArgument` for a path without a directory, and one that leads out of it.
pub fn log_file(directory: &str, path: &str) -> Result<Option<PathBuf>> {
    if path.is_empty() {
        return Ok(None);
    }
    if directory.is_empty() {
        return Err(Fault::invalid("log_path: the sandbox has no log_directory that it could be in")
            .hint("make the sandbox with one, or leave log_path out"));
    }
    let leads_out = path.starts_with('/') || path.ends_with('/') || path.split('/').any(|part| matches!(part, "" | "." | ".."));
    if leads_out || path.chars().any(char::is_control) {
        return Err(Fault::invalid(format!("log_path: {path:?} is no path below log_directory {directory}")).hint("such as web/0.log"));
    }
    Ok(Some(PathBuf::from(directory).join(path)))
}
