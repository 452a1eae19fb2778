//! What configurations may not say, and what documents may not say of each other: tables, each row with what is said of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod documents;

use documents::{
    DOCKER_LIST, DOCKER_MANIFEST, LAYER, OCI_INDEX, OCI_MANIFEST, check, config, digest, index, kinds, manifest, of_every_document, text,
    with,
};
use rkbox::image::layout::{self, Index};
use rkbox::image::manifest as parse;
use rkbox::image::{Config, Digest, Manifest};
use serde_json::{Value, json};

#[test]
fn configurations() {
    let good = config();
    let mut cases = of_every_document(&good, "image config");
    for bad in ["windows", "freebsd", "", "Linux", "linux ", "\u{1b}[2J"] {
        cases.push((format!("os {bad:?}"), with(&good, "/os", &json!(bad).to_string()), "not for linux"));
    }
    for (kind, value) in kinds() {
        let says = if matches!(kind, "1e999" | "nothing") { "not JSON" } else { "not valid" };
        for place in ["/os", "/architecture", "/rootfs", "/rootfs/diff_ids", "/config/Env"] {
            let sound = matches!(
                (kind, place),
                ("a list", "/rootfs/diff_ids" | "/config/Env") | ("a text", "/architecture") | ("null", "/config/Env")
            );
            let says = match (kind, place) {
                _ if sound => "",
                ("a text", "/os") => "not for linux",
                _ => says,
            };
            cases.push((format!("{place} {kind}"), with(&good, place, value), says));
        }
    }
    for bad in ["7", "null", "[]", "{}", r#""""#, r#""sha256:x""#, r#""sha256:../../x""#, r#""md5:d41d8cd98f00b204e9800998ecf8427e""#] {
        let says = match bad {
            _ if bad.starts_with('"') => "diff id 0",
            _ => "not valid",
        };
        cases.push((format!("diff id {bad}"), with(&good, "/rootfs/diff_ids/0", bad), says));
    }
    cases.push(("rootfs a list".to_owned(), with(&good, "/rootfs", &json!(["layers", [digest()]]).to_string()), "not an object"));
    cases.push((
        "config a list".to_owned(),
        with(&good, "/config", &json!(["user", [], [], [], [], {}, "/", {}, "TERM"]).to_string()),
        "not an object",
    ));
    for (member, bad) in [
        ("User", "1"),
        ("User", "[]"),
        ("Env", r#""A=1""#),
        ("Env", "[1]"),
        ("Cmd", r#""sh""#),
        ("Cmd", "[[]]"),
        ("Entrypoint", "{}"),
        ("Labels", "[]"),
        ("Labels", r#"{"a":1}"#),
        ("Volumes", "[]"),
        ("Volumes", r#""/x""#),
        ("ExposedPorts", "7"),
        ("WorkingDir", "[]"),
        ("StopSignal", "15"),
    ] {
        let mut changed = good.clone();
        changed["config"][member] = json!("@here@");
        cases.push((format!("{member} {bad}"), changed.to_string().replace(r#""@here@""#, bad).into_bytes(), "not valid"));
    }
    for (name, change) in [("no os", "/os"), ("no architecture", "/architecture"), ("no rootfs", "/rootfs")] {
        let mut less = good.clone();
        less.as_object_mut().unwrap().remove(&change[1..]);
        cases.push((name.to_owned(), text(&less), "not valid"));
    }
    check(cases, 120, Config::parse);
}

/// What a descriptor says of a document, and what the document says of itself.
#[test]
fn kinds_of_documents_are_not_confused() {
    let bare = |mut value: Value| {
        value.as_object_mut().unwrap().remove("mediaType");
        text(&value)
    };
    let mut cases = 0;
    let types = [
        "",
        OCI_MANIFEST,
        DOCKER_MANIFEST,
        OCI_INDEX,
        DOCKER_LIST,
        "text/html",
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ];
    for said in types {
        for inner in types {
            for (is_list, document) in [(false, manifest()), (true, index())] {
                let bytes = if inner.is_empty() { bare(document) } else { with(&document, "/mediaType", &json!(inner).to_string()) };
                let top = json!({"mediaType": said, "digest": Digest::of(&bytes), "size": bytes.len()});
                let top = parse::descriptor(&top).unwrap();
                let mut read = |_: &layout::Descriptor| Ok(bytes.clone());
                let found = layout::read_verified(&top, &mut read).and_then(|bytes| {
                    // As every way into the store does: the kind first, then the document of that kind.
                    if parse::is_index(&top, &bytes)? { Index::parse(&bytes).map(|_| true) } else { Manifest::parse(&bytes).map(|_| false) }
                });
                let plain = [said, inner].iter().all(|media| media.is_empty() || types[1..5].contains(media));
                let agrees = |media: &str| media.is_empty() || types[3..5].contains(&media) == is_list;
                let sound = plain && agrees(said) && agrees(inner) && (said.is_empty() || inner.is_empty() || said == inner);
                match found {
                    Ok(list) => assert!(sound && list == is_list, "{said:?} {inner:?} {is_list}: read as {list}"),
                    Err(fault) => assert!(!sound, "{said:?} {inner:?} {is_list}: {fault}"),
                }
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 128);
}

#[test]
fn layers_and_diff_ids_belong_together() {
    let plain = "application/vnd.oci.image.layer.v1.tar";
    let document = |layers: &[(&str, Digest)]| {
        let layers: Vec<Value> = layers.iter().map(|(media, digest)| json!({"mediaType": media, "digest": digest, "size": 1})).collect();
        Manifest::parse(&with(&manifest(), "/layers", &json!(layers).to_string())).unwrap()
    };
    let ids = |ids: &[Digest]| Config::parse(&with(&config(), "/rootfs/diff_ids", &json!(ids).to_string())).unwrap();
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    for (layers, diff_ids, says) in [
        (vec![], vec![], ""),
        (vec![(LAYER, a.clone())], vec![], "1 layers, image config has 0"),
        (vec![], vec![a.clone()], "0 layers, image config has 1"),
        (vec![(LAYER, a.clone())], vec![a.clone(), b.clone()], "has 2 diff ids"),
        (vec![(LAYER, a.clone()), (LAYER, a.clone())], vec![a.clone()], "2 layers"),
        (vec![(LAYER, a.clone())], vec![b.clone()], ""),
        (vec![(plain, a.clone())], vec![a.clone()], ""),
        (vec![(plain, a.clone())], vec![b.clone()], "its diff id is"),
        (vec![(LAYER, a.clone()), (plain, a.clone())], vec![a.clone(), b.clone()], "layer 1 is a plain tar"),
        (vec![(plain, a.clone()), (plain, a.clone())], vec![a.clone(), a], ""),
    ] {
        match ids(&diff_ids).check_against(&document(&layers)) {
            Ok(()) => assert_eq!(says, "", "{layers:?} {diff_ids:?}"),
            Err(fault) => assert!(!says.is_empty() && fault.to_string().contains(says), "{layers:?} {diff_ids:?}: {fault}"),
        }
    }
}
