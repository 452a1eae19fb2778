use std::collections::HashMap;

use super::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn entry(digest: &Digest, size: usize, media: &str, name: Option<&str>, platform: Option<&str>) -> Value {
    let mut raw = json!({"mediaType": media, "digest": digest, "size": size});
    if let Some(name) = name {
        raw["annotations"] = json!({ REF_NAME: name });
    }
    if let Some((os, architecture)) = platform.and_then(|text| text.split_once('/')) {
        raw["platform"] = json!({"os": os, "architecture": architecture});
    }
    raw
}

fn index(entries: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "manifests": entries}).to_string().into_bytes()
}

#[test]
fn images_are_selected_by_name_and_platform() {
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let top = Index::parse(&index(&[
        entry(&a, 1, MANIFEST, Some("one"), Some("linux/arm64")),
        entry(&b, 1, MANIFEST, Some("one"), Some("linux/amd64")),
        entry(&a, 1, MANIFEST, Some("two"), None),
    ]))
    .unwrap();
    assert_eq!(top.select(Some("one"), &amd64()).unwrap()[0].digest, b);
    assert_eq!(top.select(None, &amd64()).unwrap().len(), 2);
    let missing = top.select(Some("three"), &amd64()).unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    assert!(missing.hints()[0].contains("\"two\""));
    let two = Index::parse(&index(&[entry(&a, 1, MANIFEST, None, None), entry(&b, 1, MANIFEST, None, None)])).unwrap();
    assert!(two.select(None, &amd64()).unwrap_err().to_string().contains("several images"));
}

#[test]
fn nested_indexes_end_somewhere() {
    let manifest = br#"{"schemaVersion":2,"config":{},"layers":[]}"#.to_vec();
    let mut blobs = HashMap::new();
    let mut here = (Digest::of(&manifest), manifest.len(), MANIFEST);
    blobs.insert(here.0.clone(), manifest);
    let mut tops = Vec::new();
    for _ in 0..12 {
        let bytes = index(&[entry(&Digest::of(b"no"), 1, MANIFEST, None, Some("linux/s390x")), entry(&here.0, here.1, here.2, None, None)]);
        here = (Digest::of(&bytes), bytes.len(), INDEX);
        blobs.insert(here.0.clone(), bytes);
        tops.push(manifest::descriptor(&entry(&here.0, here.1, here.2, None, None)).unwrap());
    }
    let mut read = |wanted: &Descriptor| blobs.get(&wanted.digest).cloned().ok_or_else(|| Fault::not_found("gone"));
    assert_eq!(descend(&tops[7], &amd64(), &mut read).unwrap().0.media_type, MANIFEST);
    assert!(descend(&tops[8], &amd64(), &mut read).unwrap_err().to_string().contains("more than 8 deep"));
}

#[test]
fn documents_are_held_against_size_digest_and_media_type() {
    let good = br#"{"schemaVersion":2,"config":{},"layers":[]}"#.to_vec();
    let wanted = |digest: Digest, size: usize, media: &str| manifest::descriptor(&entry(&digest, size, media, None, None)).unwrap();
    let mut read = |_: &Descriptor| Ok(good.clone());
    let refusal = |found: Result<(Descriptor, Vec<u8>)>| found.unwrap_err().to_string();
    assert!(refusal(descend(&wanted(Digest::of(b"x"), good.len(), MANIFEST), &amd64(), &mut read)).contains("content has digest"));
    assert!(refusal(descend(&wanted(Digest::of(&good), 9, MANIFEST), &amd64(), &mut read)).contains("descriptor says 9"));
    assert!(refusal(descend(&wanted(Digest::of(&good), 5 << 20, MANIFEST), &amd64(), &mut read)).contains("larger than"));
    assert!(refusal(descend(&wanted(Digest::of(&good), good.len(), "text/html"), &amd64(), &mut read)).contains("not an image"));
    let listing = index(&[]);
    let mut read_index = |_: &Descriptor| Ok(listing.clone());
    let confused = descend(&wanted(Digest::of(&listing), listing.len(), MANIFEST), &amd64(), &mut read_index);
    assert!(confused.is_ok_and(|(_, bytes)| manifest::Manifest::parse(&bytes).is_err()), "an index is never read as a manifest");
    let empty = descend(&wanted(Digest::of(&listing), listing.len(), INDEX), &amd64(), &mut read_index);
    assert_eq!(empty.unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_rewrite_keeps_what_is_not_known() {
    let raw = br#"{"schemaVersion":2,"x-note":{"b":1},"manifests":[]}"#;
    let text = Index::parse(raw).unwrap().with_entries(vec![entry(&Digest::of(b"a"), 1, MANIFEST, Some("n"), None)]).unwrap().to_text();
    assert!(text.contains("\"x-note\":{\"b\":1}") && text.ends_with("}\n"), "{text}");
    assert!(Index::parse(text.as_bytes()).unwrap().find_tagged("n").is_some());
}

#[test]
fn the_marker_says_its_version() {
    assert!(check_marker(br#"{"imageLayoutVersion":"1.0.0"}"#).is_ok());
    assert_eq!(check_marker(br#"{"imageLayoutVersion":"2.0.0"}"#).unwrap_err().kind(), Kind::Unimplemented);
    assert!(check_marker(b"{}").is_err() && check_marker(b"<html>").is_err());
}

#[test]
fn an_index_of_ten_thousand_images_is_read_and_one_more_is_not() {
    let long = "a".repeat(600);
    let named = |nth: usize| entry(&Digest::of(&nth.to_le_bytes()), 1, MANIFEST, Some(&format!("r.example/{long}:{nth}")), None);
    let mut entries: Vec<Value> = (0..10_000).map(named).collect();
    let bytes = index(&entries);
    assert!(bytes.len() as u64 > DOCUMENT_LIMIT, "{} bytes would have been read before", bytes.len());
    let read = Index::parse(&bytes).unwrap();
    assert_eq!(read.entries().len(), 10_000);
    assert!(read.find_tagged(&format!("r.example/{long}:9999")).is_some());
    entries.push(named(10_000));
    let refusal = read.with_entries(entries).unwrap_err();
    assert!(refusal.to_string().contains("10001 entries, more than 10000"), "{refusal}");
    let padded = [index(&[]), vec![b' '; 16 << 20]].concat();
    assert!(Index::parse(&padded).unwrap_err().to_string().contains("larger than"));
}
