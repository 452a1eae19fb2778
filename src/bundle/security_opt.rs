//! `--security-opt`: the words that docker and podman take, read once.

use crate::fault::{Fault, Result};

/// Which filter a container has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeccompChoice {
    /// Our own profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// The profile in this file.
    File(String),
}

/// What all `--security-opt` say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// `no-new-privileges[=BOOL]`; `None` is the default (on).
    pub no_new_privileges: Option<bool>,
    /// `seccomp=unconfined|FILE`.
    pub seccomp: SeccompChoice,
    /// `seccomp-archs=native|all`.
    pub architectures: super::seccomp::Architectures,
    /// `apparmor=PROFILE|unconfined`.
    pub apparmor: Option<String>,
    /// `label=user:…`, `role:`, `type:`, `level:`, each as its word and value.
    pub label: Vec<(LabelPart, String)>,
    /// `label=disable`.
    pub label_disabled: bool,
    /// `mask=PATH[:PATH…]`.
    pub mask: Vec<String>,
    /// `unmask=ALL|PATH[:PATH…]`; a path may end in `/*`.
    pub unmask: Vec<String>,
}

/// A part of a SELinux label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelPart {
    /// `user:`.
    User,
    /// `role:`.
    Role,
    /// `type:`.
    Type,
    /// `level:`.
    Level,
}

/// What `unmask` says for every path.
pub const ALL: &str = "ALL";

const KNOWN: &str = "known are no-new-privileges, seccomp, seccomp-archs, apparmor, label, mask, unmask and systempaths=unconfined";

/// Reads all `--security-opt`; the old form with a colon is taken too.
///
/// *Source:* docker run(1), podman-run(1). *Errors:* `InvalidArgument` for an option or value that is not known.
pub fn parse(options: &[String]) -> Result<SecurityOptions> {
    let mut all = SecurityOptions::default();
    for option in options {
        read(option, &mut all).map_err(|why| Fault::invalid(format!("security option {option:?} {why}")).hint(KNOWN))?;
    }
    Ok(all)
}

fn read(option: &str, all: &mut SecurityOptions) -> std::result::Result<(), String> {
    if option.chars().any(char::is_control) {
        return Err("has a control character".to_owned());
    }
    let (name, value) = match option.find(['=', ':']) {
        Some(at) => (&option[..at], Some(&option[at + 1..])),
        None => (option, None),
    };
    let needed = || value.filter(|value| !value.is_empty()).ok_or_else(|| "has no value".to_owned());
    match name {
        "no-new-privileges" => all.no_new_privileges = Some(boolean(value.unwrap_or("true"))?),
        "seccomp" => {
            all.seccomp = match needed()? {
                "unconfined" => SeccompChoice::Unconfined,
                "default" | "builtin" => SeccompChoice::Default,
                path => SeccompChoice::File(path.to_owned()),
            }
        }
        "seccomp-archs" => {
            all.architectures = match needed()? {
                "native" => super::seccomp::Architectures::Native,
                "all" => super::seccomp::Architectures::All,
                _ => return Err("is neither native nor all".to_owned()),
            }
        }
        "apparmor" => all.apparmor = Some(needed()?.to_owned()),
        "label" => label(needed()?, all)?,
        "mask" => all.mask.extend(paths(needed()?)?),
        "unmask" => match needed()? {
            value if value.eq_ignore_ascii_case(ALL) => all.unmask.push(ALL.to_owned()),
            value => all.unmask.extend(paths(value)?),
        },
        "systempaths" if value == Some("unconfined") => all.unmask.push(ALL.to_owned()),
        _ => return Err("is not known".to_owned()),
    }
    Ok(())
}

fn boolean(value: &str) -> std::result::Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

fn label(value: &str, all: &mut SecurityOptions) -> std::result::Result<(), String> {
    if value == "disable" {
        all.label_disabled = true;
        return Ok(());
    }
    let (part, value) = value.split_once(':').ok_or("is not label=PART:VALUE or label=disable")?;
    let part = match part {
        "user" => LabelPart::User,
        "role" => LabelPart::Role,
        "type" => LabelPart::Type,
        "level" => LabelPart::Level,
        _ => return Err("has no part user, role, type or level".to_owned()),
    };
    // A level has colons and commas of its own (s0:c1,c2).
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') || (part == LabelPart::Level && matches!(c, ':' | ','));
    if value.is_empty() || !value.chars().all(inner) {
        return Err("has a value that is no part of a label".to_owned());
    }
    all.label.push((part, value.to_owned()));
    Ok(())
}

fn paths(value: &str) -> std::result::Result<Vec<String>, String> {
    let clean = |path: &str| path.starts_with('/') && !path.split('/').any(|part| part == "..");
    if value.split(':').all(clean) {
        return Ok(value.split(':').map(|path| path.trim_end_matches('/').to_owned()).collect());
    }
    Err("is not a list of absolute paths".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(options: &[&str]) -> Result<SecurityOptions> {
        parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_words_of_docker_and_podman_are_taken() {
        let all = read_all(&["no-new-privileges=false", "seccomp=unconfined", "apparmor=docker-default", "label=level:s0:c1,c2"]).unwrap();
        assert_eq!((all.no_new_privileges, &all.seccomp), (Some(false), &SeccompChoice::Unconfined));
        assert_eq!((all.apparmor.as_deref(), &all.label[..]), (Some("docker-default"), &[(LabelPart::Level, "s0:c1,c2".to_owned())][..]));
        let all =
            read_all(&["no-new-privileges", "seccomp:/etc/p.json", "mask=/proc/a:/proc/b", "unmask=/proc/*", "systempaths=unconfined"]);
        let all = all.unwrap();
        assert_eq!((all.no_new_privileges, &all.seccomp), (Some(true), &SeccompChoice::File("/etc/p.json".to_owned())));
        assert_eq!((all.mask, all.unmask), (vec!["/proc/a".to_owned(), "/proc/b".to_owned()], vec!["/proc/*".to_owned(), ALL.to_owned()]));
        assert_eq!(read_all(&["seccomp-archs=all"]).unwrap().architectures, super::super::seccomp::Architectures::All);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [
            "",
            "privileged",
            "seccomp=",
            "seccomp",
            "no-new-privileges=perhaps",
            "label=colour:red",
            "label=type:a b",
            "label=type:a:b",
            "mask=proc",
            "mask=/proc/../etc",
            "systempaths=confined",
            "apparmor=a\nb",
            "seccomp-archs=mips",
        ] {
            assert!(read_all(&[bad]).is_err(), "{bad:?}");
        }
    }
}
