//! Documents that name tests: docs/isolation.md, docs/images.md, docs/attacks.md and docs/network-checks.md. Each test is there, and is run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;

/// Attacks on what images say and on running containers, as the advisories have them.
const ATTACKS: &str = "2024-40635 2026-46680 2022-2989 2022-36109 2023-25173 2024-9676 2026-47262 2025-4437 2022-4318 2026-15809 2022-23648
    2020-1726 2026-53488 2024-3154 2022-0811 2024-5154 2019-11245 2024-21626 2019-5736 2025-31133 2025-52565 2025-52881 2026-41579 2026-88264
    2026-88265 2021-30465 2017-1002101 2021-25741 2019-16884 2019-19921 2023-27561 2023-28642 2024-45310 2023-25809 2022-24769 2022-27649
    2022-27650 2022-29162 2016-9962 2022-1227 2020-15257 2020-14370 2021-21334 2022-1708 2022-31030 2025-64329 2026-53495 2025-0750
    2021-41091 2021-41103 2024-25621 2018-15664 2019-14271 2019-10152 2019-18466 2021-41089 2026-41567 2023-0778";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of a document's tables, without their heads.
fn rows(document: &str) -> Vec<String> {
    let lines = document.lines().filter(|line| {
        line.starts_with("| ") && !["| promise ", "| attack ", "| limit ", "| group "].iter().any(|head| line.starts_with(head))
    });
    lines.map(str::to_owned).collect()
}

/// Why a row does not name a test that is run; `None` when all that it names are.
fn flaw(row: &str) -> Option<String> {
    let named: Vec<(&str, &str)> = row.rsplit('|').nth(1)?.split('`').filter_map(|word| word.rsplit_once("::")).collect();
    if named.is_empty() {
        return Some("no test is named".to_owned());
    }
    let missing = |(file, name): &(&str, &str)| {
        let is_run = match *file {
            "vm" => is_checked_in_the_machine(name),
            inside if inside.starts_with("src/") => is_test(&read(inside), name),
            "laws" | "unwinds" | "explain" => is_law(file, name),
            outside => is_test(&read(&format!("tests/{outside}.rs")), name),
        };
        (!is_run).then(|| format!("{file}::{name} is not there"))
    };
    named.iter().find_map(missing)
}

/// The rows of a document, each of which names tests that are run.
fn whole_rows(path: &str) -> Vec<String> {
    let rows = rows(&read(path));
    let flaws: Vec<String> = rows.iter().filter_map(|row| Some(format!("{}: {row}", flaw(row)?))).collect();
    assert_eq!(flaws, Vec::<String>::new());
    rows
}

/// A function with `#[test]`, and without what would leave it out, but for another processor.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let Some(at) = lines.iter().position(|line| line.starts_with(&format!("fn {name}()"))) else { return false };
    let attributes: Vec<&&str> = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//")).collect();
    attributes.iter().any(|line| **line == "#[test]")
        && !attributes
            .iter()
            .any(|line| line.starts_with("#[ignore") || (line.starts_with("#[cfg") && !line.starts_with("#[cfg(target_arch")))
}

/// A row of a table of laws, of unwindings or of explained commands, or a test beside it.
fn is_law(file: &str, name: &str) -> bool {
    let text = read(&format!("tests/{file}.rs"));
    is_test(&text, name) || text.lines().any(|line| line.trim().starts_with(&format!("{name}:")))
}

/// A shell function of the machine's that is defined, and called somewhere else.
fn is_checked_in_the_machine(name: &str) -> bool {
    let text = read("scripts/vm/systemd") + &read("scripts/vm/reboot");
    let is_word = |line: &str| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name);
    text.contains(&format!("\n{name}() {{")) && text.lines().any(|line| is_word(line) && !line.starts_with(&format!("{name}()")))
}

#[test]
fn every_promise_of_isolation_has_its_tests() {
    let rows = whole_rows("docs/isolation.md");
    assert!(rows.len() >= 50, "{}", rows.len());
}

#[test]
fn every_promise_about_images_has_its_tests() {
    let rows = whole_rows("docs/images.md");
    assert!(rows.len() >= 50, "{}", rows.len());
}

#[test]
fn every_known_attack_on_running_containers_is_in_the_list() {
    let rows = whole_rows("docs/attacks.md");
    let told = |id: &&str| rows.iter().any(|row| row.split([' ', ',', ':']).any(|word| word == format!("CVE-{id}")));
    let untold: Vec<&str> = ATTACKS.split_whitespace().filter(|id| !told(id)).collect();
    assert_eq!(untold, Vec::<&str>::new());
}

#[test]
fn every_group_of_network_checks_has_its_tests() {
    let rows = whole_rows("docs/network-checks.md");
    let groups: Vec<&str> = rows.iter().filter_map(|row| Some(row.split('|').nth(1)?.trim())).collect();
    let wanted: Vec<String> = (1..=17).map(|nth| format!("N{nth}")).chain(["residue".to_owned()]).collect();
    assert_eq!(groups, wanted);
}

/// The check can fail.
#[test]
fn a_row_without_a_test_that_is_run_is_found() {
    for (row, why) in [
        ("| something |  |", "no test is named"),
        ("| a | `posture::no_such_test` |", "posture::no_such_test is not there"),
        ("| a | `src/bundle/cgroup.rs::relative` |", "is not there"),
        ("| a | `vm::load_nothing` |", "is not there"),
        ("| a | `laws::no_such_step` |", "is not there"),
    ] {
        assert!(flaw(row).is_some_and(|said| said.contains(why)), "{row}");
    }
    assert!(!is_test("#[test]\n#[ignore]\nfn left_out() {}\n", "left_out"));
    assert!(!is_test("fn helper() {}\n", "helper"));
    assert!(is_test("    #[test]\n    fn inner() {}\n", "inner"));
}
