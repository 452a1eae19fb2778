//! What indexes and manifests may not say: tables, each row with what is said of it. What is accepted is in the tables too: a check
//! that refuses everything would pass otherwise.
#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod documents;

use documents::{
    CONFIG, DOCKER_LIST, DOCKER_MANIFEST, LAYER, OCI_INDEX, OCI_MANIFEST, check, descriptor, digest, index, kinds, manifest,
    of_descriptors, of_every_document, of_versions, text, with,
};
use rkbox::image::Manifest;
use rkbox::image::layout::Index;
use serde_json::{Value, json};

#[test]
fn manifests() {
    let good = manifest();
    let mut cases = of_every_document(&good, "manifest");
    cases.extend(of_versions(&good));
    cases.extend(of_descriptors(&good, "/config"));
    cases.extend(of_descriptors(&good, "/layers/1"));
    for media in [OCI_INDEX, DOCKER_LIST] {
        cases.push((format!("calls itself {media}"), with(&good, "/mediaType", &json!(media).to_string()), "calls itself"));
    }
    cases.push(("Docker's type".to_owned(), with(&good, "/mediaType", &json!(DOCKER_MANIFEST).to_string()), ""));
    for media in [
        "",
        "text/html",
        "application/json",
        "application/vnd.cncf.helm.config.v1+json",
        "application/vnd.oci.empty.v1+json",
        OCI_MANIFEST,
        LAYER,
        "\u{1b}[2J",
    ] {
        cases.push((format!("config {media:?}"), with(&good, "/config/mediaType", &json!(media).to_string()), "artifact"));
    }
    for media in [
        "",
        "text/plain",
        "application/octet-stream",
        "application/vnd.oci.image.layer.v1.tar+xz",
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/vnd.oci.image.layer.v1.tar+zstd ",
        "application/vnd.oci.image.layer.v1.TAR",
        "application/vnd.in-toto+json",
        CONFIG,
        "\u{1b}]0;x\u{7}",
    ] {
        cases.push((format!("layer {media:?}"), with(&good, "/layers/0/mediaType", &json!(media).to_string()), "is not a tar"));
    }
    for media in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        cases.push((format!("layer {media:?}"), with(&good, "/layers/0/mediaType", &json!(media).to_string()), "foreign"));
    }
    for media in [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    ] {
        cases.push((format!("layer {media:?}"), with(&good, "/layers/0/mediaType", &json!(media).to_string()), ""));
    }
    for (kind, value) in kinds() {
        let says = match kind {
            "a list" => "",
            "1e999" | "nothing" => "not JSON",
            _ => "no list of layers",
        };
        cases.push((format!("layers {kind}"), with(&good, "/layers", value), says));
    }
    let layers = |count: usize| with(&good, "/layers", &json!(vec![descriptor(LAYER); count]).to_string());
    cases.extend([
        ("512 layers".to_owned(), layers(512), ""),
        ("513 layers".to_owned(), layers(513), "513 layers"),
        ("20000 layers".to_owned(), layers(20_000), "20000 layers"),
    ]);
    cases.push(("100000 layers".to_owned(), layers(100_000), "larger than"));
    let huge = json!({"mediaType": LAYER, "digest": digest(), "size": i64::MAX});
    cases.push(("one huge layer".to_owned(), with(&good, "/layers", &json!([huge]).to_string()), "too large together"));
    cases.push(("huge layers".to_owned(), with(&good, "/layers", &json!(vec![huge; 4]).to_string()), "too large together"));
    for (name, member) in [("a list of manifests", json!([])), ("manifests", json!({"a": 1})), ("false manifests", json!(false))] {
        let mut both = good.clone();
        both["manifests"] = member;
        cases.push((name.to_owned(), text(&both), "two ways"));
    }
    let mut none = good.clone();
    none["manifests"] = Value::Null;
    cases.push(("null manifests".to_owned(), text(&none), ""));
    for name in ["config", "layers"] {
        let mut less = good.clone();
        less.as_object_mut().unwrap().remove(name);
        cases.push((format!("no {name}"), text(&less), if name == "config" { "reading the config" } else { "no list of layers" }));
    }
    check(cases, 270, Manifest::parse);
}

#[test]
fn indexes() {
    let good = index();
    let mut cases = of_every_document(&good, "index");
    cases.extend(of_versions(&good));
    cases.extend(of_descriptors(&good, "/manifests/0"));
    for media in [OCI_MANIFEST, DOCKER_MANIFEST] {
        cases.push((format!("calls itself {media}"), with(&good, "/mediaType", &json!(media).to_string()), "calls itself"));
    }
    cases.push(("Docker's type".to_owned(), with(&good, "/mediaType", &json!(DOCKER_LIST).to_string()), ""));
    for (kind, value) in kinds() {
        let says = match kind {
            "a list" => "",
            "1e999" | "nothing" => "not JSON",
            _ => "no list of manifests",
        };
        cases.push((format!("manifests {kind}"), with(&good, "/manifests", value), says));
    }
    for name in ["layers", "config"] {
        for member in [json!([]), json!({}), json!(0)] {
            let mut both = good.clone();
            both[name] = member.clone();
            cases.push((format!("{name} {member}"), text(&both), "two ways"));
        }
    }
    cases.push((
        "10001 entries".to_owned(),
        with(&good, "/manifests", &json!(vec![descriptor(OCI_MANIFEST); 10_001]).to_string()),
        "10001 entries",
    ));
    check(cases, 150, Index::parse);
}
