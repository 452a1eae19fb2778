//! Damage to the blobs of pulled images: what a pull notices by itself, and what `image verify --repair` fetches again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Registry, World, images};

const LAYERS: &str = "127.0.0.1:5000/layers:1";

/// A world with a registry that has `layers` as an OCI image, as one of Docker's, and behind an index, and a bigger one.
fn world() -> (World, Registry) {
    let world = World::new();
    let registry = Registry::start(&world, 5000, "");
    let layers = format!("oci:{}:latest", images().layout("layers"));
    registry.push(&world, &layers, "layers:1", "");
    registry.push(&world, &layers, "docker:1", "-f v2s2");
    registry.push(&world, &format!("oci:{}:latest", images().layout("busybox")), "busybox:1", "");
    (world, registry)
}

/// The manifest, the configuration and the layers of an image, where the store has them.
fn blobs(world: &World, name: &str) -> Vec<PathBuf> {
    let script = format!(
        "i=$HOME/lib/images/index.json; m=$(jq -r --arg n {name} '.manifests[] | select(.annotations[\"org.opencontainers.image.ref.name\"] == $n).digest' $i)
         at() {{ echo $HOME/lib/images/blobs/$(printf %s $1 | tr : /); }}
         at $m; for d in $(jq -r '.config.digest, .layers[].digest' $(at $m)); do at $d; done"
    );
    world.sh(&script).ok().stdout.lines().map(PathBuf::from).collect()
}

/// Changes one byte; `quietly`, as a disk does, without a trace in the times.
fn flip(path: &Path, quietly: bool) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    if quietly {
        fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }
}

#[test]
fn a_pull_notices_a_damaged_blob_of_the_same_size() {
    let (world, _registry) = world();
    world.rkbox(["image", "pull", LAYERS]).ok();
    for blob in blobs(&world, LAYERS) {
        let whole = fs::read(&blob).unwrap();
        // A big one that a disk damaged is the next test's.
        for quietly in [false, true].into_iter().filter(|quietly| !quietly || whole.len() <= 1 << 20) {
            world.rkbox(["image", "pull", LAYERS]).ok().prints("Image is up to date");
            flip(&blob, quietly);
            world.rkbox(["image", "pull", LAYERS]).ok().prints("Pulled image");
            assert!(fs::read(&blob).unwrap() == whole, "{}, quietly: {quietly}", blob.display());
            world.rk("image verify").ok().says("0 problems");
        }
    }
    // So does a load from an archive.
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    for blob in blobs(&world, "docker.io/library/busybox:latest") {
        flip(&blob, false);
        world.rk("image verify").fails(13);
        world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
        world.rk("image verify").ok().says("0 problems");
    }
}

/// A big blob that a disk damaged is not read by a pull that has nothing to unpack; one that has fetches it anew.
#[test]
fn a_pull_does_not_stumble_over_a_blob_that_a_disk_damaged() {
    let (world, _registry) = world();
    let name = "127.0.0.1:5000/busybox:1";
    world.rkbox(["image", "pull", name]).ok();
    let layer = blobs(&world, name).pop().unwrap();
    let whole = fs::read(&layer).unwrap();
    assert!(whole.len() > 1 << 20, "a blob is read each time up to a size");
    flip(&layer, true);
    world.rkbox(["image", "pull", name]).ok().prints("Image is up to date");
    world.sh("rm -r $HOME/lib/layers/*").ok();
    world.rkbox(["image", "pull", name]).ok();
    assert!(fs::read(&layer).unwrap() == whole);
    world.rk("image verify").ok().says("0 problems");
    // What verify has found, the next pull puts right.
    flip(&layer, true);
    world.rk("image verify").fails(13).prints("content").says("image verify --repair fetches");
    world.rkbox(["image", "pull", name]).ok().prints("Pulled image");
    world.rk("image verify").ok();
}

/// A store that another tool filled has no seals: its blobs are read once, and then known.
#[test]
fn blobs_of_others_are_read_before_they_are_taken() {
    let (world, _registry) = world();
    world.rkbox(["image", "pull", LAYERS]).ok();
    world.sh("touch $HOME/lib/images/blobs/*/*").ok();
    let before = world.rkbox(["--format", "json", "image", "pull", LAYERS]).ok().json()[0].clone();
    assert_eq!(before["fetched"], 0, "{before}");
    world.rkbox(["image", "pull", LAYERS]).ok().prints("Image is up to date");
}

#[test]
fn documents_and_layers_come_back_from_the_registry() {
    let (world, registry) = world();
    world.rkbox(["image", "pull", LAYERS, "127.0.0.1:5000/docker:1", "127.0.0.1:5000/busybox:1"]).ok();
    world.rkbox(["image", "pull", "--platform", "linux/s390x", "127.0.0.1:5000/layers:1"]).fails(3);
    // One without a name comes back without one.
    world.rk("image untag 127.0.0.1:5000/busybox:1").ok();
    let list = || world.rk("image ls --format json --digests").ok().stdout;
    let (before, index) = (list(), fs::read_to_string(world.path("lib/images/index.json")).unwrap());
    let script = "ls -d $HOME/lib/images/blobs/sha256/*";
    let all: Vec<PathBuf> = world.sh(script).ok().stdout.lines().map(PathBuf::from).collect();
    for harm in ["flip", "quiet", "cut", "missing"] {
        for blob in &all {
            let whole = fs::read(blob).unwrap();
            match harm {
                "missing" => fs::remove_file(blob).unwrap(),
                "cut" => fs::write(blob, &whole[1..]).unwrap(),
                _ => flip(blob, harm == "quiet"),
            }
            let told = world.rk("image verify --format json").fails(13);
            let short = blob.file_name().unwrap().to_str().unwrap();
            let problems = told.json()["problems"].to_string();
            assert!(problems.contains(short), "{harm} of {short}: {problems}");
            let repaired = world.rk("image verify --repair --format json").ok().json()["problems"].clone();
            assert!(repaired.as_array().unwrap().iter().all(|problem| problem["repaired"] == true), "{repaired:#}");
            assert!(fs::read(blob).unwrap() == whole, "{harm} of {short}");
            world.rk("image verify").ok().says("0 problems");
        }
    }
    // All at once.
    all.iter().for_each(|blob| flip(blob, true));
    world.rk("image verify --repair").ok();
    world.rk("image verify").ok().says("0 problems");
    assert_eq!((list(), fs::read_to_string(world.path("lib/images/index.json")).unwrap()), (before, index));
    // Without the registry it is said which endpoint was asked, and nothing is lost.
    registry.stop();
    flip(&all[0], false);
    let damaged = fs::read(&all[0]).unwrap();
    world.rk("image verify --repair").fails(13).says("127.0.0.1:5000");
    assert_eq!(fs::read(&all[0]).unwrap(), damaged);
}

#[test]
fn what_came_from_an_archive_is_told_by_its_name() {
    let world = World::new();
    let archive = images().oci_archive("layers");
    world.rkbox(["image", "load", &archive]).ok();
    for blob in blobs(&world, "docker.io/library/layers:latest") {
        flip(&blob, false);
        world.rk("image verify --repair").fails(13).says(&format!("rkbox image load {archive} brings it back"));
        world.rkbox(["image", "load", &archive]).ok();
        world.rk("image verify").ok().says("0 problems");
    }
}

/// The index and the mark of the layout: damaged, cut, lost, one entry that is none. Nothing is swept, and what can be known comes back.
#[test]
fn a_lost_index_is_made_anew_from_what_is_in_the_store() {
    let (world, _registry) = world();
    let busybox = "127.0.0.1:5000/busybox:1";
    world.rkbox(["image", "pull", LAYERS, busybox]).ok();
    let ids = || world.sh("rkbox image ls -q --no-trunc | sort").ok().stdout;
    let (all, index) = (ids(), fs::read_to_string(world.path("lib/images/index.json")).unwrap());
    let blobs = world.sh("find $HOME/lib/images/blobs $HOME/lib/layers | sort").ok().stdout;
    for (harm, names) in [
        ("echo '{' >index.json", 0),
        ("truncate -s 100 index.json", 0),
        (": >index.json", 0),
        ("rm index.json", 0),
        ("rm index.json; : >oci-layout", 0),
        ("rm oci-layout", 2),
        ("jq -c '.manifests[0].digest = \"sha256:x\"' index.json >i; mv i index.json", 1),
        ("jq -c '.manifests += [7]' index.json >i; mv i index.json", 2),
    ] {
        fs::write(world.path("lib/images/index.json"), &index).unwrap();
        world.sh(&format!("cd $HOME/lib/images; {harm}")).ok();
        world.rk("image verify").fails(13).prints(if names == 2 && harm.contains("layout") { "oci-layout" } else { "index.json" });
        if !harm.starts_with("rm") {
            world.rk("image ls").fails(13).says("rkbox image verify --repair makes the index anew");
        }
        if harm != "rm oci-layout" && harm != "rm index.json; : >oci-layout" {
            world.rk("gc").fails(13).says("rkbox image verify --repair makes the index anew");
        }
        assert_eq!(world.sh("find $HOME/lib/images/blobs $HOME/lib/layers | sort").ok().stdout, blobs, "{harm}");
        world.rk("image verify --repair").ok().prints("repaired");
        world.rk("image verify").ok().says("0 problems");
        assert_eq!(ids(), all, "{harm}");
        let listed = world.rk("image ls --format json").ok().json();
        let named = listed.as_array().unwrap().iter().filter(|row| !row["repository"].is_null()).count();
        assert_eq!(named, names, "{harm}: {listed}");
        world.rk("gc").ok();
        // A pull gives the names back, and fetches nothing.
        let pulled = world.rkbox(["--format", "json", "image", "pull", LAYERS, busybox]).ok().json();
        assert!(pulled.as_array().unwrap().iter().all(|image| image["fetched"] == 0), "{pulled}");
        world.rkbox(["run", "--rm", "--net", "none", busybox, "true"]).ok();
    }
}
