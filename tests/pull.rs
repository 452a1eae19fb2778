//! `rkbox image pull` from real registries: every form of an image, what others see of it, what is shared and what is fetched again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{Act, Gate, Observation, Registry, World, images};
use serde_json::{Value, json};

/// A world with a registry on port 5000.
fn world() -> (World, Registry) {
    let world = World::new();
    let registry = Registry::start(&world, 5000, "");
    (world, registry)
}

fn layout(name: &str) -> String {
    format!("oci:{}:latest", images().layout(name))
}

/// The layout of `layers` with its layers as plain tars, at `$HOME/plain`.
fn plain(world: &World) -> String {
    let script = r#"
        from=LAYERS to=$HOME/plain; mkdir -p $to/blobs/sha256; echo '{"imageLayoutVersion":"1.0.0"}' >$to/oci-layout
        keep() { digest=$(sha256sum "$1" | cut -c1-64); mv "$1" $to/blobs/sha256/$digest; }
        manifest=$(jq -r '.manifests[0].digest' $from/index.json | cut -d: -f2)
        jq -c . $from/blobs/sha256/$manifest >$HOME/m
        cp $from/blobs/sha256/$(jq -r '.config.digest' $HOME/m | cut -d: -f2) $HOME/c; keep $HOME/c
        for layer in $(jq -r '.layers[].digest' $HOME/m); do
            gzip -dc $from/blobs/sha256/${layer#sha256:} >$HOME/l; size=$(stat -c %s $HOME/l); keep $HOME/l
            jq -c --arg from $layer --arg to sha256:$digest --argjson size $size \
                '(.layers[] | select(.digest == $from)) |= (.digest = $to | .size = $size | .mediaType = "application/vnd.oci.image.layer.v1.tar")' \
                $HOME/m >$HOME/n; mv $HOME/n $HOME/m
        done
        size=$(stat -c %s $HOME/m); keep $HOME/m
        printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}' $digest $size >$to/index.json
    "#;
    world.sh(&script.replace("LAYERS", &images().layout("layers"))).ok();
    "oci:/tmp/rkbox-world/plain:latest".to_owned()
}

/// Every kind of manifest and of compression gives the same image, whose digest is the one that skopeo sees.
#[test]
fn every_form_of_an_image_is_the_same_image() {
    let (world, registry) = world();
    let (layers, plain) = (layout("layers"), plain(&world));
    // First, because skopeo takes a layer that it knows of in another form.
    registry.push(&world, &plain, "form/zstd:1", "--dest-compress-format zstd");
    registry.push(&world, &plain, "form/plain:1", "--preserve-digests");
    registry.push(&world, &layers, "form/oci:1", "");
    registry.push(&world, &layers, "form/docker:1", "-f v2s2");
    let mut ids = Vec::new();
    for (form, kind) in [("oci", "tar+gzip"), ("docker", "tar+gzip"), ("zstd", "tar+zstd"), ("plain", ".tar\"")] {
        let name = registry.name(&format!("form/{form}:1"));
        let pulled = world.rkbox(["--format", "json", "image", "pull", &name]).ok().json()[0].clone();
        let seen = world.sh(&format!("skopeo inspect --tls-verify=false docker://{name}")).ok().json();
        assert_eq!(pulled["digest"], seen["Digest"], "{form}");
        let inspected = world.rkbox(["image", "inspect", &name]).ok();
        let image = &inspected.json()[0];
        assert!(inspected.stdout.contains(kind), "{form} was not pushed as {kind}: {inspected}");
        let repo_digest = format!("{}@{}", registry.name(&format!("form/{form}")), seen["Digest"].as_str().unwrap());
        assert!(image["RepoDigests"].as_array().unwrap().contains(&json!(repo_digest)), "{image:#}");
        ids.push(pulled["id"].clone());
        // Its own digest finds it again, with and without a tag, before and after a pull by it.
        for by_digest in [repo_digest.clone(), repo_digest.replace('@', ":other@")] {
            assert_eq!(world.rkbox(["image", "pull", "-q", &by_digest]).ok().stdout.trim(), pulled["id"]);
            assert_eq!(world.rkbox(["image", "inspect", &by_digest]).ok().json()[0]["Id"], pulled["id"]);
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let from_archive = world.rkbox(["image", "load", &images().oci_archive("layers")]).ok();
    let loaded = world.rkbox(["image", "inspect", "layers"]).ok().json()[0]["Id"].clone();
    assert_eq!(loaded, ids[0], "{from_archive}");
}

/// What is in the store is what `skopeo copy` fetches, and a bundle of it is what `umoci unpack` makes of that.
#[test]
fn skopeo_and_umoci_see_the_same() {
    let (world, registry) = world();
    registry.push(&world, &layout("layers"), "same:1", "");
    world.rk("image pull 127.0.0.1:5000/same:1").ok();
    world
        .sh("skopeo --insecure-policy copy -q --src-tls-verify=false docker://127.0.0.1:5000/same:1 oci:$HOME/copy:1
         diff -r $HOME/copy/blobs $HOME/lib/images/blobs
         skopeo --insecure-policy copy -q oci:$HOME/lib/images:127.0.0.1:5000/same:1 dir:$HOME/out
         umoci unpack --image $HOME/copy:1 $HOME/umoci
         rkbox bundle create --flat docker://127.0.0.1:5000/same:1 $HOME/flat
         diff -r --no-dereference $HOME/umoci/rootfs $HOME/flat/rootfs")
        .ok();
    let podman = "podman --root $HOME/podman --runroot $HOME/podman-run --storage-driver vfs";
    let id = world.sh(&format!("{podman} pull -q --tls-verify=false 127.0.0.1:5000/same:1")).ok().stdout;
    assert_eq!(world.rk("image pull -q 127.0.0.1:5000/same:1").ok().stdout.trim(), format!("sha256:{}", id.trim()));
}

/// skopeo's name of the transport works where images are loaded and bundles are made.
#[test]
fn docker_is_a_transport() {
    let (world, registry) = world();
    registry.push(&world, &layout("layers"), "named:1", "");
    world.rk("image load -n mine:2 -n other docker://127.0.0.1:5000/named:1").ok().prints("Loaded image: docker.io/library/mine:2");
    world.rk("image load docker://127.0.0.1:5000/named:1").ok().prints("Loaded image: 127.0.0.1:5000/named:1");
    assert_eq!(world.rk("image ls -q").ok().stdout.lines().count(), 1);
    world.rk("bundle create docker://127.0.0.1:5000/named:1 /tmp/rkbox-world/out").ok().prints("/tmp/rkbox-world/out");
    world.sh("test -e $HOME/out/rootfs/etc/passwd; rkbox bundle rm $HOME/out; rkbox image inspect mine:2 other").ok();
    world.rk("image load docker://127.0.0.1:5000/absent").fails(3).says("MANIFEST_UNKNOWN");
    world.rk("bundle create docker://nowhere.example/x:1 /tmp/rkbox-world/out").fails(8).says("https://nowhere.example/v2: ");
}

/// An image that buildah made and pushed runs.
#[test]
fn an_image_of_buildah_is_pulled_and_run() {
    let (world, _registry) = world();
    world
        .sh("b() { buildah --root $HOME/buildah --runroot $HOME/buildah-run --storage-driver vfs \"$@\"; }
         c=$(b from scratch); b copy -q $c /bin/busybox /bin/busybox; b config --cmd '[\"/bin/busybox\",\"echo\",\"built\"]' $c
         b commit -q --rm $c made >/dev/null
         b push -q --tls-verify=false made docker://127.0.0.1:5000/built:1; rm -rf $HOME/buildah $HOME/buildah-run")
        .ok();
    world.rk("run --rm --net none 127.0.0.1:5000/built:1").ok().prints("built");
}

/// Indexes of OCI and lists of Docker, with several platforms; the digest is that of the index.
#[test]
fn an_index_gives_the_image_of_the_platform() {
    let (world, registry) = world();
    for (architecture, variant) in [("amd64", ""), ("arm64", "v8"), ("arm", "v6"), ("arm", "v7")] {
        let script = format!(
            "cp -r LAYOUT $HOME/{architecture}{variant}; umoci config --image $HOME/{architecture}{variant}:latest --architecture {architecture}"
        );
        world.sh(&script.replace("LAYOUT", &images().layout("busybox"))).ok();
        let source = format!("oci:/tmp/rkbox-world/{architecture}{variant}:latest");
        registry.push(&world, &source, &format!("multi:{architecture}{variant}-oci"), "");
        registry.push(&world, &source, &format!("multi:{architecture}{variant}-docker"), "-f v2s2");
    }
    for (kind, list, entry) in [
        ("oci", "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"),
        ("docker", "application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json"),
    ] {
        let mut entries = Vec::new();
        for (architecture, variant) in [("arm", "v6"), ("arm", "v7"), ("arm64", "v8"), ("amd64", "")] {
            let raw = world
                .sh(&format!("skopeo inspect --raw --tls-verify=false docker://127.0.0.1:5000/multi:{architecture}{variant}-{kind}"))
                .ok();
            let sum = world
                .sh(&format!(
                    "skopeo inspect --tls-verify=false --raw docker://127.0.0.1:5000/multi:{architecture}{variant}-{kind} | sha256sum"
                ))
                .ok();
            let platform = json!({"os": "linux", "architecture": architecture, "variant": variant});
            let digest = format!("sha256:{}", &sum.stdout[..64]);
            entries.push(json!({"mediaType": entry, "digest": digest, "size": raw.stdout.len(), "platform": platform}));
        }
        let index = json!({"schemaVersion": 2, "mediaType": list, "manifests": entries}).to_string();
        std::fs::write(world.path("index"), &index).unwrap();
        world
            .sh(&format!(
                "curl -fsS -X PUT -H 'Content-Type: {list}' --data-binary @$HOME/index http://127.0.0.1:5000/v2/multi/manifests/{kind}"
            ))
            .ok();
        let name = registry.name(&format!("multi:{kind}"));
        let digest = format!("sha256:{}", &world.sh("sha256sum <$HOME/index").ok().stdout[..64]);
        for (platform, wanted) in
            [("", "linux/amd64"), ("linux/arm64", "linux/arm64"), ("linux/arm/v6", "linux/arm"), ("linux/arm", "linux/arm")]
        {
            let mut words = vec!["--format", "json", "image", "pull", &name];
            if !platform.is_empty() {
                words.extend(["--platform", platform]);
            }
            let pulled = world.rkbox(words).ok().json()[0].clone();
            assert_eq!((&pulled["digest"], &pulled["platform"]), (&json!(digest), &json!(wanted)), "{kind} {platform}");
            let by_digest = format!("{}@{digest}", registry.name("multi"));
            assert_eq!(world.rkbox(["image", "inspect", &by_digest]).ok().json()[0]["Id"], pulled["id"]);
        }
        let missing = world.rkbox(["image", "pull", "--platform", "linux/riscv64", &name]).fails(3);
        missing.says("no manifest for linux/riscv64").says("it has linux/arm/v6, linux/arm/v7, linux/arm64/v8, linux/amd64");
        world
            .rkbox(["image", "pull", "--platform", "linux/s390x", &registry.name(&format!("multi:amd64-{kind}"))])
            .fails(3)
            .says("is made for linux/amd64");
    }
}

/// Several images at once share their blobs; what is there is not fetched; one that is not there does not stop the others.
#[test]
fn several_images_share_what_they_have_in_common() {
    let (world, registry) = world();
    world
        .sh(&"cp -r LAYERS $HOME/two; umoci config --image $HOME/two:latest --config.cmd other"
            .replace("LAYERS", &images().layout("layers")))
        .ok();
    registry.push(&world, &layout("layers"), "one:1", "");
    registry.push(&world, "oci:/tmp/rkbox-world/two:latest", "one:2", "");
    registry.push(&world, &layout("busybox"), "three:1", "");
    let gate = Gate::open(5001, &registry.address, |_, _| Act::Pass);
    let names: Vec<String> = ["one:1", "one:2", "three:1", "absent:1", "one:1"].iter().map(|name| gate.name(name)).collect();
    let mut words = vec!["image", "pull"];
    words.extend(names.iter().map(String::as_str));
    let output = world.rkbox(words).fails(3).says("127.0.0.1:5001/absent:1 cannot be fetched: http://127.0.0.1:5001/v2: 404 Not Found");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines, ["Pulled image: 127.0.0.1:5001/one:1", "Pulled image: 127.0.0.1:5001/one:2", "Pulled image: 127.0.0.1:5001/three:1"]);
    assert!(gate.blobs().len() >= 6 && gate.blobs().values().all(|count| *count == 1), "{:?}", gate.blobs());
    let before = gate.seen().len();
    world.rkbox(["image", "pull", &names[0]]).ok().prints("Image is up to date: 127.0.0.1:5001/one:1");
    assert!(gate.seen()[before..].iter().all(|request| !request.is_blob()), "{:?}", gate.seen());
    assert_eq!(world.rk("image ls -q").ok().stdout.lines().count(), 3);
}

/// Sixteen commands that pull the same image at the same time fetch each blob once; all of them succeed.
#[test]
fn sixteen_commands_fetch_each_blob_once() {
    let (world, registry) = world();
    registry.push(&world, &layout("layers"), "crowd:1", "");
    let gate = Gate::open(5001, &registry.address, |_, _| Act::Pass);
    let children: Vec<_> = (0..16)
        .map(|_| {
            world
                .command(&world.program)
                .args(["image", "pull", "-q", &gate.name("crowd:1")])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let ids: Vec<String> = children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .map(|output| {
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let layers: Value = world.rkbox(["image", "inspect", &gate.name("crowd:1")]).ok().json()[0]["Layers"].clone();
    for layer in layers.as_array().unwrap() {
        assert_eq!(gate.blobs()[layer["Digest"].as_str().unwrap()], 1, "{:?}", gate.blobs());
    }
    let left = world.sh("ls -A $HOME/lib/images/blobs/sha256 $HOME/lib/layers | grep -c partial || true").ok();
    assert_eq!(left.stdout.trim(), "0");
}

/// `--pull` of run: when the registry is asked, and what is run then.
#[test]
fn run_pulls_as_it_is_told() {
    let (world, registry) = world();
    registry.push(&world, &layout("busybox"), "app:1", "");
    let gate = Gate::open(5001, &registry.address, |_, _| Act::Pass);
    let name = gate.name("app:1");
    let run = |policy: &str| {
        let before = gate.seen().len();
        let output = world.rkbox(["run", "--rm", "--net", "none", "--pull", policy, &name, "echo", "hi"]);
        (output, gate.seen()[before..].to_vec())
    };
    let (never, asked) = run("never");
    never.fails(125).says("is not in the store");
    assert!(asked.is_empty());
    let (missing, asked) = run("missing");
    missing.ok().prints("hi");
    assert!(asked.iter().any(common::Request::is_blob));
    let (there, asked) = run("missing");
    there.ok().prints("hi");
    assert!(asked.is_empty(), "{asked:?}");
    let (always, asked) = run("always");
    always.ok().prints("hi");
    assert!(!asked.is_empty() && !asked.iter().any(common::Request::is_blob), "{asked:?}");
    let (same, asked) = run("newer");
    same.ok().prints("hi");
    assert!(asked.len() == 1 && asked[0].verb == "HEAD", "{asked:?}");

    let id = world.rkbox(["image", "inspect", &name]).ok().json()[0]["Id"].clone();
    registry.push(&world, &layout("layers"), "app:1", "");
    let (old, _) = run("missing");
    old.ok();
    assert_eq!(world.rkbox(["image", "inspect", &name]).ok().json()[0]["Id"], id);
    let (newer, _) = run("newer");
    newer.ok();
    assert_ne!(world.rkbox(["image", "inspect", &name]).ok().json()[0]["Id"], id);
    registry.stop();
    let (alone, _) = run("newer");
    alone.ok().says("the image of the store is used");
    let (strict, _) = run("always");
    strict.fails(125).says("cannot pull");
}

/// A terminal gets a bar for each blob, everything else a line; `--quiet` says nothing but the id.
#[test]
fn progress_is_for_people() {
    let (world, registry) = world();
    registry.push(&world, &layout("layers"), "bars:1", "");
    let typed =
        world.sh(&format!("TERM=xterm script -qec '{} image pull 127.0.0.1:5000/bars:1' /dev/null", world.program.display())).ok().stdout;
    assert!(typed.matches("done").count() >= 3 && typed.contains("Pulled image: 127.0.0.1:5000/bars:1"), "{typed}");
    world.rk("image rm 127.0.0.1:5000/bars:1").ok();
    let plain = world.rk("image pull 127.0.0.1:5000/bars:1").ok();
    assert_eq!(plain.stderr.lines().filter(|line| line.starts_with("fetching sha256:")).count(), 3, "{plain}");
    world.rk("image rm 127.0.0.1:5000/bars:1").ok();
    let quiet = world.rk("image pull -q 127.0.0.1:5000/bars:1").ok();
    assert!(quiet.stderr.is_empty() && quiet.stdout.starts_with("sha256:") && quiet.stdout.lines().count() == 1, "{quiet}");
}

/// What cannot be pulled is refused by its name, and nothing is left of it.
#[test]
fn what_is_no_image_is_refused_by_name() {
    let (world, registry) = world();
    registry.push(&world, &layout("busybox"), "bad:1", "");
    let manifest = world.sh("skopeo inspect --raw --tls-verify=false docker://127.0.0.1:5000/bad:1").ok().json();
    let say = |media_type: &str, body: String| Act::Say("200 OK".to_owned(), format!("Content-Type: {media_type}\r\n"), body.into_bytes());
    let oci = "application/vnd.oci.image.manifest.v1+json";
    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = manifest.clone();
        change(&mut changed);
        changed.to_string()
    };
    let foreign = with(&|m| {
        m["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        m["layers"][0]["urls"] = json!(["http://127.0.0.1:5002/stolen"]);
    });
    let cases = [
        (
            "schema1",
            say("application/vnd.docker.distribution.manifest.v1+prettyjws", r#"{"schemaVersion":1,"fsLayers":[]}"#.into()),
            9,
            "schema 1",
        ),
        ("foreign", say(oci, foreign), 9, "layer is foreign"),
        ("helm", say(oci, with(&|m| m["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json"))), 9, "an artifact"),
        ("html", say("text/html", "<html>".into()), 2, "not JSON"),
        ("huge", say(oci, " ".repeat(5 << 20)), 2, "is larger than"),
        ("digest", say(oci, with(&|m| m["layers"][0]["digest"] = json!("sha256:../../x"))), 2, "64 lowercase hex digits"),
        ("lies", say("application/vnd.oci.image.index.v1+json", manifest.to_string()), 2, "index has no list of manifests"),
        ("short", say(oci, with(&|m| m["layers"][0]["size"] = json!(10))), 13, "bytes where the manifest says 10"),
        ("long", say(oci, with(&|m| m["layers"][0]["size"] = json!(1_u64 << 40))), 13, "bytes where the manifest says 1099511627776"),
    ];
    let before = world.observe();
    for (nth, (what, act, code, says)) in cases.into_iter().enumerate() {
        let port = 5010 + u16::try_from(nth).unwrap();
        let gate = Gate::open(
            port,
            &registry.address,
            move |_, request| if request.path.contains("/manifests/") { act.clone() } else { Act::Pass },
        );
        let output = world.rkbox(["image", "pull", &gate.name("bad:1")]).fails(code).says(says);
        assert!(!output.stderr.contains("stolen") && gate.seen().iter().all(|request| !request.path.contains("stolen")), "{what}");
        world.rk("gc").ok();
        Observation::assert_same(&before, &world.observe());
    }
}
