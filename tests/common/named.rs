//! Tables of `docs/` that name the tests behind each of their rows.

use std::fs;
use std::path::Path;

/// The first cells of the rows of a document's table, after it was seen that each names tests (`file::name`) and that those are there.
#[track_caller]
pub fn rows_with_tests(document: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let rows = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with("| "));
    rows.map(|row| {
        let tests: Vec<(&str, &str)> = row.split('`').filter_map(|word| word.split_once("::")).collect();
        assert!(!tests.is_empty(), "{document} names no test: {row}");
        for (file, name) in tests {
            let text = fs::read_to_string(root.join("tests").join(format!("{file}.rs"))).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(text.contains(&format!("#[test]\nfn {name}()")), "{file}::{name} is not there: {row}");
        }
        row.split('|').nth(1).unwrap_or_default().trim().to_owned()
    })
    .collect()
}
