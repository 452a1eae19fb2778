//! `rkbox unit`: systemd units for what is there, printed.

use clap::Args;

use super::cli::{self, Operands};
use super::records::{self, BoxKind};
use super::{Context, output};
use crate::fault::{Fault, Kind, Result};
use crate::record::RawConfig;
use crate::record::unit::{self, Making};
use crate::sys::Host;

/// Arguments of `rkbox unit`.
#[derive(Debug, Args)]
pub struct UnitArgs {
    /// The unit that takes back what the last boot left, and starts
    /// again what a restart policy wants
    #[arg(long, conflicts_with = "key", required_unless_present = "key")]
    pub boot: bool,
    /// Container or sandbox, by name, id or a unique prefix of one
    #[arg(value_name = "CONTAINER|SANDBOX")]
    pub key: Option<String>,
}

/// Prints a unit; nobody's systemd is asked to do anything.
pub fn run(cx: &Context, args: &UnitArgs) -> Result<u8> {
    let host = &cx.host;
    let Some(key) = &args.key else {
        output::text(&unit::boot(&Making { options: Vec::new(), operands: Vec::new(), program: program()?, global: roots(host, &[]) }));
        return Ok(0);
    };
    let text = match records::find(host, BoxKind::Container, key) {
        Ok(id) => {
            let record = records::container(host, &id)?;
            unit::container(&record, &making(host, &record.config)?)?
        }
        Err(fault) if fault.kind() == Kind::NotFound => {
            let id = records::find(host, BoxKind::Sandbox, key)
                .map_err(|_| Fault::not_found(format!("no container or sandbox is called {key}")))?;
            let record = records::sandbox(host, &id)?;
            unit::sandbox(&record, &making(host, &record.config)?)
        }
        Err(fault) => return Err(fault),
    };
    output::text(&text);
    Ok(0)
}

/// The words of the command that made a box, told apart by the command line's own reader.
fn making(host: &Host, config: &RawConfig) -> Result<Making> {
    let words: Vec<String> = serde_json::from_value(config.raw.clone()).unwrap_or_default();
    let strange = || {
        let fault = Fault::new(Kind::FailedPrecondition, "it was not made by a command line that this version reads");
        fault.hint("make it anew with rkbox run or rkbox sandbox create")
    };
    let Operands { count, subcommand } = cli::operands(&words).ok_or_else(strange)?;
    let options_end = words.len().checked_sub(count).ok_or_else(strange)?;
    let at = words.iter().position(|word| word == subcommand).filter(|at| (1..options_end).contains(at)).ok_or_else(strange)?;
    // Those that stand before the subcommand, and the roots that came from this shell's environment.
    let mut global = words[1..at].to_vec();
    global.retain(|word| word != "sandbox");
    global.extend(roots(host, &words));
    let options = words[at + 1..options_end].iter().filter(|word| *word != "--").cloned().collect();
    Ok(Making { program: program()?, global, options, operands: words[options_end..].to_vec() })
}

/// The roots, where they are neither the usual ones nor said in `words`: a unit has not this shell's environment.
fn roots(host: &Host, words: &[String]) -> Vec<String> {
    let all = [
        ("--root", &host.root, "/var/lib/rkbox"),
        ("--run", &host.run, "/run/rkbox"),
        ("--cni-conf-dir", &host.cni_conf, "/etc/cni/net.d"),
        ("--cni-state-dir", &host.cni_state, "/var/lib/cni"),
    ];
    let said =
        |option: &str| words.iter().any(|word| word == option || word.strip_prefix(option).is_some_and(|rest| rest.starts_with('=')));
    let other = all.into_iter().filter(|(option, dir, usual)| dir.to_string_lossy() != *usual && !said(option));
    other.flat_map(|(option, dir, _)| [option.to_owned(), dir.to_string_lossy().into_owned()]).collect()
}

fn program() -> Result<String> {
    let path = std::env::current_exe().map_err(|error| Fault::from_error(Kind::Internal, error).doing("finding this program"))?;
    Ok(path.to_string_lossy().into_owned())
}
