//! oci-archives that aim elsewhere or mean two things: tables, each loaded as `image load` does. Nothing outside of the store is ever
//! touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::too_many_lines, reason = "tests")]

mod layers;

use layers::Tar;
use layers::archive::{Case, check, config, layer, text};
use layers::judge::t;
use rkbox::image::Digest;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MARKER: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

fn descriptor(media: &str, bytes: &str) -> Value {
    json!({"mediaType": media, "digest": Digest::of(bytes.as_bytes()), "size": bytes.len()})
}

/// The documents of an image, and the name that its index gives it.
struct Image {
    config: String,
    manifest: Value,
    name: Value,
    /// More members of the index's entry.
    entry: Value,
}

impl Image {
    fn new() -> Self {
        let config = config(&[&layer()]);
        let layers = [descriptor("application/vnd.oci.image.layer.v1.tar", text(&layer()))];
        let manifest =
            json!({"schemaVersion": 2, "config": descriptor("application/vnd.oci.image.config.v1+json", &config), "layers": layers});
        Image { config, manifest, name: json!("x:1"), entry: json!({}) }
    }

    fn manifest(&self) -> String {
        self.manifest.to_string()
    }

    fn index(&self) -> String {
        let mut entry = descriptor(MANIFEST, &self.manifest());
        if !self.name.is_null() {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": self.name});
        }
        entry.as_object_mut().unwrap().extend(self.entry.as_object().unwrap().clone());
        json!({"schemaVersion": 2, "manifests": [entry]}).to_string()
    }

    /// Blobs of all three.
    fn blobs(&self, tar: Tar) -> Tar {
        let tar = tar.file(blob(&self.config), &self.config).file(blob(&self.manifest()), &self.manifest());
        tar.file(blob(text(&layer())), text(&layer()))
    }

    fn archive(&self) -> Vec<u8> {
        self.blobs(t().file("oci-layout", MARKER).file("index.json", &self.index())).end()
    }
}

fn blob(bytes: &str) -> String {
    format!("blobs/sha256/{}", Digest::of(bytes.as_bytes()).hex())
}

#[test]
fn markers_and_indexes() {
    let image = Image::new();
    let with = |marker: Option<&str>, index: Option<&str>| {
        let tar = marker.map_or_else(t, |marker| t().file("oci-layout", marker));
        image.blobs(index.map_or_else(|| tar.clone(), |index| tar.clone().file("index.json", index))).end()
    };
    let good = image.index();
    let mut cases: Vec<Case> = vec![("as it should be".to_owned(), image.archive(), "")];
    for (marker, says) in [
        ("", "not JSON"),
        ("{}", "no imageLayoutVersion"),
        ("[]", "no imageLayoutVersion"),
        ("1.0.0", "not JSON"),
        (r#"{"imageLayoutVersion":1}"#, "no imageLayoutVersion"),
        (r#"{"imageLayoutVersion":"2.0.0"}"#, "not known"),
        (r#"{"imageLayoutVersion":"1"}"#, "not known"),
        (r#"{"imageLayoutVersion":"\u001b[2J"}"#, "not known"),
        (r#"{"imageLayoutVersion":"1.1.0"}"#, ""),
        (r#"{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"2.0.0"}"#, "occurs twice"),
        (r#"{"imageLayoutVersion":"1.0.0","ImageLayoutVersion":"2.0.0"}"#, "occurs twice"),
        (&format!("{MARKER}{}", " ".repeat(70_000)), "larger than"),
    ] {
        cases.push((format!("marker {marker:.60}"), with(Some(marker), Some(&good)), says));
    }
    cases.push(("no marker".to_owned(), with(None, Some(&good)), ""));
    cases.push(("no index".to_owned(), with(Some(MARKER), None), "has no \"index.json\""));
    for (index, says) in [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "schemaVersion 2"),
        (r#"{"schemaVersion":2}"#, "no list of manifests"),
        (r#"{"schemaVersion":2,"manifests":[]}"#, "names no image"),
        (&format!("{good}{}", " ".repeat(5 << 20)), "larger than"),
        (&good.replacen("{", r#"{"manifests":[],"#, 1), "occurs twice"),
        (&good.replacen("{", r#"{"Manifests":[],"#, 1), "occurs twice"),
        (&good.replacen("{", r#"{"layers":[],"#, 1), "two ways"),
        (&good.replacen("{", &format!(r#"{{"mediaType":"{MANIFEST}","#), 1), "calls itself"),
    ] {
        cases.push((format!("index {index:.60}"), with(Some(MARKER), Some(index)), says));
    }
    // What `docker save` writes since version 25: both lists, of which the OCI one counts.
    let both = image.blobs(t().file("oci-layout", MARKER).file("index.json", &good).file("manifest.json", "[]")).end();
    cases.push(("a docker list beside it".to_owned(), both, ""));
    check(cases, 20);
}

#[test]
fn entries_of_indexes() {
    let of = |change: &dyn Fn(&mut Image)| {
        let mut image = Image::new();
        change(&mut image);
        image.archive()
    };
    let mut cases: Vec<Case> = Vec::new();
    for (name, says) in [
        (json!(null), ""),
        (json!("latest"), ""),
        (json!("v1"), ""),
        (json!("1.36"), ""),
        (json!("docker.io/library/busybox:1"), ""),
        (json!("../../x:1"), "not valid"),
        (json!("A/B:1"), "path has lowercase"),
        (json!("x\n:1"), "not valid"),
        (json!("\u{1b}[2J"), "not valid"),
        (json!(""), "not valid"),
        (json!("a".repeat(1000)), "too long"),
        (json!(7), "descriptor is not valid"),
    ] {
        cases.push((format!("name {name:.60}"), of(&|image| image.name = name.clone()), says));
    }
    for (member, value, says) in [
        ("size", json!(1), "descriptor says 1"),
        ("size", json!(-1), "descriptor is not valid"),
        ("size", json!(1_u64 << 40), "larger than"),
        ("size", json!(u64::MAX), "descriptor has size"),
        ("digest", json!("sha256:../../../canary"), "64 lowercase hex"),
        ("digest", json!(Digest::of(b"gone")), "the source has no"),
        ("digest", json!("sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709"), "digest"),
        ("mediaType", json!(INDEX), "no list of manifests"),
        ("mediaType", json!("text/html"), "not an image"),
        ("mediaType", json!("\u{1b}[2J"), "not an image"),
        ("mediaType", json!(""), ""),
        ("urls", json!(["http://127.0.0.1:1/x"]), ""),
        ("data", json!("e30="), ""),
        ("platform", json!({"os": "windows", "architecture": "amd64"}), ""),
        ("platform", json!([]), "it is a list"),
        ("platform", json!({"os": 7}), "descriptor is not valid"),
    ] {
        cases.push((format!("{member} {value:.60}"), of(&|image| image.entry[member] = value.clone()), says));
    }
    for (at, value, says) in [
        ("/layers/0/size", json!(1), "its descriptor says 1"),
        ("/layers/0/size", json!(i64::MAX), "too large together"),
        ("/layers/0/digest", json!("sha256:../../../canary"), "64 lowercase hex"),
        ("/layers/0/digest", json!(Digest::of(b"gone")), "is a plain tar"),
        ("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+gzip"), "media type"),
        ("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+zstd"), "media type"),
        ("/layers/0/mediaType", json!("application/vnd.oci.image.layer.nondistributable.v1.tar"), "foreign"),
        ("/layers", json!([]), "0 layers, image config has 1"),
        ("/layers", json!({}), "no list of layers"),
        ("/config/size", json!(0), "descriptor says 0"),
        ("/config/digest", json!(Digest::of(b"gone")), "the source has no"),
        ("/config/mediaType", json!("application/json"), "artifact"),
        ("/schemaVersion", json!(1), "schema 1"),
    ] {
        cases.push((format!("{at} {value:.60}"), of(&|image| *image.manifest.pointer_mut(at).unwrap() = value.clone()), says));
    }
    let mut tampered = of(&|image| image.manifest["x"] = json!("aaaaaaaa"));
    let at = tampered.windows(8).position(|window| window == b"aaaaaaaa").unwrap();
    tampered[at] = b'b';
    cases.push(("a manifest with other bytes".to_owned(), tampered, "content has digest"));
    check(cases, 40);
}

#[test]
fn members_of_oci_archives() {
    let image = Image::new();
    let (layer_blob, head) = (blob(text(&layer())), t().file("oci-layout", MARKER).file("index.json", &image.index()));
    let documents = || head.clone().file(blob(&image.config), &image.config).file(blob(&image.manifest()), &image.manifest());
    let content = layer();
    let mut cases: Vec<Case> = Vec::new();
    for (name, tar, says) in [
        ("a link out", documents().sym(&layer_blob, "/etc/shadow"), "outside of the archive"),
        ("a link up", documents().sym(&layer_blob, "../../../../canary"), "outside of the archive"),
        ("a hard link out", documents().hard(&layer_blob, "/etc/shadow"), "is not a path inside the archive"),
        ("a hard link up", documents().hard(&layer_blob, "../canary"), "is not a path inside the archive"),
        ("a link inside", documents().file("r", text(&content)).sym(&layer_blob, "../../r"), ""),
        ("a link to itself", documents().sym(&layer_blob, layer_blob.rsplit('/').next().unwrap()), "circle of links"),
        ("a directory", documents().dir(&layer_blob, 0o755), "not a regular file"),
        ("a FIFO", documents().head(&layers::Head::new(&layer_blob, b'6', 0o644), b""), "not a regular file"),
        ("a device", documents().device(&layer_blob, b'3', 1, 5), "not a regular file"),
        ("twice", documents().file(&layer_blob, text(&content)).file(&layer_blob, text(&content)), "occurs twice"),
        ("twice, spelled otherwise", documents().file(&layer_blob, text(&content)).file(format!("./{layer_blob}"), "x"), "occurs twice"),
        ("other bytes", documents().file(&layer_blob, &"x".repeat(content.len())), "content has digest"),
        ("too short", documents().file(&layer_blob, &"x".repeat(content.len() - 1)), "its descriptor says"),
        ("too long", documents().file(&layer_blob, &"x".repeat(content.len() + 1)), "its descriptor says"),
        ("nothing", documents(), "the source has no"),
        ("upper case", documents().file(layer_blob.to_uppercase(), text(&content)), "the source has no"),
        ("below another directory", documents().file(format!("x/{layer_blob}"), text(&content)), "the source has no"),
    ] {
        cases.push((format!("layer: {name}"), tar.end(), says));
    }
    let rest = || head.clone().file(blob(&image.manifest()), &image.manifest()).file(&layer_blob, text(&content));
    for (name, tar, says) in [
        ("a link out", rest().sym(&blob(&image.config), "/etc/shadow"), "outside of the archive"),
        ("twice", rest().file(blob(&image.config), &image.config).file(blob(&image.config), "{}"), "occurs twice"),
        ("other bytes", rest().file(blob(&image.config), &"x".repeat(image.config.len())), "content has digest"),
        ("nothing", rest(), "the source has no"),
    ] {
        cases.push((format!("config: {name}"), tar.end(), says));
    }
    for name in ["index.json", "oci-layout"] {
        let content = if name == "index.json" { image.index() } else { MARKER.to_owned() };
        cases.push((format!("{name} twice"), image.blobs(head.clone()).file(name, &content).end(), "occurs twice"));
        let other = if name == "index.json" { t().file("oci-layout", MARKER) } else { t().file("index.json", &image.index()) };
        cases.push((format!("{name} is a link out"), image.blobs(other.clone()).sym(name, "/etc/passwd").end(), "outside of the archive"));
        cases.push((format!("{name} is a directory"), image.blobs(other).dir(name, 0o755).end(), "not a regular file"));
    }
    cases.push((
        "members outside beside it".to_owned(),
        image.blobs(head.clone()).file("../../canary", "evil").file("/etc/x", "evil").sym("blobs/sha256/x", "/").end(),
        "",
    ));
    check(cases, 25);
}

#[test]
fn nested_indexes() {
    let image = Image::new();
    let mut cases: Vec<Case> = Vec::new();
    for depth in [1, 7, 8, 20] {
        let mut tar = image.blobs(t().file("oci-layout", MARKER));
        let (mut media, mut below) = (MANIFEST, image.manifest());
        for _ in 0..depth {
            below = json!({"schemaVersion": 2, "manifests": [descriptor(media, &below)]}).to_string();
            media = INDEX;
            tar = tar.file(blob(&below), &below);
        }
        let top = json!({"schemaVersion": 2, "manifests": [descriptor(media, &below)]}).to_string();
        cases.push((format!("{depth} deep"), tar.file("index.json", &top).end(), if depth > 8 { "more than 8 deep" } else { "" }));
    }
    let for_other = |platform: Value| {
        let mut entry = descriptor(MANIFEST, &image.manifest());
        entry["platform"] = platform;
        let below = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let top = json!({"schemaVersion": 2, "manifests": [descriptor(INDEX, &below)]}).to_string();
        image.blobs(t().file("oci-layout", MARKER)).file(blob(&below), &below).file("index.json", &top).end()
    };
    for (os, architecture, says) in [
        ("linux", "s390x", "no manifest for"),
        ("windows", "amd64", "no manifest for"),
        ("\u{1b}[2J", "x", "no manifest for"),
        ("unknown", "unknown", "no manifest for"),
        ("linux", "amd64", ""),
    ] {
        cases.push((format!("for {os:?}"), for_other(json!({"os": os, "architecture": architecture})), says));
    }
    check(cases, 9);
}
