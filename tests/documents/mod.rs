//! Documents of an image that are wrong in every place, and their judge.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::too_many_lines, reason = "tests, and no file of them uses all")]

use rkbox::fault::Result;
use rkbox::image::Digest;
use serde_json::{Value, json};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A document as text, and what must be said of it; nothing when it is sound.
pub type Case = (String, Vec<u8>, &'static str);

#[track_caller]
pub fn check<T>(cases: Vec<Case>, at_least: usize, read: impl Fn(&[u8]) -> Result<T>) {
    assert!(cases.len() >= at_least, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for (name, bytes, says) in cases {
        match (read(&bytes), says) {
            (Ok(_), "") => {}
            (Err(fault), says) if !says.is_empty() && fault.to_string().contains(says) => {
                let text = fault.to_string();
                assert!(text.len() < 1000 && !text.chars().any(char::is_control), "{name}: {text:?}");
            }
            (outcome, _) => wrong.push(format!("{name}: wanted {says:?}, got {:?}", outcome.map(drop).map_err(|fault| fault.to_string()))),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

pub fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

pub fn digest() -> String {
    Digest::of(b"x").to_string()
}

pub fn descriptor(media: &str) -> Value {
    json!({"mediaType": media, "digest": digest(), "size": 1})
}

pub fn manifest() -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(CONFIG), "layers": [descriptor(LAYER), descriptor(LAYER)]})
}

pub fn index() -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST), descriptor(OCI_INDEX)]})
}

pub fn config() -> Value {
    json!({"architecture": "amd64", "os": "linux", "config": {"Env": ["A=1"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": [digest()]}})
}

/// What is put in place of a member, wherever it lies, and is never sound.
pub fn kinds() -> [(&'static str, &'static str); 8] {
    [
        ("true", "true"),
        ("a number", "7"),
        ("a text", r#""x""#),
        ("a list", "[]"),
        ("an object", "{}"),
        ("null", "null"),
        ("1e999", "1e999"),
        ("nothing", ""),
    ]
}

/// `good` with the raw text `value` in the place of the member at `pointer`.
pub fn with(good: &Value, pointer: &str, value: &str) -> Vec<u8> {
    let mut changed = good.clone();
    *changed.pointer_mut(pointer).unwrap() = json!("@here@");
    changed.to_string().replace(r#""@here@""#, value).into_bytes()
}

/// What is no document at all, and each object of `good` with each of its members twice.
pub fn of_every_document(good: &Value, noun: &'static str) -> Vec<Case> {
    let whole = good.to_string();
    let mut cases: Vec<Case> = vec![("as it should be".to_owned(), text(good), "")];
    let not_json: [(&str, Vec<u8>); 10] = [
        ("empty", Vec::new()),
        ("spaces", vec![b' '; 100]),
        ("cut", whole.as_bytes()[..whole.len() - 1].to_vec()),
        ("two", format!("{whole}{whole}").into_bytes()),
        ("a byte order mark", [b"\xef\xbb\xbf", whole.as_bytes()].concat()),
        ("NUL behind", [whole.as_bytes(), b"\0"].concat()),
        ("UTF-16", whole.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("not UTF-8", [br#"{"x":""#, &b"\xff\xfe"[..], b"\",", &whole.as_bytes()[1..]].concat()),
        ("a lone surrogate", [br#"{"x":"\ud800","#, &whole.as_bytes()[1..]].concat()),
        ("a comment", [b"// x\n", whole.as_bytes()].concat()),
    ];
    cases.extend(not_json.map(|(name, bytes)| (name.to_owned(), bytes, "not JSON")));
    for depth in [64, 200, 1_000_000] {
        let bytes = [br#"{"x":"#, "[".repeat(depth).as_bytes(), "]".repeat(depth).as_bytes(), b",", &whole.as_bytes()[1..]].concat();
        cases.push((format!("{depth} deep"), bytes, if depth > 4 << 20 { "larger" } else { "deep in each other" }));
    }
    let deep_enough = [br#"{"x":"#, "[".repeat(63).as_bytes(), "]".repeat(63).as_bytes(), b",", &whole.as_bytes()[1..]].concat();
    cases.push(("63 deep".to_owned(), deep_enough, ""));
    let padded = [whole.as_bytes(), &vec![b' '; 17 << 20]].concat();
    cases.push(("17 MiB".to_owned(), padded, "larger than"));
    for whole in ["[]", "null", "7", r#""x""#, "[{}]"] {
        cases.push((
            format!("{noun} {whole}"),
            whole.as_bytes().to_vec(),
            if noun == "image config" { "not valid" } else { "not a JSON object" },
        ));
    }
    twice(good, "", &mut |pointer, name| {
        for (form, says) in [(name.to_owned(), "occurs twice at line 1"), (name.to_ascii_uppercase(), "occurs twice")] {
            let mut changed = good.clone();
            let object = changed.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            let value = object[name].clone();
            object.insert("@again@".to_owned(), value);
            let bytes = changed.to_string().replace("@again@", &form).into_bytes();
            let free = ["/annotations", "/config/Labels"].contains(&pointer) && form != name;
            cases.push((format!("{pointer}/{name} and {form}"), bytes, if free { "" } else { says }));
        }
        let escaped = format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..]);
        let mut changed = good.clone();
        changed.pointer_mut(pointer).unwrap().as_object_mut().unwrap().insert("@again@".to_owned(), Value::Null);
        cases.push((format!("{pointer}/{name} escaped"), changed.to_string().replace("@again@", &escaped).into_bytes(), "occurs twice"));
    });
    cases
}

/// Calls `visit` with every object and every name in it.
pub fn twice(value: &Value, at: &str, visit: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, below)| {
            visit(at, name);
            twice(below, &format!("{at}/{name}"), visit);
        }),
        Value::Array(list) => list.iter().take(1).enumerate().for_each(|(nth, below)| twice(below, &format!("{at}/{nth}"), visit)),
        _ => {}
    }
}

/// What the members of a descriptor at `at` may not be.
pub fn of_descriptors(good: &Value, at: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut put =
        |what: &str, value: &str, says| cases.push((format!("{at}/{what} {value:.40}"), with(good, &format!("{at}/{what}"), value), says));
    let hex = "a".repeat(64);
    for bad in [
        "",
        "x",
        "sha256",
        "sha256:",
        &hex,
        &hex[1..],
        "sha256:x",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "sha256:../../../../etc/passwd",
        "../../x",
        "/etc/passwd",
        "sha384:abcd",
        "sha512:abcd",
        "blake3:00",
        "sha256+b64:00",
    ] {
        put("digest", &json!(bad).to_string(), "digest");
    }
    for bad in [
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}a"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha256:{hex}\n"),
        format!("sha256:{hex}\0"),
        format!(" sha256:{hex}"),
        format!("sha256:{}/", &hex[1..]),
        format!("sha256:{}.", &hex[1..]),
        format!("sha512:{hex}"),
        format!("sha256:{hex}{hex}"),
        format!("sha256:{}", "é".repeat(32)),
        "a".repeat(100_000),
    ] {
        put("digest", &json!(bad).to_string(), "digest");
    }
    for bad in [
        "-1",
        "1.5",
        "1e3",
        "18446744073709551615",
        "9223372036854775808",
        "18446744073709551616",
        "-9223372036854775809",
        "1e999",
        "-0.0",
        r#""1""#,
        "null",
        "[1]",
        "true",
        "01",
        "+1",
        "0x1",
        "NaN",
        "Infinity",
    ] {
        let says = match bad {
            "18446744073709551615" | "9223372036854775808" => "descriptor has size",
            "1e999" | "01" | "+1" | "0x1" | "NaN" | "Infinity" => "not JSON",
            _ => "descriptor is not valid",
        };
        put("size", bad, says);
    }
    for (kind, value) in kinds() {
        if !matches!(kind, "a text") {
            let says = if matches!(kind, "1e999" | "nothing") { "not JSON" } else { "descriptor is not valid" };
            put("digest", value, says);
            put("mediaType", value, says);
        }
    }
    let listed = json!([LAYER, digest(), 1, null, {}]).to_string();
    for (whole, says) in [
        (listed.as_str(), "it is a list"),
        ("null", "descriptor is not valid"),
        ("[]", "descriptor is not valid"),
        (r#""x""#, "descriptor is not valid"),
        ("{}", "descriptor is not valid"),
    ] {
        cases.push((format!("{at} {whole}"), with(good, at, whole), says));
    }
    for (platform, says) in [
        (r#"{"os":"linux"}"#, ""),
        ("[]", "descriptor is not valid"),
        (r#"["amd64","linux"]"#, "it is a list"),
        (r#"{"os":1,"architecture":"x"}"#, "descriptor is not valid"),
        ("null", ""),
    ] {
        let mut changed = good.clone();
        changed.pointer_mut(at).unwrap()["platform"] = json!("@here@");
        cases.push((format!("{at}/platform {platform}"), changed.to_string().replace(r#""@here@""#, platform).into_bytes(), says));
    }
    for (annotations, says) in
        [(r#"{"a":1}"#, "descriptor is not valid"), ("[]", "descriptor is not valid"), ("null", ""), (r#"{"a":"\u0000"}"#, "")]
    {
        let mut changed = good.clone();
        changed.pointer_mut(at).unwrap()["annotations"] = json!("@here@");
        cases.push((format!("{at}/annotations {annotations}"), changed.to_string().replace(r#""@here@""#, annotations).into_bytes(), says));
    }
    cases
}

pub fn of_versions(good: &Value) -> Vec<Case> {
    let version = |value: &str, says| (format!("schemaVersion {value}"), with(good, "/schemaVersion", value), says);
    let mut cases: Vec<Case> = ["0", "3", "-2", "2.0", "20", r#""2""#, "null", "[2]", "true", "18446744073709551618"]
        .map(|value| version(value, "schemaVersion 2"))
        .to_vec();
    cases.push(version("1", "schema 1"));
    let mut old = good.clone();
    old["fsLayers"] = json!([]);
    cases.push(("fsLayers".to_owned(), text(&old), "schema 1"));
    for (kind, value) in kinds() {
        let says = match kind {
            "null" => "",
            "1e999" | "nothing" => "not JSON",
            "a text" => continue,
            _ => "is not a text",
        };
        cases.push((format!("mediaType {kind}"), with(good, "/mediaType", value), says));
    }
    cases
}
