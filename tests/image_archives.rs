//! Archives in and out: every form that is saved is loaded by skopeo, podman, umoci and rkbox itself, and is the same image.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::path::Path;

use common::{World, images};
use serde_json::Value;

const BUSYBOX: &str = "docker.io/library/busybox:latest";
const LAYERS: &str = "quay.io/a/layers:v1";

/// A world whose store has busybox, and an image of several layers under two names.
fn world() -> World {
    let world = World::new();
    world.rk(&format!("image load oci-archive:{}", images().oci_archive("busybox"))).ok();
    world.rk(&format!("image load oci:{}:latest --name {LAYERS} --name other:2", images().layout("layers"))).ok();
    world
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn id(world: &World, image: &str) -> String {
    json(&world.rk(&format!("image inspect {image}")).ok().stdout)[0]["Id"].as_str().unwrap().to_owned()
}

/// The id that rkbox gives to the image of an archive, loaded into a store of its own.
fn id_elsewhere(world: &World, source: &str, image: &str) -> String {
    let script = format!(
        "rkbox image load --root $HOME/elsewhere {source} >&2; rkbox image inspect --root $HOME/elsewhere {image}; rm -r $HOME/elsewhere"
    );
    json(&world.sh(&script).ok().stdout)[0]["Id"].as_str().unwrap().to_owned()
}

fn podman(world: &World) -> String {
    let at = world.path("podman");
    format!("podman --root {0}/root --runroot {0}/run --storage-driver vfs", at.display())
}

#[test]
fn every_form_is_loaded_by_every_tool_and_is_the_same_image() {
    let world = world();
    let busybox = id(&world, "busybox");
    for (to, transport) in [("docker-archive", "docker-archive"), ("oci-archive", "oci-archive"), ("docker-archive", "oci-archive")] {
        for (how, suffix) in [("", ""), ("--compress gzip", ".gz"), ("--compress zstd", ".zst")] {
            let file = world.path(format!("{to}.tar{suffix}")).display().to_string();
            world.rk(&format!("image save busybox --to {to}:{file} {how}")).ok();
            assert_eq!(id_elsewhere(&world, &format!("{transport}:{file}"), "busybox"), busybox, "{to} {how}");
            assert_eq!(id_elsewhere(&world, &file, "busybox"), busybox, "{to} {how}");
            if suffix.is_empty() {
                let seen = world.sh(&format!("skopeo inspect --config --raw {transport}:{file} | sha256sum")).ok().stdout;
                assert!(busybox.ends_with(&seen[..64]), "{to}: {seen}");
            }
        }
        let file = world.path(format!("{to}.tar")).display().to_string();
        let podman = podman(&world);
        let script =
            format!("{podman} load -q -i {file} >&2; {podman} inspect --format '{{{{.Id}}}}' {BUSYBOX}; {podman} rmi {BUSYBOX} >&2");
        assert_eq!(format!("sha256:{}", world.sh(&script).ok().stdout.trim()), busybox, "podman load of {to}");
    }
}

#[test]
fn several_images_and_their_names_go_through_a_pipe() {
    let world = world();
    let layers = id(&world, LAYERS);
    let script = format!("rkbox image save busybox {LAYERS} other:2 {LAYERS} | rkbox image load --root $HOME/copy --format json");
    let loaded = json(&world.sh(&script).ok().stdout);
    let names = |image: &Value| image["references"].as_array().unwrap().len();
    assert_eq!(loaded.as_array().unwrap().iter().map(names).sum::<usize>(), 3, "{loaded}");
    for (name, id) in [("busybox", &id(&world, "busybox")), (LAYERS, &layers), ("other:2", &layers)] {
        let seen = json(&world.sh(&format!("rkbox image inspect --root $HOME/copy {name}")).ok().stdout);
        assert_eq!(seen[0]["Id"], **id);
    }
    // skopeo reads each of them from the archive by its name.
    world.rk(&format!("image save busybox {LAYERS} other:2 -o {}", world.path("all.tar").display())).ok();
    for (name, id) in [(BUSYBOX, &id(&world, "busybox")), (LAYERS, &layers)] {
        let seen = world.sh(&format!("skopeo inspect --config --raw docker-archive:$HOME/all.tar:{name} | sha256sum")).ok().stdout;
        assert!(id.ends_with(&seen[..64]), "{name}: {seen}");
    }
    let podman = podman(&world);
    let seen = world.sh(&format!("{podman} load -q < $HOME/all.tar")).ok().stdout;
    assert!(seen.contains(BUSYBOX) && seen.contains(LAYERS), "{seen}");
    // By id an image has no name, and by another name it has that.
    world.sh(&format!("rkbox image save {layers} | rkbox image load --root $HOME/bare")).ok();
    assert!(world.sh("rkbox image ls --root $HOME/bare").ok().stdout.contains("<none>"));
    world.sh("rkbox image save busybox --to oci-archive:-:new:3 | rkbox image load -i - --root $HOME/named").ok();
    assert!(world.sh("rkbox image ls --root $HOME/named new:3").ok().stdout.contains("library/new"));
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    let world = world();
    let save = |root: &str, options: &str| {
        world.sh(&format!("rkbox image save --root $HOME/{root} busybox {LAYERS} {options} | sha256sum")).ok().stdout
    };
    let copy = format!("rkbox image save busybox {LAYERS} | rkbox image load --root $HOME/copy; sleep 1");
    world.sh(&copy).ok();
    for options in ["", "--compress gzip", "--compress zstd", "--to oci-archive", "--to docker-archive:-"] {
        assert_eq!(save("lib", options), save("copy", options), "{options}");
    }
    assert_eq!(save("lib", ""), save("lib", "--to docker-archive"));
}

#[test]
fn any_stream_or_compressed_archive_is_loaded() {
    let world = world();
    let docker = images().docker_archive("busybox");
    let want = id(&world, "busybox");
    world.sh(&format!("cd $HOME; cp {docker} a.tar; gzip -k a.tar; zstd -q a.tar; mkfifo pipe")).ok();
    for script in [
        "rkbox image load --root $HOME/x < $HOME/a.tar",
        "rkbox image load --root $HOME/x - < $HOME/a.tar.gz",
        "cat $HOME/a.tar | rkbox image load --root $HOME/x",
        "cat $HOME/a.tar.zst | rkbox image load --root $HOME/x docker-archive:-",
        "rkbox image load --root $HOME/x -i $HOME/a.tar.gz",
        "cat $HOME/a.tar.gz > $HOME/pipe & rkbox image load --root $HOME/x $HOME/pipe",
        "rkbox image load --root $HOME/x docker-archive:$HOME/a.tar.zst",
    ] {
        let listed = world.sh(&format!("{script} >&2; rkbox image inspect --root $HOME/x {want}; rm -r $HOME/x")).ok().stdout;
        assert_eq!(json(&listed)[0]["Id"], want, "{script}");
    }
    for (script, code) in [
        ("head -c 1000 $HOME/a.tar.gz | rkbox image load --root $HOME/x", 2),
        ("rkbox image load --root $HOME/x < /dev/null", 2),
        ("echo hello | rkbox image load --root $HOME/x", 2),
        ("rkbox image load --root $HOME/x --explain < $HOME/a.tar.gz", 9),
        ("rkbox image load --root $HOME/x $HOME", 2),
        ("rkbox image load --root $HOME/x $HOME/nothing.tar", 3),
    ] {
        world.sh(script).fails(code);
        assert!(!world.path("x").exists(), "{script}");
    }
    let left = world.sh("ls -A $HOME $HOME/lib $HOME/lib/images").ok().stdout;
    assert!(!left.contains(".tmp"), "{left}");
}

#[test]
fn a_layout_is_written_and_added_to() {
    let world = world();
    let out = world.path("out").display().to_string();
    world.rk(&format!("image save busybox --to oci:{out}")).ok();
    world.rk(&format!("image save {LAYERS} busybox --to oci:{out}")).ok();
    for name in [BUSYBOX, LAYERS] {
        let seen = world.sh(&format!("skopeo inspect --config --raw oci:{out}:{name} | sha256sum")).ok().stdout;
        assert!(id(&world, name).ends_with(&seen[..64]), "{seen}");
    }
    assert_eq!(world.sh(&format!("umoci ls --layout {out}")).ok().stdout.lines().count(), 2);
    world.sh(&format!("umoci unpack --image {out}:{BUSYBOX} $HOME/bundle; test -x $HOME/bundle/rootfs/bin/busybox")).ok();
    world.rk(&format!("image save busybox --to oci:{out}:short")).ok();
    world.sh(&format!("skopeo inspect oci:{out}:short > /dev/null")).ok();
    assert_eq!(world.sh(&format!("stat -c %a {out} {out}/blobs/sha256")).ok().stdout, "755\n755\n");
    world.sh("mkdir $HOME/full; touch $HOME/full/x").ok();
    world.rk("image save busybox --to oci:/tmp/rkbox-world/full").fails(5);
}

#[test]
fn what_cannot_be_saved_is_refused_and_leaves_nothing() {
    let world = world();
    let program = world.program.display().to_string();
    let terminal = world.sh(&format!("script -qec '{program} image save busybox' /dev/null")).fails(2);
    assert!(terminal.stdout.contains("not for a terminal"), "{terminal}");
    for (line, code) in [
        ("image save nothing -o /tmp/rkbox-world/x", 3),
        ("image save busybox -o /tmp/rkbox-world/none/x", 3),
        ("image save busybox -o /tmp/rkbox-world", 5),
        ("image save busybox --to dir:/tmp/rkbox-world/x", 2),
        ("image save busybox --to /tmp/rkbox-world/x", 2),
        ("image save busybox -o /tmp/rkbox-world/x --to docker-archive:/tmp/rkbox-world/x", 2),
        ("image save busybox quay.io/a/layers:v1 --to docker-archive:/tmp/rkbox-world/x:y", 2),
        ("image save busybox --to oci:/tmp/rkbox-world/x --compress gzip", 2),
    ] {
        let output = world.rk(line).fails(code);
        assert!(output.stderr.contains("hint: ") || code != 2, "{output}");
        assert!(!world.path("x").exists(), "{line}");
    }
    // A damaged blob is found on the way; the old file stays as it was.
    world.rk("image save busybox -o /tmp/rkbox-world/kept").ok();
    let kept = std::fs::read(world.path("kept")).unwrap();
    let blob = json(&world.rk("image inspect busybox").ok().stdout)[0]["Layers"][0]["Digest"].as_str().unwrap().to_owned();
    let path = world.root().join("images/blobs/sha256").join(&blob[7..]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    world.rk("image save busybox -o /tmp/rkbox-world/kept").fails(13);
    assert!(std::fs::read(world.path("kept")).unwrap() == kept);
    assert!(!Path::new("/tmp/rkbox-world/x").exists());
}

/// A layer compressed by `zstd` with a window of 2^`log` bytes, in `$HOME/LOG.tar`; its content does not fit into 32 MiB.
fn archive_with_window(world: &World, log: u32) {
    let script = format!(
        r#"set -e; mkdir $HOME/w{log}; cd $HOME/w{log}; head -c 48M /dev/urandom > data; tar -cf tar data
        printf '{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:%s"]}}}}' $(sha256sum tar | cut -c1-64) > config.json
        zstd -q -1 --long={log} < tar > layer; printf '[{{"Config":"config.json","RepoTags":["window:{log}"],"Layers":["layer"]}}]' > manifest.json
        tar -cf ../{log}.tar manifest.json config.json layer; zstd -q -1 --long={log} < ../{log}.tar > ../{log}.tar.zst; rm -r $HOME/w{log}"#
    );
    world.sh(&script).ok();
}

#[test]
fn windows_of_zstd_stay_in_bounded_memory_and_larger_ones_are_named() {
    let world = World::new();
    archive_with_window(&world, 25);
    archive_with_window(&world, 27);
    for archive in ["27.tar", "27.tar.zst"] {
        let refused = world.sh(&format!("rkbox image load $HOME/{archive}")).fails(6);
        refused.says("the zstd frame needs a window of 128 MiB in memory, and rkbox gives it at most 32 MiB").says("zstd --long=25");
    }
    assert_eq!(world.rk("image ls -q").ok().stdout, "");
    // Peak memory of the largest that is taken, in MiB.
    for archive in ["25.tar", "25.tar.zst"] {
        let measure = "import resource as r, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); \
            print(r.getrusage(r.RUSAGE_CHILDREN).ru_maxrss // 1024)";
        let rkbox = env!("CARGO_BIN_EXE_rkbox");
        let peak =
            world.sh(&format!("python3 -c '{measure}' {rkbox} image load $HOME/{archive}; rkbox image rm window:25 >&2")).ok().stdout;
        let peak: u64 = peak.trim().parse().unwrap();
        // An unoptimised binary has some 16 MiB more of itself in memory.
        let most = if cfg!(debug_assertions) { 80 } else { 64 };
        assert!((32..=most).contains(&peak), "{archive}: {peak} MiB");
    }
}
