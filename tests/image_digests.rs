//! Images whose blobs go by SHA-512, made from a real one: from every source, in the store, and out of it again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{Registry, World, images};
use serde_json::Value;

/// The layout of `layers` with every digest a SHA-512, at `$HOME/long`: layers, diff ids, configuration, manifest.
const CONVERT: &str = r#"
    from=LAYERS to=$HOME/long; mkdir -p $to/blobs/sha512; echo '{"imageLayoutVersion":"1.0.0"}' >$to/oci-layout
    blob() { printf '%s/blobs/%s' $from $(printf %s "$1" | tr : /); }
    keep() { digest=sha512:$(sha512sum "$1" | cut -c1-128); size=$(stat -c %s "$1"); cp "$1" $to/blobs/sha512/${digest#sha512:}; }
    jq -c . $(blob $(jq -r '.manifests[0].digest' $from/index.json)) >$HOME/m
    jq -c . $(blob $(jq -r '.config.digest' $HOME/m)) >$HOME/c
    nth=0
    for layer in $(jq -r '.layers[].digest' $HOME/m); do
        keep $(blob $layer)
        jq -c --argjson n $nth --arg d $digest '.layers[$n].digest = $d' $HOME/m >$HOME/n; mv $HOME/n $HOME/m
        diff=sha512:$(gzip -dc $(blob $layer) | sha512sum | cut -c1-128)
        jq -c --argjson n $nth --arg d $diff '.rootfs.diff_ids[$n] = $d' $HOME/c >$HOME/n; mv $HOME/n $HOME/c
        nth=$((nth + 1))
    done
    keep $HOME/c
    jq -c --arg d $digest --argjson s $size '.config.digest = $d | .config.size = $s' $HOME/m >$HOME/n; mv $HOME/n $HOME/m
    keep $HOME/m
    jq -cn --arg d $digest --argjson s $size '{schemaVersion: 2, manifests: [{mediaType: "application/vnd.oci.image.manifest.v1+json",
        digest: $d, size: $s, annotations: {"org.opencontainers.image.ref.name": "long:1"}}]}' >$to/index.json
    tar -cf $HOME/long.tar -C $to oci-layout index.json blobs
"#;

fn world() -> World {
    let world = World::new();
    world.sh(&CONVERT.replace("LAYERS", &images().layout("layers"))).ok();
    world
}

fn inspect(world: &World, name: &str) -> Value {
    world.rkbox(["image", "inspect", name]).ok().json()[0].clone()
}

/// The SHA-256 of the configuration, whatever its blob goes by. *Source:* image-spec `config.md`, "ImageID".
fn id(world: &World) -> String {
    format!("sha256:{}", &world.sh("sha256sum <$HOME/c").ok().stdout[..64])
}

/// The merged tree of an image as one digest: names, modes, owners, contents.
fn tree(world: &World, name: &str) -> String {
    let script = format!(
        "at=$(rkbox image mount {name}); cd $at; find . | LC_ALL=C sort | while read -r f; do stat -c '%n %f %u %g %Y' \"$f\"; done | sha256sum; \
         find . -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum; cd /; rkbox image unmount {name} >&2"
    );
    world.sh(&script).ok().stdout
}

#[test]
fn an_image_by_sha512_is_loaded_verified_run_and_saved() {
    let world = world();
    world.rkbox(["image", "load", &images().oci_archive("layers")]).ok();
    let plain = tree(&world, "layers");
    for source in ["oci:/tmp/rkbox-world/long", "oci-archive:/tmp/rkbox-world/long.tar", "/tmp/rkbox-world/long.tar"] {
        world.rkbox(["image", "load", source]).ok().says("loading layer").prints("long:1");
        let image = inspect(&world, "long:1");
        assert_eq!(image["Id"], id(&world).as_str(), "{source}");
        let layers = image["Layers"].as_array().unwrap();
        assert!(layers.iter().all(|layer| layer["Digest"].as_str().unwrap().len() == 7 + 128), "{image:#}");
        let manifest = world.sh("jq -r '.manifests[0].digest' $HOME/long/index.json").ok().stdout.trim().to_owned();
        for name in [format!("long@{manifest}"), manifest.clone(), id(&world)[..20].to_owned()] {
            assert_eq!(inspect(&world, &name)["Id"], image["Id"], "{name}");
        }
        // All blobs lie where the layout of the OCI has them, and nowhere else.
        assert_eq!(
            world.sh("ls $HOME/lib/images/blobs/sha512 | cmp - $(ls $HOME/long/blobs/sha512 >$HOME/l; echo $HOME/l)").ok().stdout,
            ""
        );
        world.rk("image verify").ok().says("0 problems");
        assert_eq!(tree(&world, "long:1"), plain, "{source}");
        world.rk("run --rm --net none long:1 pwd").ok();
        world.rk("gc").ok();
        world.rk("image verify").ok().says("0 problems");
        world.rk("image rm long:1").ok();
        assert_eq!(world.sh("find $HOME/lib/images/blobs/sha512 -type f").ok().stdout, "", "{source}");
    }
}

#[test]
fn what_is_saved_and_bundled_has_the_same_digests() {
    let world = world();
    world.rkbox(["image", "load", "oci:/tmp/rkbox-world/long"]).ok();
    world.rk("image save long:1 --to oci:/tmp/rkbox-world/out").ok();
    world.sh("diff -r $HOME/long/blobs $HOME/out/blobs").ok();
    world.rk("image save long:1 --to oci-archive:/tmp/rkbox-world/out.tar").ok();
    world.sh("mkdir $HOME/x && tar -xf $HOME/out.tar -C $HOME/x && diff -r $HOME/long/blobs $HOME/x/blobs").ok();
    world.rk("image save long:1 -o /tmp/rkbox-world/docker.tar").ok();
    for archive in ["out.tar", "docker.tar"] {
        world
            .sh(&format!(
                "rkbox image load --root $HOME/other $HOME/{archive}; rkbox image inspect --root $HOME/other long:1; rm -r $HOME/other"
            ))
            .ok()
            .prints(&id(&world));
    }
    // The merged tree of a bundle is that of the image by SHA-256.
    for options in ["", "--flat"] {
        world
            .sh(&format!(
                "rkbox bundle create {options} oci:$HOME/long $HOME/b; rkbox bundle create {options} {} $HOME/p",
                images().oci_archive("layers")
            ))
            .ok();
        world.sh("diff -r --no-dereference $HOME/b/rootfs $HOME/p/rootfs && [ -e $HOME/b/rootfs/bin ]").ok();
        world.sh(if options.is_empty() { "rkbox bundle rm $HOME/b $HOME/p" } else { "rm -r $HOME/b $HOME/p" }).ok();
    }
}

#[test]
fn the_script_of_a_load_checks_and_stores_by_sha512() {
    let world = world();
    world.sh("rkbox image load --explain oci:$HOME/long >$HOME/script; grep -q sha512sum $HOME/script; sh -e $HOME/script").ok();
    assert_eq!(inspect(&world, "long:1")["Id"], id(&world).as_str());
    world.sh("diff -r $HOME/long/blobs/sha512 $HOME/lib/images/blobs/sha512").ok();
    let whole =
        world.sh("rkbox image load --root $HOME/other oci:$HOME/long; diff -r --no-dereference $HOME/other/layers $HOME/lib/layers").stdout;
    assert!(
        whole.lines().all(|line| line.contains("layer.json")
            || line.contains("layer.mtree")
            || line.starts_with(['<', '>', '-'])
            || line.starts_with(|c: char| c.is_ascii_digit())
            || line.starts_with("\\ ")
            || line.starts_with("Loaded")),
        "{whole}"
    );
}

/// One byte changed in each kind of blob: load refuses, verify finds, repair puts back what the blobs still have.
#[test]
fn damage_is_found_by_sha512_too() {
    let world = world();
    let blobs = world.sh("ls -S $HOME/long/blobs/sha512").ok().stdout;
    let flip = |path: &str| {
        let path = world.path(path);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    for blob in blobs.lines() {
        flip(&format!("long/blobs/sha512/{blob}"));
        let refused = world.rkbox(["image", "load", "oci:/tmp/rkbox-world/long"]).fails(13);
        assert!(refused.stderr.contains("has digest sha512:"), "{refused}");
        assert_eq!(world.rk("image ls -q").ok().stdout, "");
        flip(&format!("long/blobs/sha512/{blob}"));
    }
    world.rkbox(["image", "load", "oci:/tmp/rkbox-world/long"]).ok();
    for blob in blobs.lines() {
        flip(&format!("lib/images/blobs/sha512/{blob}"));
        world.rk("image verify").fails(13).prints(&blob[..12]);
        flip(&format!("lib/images/blobs/sha512/{blob}"));
    }
    let layer = world.sh("ls -d $HOME/lib/layers/*/fs | head -1").ok().stdout.trim().to_owned();
    world.sh(&format!("f=$(find {layer} -type f -size +0 | head -1); echo more >>$f")).ok();
    world.rk("image verify").fails(13);
    world.rk("image verify --repair").ok().prints("repaired");
    world.rk("image verify").ok();
}

/// docker-registry keeps layers and configurations by SHA-512, and names manifests by SHA-256 only.
#[test]
fn a_registry_gives_blobs_by_sha512() {
    let world = world();
    let registry = Registry::start(&world, 5000, "");
    let script = r#"
        at=http://127.0.0.1:5000/v2/long from=$HOME/long/blobs/sha512
        for blob in $(ls $from); do
            to=$(curl -fsS -X POST -D - -o /dev/null $at/blobs/uploads/ | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
            curl -fsS -X PUT -H 'Content-Type: application/octet-stream' --data-binary @$from/$blob "$to&digest=sha512:$blob"
        done
        curl -fsS -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @$HOME/m $at/manifests/1
    "#;
    world.sh(script).ok();
    let name = registry.name("long:1");
    world.rkbox(["image", "pull", &name]).ok().says("fetching sha512:");
    assert_eq!(inspect(&world, &name)["Id"], id(&world).as_str());
    world.rkbox(["image", "pull", &name]).ok().prints("Image is up to date");
    world.rk("image verify").ok().says("0 problems");
    world.rkbox(["run", "--rm", "--net", "none", &name, "pwd"]).ok();
    // What a killed pull left is gone on with.
    world.rkbox(["image", "rm", &name]).ok();
    let biggest = world.sh("ls -S $HOME/long/blobs/sha512 | head -1").ok().stdout.trim().to_owned();
    world.sh(&format!("head -c 500 $HOME/long/blobs/sha512/{biggest} >$HOME/lib/images/blobs/sha512/.partial-{biggest}")).ok();
    world.rkbox(["image", "pull", "-q", &name]).ok();
    world.rk("image verify").ok().says("0 problems");
    let script = world.rkbox(["image", "pull", "--explain", &registry.name("long@sha512:"), "--format", "json"]);
    assert_eq!(script.code, 2, "{script}");
}

#[test]
fn other_algorithms_are_refused_by_name() {
    let world = world();
    let hex = "0".repeat(64);
    for name in ["blake3", "sha384"] {
        world.rkbox(["image", "pull", &format!("127.0.0.1:1/x@{name}:{hex}")]).fails(2).says(&format!("is by {name}, which rkbox"));
        let change = format!(
            r#"jq -c '.manifests[0].digest = "{name}:{hex}"' $HOME/long/index.json >$HOME/i; mkdir -p $HOME/{name}
            cp -r $HOME/long/. $HOME/{name}; mv $HOME/i $HOME/{name}/index.json"#
        );
        world.sh(&change).ok();
        world.rkbox(["image", "load", &format!("oci:/tmp/rkbox-world/{name}")]).fails(2).says(&format!("is by {name}, which rkbox"));
    }
}
