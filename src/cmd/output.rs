//! What commands print: data on stdout, all else on stderr. A closed pipe is not an error.

use std::io::Write as _;

use serde::Serialize;

use crate::fault::{Fault, Kind, Result};

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// JSON for programs.
    Json,
}

/// Prints one line of data.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints one line for people on stderr.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether data goes to a terminal.
pub fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

/// Prints `value` as indented JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Fault::from_error(Kind::Internal, error))?;
    line(&text);
    Ok(())
}

/// Prints text that brings its own line ends.
pub fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints bytes as they are; false when nobody reads them.
pub fn bytes(bytes: &[u8]) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

/// Prints a fault, once: the first, then what could not be undone, then the ways out.
pub fn fault(fault: &Fault) {
    note(&format!("rkbox: {}", printable(&fault.to_string())));
    later(fault);
    hints(fault);
}

/// Prints the ways out of a fault, each once.
pub fn hints(fault: &Fault) {
    for hint in all_hints(fault) {
        note(&format!("hint: {}", printable(hint)));
    }
}

fn later(fault: &Fault) {
    for also in fault.later() {
        note(&format!("  then: {}", printable(&also.to_string())));
        later(also);
    }
}

fn all_hints(fault: &Fault) -> Vec<&str> {
    let mut all: Vec<&str> = fault.hints().iter().map(String::as_str).collect();
    for also in fault.later() {
        all.extend(all_hints(also).into_iter().filter(|hint| !fault.hints().iter().any(|known| known == hint)).collect::<Vec<_>>());
    }
    all
}

/// Keeps what came from an image or a user from steering the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c }).collect()
}

/// Prints rows under upper-case headings, columns padded with spaces as `kubectl` does.
pub fn table(headings: &[&str], rows: &[Vec<String>]) {
    line(&columns(headings, rows));
}

fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let printable = |cell: &str| cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let mut all: Vec<Vec<String>> = vec![headings.iter().map(|h| (*h).to_owned()).collect()];
    all.extend(rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()));
    let count = headings.len();
    let widths: Vec<usize> =
        (0..count).map(|i| all.iter().map(|row| row.get(i).map_or(0, |c| c.chars().count())).max().unwrap_or(0)).collect();
    let text: Vec<String> = all
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
        })
        .collect();
    text.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_carry_no_control_characters() {
        let text = columns(&["NAME", "IP"], &[vec!["a\x1b[31m".into(), "10.0.0.1".into()], vec!["long-name".into(), String::new()]]);
        assert_eq!(text, "NAME        IP\na?[31m      10.0.0.1\nlong-name");
    }
}
