//! The floors of the house, read from the sources: a file imports downwards and inside its own folder (ARCHITECTURE.md, "The
//! house"); `unsafe` and `Command` stay in `sys/`; no file is over 400 lines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

const FLOORS: [(u8, &[&str]); 6] = [
    (0, &["fault", "ids", "idmap", "json", "script", "ports"]),
    (1, &["record", "image", "bundle", "cni", "pod", "rules"]),
    (2, &["sys"]),
    (3, &["step"]),
    (4, &["plan", "network"]),
    (5, &["cmd", "cni_plugin", "cri", "monitor", "main", "lib"]),
];

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|(floor, _)| *floor)
}

/// `src/step/veth.rs` → `step`, `src/fault.rs` → `fault`.
fn room(path: &str) -> &str {
    let below = path.strip_prefix("src/").unwrap();
    below.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The source with comments, strings and character literals blanked, so that what is left is code.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if rest.starts_with('"') {
            quoted(rest.as_bytes())
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            0
        };
        if skip == 0 {
            let c = rest.chars().next().unwrap();
            out.push(c);
            at += c.len_utf8();
        } else {
            out.extend(rest[..skip].chars().filter(|c| *c == '\n'));
            out.push(' ');
            at += skip;
        }
    }
    out
}

fn quoted(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Length of the character literal at the start of `rest`, 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(0, |end| end + 4),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

/// The rooms that `code` names: after `crate::` (braces of a group opened), and after a chain of `super::` that leaves the folder.
fn named_rooms(code: &str, path: &str) -> Vec<String> {
    let squeezed: String = code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ::", "::").replace(":: ", "::");
    let mut found = Vec::new();
    for (at, _) in squeezed.match_indices("crate::") {
        let joined = squeezed[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        if !joined {
            found.extend(heads(&squeezed[at + 7..]));
        }
    }
    // A file of a folder is two modules deep; its `mod tests` is three.
    let out = if path.matches('/').count() > 1 && !path.ends_with("/mod.rs") { "super::super::" } else { "super::" };
    for (at, _) in squeezed.match_indices(out) {
        let after = squeezed[at + out.len()..].trim_start_matches("super::");
        found.extend(heads(after).into_iter().filter(|head| floor(head).is_some() && head != "main" && head != "lib"));
    }
    found
}

/// The first names of a path or of each member of a `{group}`.
fn heads(text: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = text.strip_prefix('{') else { return vec![name(text)] };
    let (mut depth, mut start, mut found) = (0_u32, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                found.push(name(&group[start..at]));
                start = at + 1;
            }
            '}' if depth == 0 => {
                found.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// Everything that `text` at `path` (from the project's root) breaks.
fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > 400 {
        found.push(format!("{path}: {lines} lines; 400 is a wall"));
    }
    if !path.starts_with("src/") {
        return found;
    }
    let code = code(text);
    let shipped = code.split("#[cfg(test)]\nmod ").next().unwrap();
    let own = room(path);
    let Some(own_floor) = floor(own) else {
        found.push(format!("{path}: room {own} has no floor; name it in ARCHITECTURE.md and in tests/floors.rs"));
        return found;
    };
    for named in named_rooms(&code, path) {
        let allowed = named == own
            || floor(&named).is_none_or(|floor| floor < own_floor || (floor == 0 && own_floor == 0))
            || own == "main"
            || own == "lib";
        // The monitor outlives the command: doors and words only.
        let allowed = allowed && !(own == "monitor" && floor(&named).is_some_and(|floor| floor > 2));
        if !allowed {
            found.push(format!("{path}: {own} (floor {own_floor}) imports crate::{named} (floor {})", floor(&named).unwrap()));
        }
    }
    let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    if words.contains(&"unsafe") && own != "sys" {
        found.push(format!("{path}: unsafe outside src/sys"));
    }
    // `test_world.rs` is a module of tests alone (`#[cfg(test)] mod test_world`).
    if shipped.contains("Command::new") && path != "src/sys/exec.rs" && !path.ends_with("/test_world.rs") {
        found.push(format!("{path}: Command::new outside src/sys/exec.rs"));
    }
    found.dedup();
    found
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_keeps_to_its_floor() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "tests", "freestanding", "benches"] {
        sources(&project.join(dir), &mut files);
    }
    assert!(files.len() > 20, "only {} files found", files.len());
    files.sort();
    let found: Vec<String> = files
        .iter()
        .flat_map(|path| violations(path.strip_prefix(project).unwrap().to_str().unwrap(), &fs::read_to_string(path).unwrap()))
        .collect();
    assert!(found.is_empty(), "{} violations:\n  {}", found.len(), found.join("\n  "));
}

#[track_caller]
fn breaks(path: &str, text: &str, what: &str) {
    let found = violations(path, text);
    assert!(found.iter().any(|line| line.contains(what)), "{path} {text:?}: {found:?} does not say {what:?}");
}

#[test]
fn violations_are_found() {
    breaks("src/sys/file.rs", "use crate::step::Step;", "imports crate::step");
    breaks("src/sys/file.rs", "use crate::{fault::Fault, plan::{a, b}};", "imports crate::plan");
    breaks("src/step/x.rs", "fn f() { crate::cmd::output::line(\"\") }", "imports crate::cmd");
    breaks("src/image/x.rs", "use crate::\n    cni::Range;", "imports crate::cni");
    breaks("src/ids.rs", "use crate::sys::Host;", "imports crate::sys");
    breaks("src/image/x.rs", "use super::super::sys::Host;", "imports crate::sys");
    breaks("src/monitor.rs", "use crate::plan::Plan;", "imports crate::plan");
    breaks("src/step/x.rs", "fn f() { unsafe { g() } }", "unsafe outside");
    breaks("src/step/x.rs", "fn f() { Command::new(\"ip\"); }", "Command::new outside");
    breaks("src/attic/x.rs", "", "has no floor");
    breaks("tests/x.rs", &"\n".repeat(401), "401 lines");
}

#[test]
fn what_is_allowed_is_not_found() {
    for (path, text) in [
        ("src/step/x.rs", "use crate::fault::Fault; use crate::{sys::Host, step::Step, image};"),
        ("src/ids.rs", "use crate::fault::Fault;"),
        (
            "src/step/x.rs",
            "// use crate::plan\n/* unsafe */ fn f<'a>(c: &'a str) { let _ = (\"crate::plan unsafe\", '\"', '\\'', r#\"crate::cmd\"#); }",
        ),
        (
            "src/step/x.rs",
            "#![allow(unsafe_code)] fn f() {}\n#[cfg(test)]\nmod tests { fn g() { Command::new(\"ip\"); } use super::super::Action; }",
        ),
        ("src/sys/ns.rs", "fn f() { unsafe { g() } }"),
        ("src/main.rs", "use rkbox::cmd; fn main() {}"),
    ] {
        assert_eq!(violations(path, text), Vec::<String>::new(), "{path}");
    }
}
