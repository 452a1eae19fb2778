//! Judges archives of images: each is loaded into a store of its own.

use std::fs;
use std::path::Path;

use rkbox::cmd::image::{Wish, load, plan_load};
use rkbox::fault::Result;
use rkbox::image::Digest;
use rkbox::step::Home;
use rkbox::sys::Host;
use serde_json::json;

use super::judge::t;
use super::list;

/// An archive, and what is said of it; nothing when it is sound.
pub type Case = (String, Vec<u8>, &'static str);

/// Loads each archive into a store of its own, and holds what comes of it against the table.
pub fn check(cases: Vec<Case>, at_least: usize) {
    assert!(cases.len() >= at_least, "{} cases", cases.len());
    let (dir, mut wrong) = (tempfile::tempdir().unwrap(), Vec::new());
    fs::write(dir.path().join("canary"), "keep").unwrap();
    let archive = dir.path().join("a.tar");
    for (name, bytes, says) in cases {
        fs::write(&archive, &bytes).unwrap();
        let root = dir.path().join("host");
        fs::create_dir(&root).unwrap();
        let host = Host::below(&root);
        let before = fs::metadata(&archive).unwrap();
        let outcome = loaded(&host, &archive);
        let left: Vec<String> = list(&root).into_iter().filter(|line| !line.starts_with("d ") && !line.contains("index.json")).collect();
        match (&outcome, says) {
            (Ok(count), "") if *count == 1 && !left.is_empty() => {}
            (Err(fault), says) if !says.is_empty() && fault.to_string().contains(says) => {
                let text = fault.to_string();
                assert!(text.len() < 2000 && !text.chars().any(char::is_control), "{name}: {text:?}");
                // Steps before the wrong one are for the engine to take back; a plan that is refused has none.
            }
            _ => wrong.push(format!("{name}: wanted {says:?}, got {:?}", outcome.map_err(|fault| fault.to_string()))),
        }
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(fs::read(&archive).unwrap().len() as u64, before.len(), "{name}");
        assert_eq!(super::names(dir.path()), ["a.tar", "canary"], "{name}");
        assert_eq!(fs::read_to_string(dir.path().join("canary")).unwrap(), "keep", "{name}");
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Plans and carries out; answers how many images came.
fn loaded(host: &Host, archive: &Path) -> Result<usize> {
    let loaded = plan_load(host, &archive.to_str().unwrap().parse()?, &Wish::default())?;
    super::run(&Home { dirs: load::home_dirs(host, &[]) }, host)?;
    for step in &loaded.steps {
        let before = step.look(host)?;
        if !step.already(&before)? {
            step.apply(&before, host)?;
        }
    }
    Ok(loaded.images.len())
}

pub fn layer() -> Vec<u8> {
    t().dir("etc", 0o755).file("etc/hello", "world").end()
}

pub fn config(layers: &[&[u8]]) -> String {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
