//! Which seccomp filter or AppArmor profile is asked for, in the new words and in the old.

use serde::Deserialize;

use crate::fault::{Fault, Result};

/// `SecurityProfile`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SecurityProfile {
    /// Which.
    pub profile_type: ProfileType,
    /// The file, or the name, of a profile of the node.
    pub localhost_ref: String,
}

/// `SecurityProfile.ProfileType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ProfileType {
    /// The runtime's own.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
    /// One of the node's.
    Localhost,
}

/// A profile, whichever words it was asked for in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The runtime's own.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// This file (seccomp), or the profile of this name (AppArmor).
    Localhost(String),
}

impl Profile {
    /// The profile of `new` (at `path`), else of the deprecated text `old` (at `old_path`); `None` when nothing is said.
    ///
    /// *Shape:* `old` is `runtime/default`, `unconfined` or `localhost/REF`. *Errors:* `InvalidArgument` for a reference without
    /// Localhost, Localhost without one, and two that contradict each other.
    pub(super) fn of(new: Option<&SecurityProfile>, old: &str, (path, old_path): (&str, &str)) -> Result<Option<Self>> {
        let new = new.map(|new| Self::of_new(new, path)).transpose()?;
        let old = match old {
            "" => None,
            "runtime/default" | "docker/default" => Some(Profile::RuntimeDefault),
            "unconfined" => Some(Profile::Unconfined),
            other => match other.strip_prefix("localhost/").filter(|name| !name.is_empty()) {
                Some(name) => Some(Profile::Localhost(name.to_owned())),
                None => {
                    return Err(Fault::invalid(format!("{old_path}: {other:?} is no profile"))
                        .hint("use runtime/default, unconfined or localhost/NAME"));
                }
            },
        };
        if new.is_some() && old.is_some() && new != old {
            return Err(Fault::invalid(format!("{old_path}: it contradicts {path}")).hint("it is the old word for the same: leave it out"));
        }
        Ok(new.or(old))
    }

    fn of_new(new: &SecurityProfile, path: &str) -> Result<Self> {
        let named = !new.localhost_ref.is_empty();
        match (new.profile_type, named) {
            (ProfileType::RuntimeDefault, false) => Ok(Profile::RuntimeDefault),
            (ProfileType::Unconfined, false) => Ok(Profile::Unconfined),
            (ProfileType::Localhost, true) => Ok(Profile::Localhost(new.localhost_ref.clone())),
            (ProfileType::Localhost, false) => {
                Err(Fault::invalid(format!("{path}.localhost_ref: it is needed by the profile type Localhost")))
            }
            (_, true) => Err(Fault::invalid(format!("{path}.localhost_ref: it is for the profile type Localhost"))
                .hint("say profile_type: Localhost, or leave it out")),
        }
    }

    /// As [`Self::of`] for seccomp: the reference is an absolute path.
    pub(super) fn seccomp(new: Option<&SecurityProfile>, old: &str, at: &str) -> Result<Option<Self>> {
        let (path, old_path) = (format!("{at}.seccomp"), format!("{at}.seccomp_profile_path"));
        let found = Self::of(new, old, (&path, &old_path))?;
        match &found {
            Some(Profile::Localhost(file)) if !file.starts_with('/') => {
                Err(Fault::invalid(format!("{path}.localhost_ref: {file:?} is not an absolute path")))
            }
            _ => Ok(found),
        }
    }

    /// As [`Self::of`] for AppArmor: the reference is the name of a loaded profile.
    pub(super) fn apparmor(new: Option<&SecurityProfile>, old: &str, at: &str) -> Result<Option<Self>> {
        let found = Self::of(new, old, (&format!("{at}.apparmor"), &format!("{at}.apparmor_profile")))?;
        match &found {
            Some(Profile::Localhost(name)) if name.chars().any(char::is_control) => {
                Err(Fault::invalid(format!("{at}.apparmor.localhost_ref: {name:?} has a control character")))
            }
            _ => Ok(found),
        }
    }
}
