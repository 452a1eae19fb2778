//! The files of crictl: read, and what they ask of this host, in the words of the command line.

use std::path::Path;

use serde_json::Value;

use crate::fault::{Context as _, Fault, Kind, Result};
use crate::pod::cri::{self, PodSandboxConfig, Profile, SelinuxOption};
use crate::pod::yaml;
use crate::record::{RawConfig, SandboxRecord};
use crate::sys::{file, security};

/// The language of a record whose request is such a file.
const KIND: &str = "cri.v1";

/// Reads the one document of a file.
pub fn document(path: &Path) -> Result<Value> {
    let text = file::read_following(path, yaml::LIMIT)?;
    let text = String::from_utf8(text).map_err(|_| Fault::invalid("it is not UTF-8"))?;
    cri::document(&text)
}

/// The request of a record, verbatim.
pub fn raw(document: Value) -> RawConfig {
    RawConfig { kind: KIND.to_owned(), raw: document }
}

/// The file that a sandbox was made from; `None` for one of the command line.
pub fn of_sandbox(record: &SandboxRecord) -> Result<Option<PodSandboxConfig>> {
    match record.config.kind.as_str() {
        KIND => cri::sandbox(&record.config.raw).map(Some).doing(|| format!("reading the request of sandbox {}", record.name)),
        _ => Ok(None),
    }
}

/// What a security context asks of filter and labels.
#[derive(Debug)]
pub struct Confinement<'a> {
    /// Which filter.
    pub seccomp: Option<Profile>,
    /// Which AppArmor profile.
    pub apparmor: Option<Profile>,
    /// Which SELinux label.
    pub selinux: &'a SelinuxOption,
}

impl Confinement<'_> {
    /// The same as values of `--security-opt`.
    ///
    /// *Errors:* `FailedPrecondition` for what this host lacks, by the path of the field.
    pub fn options(&self) -> Result<Vec<String>> {
        const PATH: &str = "linux.security_context";
        let lacking = |field: &str, what: &str| {
            Fault::new(Kind::FailedPrecondition, format!("{PATH}.{field}: this host has no {what}")).hint("leave it out")
        };
        let mut options = Vec::new();
        match &self.seccomp {
            None | Some(Profile::RuntimeDefault) => {}
            Some(Profile::Unconfined) => options.push("seccomp=unconfined".to_owned()),
            Some(Profile::Localhost(path)) => options.push(format!("seccomp={path}")),
        }
        match &self.apparmor {
            None | Some(Profile::RuntimeDefault) => {}
            Some(Profile::Unconfined) => options.push("apparmor=unconfined".to_owned()),
            Some(Profile::Localhost(_)) if security::apparmor_profiles().is_none() => return Err(lacking("apparmor", "AppArmor")),
            Some(Profile::Localhost(name)) => options.push(format!("apparmor={name}")),
        }
        let label = self.selinux.parts();
        if !label.is_empty() && !security::has_selinux() {
            return Err(lacking("selinux_options", "SELinux"));
        }
        options.extend(label.into_iter().map(|(part, value)| format!("label={part}:{value}")));
        Ok(options)
    }
}
