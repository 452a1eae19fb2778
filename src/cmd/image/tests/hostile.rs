//! What no image may do: each document and archive is refused by name, and leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::world;
use crate::fault::{Fault, Kind};
use crate::image::Digest;
use crate::step::Step;

/// Loads `made` after `change` was made to the documents of its image, all digests and sizes put right again.
fn changed(change: impl Fn(&mut Value, &mut Value)) -> Fault {
    let world = world();
    let layout = PathBuf::from(world.made());
    let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let blob = |descriptor: &Value| layout.join("blobs/sha256").join(&descriptor["digest"].as_str().unwrap()[7..]);
    let mut index = read(&layout.join("index.json"));
    let mut manifest = read(&blob(&index["manifests"][0]));
    let mut config = read(&blob(&manifest["config"]));
    change(&mut manifest, &mut config);
    let store = |value: &Value, descriptor: &mut Value| {
        let text = value.to_string();
        fs::write(Digest::of(text.as_bytes()).blob(&layout), &text).unwrap();
        descriptor["digest"] = json!(Digest::of(text.as_bytes()));
        descriptor["size"] = json!(text.len());
    };
    if manifest["config"].is_object() {
        store(&config, &mut manifest["config"]);
    }
    store(&manifest, &mut index["manifests"][0]);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let fault = world.refusal(layout.to_str().unwrap());
    assert!(super::listed(&world.host).is_empty());
    fault
}

#[test]
fn hostile_documents_are_refused() {
    type Change<'a> = &'a dyn Fn(&mut Value, &mut Value);
    let cases: [(&str, Change<'_>); 9] = [
        ("2 layers, image config has 1 diff ids", &|_, config| drop(config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop())),
        ("2 layers, image config has 3 diff ids", &|_, config| {
            config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(Digest::of(b"")))
        }),
        ("64 lowercase hex", &|manifest, _| manifest["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd")),
        ("64 lowercase hex", &|_, config| config["rootfs"]["diff_ids"][0] = json!("sha256:../../../../tmp/x")),
        ("its descriptor says", &|manifest, _| manifest["layers"][0]["size"] = json!(1)),
        ("the source has no", &|manifest, _| manifest["layers"][0]["digest"] = json!(Digest::of(b"elsewhere"))),
        ("foreign", &|manifest, _| {
            manifest["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
        }),
        ("larger than 4194304", &|_, config| config["padding"] = json!("x".repeat(5 << 20))),
        ("not for linux", &|_, config| config["os"] = json!("windows\u{1b}[2J")),
    ];
    for (says, change) in cases {
        let fault = changed(change);
        assert!(fault.to_string().contains(says), "{says}: {fault}");
    }
}

#[test]
fn wrong_bytes_never_get_into_the_store() {
    let world = world();
    let layout = PathBuf::from(world.made());
    let loaded = world.plan(layout.to_str().unwrap()).unwrap();
    let Step::Blob(layer) = &loaded.steps[0] else { panic!("the first step stores a layer") };
    let path = layer.digest.parse::<Digest>().unwrap().blob(&layout);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let fault = world.refusal(layout.to_str().unwrap());
    assert!(fault.kind() == Kind::DataLoss && fault.to_string().contains("content has digest"), "{fault}");
    assert!(world.tree().is_empty() && super::listed(&world.host).is_empty());
}

#[test]
fn hostile_archives_and_what_is_no_image_are_refused() {
    let world = world();
    let archive = |members: &[(&str, &[u8], Option<&str>)]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, data, link) in members {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(data.len() as u64);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            if let Some(target) = link {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(target).unwrap();
            }
            header.set_cksum();
            builder.append(&header, *data).unwrap();
        }
        fs::write(world.path("a.tar"), builder.into_inner().unwrap()).unwrap();
        world.refusal(&world.path("a.tar")).to_string()
    };
    let manifest = |layer: &str| format!(r#"[{{"Config":"c.json","RepoTags":["x:1"],"Layers":["{layer}"]}}]"#);
    let config = |count: usize| {
        json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": vec![Digest::of(b"l"); count]}}).to_string()
    };
    let (one, two) = (config(1), config(2));
    let good = manifest("l.tar");
    let with = |config: &str, layer: (&str, &[u8], Option<&str>)| {
        archive(&[("manifest.json", good.as_bytes(), None), ("c.json", config.as_bytes(), None), layer])
    };
    assert!(with(&one, ("l.tar", b"wrong", None)).contains("content has digest"));
    assert!(with(&two, ("l.tar", b"l", None)).contains("1 layers, image config has 2 diff ids"));
    assert!(with(&one, ("l.tar", b"", Some("/etc/shadow"))).contains("outside of the archive"));
    assert!(with(&one, ("l.tar", b"", Some("../../etc/shadow"))).contains("outside of the archive"));
    assert!(with(&one, ("l.tar", b"", Some("l.tar"))).contains("circle of links"));
    assert!(with(&one, ("other.tar", b"l", None)).contains("the source has no"));
    assert!(archive(&[("manifest.json", manifest("../../../etc/shadow").as_bytes(), None)]).contains("inside the archive"));
    let named = manifest("l.tar").replace("c.json", &format!("{}.json", "a".repeat(64)));
    assert!(
        archive(&[("manifest.json", named.as_bytes(), None), (&format!("{}.json", "a".repeat(64)), b"{}", None)])
            .contains("content has digest")
    );
    assert!(archive(&[("manifest.json", &vec![b' '; 5 << 20], None)]).contains("larger than"));
    assert!(archive(&[("etc/passwd", b"x", None)]).contains("is not an image"));
    let ends = [("manifest.json", good.as_bytes(), None), ("c.json", one.as_bytes(), None), ("l.tar", &b"l"[..], None)];
    let mut twice = ends.to_vec();
    twice.push(("c.json", two.as_bytes(), None));
    assert!(archive(&twice).contains("occurs twice"));
    fs::write(world.path("text"), "hello").unwrap();
    for source in [world.path("text"), world.path("."), world.path("none")] {
        assert!(matches!(world.refusal(&source).kind(), Kind::InvalidArgument | Kind::NotFound), "{source}");
    }
    assert!(world.tree().is_empty());
}
