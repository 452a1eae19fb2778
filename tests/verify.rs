//! Damage to stored images, of every kind: found, told, and put right byte for byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod layers;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use layers::{Head, Tar, list, record};
use rkbox::step::layer::find_stamp;
use rkbox::step::{Action, Layer, Layers, Repair};
use rkbox::sys::tree_verify::{Depth, Flaw};

/// Two layers: one with a thing of every kind, and one over it with whiteouts, an opaque directory and a link to the first.
fn stack() -> Vec<Vec<u8>> {
    let xattr = |name: &str, value: &[u8]| Tar::new().pax(&[record(&format!("SCHILY.xattr.{name}"), value)]).0;
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let one = Tar::new()
        .dir(".", 0o755)
        .dir("d", 0o2751)
        .dir("d/e", 0o700)
        .file("d/e/deep", "deep content")
        .file("d/a b\n\\", "strange name")
        .raw(&xattr("security.capability", capability))
        .mode_file("d/suid", 0o4755, "program")
        .raw(&xattr("user.k", b"v"))
        .file("d/x", "attributes")
        .hard("d/other", "d/x")
        .hard("third", "d/x")
        .file("empty", "")
        .file("gone", "1")
        .sym("s", "d/x")
        .device("null", b'3', 1, 3)
        .device("disk", b'4', 8, 0)
        .head(&Head::new("p", b'6', 0o600), b"")
        .file("big", &"0123456789abcdef".repeat(10_000));
    let two = Tar::new().dir("d", 0o711).file("d/.wh..wh..opq", "").file("d/new", "new").file(".wh.gone", "").hard("linked", "big");
    vec![one.end(), two.end()]
}

type Harm = fn(&Path);

fn sh(script: &str, at: &Path) {
    let output = Command::new("sh").args(["-euc", script]).current_dir(at).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Changes one byte and puts the time back, as a disk does.
fn flip(path: &Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

const HARMS: &[(&str, usize, Flaw, Harm)] = &[
    ("content", 0, Flaw::Content, |at| flip(&at.join("big"))),
    ("content of a small file", 0, Flaw::Content, |at| flip(&at.join("d/e/deep"))),
    ("content of a file with other names", 0, Flaw::Content, |at| flip(&at.join("third"))),
    ("content of a setuid file", 0, Flaw::Content, |at| flip(&at.join("d/suid"))),
    ("cut", 0, Flaw::Size, |at| fs::File::options().write(true).open(at.join("big")).unwrap().set_len(7).unwrap()),
    ("longer", 0, Flaw::Size, |at| sh("echo >> empty", at)),
    ("mode", 0, Flaw::Mode, |at| fs::set_permissions(at.join("d/x"), fs::Permissions::from_mode(0o777)).unwrap()),
    ("setuid gone", 0, Flaw::Mode, |at| sh("chmod 755 d/suid", at)),
    ("capability gone by a change of owner", 0, Flaw::Xattrs, |at| sh("chown 0:0 d/suid", at)),
    ("mode of a directory", 0, Flaw::Mode, |at| sh("chmod 0777 d", at)),
    ("owner", 0, Flaw::Owner, |at| sh("chown 5:6 d/e/deep", at)),
    ("owner of a directory", 0, Flaw::Owner, |at| sh("chown 5:6 d/e", at)),
    ("owner of a link", 0, Flaw::Owner, |at| sh("chown -h 5:6 s", at)),
    ("owner of a device", 0, Flaw::Owner, |at| sh("chown 5:6 null", at)),
    ("mode of a FIFO", 0, Flaw::Mode, |at| sh("chmod 666 p", at)),
    ("time", 0, Flaw::Time, |at| sh("touch -d @5 d/x", at)),
    ("time of the root", 0, Flaw::Time, |at| sh("touch .", at)),
    ("xattr", 0, Flaw::Xattrs, |at| sh("setfattr -n user.k -v w d/x", at)),
    ("xattr gone", 0, Flaw::Xattrs, |at| sh("setfattr -x user.k d/x", at)),
    ("xattr too many", 0, Flaw::Xattrs, |at| sh("setfattr -n user.l -v w big", at)),
    ("capability given", 0, Flaw::Xattrs, |at| sh("setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 big", at)),
    ("opaque by hand", 0, Flaw::Xattrs, |at| sh("setfattr -n trusted.overlay.opaque -v y d", at)),
    ("redirect by hand", 0, Flaw::Xattrs, |at| sh("setfattr -n trusted.overlay.redirect -v /etc d/e", at)),
    ("missing", 0, Flaw::Missing, |at| fs::remove_file(at.join("big")).unwrap()),
    ("missing empty file", 0, Flaw::Missing, |at| fs::remove_file(at.join("empty")).unwrap()),
    ("missing name", 0, Flaw::Missing, |at| fs::remove_file(at.join("third")).unwrap()),
    ("missing first name", 0, Flaw::Missing, |at| fs::remove_file(at.join("d/x")).unwrap()),
    ("missing link", 0, Flaw::Missing, |at| fs::remove_file(at.join("s")).unwrap()),
    ("missing device", 0, Flaw::Missing, |at| fs::remove_file(at.join("disk")).unwrap()),
    ("missing tree", 0, Flaw::Missing, |at| fs::remove_dir_all(at.join("d")).unwrap()),
    ("all missing", 0, Flaw::Missing, |at| sh("rm -rf -- *", at)),
    ("extra", 0, Flaw::Extra, |at| sh("echo > d/evil", at)),
    ("extra tree", 0, Flaw::Extra, |at| sh("mkdir -p d/e/evil/deeper; echo > d/e/evil/deeper/x", at)),
    ("extra whiteout", 0, Flaw::Extra, |at| sh("mknod hidden c 0 0", at)),
    ("extra link out", 0, Flaw::Extra, |at| symlink("/etc/passwd", at.join("out")).unwrap()),
    ("file is a directory", 0, Flaw::Type, |at| sh("rm big; mkdir big; echo > big/x", at)),
    ("file is a link out", 0, Flaw::Type, |at| sh("rm big; ln -s /etc/passwd big", at)),
    ("file is a FIFO", 0, Flaw::Type, |at| sh("rm d/e/deep; mkfifo d/e/deep", at)),
    ("directory is a link out", 0, Flaw::Type, |at| sh("rm -r d; ln -s /etc d", at)),
    ("directory is a file", 0, Flaw::Type, |at| sh("rm -r d/e; echo > d/e", at)),
    ("link is a file", 0, Flaw::Type, |at| sh("rm s; echo > s", at)),
    ("device is a file", 0, Flaw::Type, |at| sh("rm null; echo > null", at)),
    ("link to elsewhere", 0, Flaw::Target, |at| sh("ln -sfn /etc/passwd s", at)),
    ("device of another number", 0, Flaw::Device, |at| sh("rm null; mknod -m 600 null c 1 5", at)),
    ("name of another file", 0, Flaw::HardLink, |at| sh("cp -a third t; mv t third", at)),
    ("whiteout gone", 1, Flaw::Missing, |at| sh("rm gone", at)),
    ("whiteout is a file", 1, Flaw::Type, |at| sh("rm gone; echo > gone", at)),
    ("whiteout is another device", 1, Flaw::Device, |at| sh("rm gone; mknod gone c 1 3", at)),
    ("no longer opaque", 1, Flaw::Xattrs, |at| sh("setfattr -x trusted.overlay.opaque d", at)),
    ("content that came from a lower layer", 1, Flaw::Content, |at| flip(&at.join("linked"))),
    ("directory of the upper layer gone", 1, Flaw::Missing, |at| sh("rm -r d", at)),
];

fn repair_of(steps: &[Layer], nth: usize) -> Repair {
    let found = layers::verify(&steps[nth], Depth::Whole);
    let damages = rkbox::sys::tree_repair::Repair::of(&steps[nth].path.join("layer.mtree"), &found).unwrap().damages();
    Repair { layer: steps[nth].clone(), below: steps[..nth].iter().rev().cloned().collect(), damages }
}

/// The list of a tree, with the identity of linked files.
fn exact(root: &Path) -> Vec<String> {
    // The time of a whiteout means nothing.
    let timeless = |line: String| if line.starts_with("c ") { line.split(" @").next().unwrap_or_default().to_owned() } else { line };
    let mut lines: Vec<String> = list(root).into_iter().map(timeless).collect();
    let inode = |name: &str| fs::symlink_metadata(root.join(name)).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta)).ok();
    lines.push(format!("{}", inode("d/x") == inode("third") && inode("d/x") == inode("d/other")));
    lines
}

#[test]
fn every_harm_is_found_and_repaired() {
    let world = layers::World::new();
    let steps = world.layer_steps(&stack());
    layers::run(&Layers { layers: steps.clone() }, &world.host).unwrap();
    let whole: Vec<_> = steps.iter().map(|step| exact(&step.path.join("fs"))).collect();
    for (name, nth, flaw, harm) in HARMS {
        let step = &steps[*nth];
        assert_eq!(layers::verify(step, Depth::Whole), [], "before {name}");
        harm(&step.path.join("fs"));
        let found = layers::verify(step, Depth::Whole);
        assert!(found.iter().any(|finding| finding.flaw == *flaw), "{name}: {found:#?}");
        let sealed = find_stamp(&step.path).unwrap().unwrap().sealed_at().unwrap();
        assert_eq!(layers::verify(step, Depth::ChangedAfter(sealed)), found, "{name}, quick");
        let canary = world.canary();
        let repair = repair_of(&steps, *nth);
        layers::run(&repair, &world.host).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(exact(&step.path.join("fs")), whole[*nth], "{name}");
        assert_eq!(layers::verify(step, Depth::Whole), [], "after {name}");
        assert_eq!(world.canary(), canary, "{name}");
        assert_eq!(layers::names(&world.host.layers()), ["l0", "l1"], "{name}");
    }
}

#[test]
fn scripts_repair_as_well() {
    let world = layers::World::new();
    let steps = world.layer_steps(&stack());
    layers::run(&Layers { layers: steps.clone() }, &world.host).unwrap();
    let whole: Vec<_> = steps.iter().map(|step| exact(&step.path.join("fs"))).collect();
    // The shell unpacks the upper layer's link to a file of the lower one not at all.
    for (name, nth, _, harm) in HARMS.iter().filter(|(_, nth, ..)| *nth == 0) {
        harm(&steps[*nth].path.join("fs"));
        let mut script = rkbox::script::Script::new();
        repair_of(&steps, *nth).script(rkbox::step::Way::Apply, &mut script);
        sh(script.as_str(), &world.host.layers());
        assert_eq!(exact(&steps[*nth].path.join("fs")), whole[*nth], "{name}\n{}", script.as_str());
    }
}

#[test]
fn without_a_list_the_layer_is_unpacked_again() {
    let world = layers::World::new();
    let steps = world.layer_steps(&stack());
    layers::run(&Layers { layers: steps.clone() }, &world.host).unwrap();
    let step = &steps[0];
    let whole = exact(&step.path.join("fs"));
    for harm in ["rm layer.mtree", "rm layer.json", "echo >> layer.mtree", "rm -r fs", "echo '{' > layer.json", "rm -r ../l0"] {
        sh(harm, &step.path);
        let repair = Repair { layer: step.clone(), below: Vec::new(), damages: Vec::new() };
        layers::run(&repair, &world.host).unwrap();
        assert_eq!(exact(&step.path.join("fs")), whole, "{harm}");
        assert_eq!(layers::verify(step, Depth::Whole), [], "{harm}");
    }
}

#[test]
fn a_damaged_blob_repairs_nothing_and_a_killed_repair_leaves_nothing() {
    let world = layers::World::new();
    let steps = world.layer_steps(&stack());
    layers::run(&Layers { layers: steps.clone() }, &world.host).unwrap();
    let step = &steps[0];
    let damaged = step.path.join("fs/big");
    flip(&damaged);
    let before = fs::read(&damaged).unwrap();
    flip(&step.blob);
    let repair = repair_of(&steps, 0);
    let fault = layers::run(&repair, &world.host).unwrap_err();
    assert_eq!(fault.kind(), rkbox::fault::Kind::DataLoss, "{fault}");
    assert_eq!(fs::read(&damaged).unwrap(), before);
    fs::create_dir(world.host.layers().join("l0.partial-1-0")).unwrap();
    for _ in 0..2 {
        repair.undo(&(), &world.host).unwrap();
        assert_eq!(layers::names(&world.host.layers()), ["l0", "l1"]);
    }
    flip(&step.blob);
    layers::run(&repair, &world.host).unwrap();
    assert_eq!(layers::verify(step, Depth::Whole), []);
}

/// The list is in a format of others: mtree reads it, agrees, and sees the harm.
#[test]
fn mtree_reads_the_list() {
    let world = layers::World::new();
    let steps = world.layer_steps(&stack());
    layers::run(&Layers { layers: steps.clone() }, &world.host).unwrap();
    let mtree = |step: &Layer| {
        let list = fs::File::open(step.path.join("layer.mtree")).unwrap();
        let output = Command::new("mtree").arg("-p").arg(step.path.join("fs")).stdin(list).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    for step in &steps {
        assert_eq!(mtree(step), "");
    }
    flip(&steps[0].path.join("fs/big"));
    sh("chmod 700 d/x; rm s; echo > d/evil", &steps[0].path.join("fs"));
    let said = mtree(&steps[0]);
    for word in ["big", "sha256", "d/x", "permissions", "missing: ./s", "extra: d/evil"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// A world with the image of two layers, and where the trees of its layers are, lowest first.
fn loaded() -> (common::World, Vec<std::path::PathBuf>) {
    let world = common::World::new();
    world.rkbox(["image", "load", &common::images().oci_archive("layers")]).ok();
    let trees = fs::read_dir(world.root().join("layers")).unwrap().map(|entry| entry.unwrap().path().join("fs")).collect();
    (world, trees)
}

/// A regular file of some size in one of the trees.
fn some_file(trees: &[std::path::PathBuf]) -> std::path::PathBuf {
    let find = |tree: &std::path::PathBuf| {
        let output = Command::new("find").arg(tree).args(["-type", "f", "-size", "+0", "-print", "-quit"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    trees.iter().map(find).find(|found| !found.is_empty()).unwrap().into()
}

#[test]
fn the_command_tells_and_repairs() {
    let (world, trees) = loaded();
    let whole: Vec<_> = trees.iter().map(|tree| list(tree)).collect();
    let answer = world.rk("image verify --format json").ok().json();
    assert_eq!(answer["problems"].as_array().unwrap().len(), 0);
    assert!(answer["files"].as_u64().unwrap() > 3 && answer["layers"].as_u64().unwrap() == trees.len() as u64, "{answer}");
    let file = some_file(&trees);
    flip(&file);
    fs::write(trees[0].join("evil"), "").unwrap();
    for line in ["image verify", "image verify --quick", "image verify layers"] {
        world.rk(line).fails(13).says("--repair").prints("content").prints("evil");
    }
    let problems = world.rk("image verify --format json").fails(13).json()["problems"].clone();
    let problem = problems.as_array().unwrap().iter().find(|problem| problem["problem"] == "content").unwrap();
    assert!(file.ends_with(problem["path"].as_str().unwrap()) && problem["repaired"] == false, "{problem}");
    assert!(file.display().to_string().contains(&problem["layer"].as_str().unwrap()[7..]), "{problem}");
    let script = world.rk("image verify --repair --explain").ok().stdout;
    assert_eq!(world.rk("image verify --repair --format json").ok().json()["problems"][0]["repaired"], true);
    world.rk("image verify").ok().says("0 problems");
    assert_eq!(trees.iter().map(|tree| list(tree)).collect::<Vec<_>>(), whole);
    // The script does the same.
    flip(&file);
    fs::write(trees[0].join("evil"), "").unwrap();
    world.sh(&script).ok();
    world.rk("image verify").ok();
    world.rk("image verify nothing").fails(3);
    world.rk("image verify --explain").fails(2);
}

#[test]
fn damaged_blobs_and_stamps_are_told() {
    let (world, trees) = loaded();
    let blobs = world.root().join("images/blobs/sha256");
    let mut all: Vec<_> = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort_by_key(|path| fs::metadata(path).unwrap().len());
    let blob = all.pop().unwrap();
    let bytes = fs::read(&blob).unwrap();
    flip(&blob);
    world.rk("image verify").fails(13).prints("(blob)").prints("content");
    world.rk("image verify --quick").ok();
    fs::write(&blob, &bytes[1..]).unwrap();
    world.rk("image verify --quick").fails(13).prints("size");
    fs::remove_file(&blob).unwrap();
    world.rk("image verify").fails(13).prints("missing").says("load it again");
    fs::write(&blob, &bytes).unwrap();
    // A document that is not what its digest says.
    let document = &all[0];
    let text = fs::read(document).unwrap();
    flip(document);
    world.rk("image verify").fails(13).prints("content");
    fs::write(document, text).unwrap();
    let layer = trees[0].parent().unwrap();
    for harm in ["rm layer.json", "echo >> layer.mtree", "rm layer.mtree", "rm -r fs"] {
        sh(harm, layer);
        world.rk("image verify").fails(13).prints("(layer)");
        world.rk("image verify --repair").ok().prints("repaired");
        world.rk("image verify").ok();
    }
}

#[test]
fn a_layer_in_use_is_not_touched() {
    let (world, trees) = loaded();
    let file = some_file(&trees);
    flip(&file);
    let damaged = fs::read(&file).unwrap();
    let lowers = trees.iter().map(|tree| tree.display().to_string()).collect::<Vec<_>>().join(":");
    world.sh(&format!("mkdir -p $HOME/view $HOME/empty; mount -t overlay overlay -o lowerdir={lowers}:$HOME/empty $HOME/view")).ok();
    world.rk("image verify --repair").fails(13).says("is mounted on").says("hint:");
    assert_eq!(fs::read(&file).unwrap(), damaged);
    world.sh("umount $HOME/view").ok();
    world.rk("image verify --repair").ok();
    world.rk("image verify").ok();
}

#[test]
fn a_damaged_blob_comes_back_from_its_registry() {
    let world = common::World::new();
    let registry = common::registry::Registry::start(&world, 5000, "");
    registry.push(&world, &format!("oci:{}:latest", common::images().layout("layers")), "app:1", "");
    let name = registry.name("app:1");
    world.rkbox(["image", "pull", &name]).ok();
    let before = world.rk("image ls --format json").ok().json();
    let image = world.rkbox(["image", "inspect", &name]).ok().stdout;
    let blobs = world.root().join("images/blobs/sha256");
    let all: Vec<_> = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).collect();
    let blob = all.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let whole = fs::read(blob).unwrap();
    for harm in ["flipped", "missing", "cut"] {
        match harm {
            "flipped" => flip(blob),
            "missing" => fs::remove_file(blob).unwrap(),
            _ => fs::write(blob, &whole[1..]).unwrap(),
        }
        world.rk("image verify").fails(13).prints("(blob)");
        world.rk("image verify --repair").ok().prints("repaired");
        assert_eq!(fs::read(blob).unwrap(), whole, "{harm}");
        world.rk("image verify").ok();
    }
    assert_eq!(world.rk("image ls --format json").ok().json(), before);
    assert_eq!(world.rkbox(["image", "inspect", &name]).ok().stdout, image);
    registry.stop();
    // Without its registry the blob stays as it is, and what can be said is said.
    flip(blob);
    let damaged = fs::read(blob).unwrap();
    world.rk("image verify --repair").fails(13).prints("content");
    assert_eq!(fs::read(blob).unwrap(), damaged);
    let names: Vec<_> = layers::names(&blobs).into_iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(names, Vec::<String>::new());
}
