//! The table of docs/posture.md: it is what is measured here, and in every row a container of rkbox may do no more than one of podman,
//! docker or containerd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use common::{Output, World};
use rkbox::bundle::paths::{MASKED, READ_ONLY};

/// A row: its name, and what rkbox, podman and (by its documentation) docker and containerd have there.
struct Row {
    name: String,
    ours: String,
    others: [String; 2],
}

fn rows(text: &str) -> Vec<Row> {
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    let lines = text.lines().skip_while(|line| !line.starts_with("| measured inside")).skip(2).take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells: Vec<String> = line.trim_matches('|').split('|').map(cell).collect();
            let [name, ours, podman, documented] = cells.try_into().unwrap_or_else(|_| panic!("{line}"));
            Row { name, ours, others: [podman, documented] }
        })
        .collect()
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split('(').next().unwrap().split_whitespace().filter(|word| *word != "…").collect()
}

/// A number where larger is more; `max` and `unlimited` are the largest.
fn amount(text: &str) -> u64 {
    text.trim().parse().unwrap_or(u64::MAX)
}

/// Whether what rkbox gives in a row is no more than what another gives.
fn is_no_more(name: &str, ours: &str, theirs: &str) -> bool {
    let bits = |text: &str| u64::from_str_radix(text, 16).unwrap();
    // What is hidden on a kernel that has it is in our list, seen here or not.
    let hides = |list: &[&str], prefix: &str| {
        let (ours, theirs) = (words(ours), words(theirs));
        theirs.iter().all(|path| ours.contains(path) || list.contains(&format!("{prefix}{path}").as_str()))
    };
    match name {
        "CapBnd" | "CapEff of root" => bits(ours) & !bits(theirs) == 0,
        "CapInh, CapAmb" => ours == "0 0",
        "NoNewPrivs" | "Seccomp" => amount(ours) >= amount(theirs),
        "hidden files" => hides(&MASKED, "/proc/"),
        "hidden directories" => hides(&MASKED, ""),
        "read-only in /proc" => hides(&READ_ONLY, "/proc/"),
        "/sys" => ours == "read-only",
        "root file system" => ours == "nodev" || ours == theirs,
        "open files" => match theirs.split_once(':') {
            Some((soft, hard)) => {
                let (our_soft, our_hard) = ours.split_once(':').unwrap();
                amount(our_soft) <= amount(soft) && amount(our_hard) <= amount(hard)
            }
            None => theirs == "the daemon's",
        },
        "core dumps" | "processes" => amount(ours) <= amount(theirs),
        "set-uid programs" => ours == "no effect" || ours == theirs,
        "user namespaces" => ours == "refused" || ours == theirs,
        "devices" | "environment" => words(ours).is_subset(&words(theirs)),
        other => panic!("no rule for the row {other}: what is less there?"),
    }
}

#[test]
fn the_table_is_true_and_rkbox_gives_no_more_than_others_in_any_row() {
    let world = World::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = rows(&std::fs::read_to_string(root.join("docs/posture.md")).unwrap());
    // The images of the tests are where the script looks for one.
    let _ = common::images();
    let mut command = world.command(root.join("scripts/posture-table"));
    let printed = Output::of(command.arg("--print").env("RKBOX", &world.program), world.limit).ok();
    let measured = rows(&printed.stdout);
    assert!(measured.len() >= 17, "{printed}");
    for row in page.iter().chain(&measured) {
        for theirs in &row.others {
            assert!(is_no_more(&row.name, &row.ours, theirs), "{}: ours {}, theirs {theirs}", row.name, row.ours);
        }
    }
    // Limits and what a kernel has to hide are those of the machine; all the rest holds anywhere.
    let of_the_machine = ["open files", "hidden files", "hidden directories", "read-only in /proc"];
    for (told, seen) in page.iter().zip(&measured).filter(|(told, _)| !of_the_machine.contains(&told.name.as_str())) {
        assert_eq!((&told.name, &told.ours), (&seen.name, &seen.ours), "make the table again: scripts/posture-table");
    }
    assert_eq!(page.len(), measured.len());
}

#[test]
fn what_would_be_more_is_found() {
    for (name, ours, theirs) in [
        ("CapBnd", "00000000800425fb", "00000000800405fb"),
        ("CapInh, CapAmb", "0 400", "0 400"),
        ("NoNewPrivs", "0", "1"),
        ("hidden files", "acpi", "acpi vmcore"),
        ("read-only in /proc", "bus", "bus tty"),
        ("open files", "1024:40000", "20000:20000"),
        ("core dumps", "unlimited", "0"),
        ("processes", "max", "2048"),
        ("set-uid programs", "work", "no effect"),
        ("devices", "kmsg null", "null"),
        ("environment", "HOME SECRET", "HOME"),
    ] {
        assert!(!is_no_more(name, ours, theirs), "{name}");
    }
}
