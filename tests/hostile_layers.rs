//! Layers named by their attack, each judged in overlay form and flat: refused with nothing left, or exactly this tree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::too_many_lines, reason = "tests")]

mod layers;

use layers::judge::Expect::{Has, Refused, Tree};
use layers::judge::{check, t};
use layers::{Head, World, record};

#[test]
fn names() {
    let long = "a".repeat(255);
    check(vec![
        ("path-absolute", vec![t().file("/etc/x", "1").end()], Tree(&["d etc 755 0:0 @0", "f etc/x 644 0:0 =1"])),
        ("path-dot", vec![t().dir("./", 0o755).file("./a", "1").end()], Tree(&["d . 755 0:0", "f a 644 0:0 =1"])),
        ("path-dotdot", vec![t().file("../canary/x", "1").end()], Refused("..")),
        ("path-dotdot-inside", vec![t().file("a/../../x", "1").end()], Refused("..")),
        ("path-dotdot-dir", vec![t().dir("..", 0o777).end()], Refused("..")),
        ("path-nul-pax", vec![t().pax(&[record("path", b"a\0b")]).file("x", "1").end()], Refused("NUL")),
        ("path-not-utf8", vec![t().file(b"\xff\xfe", "1").end()], Tree(&["f \\xff\\xfe 644 0:0 =1"])),
        ("path-newline", vec![t().file("a\nb", "1").end()], Tree(&["f a\\nb 644 0:0 =1"])),
        ("path-component-256", vec![t().file("a".repeat(256), "1").end()], Refused("255")),
        ("path-component-255", vec![t().file(&long, "").end()], Has(vec![format!("f {long} 644 0:0 =")])),
        ("path-8193", vec![t().file("a/".repeat(4097), "1").end()], Refused("8192")),
        ("path-empty-file", vec![t().file("", "1").end()], Refused("root")),
        ("root-symlink", vec![t().sym(".", "../canary").file("x", "1").end()], Refused("root")),
        ("root-symlink-slash", vec![t().sym("/", "/tmp").end()], Refused("root")),
        ("root-file", vec![t().file("./", "1").end()], Refused("root")),
        ("root-attributes", vec![t().dir(".", 0o1700).end(), t().file("a", "").end()], Tree(&["d . 1700 0:0", "f a 644 0:0 ="])),
        ("root-whiteout", vec![t().file(".wh.", "").end()], Refused("whiteout")),
    ]);
}

/// Too deep for `readdir` by path, so only made and taken back.
#[test]
fn deep_trees() {
    let world = World::new();
    let deep = "d/".repeat(2000);
    let one = t().file(format!("{deep}f"), "1").end();
    let two = t().file(format!("{deep}g"), "2").file(format!("{deep}.wh.f"), "").end();
    for step in world.layer_steps(&[one.clone(), two.clone()]) {
        layers::run(&step, &world.host).unwrap();
    }
    for step in world.layer_steps(&[one.clone(), two.clone()]) {
        rkbox::step::Action::undo(&step, &Default::default(), &world.host).unwrap();
    }
    assert!(layers::names(&world.host.layers()).is_empty());
    let flat = world.flatten_step(&[one, two]);
    let before = rkbox::step::Action::look(&flat, &world.host).unwrap();
    rkbox::step::Action::apply(&flat, &before, &world.host).unwrap();
    rkbox::step::Action::undo(&flat, &before, &world.host).unwrap();
    assert!(layers::names(&world.at("flat")).is_empty());
}

#[test]
fn links() {
    let usr = || t().dir("usr", 0o755).dir("usr/lib", 0o755).sym("lib", "usr/lib").end();
    check(vec![
        (
            "sym-relative-out",
            vec![t().sym("a", "../../canary").file("a/x", "1").end()],
            Tree(&["d canary 755 0:0 @0", "f canary/x 644 0:0 =1", "l a 777 0:0 -> ../../canary"]),
        ),
        (
            "sym-absolute-out",
            vec![t().sym("a", "/tmp/none").file("a/x", "1").end()],
            Tree(&["d tmp 755 0:0 @0", "d tmp/none 755 0:0 @0", "f tmp/none/x 644 0:0 =1", "l a 777 0:0 -> /tmp/none"]),
        ),
        (
            "sym-multi-hop",
            vec![t().sym("a", "b").sym("b", "/c/..").file("a/x", "1").end()],
            Tree(&["f x 644 0:0 =1", "l a 777 0:0 -> b", "l b 777 0:0 -> /c/.."]),
        ),
        (
            "sym-cross-layer-usr-merge",
            vec![usr(), t().file("lib/x", "1").end()],
            Tree(&["d usr 755 0:0", "d usr/lib 755 0:0", "f usr/lib/x 644 0:0 =1", "l lib 777 0:0 -> usr/lib"]),
        ),
        ("sym-loop", vec![t().sym("a", "b").sym("b", "a").file("a/x", "1").end()], Refused("symbolic links")),
        (
            "sym-magic",
            vec![t().sym("a", "/proc/self/fd/3").file("a/x", "1").end()],
            Has(vec!["d proc/self/fd/3 755 0:0 @0".into(), "f proc/self/fd/3/x 644 0:0 =1".into()]),
        ),
        ("sym-leaf-replaced", vec![t().sym("a", "/tmp/none").end(), t().file("a", "1").end()], Tree(&["f a 644 0:0 =1"])),
        ("sym-dir-over-symlink", vec![t().sym("a", "../canary").dir("a", 0o777).end()], Tree(&["d a 777 0:0"])),
        (
            "sym-dir-over-symlink-cross",
            vec![usr(), t().dir("lib", 0o700).end()],
            Tree(&["d lib 700 0:0", "d usr 755 0:0", "d usr/lib 755 0:0"]),
        ),
        ("sym-deferred-dir-attrs", vec![t().dir("a", 0o777).sym("a", "../canary").end()], Tree(&["l a 777 0:0 -> ../canary"])),
        (
            "sym-deferred-below",
            vec![t().dir("a", 0o755).dir("a/b", 0o777).sym("a", "/").dir("b", 0o700).end()],
            Tree(&["d b 700 0:0", "l a 777 0:0 -> /"]),
        ),
        ("sym-empty", vec![t().sym("a", "").end()], Refused("target")),
        ("sym-4096", vec![t().sym("a", "x".repeat(4096)).end()], Refused("4095")),
        ("hard-outside", vec![t().hard("a", "../canary/keep").end()], Refused("..")),
        ("hard-absolute", vec![t().file("b", "1").hard("a", "/b").end()], Tree(&["f a 644 0:0 =1", "f b 644 0:0 =1"])),
        ("hard-missing", vec![t().hard("a", "canary/keep").end()], Refused("not there")),
        ("hard-to-directory", vec![t().dir("d", 0o755).hard("a", "d").end()], Refused("directory")),
        (
            "hard-to-symlink-chmod",
            vec![t().sym("s", "/canary").hard("a", "s").mode_file("a", 0o4777, "1").end()],
            Tree(&["f a 4777 0:0 =1", "l s 777 0:0 -> /canary"]),
        ),
        ("hard-to-symlink", vec![t().sym("s", "x").hard("a", "s").end()], Tree(&["l a 777 0:0 -> x", "l s 777 0:0 -> x"])),
        (
            "hard-cross-layer",
            vec![t().dir("d", 0o700).mode_file("d/b", 0o4755, "1").end(), t().hard("a", "d/b").end()],
            Tree(&["d d 700 0:0", "f a 4755 0:0 =1", "f d/b 4755 0:0 =1"]),
        ),
        (
            "hard-cross-layer-symlink",
            vec![t().sym("s", "x").end(), t().hard("a", "s").end()],
            Tree(&["l a 777 0:0 -> x", "l s 777 0:0 -> x"]),
        ),
        (
            "hard-cross-layer-then-whiteout",
            vec![t().file("b", "1").end(), t().hard("a", "b").file(".wh.b", "").end()],
            Tree(&["f a 644 0:0 =1"]),
        ),
        (
            "hard-through-symlink",
            vec![usr(), t().file("lib/x", "1").hard("y", "lib/x").end()],
            Has(vec!["f usr/lib/x 644 0:0 =1".into(), "f y 644 0:0 =1".into()]),
        ),
        ("hard-itself", vec![t().file("a", "1").hard("a", "a").end()], Refused("itself")),
        ("hard-to-whiteout", vec![t().hard("a", ".wh.b").end()], Refused("whiteout")),
        (
            "hard-with-content",
            vec![
                t().file("b", "1")
                    .head(&Head { link: b"b".into(), size: b"00000000001".into(), ..Head::new("a", b'1', 0o644) }, b"x")
                    .end(),
            ],
            Refused("content"),
        ),
        ("parent-is-file", vec![t().file("a", "1").file("a/b", "2").end()], Refused("below")),
        ("parent-was-file", vec![t().file("a", "1").end(), t().file("a/b", "2").end()], Tree(&["d a 755 0:0 @0", "f a/b 644 0:0 =2"])),
    ]);
}

#[test]
fn whiteouts() {
    let base = || t().dir("d", 0o750).file("d/x", "1").file("d/y", "2").dir("d/s", 0o700).file("d/s/z", "3").file("f", "4").end();
    check(vec![
        (
            "wh-file",
            vec![base(), t().file("d/.wh.x", "").file(".wh.f", "").end()],
            Tree(&["d d 750 0:0", "d d/s 700 0:0", "f d/s/z 644 0:0 =3", "f d/y 644 0:0 =2"]),
        ),
        ("wh-dir", vec![base(), t().file(".wh.d", "").end()], Tree(&["f f 644 0:0 =4"])),
        (
            "wh-missing",
            vec![base(), t().file(".wh.none", "").file("none/.wh.x", "").file(".wh.d", "").file("d/.wh.x", "").end()],
            Tree(&["f f 644 0:0 =4"]),
        ),
        ("wh-in-first-layer", vec![t().file(".wh.x", "").file("y", "").end()], Tree(&["f y 644 0:0 ="])),
        (
            "wh-then-entry",
            vec![base(), t().file(".wh.f", "").file("f", "5").file(".wh.d", "").dir("d", 0o711).file("d/n", "6").end()],
            Tree(&["d d 711 0:0", "f d/n 644 0:0 =6", "f f 644 0:0 =5"]),
        ),
        (
            "entry-then-wh",
            vec![base(), t().file("f", "5").file(".wh.f", "").dir("d", 0o711).file("d/n", "6").file(".wh.d", "").end()],
            Tree(&["d d 711 0:0", "f d/n 644 0:0 =6", "f f 644 0:0 =5"]),
        ),
        (
            "wh-of-implied",
            vec![base(), t().file("d/n", "6").file(".wh.d", "").end()],
            Tree(&["d d 750 0:0", "f d/n 644 0:0 =6", "f f 644 0:0 =4"]),
        ),
        (
            "wh-then-implied",
            vec![base(), t().file(".wh.d", "").file("d/n", "6").end()],
            Tree(&["d d 755 0:0 @0", "f d/n 644 0:0 =6", "f f 644 0:0 =4"]),
        ),
        ("wh-below-then-wh", vec![base(), t().file("d/.wh.x", "").file(".wh.d", "").end()], Tree(&["f f 644 0:0 =4"])),
        ("wh-own-file", vec![t().file("a", "1").file(".wh.a", "").end()], Tree(&["f a 644 0:0 =1"])),
        (
            "opaque-before",
            vec![base(), t().file("d/.wh..wh..opq", "").file("d/n", "6").end()],
            Tree(&["d d 750 0:0", "f d/n 644 0:0 =6", "f f 644 0:0 =4"]),
        ),
        (
            "opaque-after",
            vec![base(), t().dir("d", 0o711).file("d/n", "6").file("d/.wh..wh..opq", "").end()],
            Tree(&["d d 711 0:0", "f d/n 644 0:0 =6", "f f 644 0:0 =4"]),
        ),
        (
            "opaque-after-nested",
            vec![base(), t().file("d/s/n", "6").file("d/.wh..wh..opq", "").end()],
            Tree(&["d d 750 0:0", "d d/s 700 0:0", "f d/s/n 644 0:0 =6", "f f 644 0:0 =4"]),
        ),
        (
            "opaque-and-wh",
            vec![base(), t().file("d/.wh.x", "").file("d/s/.wh.z", "").file("d/s/n", "").file("d/.wh..wh..opq", "").end()],
            Tree(&["d d 750 0:0", "d d/s 700 0:0", "f d/s/n 644 0:0 =", "f f 644 0:0 =4"]),
        ),
        ("opaque-then-wh-dir", vec![base(), t().file("d/.wh..wh..opq", "").file(".wh.d", "").end()], Tree(&["f f 644 0:0 =4"])),
        (
            "opaque-inside-then-outside",
            vec![base(), t().file("d/s/.wh..wh..opq", "").file("d/.wh..wh..opq", "").end()],
            Tree(&["d d 750 0:0", "f f 644 0:0 =4"]),
        ),
        (
            "opaque-after-copied-up",
            vec![base(), t().hard("g", "d/s/z").file("d/.wh..wh..opq", "").end()],
            Tree(&["d d 750 0:0", "f f 644 0:0 =4", "f g 644 0:0 =3"]),
        ),
        ("opaque-missing", vec![base(), t().file("none/.wh..wh..opq", "").file(".wh.d", "").end()], Tree(&["f f 644 0:0 =4"])),
        ("opaque-root", vec![base(), t().file("n", "6").file(".wh..wh..opq", "").end()], Tree(&["f n 644 0:0 =6"])),
        (
            "opaque-root-middle",
            vec![base(), t().file(".wh..wh..opq", "").dir("d", 0o755).file("d/n", "6").end(), t().file("d/m", "7").file(".wh.f", "").end()],
            Tree(&["d d 755 0:0", "f d/m 644 0:0 =7", "f d/n 644 0:0 =6"]),
        ),
        (
            "wh-three-layers",
            vec![base(), t().file(".wh.d", "").end(), t().dir("d", 0o755).file("d/n", "").end(), t().file("d/.wh.x", "").end()],
            Tree(&["d d 755 0:0", "f d/n 644 0:0 =", "f f 644 0:0 =4"]),
        ),
        (
            "wh-through-symlink",
            vec![base(), t().sym("l", "d").end(), t().file("l/.wh.x", "").file("l/s/.wh..wh..opq", "").end()],
            Tree(&["d d 750 0:0", "d d/s 700 0:0", "f d/y 644 0:0 =2", "f f 644 0:0 =4", "l l 777 0:0 -> d"]),
        ),
        (
            "wh-of-symlink",
            vec![t().dir("d", 0o755).file("d/x", "").sym("l", "d").end(), t().file(".wh.l", "").end()],
            Tree(&["d d 755 0:0", "f d/x 644 0:0 ="]),
        ),
        (
            "wh-names",
            vec![base(), t().file(".wh..wh.aufs", "").file(".wh..wh.plnk/1", "").end()],
            Tree(&["d d 750 0:0", "d d/s 700 0:0", "f d/s/z 644 0:0 =3", "f d/x 644 0:0 =1", "f d/y 644 0:0 =2", "f f 644 0:0 =4"]),
        ),
        ("wh-dotdot", vec![base(), t().file(".wh...", "").end()], Refused("whiteout")),
        ("wh-dot", vec![base(), t().file("d/.wh..", "").end()], Refused("whiteout")),
        ("wh-as-dir", vec![base(), t().file(".wh.d/x", "").end()], Refused("whiteout")),
        ("wh-by-device", vec![base(), t().device("f", b'3', 0, 0).end()], Refused("0:0")),
        ("wh-with-content", vec![base(), t().file(".wh.d", "content").file("n", "").end()], Tree(&["f f 644 0:0 =4", "f n 644 0:0 ="])),
        ("kind-dir-to-file", vec![base(), t().file("d", "5").end()], Tree(&["f d 644 0:0 =5", "f f 644 0:0 =4"])),
        (
            "kind-file-to-dir",
            vec![base(), t().dir("f", 0o755).file("f/n", "5").file(".wh.d", "").end()],
            Tree(&["d f 755 0:0", "f f/n 644 0:0 =5"]),
        ),
        ("kind-dir-file-dir", vec![base(), t().file("d", "").end(), t().dir("d", 0o755).end()], Tree(&["d d 755 0:0", "f f 644 0:0 =4"])),
        ("kind-dir-file-dir-one-layer", vec![base(), t().file("d", "").dir("d", 0o755).end()], Tree(&["d d 755 0:0", "f f 644 0:0 =4"])),
        ("kind-dir-to-symlink", vec![base(), t().sym("d", "/").end()], Tree(&["f f 644 0:0 =4", "l d 777 0:0 -> /"])),
        (
            "kind-dir-to-symlink-through",
            vec![base(), t().sym("d", "/e").file("d/x", "9").end()],
            Tree(&["d e 755 0:0 @0", "f e/x 644 0:0 =9", "f f 644 0:0 =4", "l d 777 0:0 -> /e"]),
        ),
        ("duplicate-last-wins", vec![t().file("a", "1").file("a", "2").end()], Tree(&["f a 644 0:0 =2"])),
    ]);
}

/// What the header of a trap says must not become an entry.
#[test]
fn content_is_never_read_as_headers() {
    let world = World::new();
    let trap = t().file("evil", "1").0;
    let size = trap.len().to_string();
    let tar = t().pax(&[record("size", size.as_bytes())]).head(&Head::new("a", b'0', 0o644), &trap).end();
    let listed = world.flat(&[tar]).unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0].starts_with("f a 644"));
}

fn same(world: &World, tars: &[Vec<u8>]) {
    let (overlay, flat) = (world.overlay(tars).unwrap(), world.flat(tars).unwrap());
    let differing = overlay.iter().zip(&flat).find(|(one, two)| one != two);
    assert!(overlay.len() == flat.len() && differing.is_none(), "{} {} {differing:?}", overlay.len(), flat.len());
}

#[test]
fn floods_are_linear() {
    let world = World::new();
    let started = std::time::Instant::now();
    // A chain of directories, made opaque from the inside out, and again.
    let mut chain = t();
    let mut lower = t();
    for depth in 1..300 {
        lower = lower.file(format!("{}f", "d/".repeat(depth)), "");
    }
    for depth in (1..300).rev() {
        for _ in 0..3 {
            chain = chain.file(format!("{}.wh..wh..opq", "d/".repeat(depth)), "");
        }
    }
    let tars = [lower.end(), chain.end()];
    same(&world, &tars);
    let many = (0..20_000).fold(t(), |tar, nth| tar.file(format!("d/{nth}"), "")).end();
    let gone = (0..20_000).fold(t(), |tar, nth| tar.file(format!("d/.wh.{nth}"), "").file("d/.wh..wh..opq", "")).end();
    let tars = [many, gone];
    same(&world, &tars);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
