//! The laws of the two steps that unpack, and random stacks against `umoci unpack`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::too_many_lines, reason = "tests")]

mod dice;
mod layers;

use std::fs;
use std::path::Path;
use std::process::Command;

use dice::Dice;
use layers::{Head, Tar, World, list, names, sum};
use rkbox::fault::Kind;
use rkbox::script::Script;
use rkbox::step::layers::Bytes;
use rkbox::step::{Action, Layer, Layers, Way};
use serde_json::json;

fn base() -> Vec<u8> {
    Tar::new().dir(".", 0o755).dir("d", 0o750).file("d/x", "1").file("f", "2").end()
}

#[test]
fn a_layer_is_made_once_and_taken_back() {
    let world = World::new();
    let step = &world.layer_steps(&[base()])[0];
    let before = step.look(&world.host).unwrap();
    assert!(!step.already(&before));
    // A crash before apply, and one in its middle.
    step.undo(&before, &world.host).unwrap();
    fs::create_dir_all(world.host.layers().join("l0.partial-1-0/fs/d")).unwrap();
    step.undo(&before, &world.host).unwrap();
    assert!(names(&world.host.layers()).is_empty());
    step.apply(&before, &world.host).unwrap();
    assert_eq!(names(&world.host.layers()), ["l0"]);
    assert_eq!(names(&step.path), ["fs", "layer.json", "layer.mtree"]);
    let again = step.look(&world.host).unwrap();
    assert!(step.already(&again));
    // The undo of one that found it leaves it, and so does that of another maker.
    step.undo(&again, &world.host).unwrap();
    step.undo(&rkbox::step::layer::LayerBefore { made_by: "other".into(), ..Default::default() }, &world.host).unwrap();
    assert_eq!(names(&world.host.layers()), ["l0"]);
    for _ in 0..2 {
        step.undo(&before, &world.host).unwrap();
        assert!(names(&world.host.layers()).is_empty());
    }
}

#[test]
fn a_layer_without_a_stamp_is_made_again_and_another_ones_place_is_refused() {
    let world = World::new();
    let step = world.layer_steps(&[base()]).remove(0);
    fs::create_dir_all(step.path.join("fs/junk")).unwrap();
    fs::write(step.path.join("layer.json"), "").unwrap();
    layers::run(&step, &world.host).unwrap();
    assert_eq!(names(&step.path.join("fs")), ["d", "f"]);
    let other = rkbox::step::Layer { diff_id: sum(b"other"), ..step.clone() };
    assert_eq!(other.look(&world.host).unwrap_err().kind(), Kind::DataLoss);
    let wrong = rkbox::step::Layer { digest: sum(b"other"), path: world.host.layers().join("l9"), ..step.clone() };
    assert_eq!(layers::run(&wrong, &world.host).unwrap_err().kind(), Kind::DataLoss);
    assert_eq!(names(&world.host.layers()), ["l0"]);
}

#[test]
fn many_unpack_one_layer_at_once() {
    let world = World::new();
    let step = world.layer_steps(&[base()]).remove(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| layers::run(&step, &world.host).unwrap());
        }
    });
    assert_eq!(names(&world.host.layers()), ["l0"]);
    assert!(step.already(&step.look(&world.host).unwrap()));
}

/// A stack in which every layer needs the one below: a directory that it does not describe, a hard link, a whiteout.
fn chain(count: usize) -> Vec<Vec<u8>> {
    let first = Tar::new().dir("d", 0o711).file("d/0", "0").end();
    let next = |nth: usize| {
        let below = nth - 1;
        Tar::new().file(format!("d/{nth}"), "x").hard(&format!("l{nth}"), &format!("d/{below}")).file(format!("d/.wh.{below}"), "").end()
    };
    std::iter::once(first).chain((1..count).map(next)).collect()
}

#[test]
fn layers_side_by_side_wait_for_what_they_need() {
    let world = World::new();
    let listed = world.overlay(&chain(8)).unwrap();
    assert_eq!(listed.iter().filter(|line| line.starts_with("f ")).count(), 8, "{listed:#?}");
    assert!(listed.contains(&"d d 711 0:0".to_owned()), "{listed:#?}");
    assert_eq!(world.flat(&chain(8)).unwrap(), listed);
}

#[test]
fn one_layer_that_fails_ends_the_others_and_all_are_taken_back() {
    let world = World::new();
    for bad in 0..8 {
        let mut layers = world.layer_steps(&chain(8));
        layers[bad].diff_id = sum(b"another");
        let step = Layers { layers };
        let befores = step.look(&world.host).unwrap();
        let fault = step.apply(&befores, &world.host).unwrap_err();
        assert_eq!(fault.kind(), Kind::DataLoss, "{fault}");
        assert!(fault.to_string().contains("diffID"), "{fault}");
        let made = names(&world.host.layers());
        assert!(made.len() <= bad, "{made:?} of {bad}");
        for _ in 0..2 {
            step.undo(&befores, &world.host).unwrap();
            assert!(names(&world.host.layers()).is_empty());
        }
    }
}

#[test]
fn layers_are_unpacked_from_blobs_that_are_still_coming() {
    let world = World::new();
    let tars = chain(4);
    let step = Layers { layers: world.layer_steps(&tars) };
    let befores = step.look(&world.host).unwrap();
    step.layers.iter().for_each(|layer| fs::remove_file(&layer.blob).unwrap());
    // The blobs come in small parts, the lowest one last.
    let (senders, receivers): (Vec<_>, Vec<_>) = tars.iter().map(|_| std::io::pipe().unwrap()).map(|(read, write)| (write, read)).unzip();
    let receivers = std::sync::Mutex::new(receivers.into_iter().map(Some).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (tar, mut sender) in tars.iter().zip(senders).rev() {
                scope.spawn(move || tar.chunks(100).for_each(|part| std::io::Write::write_all(&mut sender, part).unwrap()));
            }
        });
        let open = |layer: &Layer| {
            let nth = step.layers.iter().position(|known| known.path == layer.path).unwrap();
            Ok(Box::new(receivers.lock().unwrap()[nth].take().unwrap()) as Bytes<'_>)
        };
        step.apply_from(&befores, &open).unwrap();
    });
    assert_eq!(names(&world.host.layers()), ["l0", "l1", "l2", "l3"]);
    step.undo(&befores, &world.host).unwrap();
}

#[test]
fn a_flat_tree_never_takes_a_strangers_place() {
    let world = World::new();
    let step = world.flatten_step(&[base()]);
    let before = step.look(&world.host).unwrap();
    fs::create_dir(&step.path).unwrap();
    assert_eq!(step.look(&world.host).unwrap_err().kind(), Kind::AlreadyExists);
    assert_eq!(step.apply(&before, &world.host).unwrap_err().kind(), Kind::Conflict);
    step.undo(&before, &world.host).unwrap();
    assert_eq!(names(&world.at("flat")), ["rootfs"]);
    assert!(names(&world.at("run")).is_empty());
}

#[test]
fn scripts_make_the_same_trees() {
    let world = World::new();
    let two =
        Tar::new().dir(".", 0o755).dir("d", 0o711).file("d/.wh.x", "").file("d/y z", "3").sym("l", "/nowhere").file(".wh.f", "").end();
    let three = Tar::new().dir(".", 0o755).dir("d", 0o711).file("d/.wh..wh..opq", "").file("d/n", "4").end();
    let tars = [base(), two, three];
    // The time of a whiteout means nothing.
    let list = |root: &Path| {
        let timeless = |line: String| if line.starts_with("c ") { line.split(" @").next().unwrap_or_default().to_owned() } else { line };
        list(root).into_iter().map(timeless).collect::<Vec<_>>()
    };
    let sh = |step: &dyn Fn(&mut Script)| {
        let mut script = Script::new();
        step(&mut script);
        let output = Command::new("sh").arg("-c").arg(script.as_str()).output().unwrap();
        assert!(output.status.success(), "{}\n{}", script.as_str(), String::from_utf8_lossy(&output.stderr));
    };
    for step in world.layer_steps(&tars) {
        layers::run(&step, &world.host).unwrap();
        let applied = list(&step.path.join("fs"));
        sh(&|script| step.script(Way::Undo(&Default::default()), script));
        assert!(!step.path.exists());
        sh(&|script| step.script(Way::Apply, script));
        assert_eq!(list(&step.path.join("fs")), applied);
        assert!(step.already(&step.look(&world.host).unwrap()));
    }
    let step = world.flatten_step(&tars);
    layers::run(&step, &world.host).unwrap();
    let applied = list(&step.path);
    sh(&|script| step.script(Way::Undo(&Default::default()), script));
    sh(&|script| step.script(Way::Apply, script));
    assert_eq!(list(&step.path), applied);
}

/// A stack in which every directory is described before something is in it, as builders write them.
fn random_stack(dice: &mut Dice) -> Vec<Vec<u8>> {
    // What is visible, with its kind, so that every layer is valid.
    let mut tree: std::collections::BTreeMap<String, char> = [(String::new(), 'd')].into();
    let mut stack = Vec::new();
    for _ in 0..1 + dice.roll(4) {
        let mut tar = Tar::new().dir(".", 0o755);
        let mut own: std::collections::BTreeSet<String> = [String::new()].into();
        for _ in 0..dice.roll(16) {
            let dirs: Vec<String> = tree.iter().filter(|(_, kind)| **kind == 'd').map(|(path, _)| path.clone()).collect();
            let dir = dirs[dice.roll(dirs.len())].clone();
            // The directories above are described again.
            let mut above = String::new();
            for part in dir.split('/').filter(|part| !part.is_empty()) {
                above = join(&above, part);
                if own.insert(above.clone()) {
                    tar = tar.dir(&above, 0o755);
                }
            }
            let name = ["a", "b", "c", "d e", "ü"][dice.roll(5)];
            let path = join(&dir, name);
            if own.contains(&path) {
                continue;
            }
            let there = tree.get(&path).copied();
            let gone = |tree: &mut std::collections::BTreeMap<String, char>| {
                tree.retain(|known, _| *known != path && !known.starts_with(&format!("{path}/")));
            };
            match dice.roll(8) {
                0 if there.is_some() => {
                    gone(&mut tree);
                    tar = tar.file(join(&dir, &format!(".wh.{name}")), "");
                    own.insert(path);
                    continue;
                }
                1 if there == Some('d') => {
                    tree.retain(|known, _| !known.starts_with(&format!("{path}/")));
                    tar = tar.dir(&path, 0o755).file(join(&path, ".wh..wh..opq"), "");
                }
                0..=2 => {
                    if there != Some('d') {
                        tree.insert(path.clone(), 'd');
                    }
                    tar = tar.dir(&path, [0o755, 0o1777, 0o2750][dice.roll(3)]);
                }
                3 => {
                    gone(&mut tree);
                    tree.insert(path.clone(), 'l');
                    tar = tar.sym(&path, "/x/../y");
                }
                4 => {
                    gone(&mut tree);
                    tree.insert(path.clone(), 'p');
                    tar = tar.head(&Head::new(&path, b'6', 0o600), b"");
                }
                _ => {
                    gone(&mut tree);
                    tree.insert(path.clone(), 'f');
                    tar = tar.mode_file(&path, [0o644, 0o4755][dice.roll(2)], &dice.roll(1000).to_string());
                }
            }
            own.insert(path);
        }
        stack.push(tar.end());
    }
    stack
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

fn store(layout: &Path, media_type: &str, bytes: &[u8]) -> serde_json::Value {
    let digest = sum(bytes);
    fs::write(layout.join("blobs/sha256").join(&digest[7..]), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// What `umoci unpack` makes of a stack.
fn umoci(world: &World, tars: &[Vec<u8>]) -> Vec<String> {
    let (layout, bundle) = (world.at("layout"), world.at("bundle"));
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let layers: Vec<_> = tars.iter().map(|tar| store(&layout, "application/vnd.oci.image.layer.v1.tar", tar)).collect();
    let diff_ids: Vec<_> = tars.iter().map(|tar| sum(tar)).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = store(&layout, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let mut manifest = store(&layout, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "x"});
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let output = Command::new("umoci").arg("unpack").arg("--image").arg(format!("{}:x", layout.display())).arg(&bundle).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = list(&bundle.join("rootfs"));
    fs::remove_dir_all(&layout).unwrap();
    fs::remove_dir_all(&bundle).unwrap();
    listed
}

#[test]
fn random_stacks_are_the_same_by_overlay_by_flattening_and_by_umoci() {
    let world = World::new();
    let with_umoci = Command::new("umoci").arg("--version").output().is_ok();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for nth in 0..150 {
        let stack = random_stack(&mut dice);
        let overlay = world.overlay(&stack).unwrap();
        let flat = world.flat(&stack).unwrap();
        assert_eq!(overlay, flat, "stack {nth}");
        if with_umoci {
            assert_eq!(umoci(&world, &stack), flat, "stack {nth}");
        }
    }
}
