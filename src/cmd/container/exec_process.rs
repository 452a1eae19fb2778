//! The process of `rkbox exec` as an OCI document: the container's own, changed.

use serde_json::{Value, json};

use super::exec::ExecArgs;
use crate::bundle::capabilities::{self, Holder};
use crate::bundle::process::{self, EnvChange};
use crate::bundle::user;
use crate::cmd::parse;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::record::ContainerRecord;
use crate::sys::{file, proc, rootfs};

/// A larger configuration is not ours.
const CONFIG_LIMIT: u64 = 16 << 20;

/// Writes the document. What is not asked for is as in the container: its rights, limits and seccomp profile too.
pub fn document(record: &ContainerRecord, args: &ExecArgs) -> Result<String> {
    let damaged = |error: serde_json::Error| Fault::from_error(Kind::DataLoss, error).doing("reading config.json of the container");
    let config: Value = serde_json::from_slice(&file::read(&record.bundle.join("config.json"), CONFIG_LIMIT)?).map_err(damaged)?;
    let mut process = config["process"].clone();
    process["terminal"] = json!(args.tty);
    process["args"] = json!(args.command);
    process["env"] = json!(environment(&process["env"], args)?);
    if let Some(dir) = parse::said(args.workdir.as_ref()) {
        process["cwd"] = json!(process::working_directory(dir)?);
    }
    let wanted = parse::said(args.user.as_ref());
    if let Some(wanted) = wanted {
        // Looked up in the file system as it is now, which the container may have changed.
        let accounts = rootfs::read_accounts(&record.bundle.join("rootfs"))?;
        let identity = user::resolve(wanted, &accounts, &[]).doing(|| format!("resolving user {wanted:?}"))?;
        process["user"]["uid"] = json!(identity.uid);
        process["user"]["gid"] = json!(identity.gid);
        process["user"]["additionalGids"] = json!(identity.groups);
    }
    let is_root = process["user"]["uid"] == 0;
    if args.privileged {
        let mut all = capabilities::select(&["ALL".to_owned()], &[])?;
        // Nobody can hand on what he does not have himself.
        let ours = proc::permitted_capabilities()?;
        all.retain(|capability| ours.contains(capability));
        process["capabilities"] = serde_json::to_value(capabilities::linux(&all, holder(is_root))?).map_err(damaged)?;
        process["noNewPrivileges"] = json!(false);
    } else if wanted.is_some() {
        // The bounding set is the container's; what a user holds of it depends on whether it is root.
        let bounding = process["capabilities"]["bounding"].clone();
        for set in ["effective", "permitted"] {
            process["capabilities"][set] = if is_root { bounding.clone() } else { json!([]) };
        }
    }
    serde_json::to_string(&process).map_err(|error| Fault::from_error(Kind::Internal, error))
}

fn holder(is_root: bool) -> Holder {
    if is_root { Holder::Root } else { Holder::User }
}

/// The environment of the container, with the changes in place; a terminal has a TERM.
fn environment(of_container: &Value, args: &ExecArgs) -> Result<Vec<String>> {
    let mut env: Vec<String> = serde_json::from_value(of_container.clone()).unwrap_or_default();
    let is = |entry: &String, name: &str| entry.split('=').next() == Some(name);
    if args.tty && !env.iter().any(|entry| is(entry, "TERM")) {
        env.push("TERM=xterm".to_owned());
    }
    for text in &args.env {
        match process::parse_env(text, |name| std::env::var(name).ok())? {
            EnvChange::Remove { name } => env.retain(|entry| !is(entry, &name)),
            EnvChange::Set { name, value } => {
                let entry = format!("{name}={value}");
                match env.iter_mut().find(|entry| is(entry, &name)) {
                    Some(known) => *known = entry,
                    None => env.push(entry),
                }
            }
        }
    }
    Ok(env)
}
