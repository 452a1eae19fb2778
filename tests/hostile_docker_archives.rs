//! docker-archives that aim elsewhere or mean two things: tables, each loaded as `image load` does. Nothing outside of the store is
//! ever touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::too_many_lines, reason = "tests")]

mod layers;

use layers::archive::{Case, check, config, layer, text};
use layers::judge::t;
use layers::{Head, Tar, record};
use serde_json::{Value, json};

/// The members of a docker-archive: its list, a configuration, a layer.
fn docker(list: &str) -> Tar {
    t().file("manifest.json", list).file("c.json", &config(&[&layer()])).file("l/layer.tar", text(&layer()))
}

fn listed(config: &str, layer: &str) -> String {
    json!([{"Config": config, "RepoTags": ["x:1"], "Layers": [layer]}]).to_string()
}

fn good() -> String {
    listed("c.json", "l/layer.tar")
}

/// Names that no document may ask for, and what is said of each.
const PLACES: [&str; 14] = [
    "../canary",
    "../../canary",
    "/etc/shadow",
    "//etc/shadow",
    "a/../../canary",
    "..",
    ".",
    "",
    "/",
    "./",
    "./..",
    "a/..",
    "a\0b",
    "/proc/self/environ",
];

#[test]
fn names_in_docker_archives() {
    let mut cases: Vec<Case> = vec![("as it should be".to_owned(), docker(&good()).end(), "")];
    for place in PLACES {
        cases.push((
            format!("config {place:?}"),
            docker(&listed(place, "l/layer.tar")).file(place.replace('\0', ""), "{}").end(),
            "is not a path inside the archive",
        ));
        cases.push((
            format!("layer {place:?}"),
            docker(&listed("c.json", place)).file(place.replace('\0', ""), "x").end(),
            "is not a path inside the archive",
        ));
    }
    for (place, says) in [
        ("./c.json", ""),
        ("c.json/", ""),
        (".//c.json", ""),
        ("C.json", "has no"),
        ("c.json/x", "has no"),
        ("c.json ", "has no"),
        ("c\u{301}.json", "has no"),
        ("missing", "has no"),
        ("manifest.json", "not valid"),
        ("l", "has no"),
        (&"x".repeat(5000), "is not a path"),
        ("\u{1b}[2J", "has no"),
    ] {
        cases.push((format!("config {place:.50?}"), docker(&listed(place, "l/layer.tar")).end(), says));
    }
    for (place, says) in [
        ("./l/layer.tar", ""),
        ("l//layer.tar", ""),
        ("l/./layer.tar", ""),
        ("l/layer.tar/", ""),
        ("l/../l/layer.tar", "is not a path"),
        ("l", "has no"),
        ("L/layer.tar", "has no"),
        ("c.json", "content has digest"),
        ("missing.tar", "has no"),
        ("\u{1b}]0;x\u{7}", "has no"),
    ] {
        cases.push((format!("layer {place:.50?}"), docker(&listed("c.json", place)).end(), says));
    }
    // A name that is a digest promises that one.
    let hex = "a".repeat(64);
    for name in [format!("{hex}.json"), hex.clone(), format!("sha256:{hex}"), format!("blobs/sha256/{hex}")] {
        cases.push((
            format!("config {name}"),
            t().file("manifest.json", &listed(&name, "l/layer.tar"))
                .file(&name, &config(&[&layer()]))
                .file("l/layer.tar", text(&layer()))
                .end(),
            "content has digest",
        ));
    }
    for tag in ["../../x:1", "A:1", "x:1\n", "x\u{1b}:1", "x:1@sha256:12", "", "/x", &hex] {
        let list = json!([{"Config": "c.json", "RepoTags": [tag], "Layers": ["l/layer.tar"]}]).to_string();
        cases.push((format!("tag {tag:?}"), docker(&list).end(), "image reference"));
    }
    check(cases, 60);
}

#[test]
fn lists_of_docker_archives() {
    let mut cases: Vec<Case> = Vec::new();
    let entry = |change: &dyn Fn(&mut Value)| {
        let mut list: Value = serde_json::from_str(&good()).unwrap();
        change(&mut list);
        docker(&list.to_string()).end()
    };
    for (name, raw, says) in [
        ("nothing", "", "not JSON"),
        ("null", "null", "not valid"),
        ("an object", "{}", "not valid"),
        ("a text", r#""x""#, "not valid"),
        ("no image", "[]", "names no image"),
        ("an empty image", "[{}]", "missing field `Config`"),
        ("a list of lists", r#"[["c.json",["x:1"],["l/layer.tar"]]]"#, "not a list of objects"),
        ("null image", "[null]", "not a list of objects"),
        ("a comment", "[] // x", "not JSON"),
        ("two lists", "[][]", "not JSON"),
        ("deep", &format!(r#"[{{"x":{}{}}}]"#, "[".repeat(100), "]".repeat(100)), "64 deep"),
        ("Config twice", r#"[{"Config":"c.json","Config":"d.json","Layers":["l/layer.tar"]}]"#, "\"Config\" occurs twice"),
        ("Layers twice", r#"[{"Config":"c.json","Layers":["l/layer.tar"],"Layers":[]}]"#, "\"Layers\" occurs twice"),
        ("layers and Layers", r#"[{"Config":"c.json","Layers":["l/layer.tar"],"layers":[]}]"#, "\"layers\" occurs twice"),
        ("config only", r#"[{"config":"c.json","Layers":["l/layer.tar"]}]"#, "missing field `Config`"),
    ] {
        cases.push((name.to_owned(), docker(raw).end(), says));
    }
    for (member, raw, says) in [
        ("Config", json!(7), "not valid"),
        ("Config", json!(null), "not valid"),
        ("Config", json!(["c.json"]), "not valid"),
        ("Layers", json!("l/layer.tar"), "not valid"),
        ("Layers", json!([7]), "not valid"),
        ("Layers", json!([null]), "not valid"),
        ("Layers", json!({"0": "l/layer.tar"}), "not valid"),
        ("RepoTags", json!("x:1"), "not valid"),
        ("RepoTags", json!([1]), "not valid"),
        ("RepoTags", json!(null), ""),
        ("RepoTags", json!([]), ""),
        ("Parent", json!("sha256:../.."), ""),
        ("LayerSources", json!({"x": 1}), ""),
        ("Layers", json!(null), "0 layers, image config has 1"),
        ("Layers", json!([]), "0 layers, image config has 1"),
        ("Layers", json!(["l/layer.tar", "l/layer.tar"]), "2 layers, image config has 1"),
        ("Layers", json!(vec!["l/layer.tar"; 513]), "513 layers"),
    ] {
        cases.push((format!("{member} {raw:.60}"), entry(&|list| list[0][member] = raw.clone()), says));
    }
    let many = json!(vec![json!({"Config": "c.json", "Layers": ["l/layer.tar"]}); 1001]).to_string();
    cases.push(("1001 images".to_owned(), docker(&many).end(), "1001 images"));
    cases.push(("a list of 5 MiB".to_owned(), docker(&format!("{}{}", good(), " ".repeat(5 << 20))).end(), "larger than"));
    cases.push((
        "a config of 5 MiB".to_owned(),
        t().file("manifest.json", &good())
            .file("c.json", &(config(&[&layer()]) + &" ".repeat(5 << 20)))
            .file("l/layer.tar", text(&layer()))
            .end(),
        "larger than",
    ));
    for (name, content, says) in [
        ("no JSON", "x", "not JSON"),
        ("another system", r#"{"architecture":"amd64","os":"windows","rootfs":{"type":"layers","diff_ids":[]}}"#, "not for linux"),
        ("no diff ids", &config(&[]), "1 layers, image config has 0"),
        ("another diff id", &config(&[b"x"]), "content has digest"),
        ("two diff ids", &config(&[b"x", b"y"]), "has 2 diff ids"),
    ] {
        cases.push((
            format!("config of {name}"),
            t().file("manifest.json", &good()).file("c.json", content).file("l/layer.tar", text(&layer())).end(),
            says,
        ));
    }
    check(cases, 30);
}

#[test]
fn links_and_doubles_in_docker_archives() {
    let with = |tar: Tar| tar.file("c.json", &config(&[&layer()])).end();
    let list = || t().file("manifest.json", &good());
    let real = |tar: Tar| tar.file("r.tar", text(&layer()));
    let mut cases: Vec<Case> = Vec::new();
    for target in ["/etc/shadow", "../../canary", "../../../etc/shadow", "/proc/self/environ", "../..", "..", "/"] {
        cases.push((format!("a link to {target}"), with(list().sym("l/layer.tar", target)), "leads outside of the archive"));
        cases.push((format!("a hard link to {target}"), with(list().hard("l/layer.tar", target)), "is not a path inside the archive"));
        cases.push((
            format!("config links to {target}"),
            list().sym("c.json", target).file("l/layer.tar", text(&layer())).end(),
            "outside of the archive",
        ));
    }
    for (name, tar, says) in [
        ("a link inside", real(list()).sym("l/layer.tar", "../r.tar"), ""),
        ("a hard link inside", real(list()).hard("l/layer.tar", "r.tar"), ""),
        ("a link to a link", real(list()).sym("a", "r.tar").sym("l/layer.tar", "../a"), ""),
        ("links of both kinds", real(list()).hard("a", "r.tar").sym("b", "a").hard("l/layer.tar", "b"), ""),
        ("itself", list().sym("l/layer.tar", "layer.tar"), "circle of links"),
        ("two in a circle", list().sym("l/layer.tar", "../a").sym("a", "l/layer.tar"), "circle of links"),
        ("hard links in a circle", list().hard("l/layer.tar", "a").hard("a", "l/layer.tar"), "circle of links"),
        (
            "a chain of ten",
            (0..10).fold(real(list()).sym("l/layer.tar", "../a0"), |tar, nth| {
                tar.sym(&format!("a{nth}"), if nth == 9 { "r.tar".to_owned() } else { format!("a{}", nth + 1) })
            }),
            "circle of links",
        ),
        ("nowhere", list().sym("l/layer.tar", "../gone"), "link to nothing"),
        ("a directory", list().dir("l/layer.tar", 0o755), "not a regular file"),
        ("a link to a directory", list().dir("d", 0o755).sym("l/layer.tar", "../d"), "not a regular file"),
        ("a FIFO", list().head(&Head::new("l/layer.tar", b'6', 0o644), b""), "not a regular file"),
        ("a device", list().device("l/layer.tar", b'3', 1, 5), "not a regular file"),
        ("a block device", list().device("l/layer.tar", b'4', 8, 0), "not a regular file"),
        (
            "a contiguous file",
            {
                let mut head = Head::new("l/layer.tar", b'7', 0o644);
                head.size = format!("{:011o}", layer().len()).into();
                list().head(&head, &layer())
            },
            "",
        ),
        ("a sparse member", list().head(&Head::new("l/layer.tar", b'S', 0o644), b""), "sparse"),
        ("the layer twice", list().file("l/layer.tar", text(&layer())).file("l/layer.tar", text(&layer())), "occurs twice"),
        ("the layer twice, spelled otherwise", list().file("l/layer.tar", text(&layer())).file("./l//layer.tar", "x"), "occurs twice"),
        ("the layer and a link of its name", list().file("l/layer.tar", text(&layer())).sym("l/layer.tar", "/etc/shadow"), "occurs twice"),
        ("a link and the layer", list().sym("l/layer.tar", "../r.tar").file("l/layer.tar", text(&layer())), "occurs twice"),
        ("the layer and a directory of its name", list().file("l/layer.tar", text(&layer())).dir("l/layer.tar", 0o755), "occurs twice"),
        ("the config twice", list().file("c.json", "{}").file("l/layer.tar", text(&layer())), "occurs twice"),
        ("the list twice", list().file("manifest.json", "[]").file("l/layer.tar", text(&layer())), "occurs twice"),
        ("a directory twice", list().dir("l", 0o755).dir("l", 0o700).file("l/layer.tar", text(&layer())), ""),
        ("another file twice", list().file("x", "1").file("x", "2").file("l/layer.tar", text(&layer())), ""),
        (
            "a member outside beside it",
            list().file("../../canary", "evil").file("/etc/x", "evil").sym("../y", "/").file("l/layer.tar", text(&layer())),
            "",
        ),
    ] {
        cases.push((name.to_owned(), with(tar), says));
    }
    cases.push((
        "the list is a link".to_owned(),
        with(t().sym("manifest.json", "m").file("m", &good()).file("l/layer.tar", text(&layer()))),
        "",
    ));
    cases.push((
        "the list links out".to_owned(),
        with(t().sym("manifest.json", "/etc/passwd").file("l/layer.tar", text(&layer()))),
        "outside of the archive",
    ));
    cases.push(("no list".to_owned(), with(t().file("l/layer.tar", text(&layer()))), "is not an image"));
    cases.push((
        "a list in a directory".to_owned(),
        with(t().file("x/manifest.json", &good()).file("l/layer.tar", text(&layer()))),
        "is not an image",
    ));
    cases.push((
        "a list of the other case".to_owned(),
        with(t().file("Manifest.json", &good()).file("l/layer.tar", text(&layer()))),
        "is not an image",
    ));
    check(cases, 40);
}

#[test]
fn tars_of_docker_archives() {
    let end = |tar: Tar| tar.file("c.json", &config(&[&layer()])).file("l/layer.tar", text(&layer())).end();
    let list = || t().file("manifest.json", &good());
    let mut cases: Vec<Case> = Vec::new();
    for (name, tar, says) in [
        ("a pax name", t().pax(&[record("path", b"manifest.json")]).file("x", &good()), ""),
        ("a GNU name", t().ext(b'L', b"manifest.json\0").file("x", &good()), ""),
        ("two GNU names", t().ext(b'L', b"manifest.json\0").ext(b'L', b"y\0").file("x", &good()), "two long names"),
        ("a pax size", list().pax(&[record("size", b"512")]).head(&Head::new("x", b'0', 0o644), &[b'y'; 512]), ""),
        ("a pax size past the end", list().pax(&[record("size", b"999999999")]).file("x", ""), "cut off"),
        ("a negative pax size", list().pax(&[record("size", b"-1")]).file("x", ""), "wrong size"),
        ("a huge pax size", list().pax(&[record("size", b"99999999999999999999999")]).file("x", ""), "wrong size"),
        ("a hexadecimal pax size", list().pax(&[record("size", b"0x10")]).file("x", ""), "wrong size"),
        ("a malformed record", list().ext(b'x', b"12 path=x").file("x", ""), "malformed"),
        ("a record too long", list().ext(b'x', b"99 path=x\n").file("x", ""), "malformed"),
        ("a record of zero", list().ext(b'x', b"0 path=x\n").file("x", ""), "malformed"),
        ("hidden behind an empty line", list().ext(b'x', b"\n10 path=y\n").file("x", ""), "malformed"),
        ("a global name", list().ext(b'g', b"10 path=y\n").file("x", ""), "global header"),
        ("a global size", list().ext(b'g', b"9 size=4\n").file("x", ""), "global header"),
        ("a global comment", list().ext(b'g', &record("comment", b"x")).file("x", ""), ""),
        ("sparse records", list().pax(&[record("GNU.sparse.major", b"1")]).file("x", ""), "sparse"),
        ("a large extended header", list().ext(b'x', &vec![b'x'; 2 << 20]).file("x", ""), "too large"),
        ("a wrong checksum", list().head(&Head { spoil: true, ..Head::new("x", b'0', 0o644) }, b""), "wrong checksum"),
        ("a size past the end", list().head(&Head { size: b"77777777777".to_vec(), ..Head::new("x", b'0', 0o644) }, b""), "cut off"),
        ("a size that is none", list().head(&Head { size: b"x".to_vec(), ..Head::new("x", b'0', 0o644) }, b""), "wrong size"),
        (
            "a size in binary",
            list().head(&Head { size: [&[0x80][..], &[0xff; 11]].concat(), ..Head::new("x", b'0', 0o644) }, b""),
            "cut off",
        ),
        ("a size below zero", list().head(&Head { size: vec![0xff; 12], ..Head::new("x", b'0', 0o644) }, b""), "cut off"),
        ("a name that is not UTF-8", list().file([b'x', 0xff], "x"), ""),
        ("a name with an escape", list().file("\u{1b}[2J", "x"), ""),
        ("the end in the middle", list().raw(&[0; 1024]), "has no"),
    ] {
        cases.push((name.to_owned(), end(tar), says));
    }
    let whole = end(list());
    for cut in [1, 100, 511, 512, 513, 700, 1024] {
        cases.push((format!("{cut} bytes"), whole[..cut].to_vec(), if cut < 600 { "cut off" } else { "has no" }));
    }
    cases.push(("no end".to_owned(), whole[..whole.len() - 1024].to_vec(), ""));
    cases.push(("nothing".to_owned(), Vec::new(), "no members"));
    cases.push(("zeros".to_owned(), vec![0; 10240], "no members"));
    cases.push(("text".to_owned(), b"hello, world".repeat(100), "is not a sound tar file"));
    cases.push(("an inner archive".to_owned(), t().file("image.tar", text(&whole)).end(), "is not an image"));
    check(cases, 30);
}
