//! A profile that a user gives: Docker's form (`archMap`, `includes`, `excludes`), which podman and containerd read too, or the OCI form.

#[cfg(test)]
use std::collections::BTreeSet;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompBuilder, LinuxSeccompFilterFlag, LinuxSyscall, LinuxSyscallBuilder,
};
use serde::Deserialize;

use super::of_machine;
use crate::bundle::capabilities::CapabilitySet;
use crate::bundle::spec::internal;
use crate::fault::{Fault, Result};

/// What a profile with conditions is made for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The capabilities of the container.
    pub capabilities: &'a CapabilitySet,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<Arch>,
    #[serde(default)]
    arch_map: Vec<Kin>,
    #[serde(default)]
    flags: Vec<LinuxSeccompFilterFlag>,
    #[serde(default)]
    syscalls: Vec<Call>,
    listener_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kin {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Vec<Arch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Reads a profile and settles its conditions for `target`.
///
/// *Errors:* `InvalidArgument` for what is no profile, and for one that needs a listener (`SCMP_ACT_NOTIFY`), which rkbox does not run.
pub fn parse(text: &[u8], target: Target<'_>) -> Result<LinuxSeccomp> {
    let profile: Profile = serde_json::from_slice(text).map_err(|error| {
        Fault::invalid(format!("it is not a seccomp profile: {error}"))
            .hint("the form is Docker's, or that of linux.seccomp in an OCI configuration; rkbox seccomp prints one")
    })?;
    let notifies = profile.syscalls.iter().any(|call| call.action == LinuxSeccompAction::ScmpActNotify);
    if profile.listener_path.is_some() || notifies {
        return Err(
            Fault::invalid("the profile hands calls to a listener (SCMP_ACT_NOTIFY)").hint("take the listener out of it; rkbox runs none")
        );
    }
    let mut calls = Vec::new();
    for call in &profile.syscalls {
        if applies(call, target)? {
            calls.push(settle(call)?);
        }
    }
    let builder = LinuxSeccompBuilder::default()
        .default_action(profile.default_action)
        .architectures(architectures(&profile))
        .flags(profile.flags)
        .syscalls(calls);
    let builder = if let Some(errno) = profile.default_errno_ret { builder.default_errno_ret(errno) } else { builder };
    builder.build().map_err(internal)
}

/// The machine's own architecture comes first; `archMap` names its kin.
fn architectures(profile: &Profile) -> Vec<Arch> {
    if profile.arch_map.is_empty() {
        return profile.architectures.clone();
    }
    let native = of_machine(super::Architectures::Native);
    let kin = profile.arch_map.iter().filter(|kin| native.contains(&kin.architecture)).flat_map(|kin| kin.sub_architectures.clone());
    native.iter().copied().chain(kin).collect()
}

fn settle(call: &Call) -> Result<LinuxSyscall> {
    let names: Vec<String> = call.names.iter().chain(call.name.as_ref()).cloned().collect();
    let builder = LinuxSyscallBuilder::default().names(names).action(call.action);
    let builder = if let Some(errno) = call.errno_ret { builder.errno_ret(errno) } else { builder };
    let builder = match &call.args {
        Some(args) if !args.is_empty() => builder.args(args.clone()),
        _ => builder,
    };
    builder.build().map_err(internal)
}

/// Whether the conditions of a rule hold. *Source:* moby `profiles/seccomp`: every capability included must be there, none excluded.
fn applies(call: &Call, target: Target<'_>) -> Result<bool> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let held = |name: &String| target.capabilities.contains(name);
    let (includes, excludes) = (&call.includes, &call.excludes);
    let new_enough = |version: &Option<String>| version.as_deref().map(|text| at_least(target.kernel, text)).transpose();
    let included = includes.caps.iter().all(held)
        && (includes.arches.is_empty() || includes.arches.iter().any(|arch| arch == machine))
        && new_enough(&includes.min_kernel)?.unwrap_or(true);
    let excluded = excludes.caps.iter().any(held)
        || excludes.arches.iter().any(|arch| arch == machine)
        || new_enough(&excludes.min_kernel)?.unwrap_or(false);
    Ok(included && !excluded)
}

fn at_least(kernel: (u32, u32), text: &str) -> Result<bool> {
    let version = text.split_once('.').and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
    let version = version.ok_or_else(|| Fault::invalid(format!("minKernel {text:?} is not MAJOR.MINOR")))?;
    Ok(kernel >= version)
}

/// The names of all calls that a profile has a rule for, whatever the answer.
#[cfg(test)]
fn named(profile: &LinuxSeccomp) -> BTreeSet<&str> {
    profile.syscalls().iter().flatten().flat_map(|call| call.names()).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::capabilities;

    const DOCKER: &str = r#"{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
        "syscalls": [
          {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
          {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
          {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}, "args": null},
          {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
           "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]},
          {"name": "chroot", "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}}]}"#;

    fn settled(add: &[&str], kernel: (u32, u32)) -> LinuxSeccomp {
        let add: Vec<String> = add.iter().map(|name| (*name).to_owned()).collect();
        let set = capabilities::select(&add, &[]).unwrap();
        parse(DOCKER.as_bytes(), Target { capabilities: &set, kernel }).unwrap()
    }

    #[test]
    fn the_conditions_of_a_profile_are_settled_for_a_container() {
        let plain = settled(&[], (6, 1));
        assert_eq!(named(&plain).into_iter().collect::<Vec<_>>(), ["clone", "ptrace", "read", "write"]);
        assert_eq!(plain.architectures().as_ref().unwrap().len(), 2);
        let admin = settled(&["SYS_ADMIN"], (4, 7));
        assert_eq!(named(&admin).into_iter().collect::<Vec<_>>(), ["mount", "read", "write"]);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let set = capabilities::default_set();
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#,
            r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","includes":{"minKernel":"x"}}]}"#,
        ] {
            assert!(parse(bad.as_bytes(), Target { capabilities: &set, kernel: (6, 1) }).is_err(), "{bad}");
        }
        let own = super::super::default_profile(&set, super::super::Architectures::Native).unwrap();
        let text = serde_json::to_vec(&own).unwrap();
        assert_eq!(parse(&text, Target { capabilities: &set, kernel: (6, 1) }).unwrap().syscalls(), own.syscalls());
    }
}
