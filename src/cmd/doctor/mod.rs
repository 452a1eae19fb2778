//! `rkbox doctor`: what this host has and lacks for containers, and what would mend it. Changes nothing.

mod cgroups;
mod kernel;
mod network;
mod runtime;
mod state;

use clap::Args;
use serde::Serialize;

use super::{Context, Format, output};
use crate::fault::{Kind, Result};

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
    kernel::look(&mut all);
    cgroups::look(cx, &mut all);
    runtime::look(&cx.host, &mut all);
    network::look(&cx.host, &mut all);
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
