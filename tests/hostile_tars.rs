//! Tar dialects and attributes named by their attack, each judged in overlay form and flat.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::too_many_lines, reason = "tests")]

mod layers;

use layers::judge::Expect::{Has, Refused, Tree};
use layers::judge::{check, t};
use layers::{Head, record};

#[test]
fn attributes() {
    let id = |bytes: &[u8]| t().head(&Head { uid: bytes.to_vec(), ..Head::new("a", b'0', 0o644) }, b"").end();
    let x = |name: &str, value: &[u8]| t().pax(&[record(&format!("SCHILY.xattr.{name}"), value)]);
    let lower = || {
        let head = Head { uid: b"0001750".to_vec(), gid: b"0001751".to_vec(), ..Head::new("d", b'5', 0o2770) };
        x("user.k", b"v").head(&head, b"").file("d/x", "1").end()
    };
    check(vec![
        ("attr-setuid", vec![t().mode_file("a", 0o4755, "1").dir("d", 0o1777).dir("g", 0o2775).end()],
            Tree(&["d d 1777 0:0", "d g 2775 0:0", "f a 4755 0:0 =1"])),
        ("attr-owner", vec![t().head(&Head { uid: b"0001750".to_vec(), gid: b"0000012".to_vec(), ..Head::new("a", b'0', 0o4755) }, b"").end()],
            Tree(&["f a 4755 1000:10 ="])),
        ("attr-implicit-parent", vec![lower(), t().file("d/n", "2").end()],
            Tree(&["d d 2770 1000:1001 {user.k=v}", "f d/n 644 0:0 =2", "f d/x 644 0:0 =1"])),
        ("attr-implicit-parent-whiteout", vec![lower(), t().file("d/.wh.x", "").end()], Tree(&["d d 2770 1000:1001 {user.k=v}"])),
        ("attr-dir-xattr-gone", vec![lower(), t().dir("d", 0o755).end()], Tree(&["d d 755 0:0", "f d/x 644 0:0 =1"])),
        ("attr-uid-2^32-1", vec![id(&[0x80, 0, 0, 0, 255, 255, 255, 255])], Refused("uid")),
        ("attr-uid-2^32", vec![id(&[0x80, 0, 0, 1, 0, 0, 0, 0])], Refused("uid")),
        ("attr-uid-negative", vec![id(&[255; 8])], Refused("uid")),
        ("attr-uid-garbage", vec![id(b"9999999")], Refused("uid")),
        ("attr-uid-pax-2^32", vec![t().pax(&[record("uid", b"4294967296")]).file("a", "").end()], Refused("uid")),
        ("attr-uid-pax", vec![t().pax(&[record("uid", b"4294967294")]).file("a", "").end()], Tree(&["f a 644 4294967294:0 ="])),
        ("attr-devnum", vec![t().device("null", b'3', 1, 3).device("sda", b'4', 8, 0).device("p", b'6', 0, 0).end()],
            Tree(&["b sda 600 0:0 8:0", "c null 600 0:0 1:3", "p p 600 0:0"])),
        ("attr-devnum-wrap", vec![t().device("null", b'3', 4097, 3).end()], Refused("major")),
        ("attr-devnum-minor", vec![t().device("null", b'3', 1, 1 << 20).end()], Refused("minor")),
        ("attr-mtime-negative", vec![t().pax(&[record("mtime", b"-1.5")]).file("a", "").end()], Tree(&["f a 644 0:0 = @-2.500000000"])),
        ("attr-size-negative", vec![t().head(&Head { size: vec![255; 12], ..Head::new("a", b'0', 0o644) }, b"").end()], Refused("size")),
        ("ovl-xattr-opaque", vec![lower(), x("trusted.overlay.opaque", b"y").dir("d", 0o755).end()], Tree(&["d d 755 0:0", "f d/x 644 0:0 =1"])),
        ("ovl-xattr-redirect", vec![lower(), x("trusted.overlay.redirect", b"/d").dir("e", 0o755).end()],
            Tree(&["d d 2770 1000:1001 {user.k=v}", "d e 755 0:0", "f d/x 644 0:0 =1"])),
        ("ovl-xattr-user", vec![x("user.overlay.opaque", b"y").dir("e", 0o755).end()], Tree(&["d e 755 0:0"])),
        ("xattr-kept", vec![x("user.a", b"1").file("a", "").end()], Tree(&["f a 644 0:0 = {user.a=1}"])),
        ("xattr-capability", vec![x("security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0").mode_file("a", 0o755, "").end()],
            Has(vec!["f a 755 0:0 = {security.capability=\\x01\\x00\\x00\\x02\\x00\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00}".into()])),
        ("xattr-selinux", vec![x("security.selinux", b"evil").file("a", "").end()], Tree(&["f a 644 0:0 ="])),
        ("xattr-64k", vec![x("user.a", &[b'a'; 65536]).file("a", "").end()], Refused("extended attributes")),
    ]);
}

#[test]
fn dialects() {
    let file = |size: &[u8]| Head { size: size.to_vec(), ..Head::new("a", b'0', 0o644) };
    let trap = t().file("evil", "1").0;
    check(vec![
        ("tar-empty", vec![t().end()], Tree(&[])),
        ("tar-nothing", vec![Vec::new()], Tree(&[])),
        ("tar-no-end", vec![t().file("a", "1").0], Tree(&["f a 644 0:0 =1"])),
        ("tar-one-zero-block", vec![t().file("a", "1").raw(&[0; 512]).0], Tree(&["f a 644 0:0 =1"])),
        ("tar-zero-block-then-data", vec![t().raw(&[0; 512]).file("a", "1").end()], Refused("zero block")),
        ("tar-trailing", vec![t().file("a", "1").raw(&[0; 1024]).file("b", "2").end()], Tree(&["f a 644 0:0 =1"])),
        ("tar-truncated-content", vec![t().file("a", &"1".repeat(600)).0[..1000].to_vec()], Refused("ends in the middle")),
        ("tar-truncated-header", vec![t().file("a", "1").0[..300].to_vec()], Refused("ends in the middle")),
        ("tar-bad-checksum", vec![t().head(&Head { spoil: true, ..Head::new("a", b'0', 0o644) }, b"").end()], Refused("checksum")),
        ("tar-garbage", vec![vec![b'x'; 2048]], Refused("tar at byte 0")),
        ("tar-pax-size-zero-ustar", vec![t().pax(&[record("size", b"1024")]).head(&file(b"00000000000"), &trap).end()], Has(vec![])),
        (
            "tar-pax-size-smaller",
            vec![t().pax(&[record("size", b"1")]).head(&file(b"00000002000"), b"1").file("b", "2").end()],
            Tree(&["f a 644 0:0 =1", "f b 644 0:0 =2"]),
        ),
        (
            "tar-pax-size-on-longname",
            vec![t().pax(&[record("size", b"3")]).ext(b'L', b"long\0").head(&file(b"00000000000"), b"123").end()],
            Tree(&["f long 644 0:0 =123"]),
        ),
        (
            "tar-pax-twice",
            vec![t().pax(&[record("path", b"b")]).pax(&[record("path", b"c")]).file("a", "1").end()],
            Refused("two extended"),
        ),
        (
            "tar-pax-over-gnu",
            vec![t().ext(b'L', b"gnu\0").pax(&[record("path", b"pax")]).file("a", "1").end()],
            Tree(&["f pax 644 0:0 =1"]),
        ),
        ("tar-pax-bad-length", vec![t().pax(&[b"99 path=b\n".to_vec()]).file("a", "1").end()], Refused("PAX")),
        ("tar-pax-no-newline", vec![t().pax(&[b"9 path=b ".to_vec()]).file("a", "1").end()], Refused("PAX")),
        ("tar-pax-end", vec![t().pax(&[record("path", b"b")]).end()], Refused("no entry")),
        ("tar-pax-2mib", vec![t().pax(&[record("comment", &vec![b'a'; 2 << 20])]).file("a", "").end()], Refused("extended header")),
        (
            "tar-pax-nine",
            vec![(0..9).fold(t(), |tar, _| tar.ext(b'g', &record("comment", b"x"))).file("a", "").end()],
            Refused("more than 8"),
        ),
        ("tar-global", vec![t().ext(b'g', &record("path", b"evil")).file("a", "1").end()], Tree(&["f a 644 0:0 =1"])),
        (
            "tar-gnu-long",
            vec![
                t().ext(b'L', &[b"d/".repeat(100), b"f\0".to_vec()].concat())
                    .ext(b'K', b"target\0")
                    .head(&Head::new("x", b'2', 0o777), b"")
                    .end(),
            ],
            Has(vec![format!("l {}f 777 0:0 -> target", "d/".repeat(100))]),
        ),
        ("tar-sparse-gnu", vec![t().head(&Head::new("a", b'S', 0o644), b"").end()], Refused("sparse")),
        ("tar-sparse-pax", vec![t().pax(&[record("GNU.sparse.major", b"1")]).file("a", "").end()], Refused("sparse")),
        ("tar-unknown-type", vec![t().head(&Head::new("a", b'Z', 0o644), b"").end()], Refused("'Z'")),
        ("tar-multi-volume", vec![t().head(&Head::new("a", b'M', 0o644), b"").end()], Refused("'M'")),
        ("tar-v7-directory", vec![t().head(&Head::new("d/", 0, 0o755), b"").end()], Tree(&["d d 755 0:0"])),
        (
            "tar-dir-with-size",
            vec![t().head(&Head { size: b"00000000001".into(), ..Head::new("d", b'5', 0o755) }, b"x").end()],
            Refused("content"),
        ),
        ("bomb-8eib", vec![t().pax(&[record("size", b"9223372036854775807")]).file("a", "").end()], Refused("size")),
        ("bomb-8pib", vec![t().pax(&[record("size", b"9007199254740992")]).file("a", "").end()], Refused("the layer does not fit")),
        ("bomb-zeros", vec![t().file("a", &"\0".repeat(1 << 22)).end()], Has(vec![])),
    ]);
}
