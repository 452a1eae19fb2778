//! Families of hostile layers, each the product of a few tables: every combination is judged in overlay form and flat.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod layers;

use layers::judge::Expect::{Has, Is, Refused};
use layers::judge::{Expect, check, t};
use layers::{Head, Tar, World, record};

type Case = (String, Vec<Vec<u8>>, Expect);

/// One thing of each kind at a path, and how it is listed.
const KINDS: [&str; 6] = ["file", "dir", "full", "link", "fifo", "device"];

fn make(tar: Tar, kind: &str, path: &str) -> Tar {
    match kind {
        "file" => tar.file(path, "new"),
        "dir" => tar.dir(path, 0o750),
        "full" => tar.dir(path, 0o750).file(format!("{path}/in"), "inside"),
        "link" => tar.sym(path, "../../canary/keep"),
        "fifo" => tar.head(&Head::new(path, b'6', 0o600), b""),
        _ => tar.device(path, b'3', 1, 3),
    }
}

fn listed(kind: &str, path: &str) -> Vec<String> {
    match kind {
        "file" => vec![format!("f {path} 644 0:0 =new")],
        "dir" => vec![format!("d {path} 750 0:0")],
        "full" => vec![format!("d {path} 750 0:0"), format!("f {path}/in 644 0:0 =inside")],
        "link" => vec![format!("l {path} 777 0:0 -> ../../canary/keep")],
        "fifo" => vec![format!("p {path} 600 0:0")],
        _ => vec![format!("c {path} 600 0:0 1:3")],
    }
}

#[test]
fn every_way_to_write_a_name_is_the_same_name() {
    let mut cases: Vec<Case> = Vec::new();
    for way in ["", "./", "//", "/./"] {
        for name in ["..a", "...", "-x", "a\\b", "a:b,c", ".wh", "wh.a"] {
            for kind in KINDS {
                let shown = name.escape_default().to_string();
                cases.push((format!("{kind} {way}{name}"), vec![make(t(), kind, &format!("{way}{name}")).end()], Is(listed(kind, &shown))));
            }
        }
    }
    check(cases);
}

#[test]
fn no_name_leads_up() {
    let mut cases: Vec<Case> = Vec::new();
    for name in ["..", "../x", "a/..", "a/../x", "/..", "/../x", "./../x", "a/b/../../../x", "a/./../x", "..//x", "a/../../canary/keep"] {
        for kind in KINDS {
            cases.push((format!("{kind} {name}"), vec![t().dir("a", 0o755).end(), make(t(), kind, name).end()], Refused("..")));
        }
        let long = |key: &str| t().pax(&[record(key, name.as_bytes())]);
        cases.extend([
            (format!("hard link to {name}"), vec![t().file("f", "").hard("h", name).end()], Refused("..")),
            (format!("pax {name}"), vec![long("path").file("x", "1").end()], Refused("..")),
            (format!("pax hard link to {name}"), vec![long("linkpath").hard("h", "f").end()], Refused("..")),
            (format!("GNU {name}"), vec![t().ext(b'L', format!("{name}\0").as_bytes()).file("x", "1").end()], Refused("..")),
            (format!("whiteout {name}"), vec![t().file(format!("{name}/.wh.x"), "").end()], Refused("..")),
            (format!("opaque {name}"), vec![t().file(format!("{name}/.wh..wh..opq"), "").end()], Refused("..")),
        ]);
    }
    check(cases);
}

#[test]
fn each_kind_replaces_each() {
    let mut cases: Vec<Case> = Vec::new();
    for old in KINDS {
        for new in KINDS {
            let both = matches!((old, new), ("full", "dir"));
            // A directory stays with what is in it; everything else is gone.
            let mut lines = listed(new, "x");
            if both {
                lines.push("f x/in 644 0:0 =inside".to_owned());
            }
            let one = make(make(t(), old, "x"), new, "x").end();
            let two = vec![make(t(), old, "x").end(), make(t(), new, "x").end()];
            let hidden = vec![make(t(), old, "x").end(), make(t().file(".wh.x", ""), new, "x").end()];
            let three = vec![make(t(), old, "x").end(), t().file(".wh.x", "").end(), make(t(), new, "x").end()];
            cases.extend([
                (format!("{old} to {new} in one layer"), vec![one], Is(lines.clone())),
                (format!("{old} to {new}"), two, Is(lines)),
                (format!("{old} hidden and {new} in one layer"), hidden, Is(listed(new, "x"))),
                (format!("{old} hidden, then {new}"), three, Is(listed(new, "x"))),
            ]);
        }
    }
    check(cases);
}

#[test]
fn each_kind_is_hidden() {
    let mut cases: Vec<Case> = Vec::new();
    for kind in KINDS {
        let base = || make(t().dir("d", 0o700), kind, "d/x").end();
        let dir = || vec!["d d 700 0:0".to_owned()];
        let with_new = || [dir(), vec!["f d/n 644 0:0 =new".to_owned()]].concat();
        cases.extend([
            (format!("{kind} by a whiteout"), vec![base(), t().file("d/.wh.x", "").end()], Is(dir())),
            (format!("{kind} with its directory"), vec![base(), t().file(".wh.d", "").end()], Is(Vec::new())),
            (format!("{kind} by an opaque directory"), vec![base(), t().file("d/.wh..wh..opq", "").end()], Is(dir())),
            (format!("{kind} opaque first"), vec![base(), t().file("d/.wh..wh..opq", "").file("d/n", "new").end()], Is(with_new())),
            (format!("{kind} opaque last"), vec![base(), t().file("d/n", "new").file("d/.wh..wh..opq", "").end()], Is(with_new())),
            (format!("{kind} by an opaque root"), vec![base(), t().file(".wh..wh..opq", "").end()], Is(Vec::new())),
            (format!("{kind} twice"), vec![base(), t().file("d/.wh.x", "").end(), t().file("d/.wh.x", "").end()], Is(dir())),
            (format!("{kind} of the same layer"), vec![make(t(), kind, "x").file(".wh.x", "").end()], Is(listed(kind, "x"))),
            (format!("whiteout before {kind}"), vec![make(t().file(".wh.x", ""), kind, "x").end()], Is(listed(kind, "x"))),
        ]);
    }
    check(cases);
}

/// Whatever is written through a link stays inside; that both forms agree and the canary is whole is what is judged.
#[test]
fn nothing_is_written_through_a_link() {
    let mut cases: Vec<Case> = Vec::new();
    for target in
        ["../canary", "../../canary", "../../../canary", "/canary", "/proc/self/root/canary", "/proc/self/cwd", "/dev/fd/3", "b/../..", "."]
    {
        let links = |tar: Tar| tar.sym("l", target);
        for (what, write) in [
            ("file", t().file("l/keep", "evil")),
            ("directory", t().dir("l/keep", 0o777)),
            ("link", t().sym("l/keep", "/")),
            ("FIFO", t().head(&Head::new("l/keep", b'6', 0o666), b"")),
            ("whiteout", t().file("l/.wh.keep", "")),
            ("opaque", t().file("l/.wh..wh..opq", "")),
            ("deep file", t().file("l/a/b/keep", "evil")),
        ] {
            let same = [links(t()).0, write.0.clone()].concat();
            cases.push((format!("{what} through {target}"), vec![Tar(same).end()], Has(Vec::new())));
            cases.push((format!("{what} through a lower {target}"), vec![links(t()).end(), write.end()], Has(Vec::new())));
        }
        cases.push((format!("hard link through {target}"), vec![links(t()).hard("h", "l/keep").end()], Refused("not there")));
        cases.push((format!("link to a hard link {target}"), vec![links(t()).hard("h", "l").file("h/x", "1").end()], Has(Vec::new())));
    }
    check(cases);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let mut cases: Vec<Case> = Vec::new();
    let wide = |value: u64, length: usize| {
        let mut bytes = vec![0; length];
        bytes[length - 8..].copy_from_slice(&value.to_be_bytes());
        bytes[0] |= 0x80;
        bytes
    };
    let negative = |length: usize| vec![255; length];
    for (field, length, values) in [
        ("uid", 8, [u64::from(u32::MAX), 1 << 32, 1 << 55]),
        ("gid", 8, [u64::from(u32::MAX), 1 << 32, 1 << 55]),
        ("size", 12, [(1 << 53) + 1, 1 << 62, u64::MAX]),
        ("mtime", 12, [(1 << 53) + 1, 1 << 62, u64::MAX]),
        ("major", 8, [4096, 1 << 32, 1 << 55]),
        ("minor", 8, [1 << 20, 1 << 32, 1 << 55]),
    ] {
        let device = matches!(field, "major" | "minor");
        let head = |bytes: Vec<u8>| {
            let mut head = Head::new("a", if device { b'3' } else { b'0' }, 0o644);
            let at = match field {
                "uid" => &mut head.uid,
                "gid" => &mut head.gid,
                "size" => &mut head.size,
                "mtime" => &mut head.mtime,
                "major" => &mut head.major,
                _ => &mut head.minor,
            };
            *at = bytes;
            vec![t().head(&head, b"").end()]
        };
        for value in values {
            cases.push((format!("{field} {value}"), head(wide(value, length)), Refused(field)));
        }
        if field != "mtime" {
            cases.push((format!("{field} negative"), head(negative(length)), Refused(field)));
        }
        for garbage in [&b"8"[..], b"0x1", b"-1", b"1 1", b"1.0", b"\xff\0x"] {
            cases.push((format!("{field} {}", garbage.escape_ascii()), head(garbage.to_vec()), Refused(field)));
        }
    }
    for (key, value) in [
        ("uid", "-1"),
        ("uid", "4294967295"),
        ("gid", "1e3"),
        ("size", "-5"),
        ("size", "99999999999999999999"),
        ("mtime", "x"),
        ("mtime", "1.x"),
    ] {
        cases.push((format!("pax {key} {value}"), vec![t().pax(&[record(key, value.as_bytes())]).file("a", "").end()], Refused(key)));
    }
    check(cases);
}

#[test]
fn attributes_that_steer_the_host_are_dropped() {
    let mut cases: Vec<Case> = Vec::new();
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.whiteout",
        "trusted.x",
        "user.overlay.opaque",
        "user.overlay.redirect",
        "security.selinux",
        "security.ima",
        "security.evm",
        "system.posix_acl_access",
        "user.",
        "x",
    ] {
        for kind in ["file", "dir"] {
            let tar = make(t().pax(&[record(&format!("SCHILY.xattr.{name}"), b"y")]), kind, "x");
            cases.push((format!("{name} of a {kind}"), vec![tar.end()], Is(listed(kind, "x"))));
        }
    }
    check(cases);
}

/// No input takes more memory than a fixed amount, a flood of names neither.
#[test]
fn floods_stay_in_bounded_memory() {
    let world = World::new();
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let count = 200_000;
    let tar = (0..count).fold(t(), |tar, nth| tar.raw(&whiteout(nth)));
    let dirs = (0..20_000).fold(tar, |tar, nth| tar.raw(&directory(nth)));
    let steps = world.layer_steps(&[t().dir("d", 0o755).end(), dirs.end()]);
    // From here on: the tar is gone from this test's own memory.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    for step in &steps {
        layers::run(step, &world.host).unwrap();
    }
    let grown = peak() - before;
    assert!(grown < 40, "{grown} MiB more for {count} whiteouts");
}

fn bare(head: &Head) -> Vec<u8> {
    Tar::new().head(head, b"").0
}

fn whiteout(nth: usize) -> Vec<u8> {
    bare(&Head::new(format!("d/.wh.{}{nth}", "w".repeat(80)), b'0', 0o644))
}

fn directory(nth: usize) -> Vec<u8> {
    bare(&Head::new(format!("d/{}{nth}", "d".repeat(80)), b'5', 0o755))
}
