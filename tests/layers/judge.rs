//! Judges layers in both forms against what they must become.

use super::{Tar, World};

pub enum Expect {
    /// The message contains this.
    Refused(&'static str),
    /// The listing is this, in the order of `sort`.
    Tree(&'static [&'static str]),
    /// The listing is this, in any order.
    Is(Vec<String>),
    /// Both forms agree and the listing contains these.
    Has(Vec<String>),
}
use Expect::{Has, Is, Refused, Tree};

fn sorted(lines: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.sort();
    lines
}

pub fn check<S: std::fmt::Display>(cases: Vec<(S, Vec<Vec<u8>>, Expect)>) {
    let world = World::new();
    let mut wrong = Vec::new();
    for (name, tars, expect) in cases {
        let canary = world.canary();
        // The paths of the canary that hostile layers aim at are relative and absolute.
        for (form, outcome) in [("overlay", world.overlay(&tars)), ("flat", world.flat(&tars))] {
            match (&expect, &outcome) {
                (Refused(why), Err(fault)) if fault.to_string().contains(why) => {}
                (Tree(tree), Ok(listed)) if listed.iter().map(String::as_str).eq(tree.iter().copied()) => {}
                (Is(tree), Ok(listed)) if sorted(tree) == *listed => {}
                (Has(some), Ok(listed)) if some.iter().all(|line| listed.contains(line)) => {}
                _ => wrong.push(format!("{name} ({form}): {:#?}", outcome.map_err(|fault| fault.to_string()))),
            }
        }
        // The blobs are written on first use; all else outside stays.
        let blobless = |lines: Vec<String>| lines.into_iter().filter(|line| !line.starts_with("blob")).collect::<Vec<_>>();
        assert_eq!(blobless(world.canary()), blobless(canary), "{name} changed the canary");
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

pub fn t() -> Tar {
    Tar::new()
}
