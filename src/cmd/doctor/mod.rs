//! `rkbox doctor`: what this host has and lacks for containers, and what would mend it. Changes nothing.

mod cgroups;
mod kernel;
mod network;
mod rootless;
mod runtime;
mod state;

use clap::Args;
use serde::Serialize;

use super::{Context, Format, output};
use crate::fault::{Kind, Result};
use crate::sys;

/// Arguments of `rkbox doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Only what is not as it should be
    #[arg(short, long)]
    pub quiet: bool,
}

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Something does not work, or is less safe, and the rest does.
    Warn,
    /// Containers cannot be made.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    /// What was looked at.
    topic: &'static str,
    /// How good it is.
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn ok(topic: &'static str, found: impl Into<String>) -> Self {
        Finding { topic, verdict: Verdict::Ok, found: found.into(), hint: None }
    }

    fn warn(topic: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Finding { topic, verdict: Verdict::Warn, found: found.into(), hint: Some(hint.into()) }
    }

    fn fail(topic: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Finding { topic, verdict: Verdict::Fail, found: found.into(), hint: Some(hint.into()) }
    }
}

/// Prints the report; the exit status is that of a failed precondition when containers cannot be made here.
pub fn run(cx: &Context, args: &DoctorArgs) -> Result<u8> {
    let mut all = Vec::new();
    // An ordinary user's rkbox is asked before it is in the user's namespaces: what keeps it from them is to be told.
    let is_ordinary = sys::rootless::is_ordinary_user();
    let own = is_ordinary.then(|| own_places(cx)).transpose()?;
    let cx = own.as_ref().unwrap_or(cx);
    kernel::look(&mut all);
    if is_ordinary {
        rootless::look(&mut all);
    } else {
        privileged(cx, &mut all);
    }
    runtime::look(&cx.host, &mut all);
    state::look(&cx.host, &mut all);
    let worst = all.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    if args.quiet {
        all.retain(|finding| finding.verdict != Verdict::Ok);
    }
    match cx.format {
        Format::Json => output::json(&all)?,
        Format::Table => print(&all),
    }
    Ok(if worst == Verdict::Fail { Kind::FailedPrecondition.exit_code() } else { 0 })
}

/// The same context with the roots of an ordinary user.
fn own_places(cx: &Context) -> Result<Context> {
    let mut own = cx.clone();
    if let Ok(places) = sys::rootless::places() {
        for (name, path) in places {
            match name.as_str() {
                "RKBOX_ROOT" => own.host.root = path.into(),
                "RKBOX_RUN" => own.host.run = path.into(),
                _ => {}
            }
        }
    }
    Ok(own)
}

fn privileged(cx: &Context, all: &mut Vec<Finding>) {
    kernel::privileges(all);
    cgroups::look(cx, all);
    network::look(&cx.host, all);
}

fn print(findings: &[Finding]) {
    let word = |verdict| match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    let rows: Vec<Vec<String>> = findings
        .iter()
        .flat_map(|finding| {
            let first = vec![word(finding.verdict).to_owned(), finding.topic.to_owned(), finding.found.clone()];
            let hint = finding.hint.iter().map(|hint| vec![String::new(), String::new(), format!("  hint: {hint}")]);
            std::iter::once(first).chain(hint).collect::<Vec<_>>()
        })
        .collect();
    if !rows.is_empty() {
        output::table(&["STATUS", "TOPIC", "FOUND"], &rows);
    }
}
