//! What a runtime says to a plugin beside the configuration: the names in its environment, and the errors that answer bad ones.

use super::version::ALL_TEXT;

/// An error as a plugin answers it.
///
/// *Shape:* `{"cniVersion":"1.0.0","code":7,"msg":"…","details":"…"}`. *Source:* CNI specification, "Error"; cni `types.Error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// What went wrong, as a number.
    pub code: u32,
    /// What went wrong, in words.
    pub msg: String,
    /// More of it.
    pub details: String,
}

/// Code: the configuration is of a version that the plugin does not speak.
pub const INCOMPATIBLE_VERSION: u32 = 1;
/// Code: a name in the environment is bad or missing.
pub const INVALID_ENVIRONMENT: u32 = 4;
/// Code: standard input cannot be read.
pub const IO_FAILURE: u32 = 5;
/// Code: the configuration is not JSON.
pub const DECODING_FAILURE: u32 = 6;
/// Code: the configuration is not valid.
pub const INVALID_CONFIG: u32 = 7;
/// Code: the namespace is that of the plugin itself.
pub const INVALID_NETNS: u32 = 8;
/// Code: the same call may succeed later.
pub const TRY_AGAIN_LATER: u32 = 11;
/// Code of STATUS: an ADD cannot be served.
pub const PLUGIN_NOT_AVAILABLE: u32 = 50;
/// Code: anything else.
pub const INTERNAL: u32 = 999;

impl CniError {
    /// Makes an error without details.
    pub fn new(code: u32, msg: impl Into<String>) -> CniError {
        CniError { code, msg: msg.into(), details: String::new() }
    }

    /// Adds details.
    pub fn details(mut self, details: impl Into<String>) -> CniError {
        self.details = details.into();
        self
    }
}

/// Whether a text can be a CNI container id.
///
/// *Shape:* `[a-zA-Z0-9][a-zA-Z0-9_.-]*`. *Source:* libcni `ValidateContainerID`.
pub fn is_container_id(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && text.bytes().all(word)
}

/// Checks a container id.
///
/// *Source:* libcni `ValidateContainerID`.
pub fn check_container_id(text: &str) -> Result<(), CniError> {
    if text.is_empty() {
        return Err(CniError::new(INVALID_ENVIRONMENT, "missing containerID"));
    }
    if !is_container_id(text) {
        return Err(CniError::new(INVALID_ENVIRONMENT, "invalid characters in containerID").details(text));
    }
    Ok(())
}

/// Checks the name of an interface.
///
/// *Source:* libcni `ValidateInterfaceName`.
pub fn check_ifname(text: &str) -> Result<(), CniError> {
    let bad = |msg: &str, details: &str| Err(CniError::new(INVALID_ENVIRONMENT, msg).details(details));
    if text.is_empty() {
        return bad("interface name is empty", "");
    }
    if text.len() > 15 {
        return bad("interface name is too long", "interface name should be less than 16 characters");
    }
    if matches!(text, "." | "..") {
        return bad("interface name is . or ..", "");
    }
    if text.chars().any(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control()) {
        return bad("interface name contains / or : or whitespace characters", "");
    }
    Ok(())
}

/// Checks the name of a network.
///
/// *Source:* cni `skel.validateConfig`, libcni `ValidateNetworkName`.
pub fn check_network(text: &str) -> Result<(), CniError> {
    if text.is_empty() {
        return Err(CniError::new(INVALID_CONFIG, "missing network name"));
    }
    if !is_container_id(text) {
        return Err(CniError::new(INVALID_CONFIG, "invalid characters found in network name").details(text));
    }
    Ok(())
}

/// The error of a version that is not spoken.
pub fn incompatible(version: &str) -> CniError {
    let details = format!("config is \"{version}\", plugin supports [{}]", ALL_TEXT.map(|text| format!("\"{text}\"")).join(" "));
    CniError::new(INCOMPATIBLE_VERSION, "incompatible CNI versions").details(details)
}
