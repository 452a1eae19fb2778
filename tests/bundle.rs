//! `rkbox bundle`: what plain `runc run -b` makes of it, what `umoci unpack` would have made, and what is left after `rm`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use common::world::DIR;
use common::{Observation, Output, World, images};

/// Runs the bundle with nothing but runc; its cgroup is below the world's own, as `--root` is.
#[track_caller]
fn runc(world: &World, out: &str) -> Output {
    // The runtime's choice of a control group is `/<id>`; runc takes it away when the container ends.
    let id = format!("x-{}", std::process::id());
    world.sh(&format!("runc --root {DIR}/runc run -b {out} {id}-$(basename {out})-$$"))
}

/// What the image `layers` says of itself.
#[track_caller]
fn speaks_of_layers(said: &Output) {
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], "uid=1000(alice) gid=29(audio) groups=29(audio)", "{said}");
    assert_eq!(lines[1], "/home/alice", "{said}");
    for line in ["PATH=/bin", "COLOUR=blue and \"green\"", "HOSTNAME=rkbox"] {
        assert!(lines.contains(&line), "{line}: {said}");
    }
}

fn sources(name: &str) -> [String; 4] {
    let images = images();
    [
        format!("oci:{}:latest", images.layout(name)),
        format!("oci-archive:{}", images.oci_archive(name)),
        format!("docker-archive:{}", images.docker_archive(name)),
        images.oci_archive(name),
    ]
}

#[test]
fn every_source_runs_in_both_forms() {
    let world = World::new();
    let before = world.observe();
    for (nth, source) in sources("layers").iter().enumerate() {
        world.rk(&format!("bundle create --flat {source} {DIR}/flat{nth}")).ok().prints(&format!("{DIR}/flat{nth}"));
        speaks_of_layers(&runc(&world, &format!("{DIR}/flat{nth}")).ok());
        world.rk(&format!("bundle create {source} {DIR}/out{nth}")).ok();
        let said = runc(&world, &format!("{DIR}/out{nth}")).ok();
        speaks_of_layers(&said);
        world.rk(&format!("bundle rm {DIR}/out{nth}")).ok();
        world.sh(&format!("rm -r {DIR}/flat{nth}")).ok();
    }
    world.sh(&format!("rm -rf {DIR}/runc")).ok();
    world.rk("gc").ok();
    before.assert_again(&world, "after bundle rm and rm -r");
}

#[test]
fn an_image_of_the_store_lends_its_blobs_and_nothing_else() {
    let world = World::new();
    let before = world.observe();
    world.rk(&format!("image load {}", images().docker_archive("layers"))).ok();
    world.rk(&format!("bundle create localhost/layers {DIR}/named")).ok();
    world.rk(&format!("bundle create --flat localhost/layers:latest {DIR}/flat")).ok();
    // Self-contained: the store can go.
    world.rk("image rm localhost/layers").ok();
    world.rk("gc").ok();
    for out in ["named", "flat"] {
        speaks_of_layers(&runc(&world, &format!("{DIR}/{out}")).ok());
    }
    world.rk(&format!("bundle rm {DIR}/named")).ok();
    // What gc keeps of an emptied store is not the bundles' affair.
    world.sh(&format!("rm -r {DIR}/flat {DIR}/runc {DIR}/lib {DIR}/run")).ok();
    before.assert_again(&world, "after everything went");
}

/// Everything below `top`, paths relative to it.
fn tree(world: &World, top: &str) -> Vec<String> {
    let seen = Observation::glance(world);
    let prefix = format!("file {DIR}/{top}/");
    let below = seen.facts.iter().filter_map(|(key, value)| key.strip_prefix(&prefix).map(|path| format!("{path}: {value}")));
    below.map(|line| line.replace(&format!("{DIR}/{top}/"), "")).collect()
}

#[test]
fn a_flat_rootfs_is_what_umoci_unpacks() {
    let world = World::new();
    for name in ["busybox", "layers"] {
        let layout = images().layout(name);
        world.sh(&format!("umoci unpack --image {layout}:latest {DIR}/umoci-{name}")).ok();
        world.rk(&format!("bundle create --flat oci:{layout}:latest {DIR}/flat-{name}")).ok();
        let (ours, theirs) = (tree(&world, &format!("flat-{name}/rootfs")), tree(&world, &format!("umoci-{name}/rootfs")));
        assert!(ours.len() > 20);
        assert_eq!(ours, theirs, "{name}");
        let mut names: Vec<_> = fs::read_dir(world.path(format!("flat-{name}"))).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["config.json", "rootfs"]);
    }
    // The merged view of a layered bundle is the same, but for what rkbox lays on top.
    world.rk(&format!("bundle create oci:{}:latest {DIR}/out", images().layout("layers"))).ok();
    world.sh(&format!("mount --bind {DIR}/out/rootfs /run && cp -a /run/. {DIR}/copy; umount /run")).ok();
    let ours: Vec<String> = tree(&world, "copy").into_iter().filter(|line| !is_of_init(line)).collect();
    let flat: Vec<String> = tree(&world, "flat-layers/rootfs").into_iter().filter(|line| !is_of_init(line)).collect();
    assert_eq!(ours, flat);
    world.rk(&format!("bundle rm {DIR}/out")).ok();
}

fn is_of_init(line: &str) -> bool {
    ["dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"].iter().any(|top| line.starts_with(top))
}

#[test]
fn equal_commands_write_equal_bundles() {
    let world = World::new();
    let source = format!("oci-archive:{}", images().oci_archive("layers"));
    let mut seen = Vec::new();
    for _ in 0..2 {
        world.rk(&format!("bundle create {source} {DIR}/out")).ok();
        seen.push(
            ["config.json", "record.json", "hosts", "hostname"].map(|name| fs::read_to_string(world.path("out").join(name)).unwrap()),
        );
        world.rk(&format!("bundle rm {DIR}/out")).ok();
    }
    assert_eq!(seen[0], seen[1]);
    let config: serde_json::Value = serde_json::from_str(&seen[0][0]).unwrap();
    assert!(config["linux"].get("cgroupsPath").is_none_or(serde_json::Value::is_null), "{config}");
    assert_eq!(config["hostname"], "rkbox");
    assert_eq!(config["process"]["terminal"], false);
    let kinds: Vec<&str> = config["linux"]["namespaces"].as_array().unwrap().iter().map(|ns| ns["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"network") && kinds.contains(&"pid"), "{kinds:?}");
}

/// As `image load` takes them: the plain copy is nobody's file, and no record speaks of it.
#[test]
fn compressed_archives_and_streams_are_sources_too() {
    let world = World::new();
    let images = images();
    let (oci, docker) = (images.oci_archive("layers"), images.docker_archive("layers"));
    world
        .sh(&format!(
            "cd {DIR}; gzip -c {oci} > oci.tgz; zstd -qc {oci} > oci.tar.zst; gzip -c {docker} > docker.tgz; zstd -qc {docker} > docker.zst"
        ))
        .ok();
    for flat in ["", "--flat"] {
        world.sh(&format!("cd {DIR}; rm -rf plain-oci plain-docker; rkbox bundle create {flat} oci-archive:{oci} plain-oci; rkbox bundle create {flat} docker-archive:{docker} plain-docker")).ok();
        for (source, plain) in [
            ("oci-archive:oci.tgz", "plain-oci"),
            ("oci-archive:oci.tar.zst:latest", "plain-oci"),
            ("./oci.tgz", "plain-oci"),
            ("docker-archive:docker.tgz", "plain-docker"),
            ("docker.zst", "plain-docker"),
            ("- < oci.tgz", "plain-oci"),
            ("docker-archive:- < docker.tar", "plain-docker"),
        ] {
            let [here, there] = ["out", plain].map(|dir| if flat.is_empty() { format!("{dir}/rootfs") } else { dir.to_owned() });
            world
                .sh(&format!(
                    "cd {DIR}; cp {docker} docker.tar; rkbox bundle create {flat} {source} out
                     diff -r --no-dereference {here} {there}
                     ! grep -r -F /proc/self/fd out --include=record.json --include=config.json
                     if [ -z '{flat}' ]; then rkbox bundle rm out; else rm -r out; fi"
                ))
                .ok();
        }
        world
            .sh(&format!(
                "cd {DIR}; for b in plain-oci plain-docker; do if [ -z '{flat}' ]; then rkbox bundle rm $b; else rm -r $b; fi; done"
            ))
            .ok();
    }
    world.sh(&format!("cd {DIR}; rkbox bundle create --explain oci.tgz out")).fails(9).says("gzip -dc");
    world.sh(&format!("cd {DIR}; head -c 2000 oci.tgz > cut.tgz; rkbox bundle create cut.tgz out")).fails(2).says("damaged");
    world.sh(&format!("cd {DIR}; test ! -e out; test ! -e lib/images")).ok();
}

#[test]
fn errors_are_clear_and_leave_nothing() {
    let world = World::new();
    let layers = format!("oci:{}", images().layout("layers"));
    world.sh(&format!("mkdir {DIR}/there; echo mine >{DIR}/there/file; echo no tar >{DIR}/junk; ln -s nowhere {DIR}/dangling")).ok();
    let before = world.observe();
    for flat in ["", "--flat "] {
        for (source, out, code, says) in [
            (format!("{layers}:latest"), "there", 4, "is there already"),
            (format!("{layers}:latest"), "dangling", 4, "is there already"),
            (format!("{layers}:latest"), "no/where", 3, "hint: make it first: mkdir -p"),
            (format!("{layers}:nope"), "out", 3, "\"nope\""),
            (format!("{DIR}/junk"), "out", 2, "is not an image"),
            (format!("{DIR}/absent.tar"), "out", 3, "is not there"),
            ("absent".to_owned(), "out", 3, "is not in the store"),
            ("docker://127.0.0.1:1/busybox".to_owned(), "out", 8, "connection refused"),
            (format!("{layers}:latest"), "there/..", 2, "cannot be the name of a bundle"),
        ] {
            world.rk(&format!("bundle create {flat}{source} {DIR}/{out}")).fails(code).says(says);
        }
    }
    world.rk("gc").ok();
    before.assert_again(&world, "after the errors");
}

/// Copies the busybox image, with other words in its configuration.
fn with_config(world: &World, name: &str, config: &str) -> String {
    let layout = images().layout("busybox");
    world.sh(&format!("cp -r {layout} {DIR}/{name}; umoci config --image {DIR}/{name}:latest {config}")).ok();
    format!("oci:{DIR}/{name}:latest")
}

#[test]
fn users_are_looked_up_before_anything_is_unpacked() {
    let world = World::new();
    for (nth, (user, says)) in [
        ("alice", "uid=1000(alice) gid=1000(alice) groups=29(audio),44(video),1000(alice)"),
        ("1", "uid=1(daemon)"),
        ("7:8", "uid=7 gid=8"),
    ]
    .into_iter()
    .enumerate()
    {
        let source = with_config(&world, &format!("image{nth}"), &format!("--config.user {user} --config.cmd id"));
        for flat in ["--flat ", ""] {
            let out = format!("{DIR}/out{nth}{}", flat.trim());
            world.rk(&format!("bundle create {flat}{source} {out}")).ok();
            runc(&world, &out).ok().prints(says);
        }
        world.rk(&format!("bundle rm {DIR}/out{nth}")).ok();
    }
    let source = with_config(&world, "image9", "--config.user nobody");
    world.rk("gc").ok();
    let before = world.observe();
    for flat in ["--flat ", ""] {
        let failed = world.rk(&format!("bundle create {flat}{source} {DIR}/out")).fails(3);
        failed.says("user \"nobody\" is not in /etc/passwd of the image").says("hint:");
    }
    world.rk("gc").ok();
    before.assert_again(&world, "after a user that is not there");
}

#[test]
fn an_image_cannot_steer_the_runtime_through_a_flat_bundle() {
    let world = World::new();
    world.sh(&format!("mkdir -p {DIR}/victim; cp -r {} {DIR}/evil", images().layout("busybox"))).ok();
    world
        .sh(&format!(
            "cd {DIR}; mkdir l; ln -s {DIR}/victim l/dev; tar -C l -cf l.tar dev; mkdir m; touch m/.wh.dev; tar -C m -cf m.tar .wh.dev; \
             umoci raw add-layer --image evil:latest m.tar; umoci raw add-layer --image evil:latest l.tar"
        ))
        .ok();
    let before = world.observe();
    let refused = world.rk(&format!("bundle create --flat oci:{DIR}/evil:latest {DIR}/out")).fails(5);
    refused.says("/dev of the image is not a real directory");
    world.rk("gc").ok();
    before.assert_again(&world, "after the refusal");
    // On an overlay the init layer wins.
    world.rk(&format!("bundle create oci:{DIR}/evil:latest {DIR}/out")).ok();
    world.sh(&format!("runc --root {DIR}/runc run -b {DIR}/out evil-$$ </dev/null")).ok();
    assert_eq!(fs::read_dir(world.path("victim")).unwrap().count(), 0);
    world.rk(&format!("bundle rm {DIR}/out")).ok();
}

#[test]
fn rm_takes_only_what_is_a_bundle_of_rkbox() {
    let world = World::new();
    let source = format!("oci:{}:latest", images().layout("busybox"));
    world.rk(&format!("bundle create --flat {source} {DIR}/flat")).ok();
    world.rk(&format!("bundle create {source} {DIR}/out")).ok();
    world.rk(&format!("bundle create {source} {DIR}/out")).fails(4).says("rkbox bundle rm");
    world.rk(&format!("bundle rm {DIR}/flat")).fails(5).says(&format!("hint: rm -r {DIR}/flat"));
    world.rk(&format!("bundle rm {DIR}/absent")).fails(3);
    world.rk(&format!("bundle rm --force {DIR}/absent")).ok();
    assert!(world.path("flat/rootfs/bin/busybox").exists());
    // A copy has another's paths in it.
    world.sh(&format!("mkdir {DIR}/copy; cp {DIR}/out/record.json {DIR}/copy/")).ok();
    world.rk(&format!("bundle rm {DIR}/copy")).fails(5).says("it was made at");
    // Several at once, one of them not there.
    world.rk(&format!("bundle rm {DIR}/absent {DIR}/out")).fails(3).prints(&format!("{DIR}/out"));
    assert!(!world.path("out").exists());
    // The user took it away and made another thing of this name.
    world.rk(&format!("bundle create {source} {DIR}/out")).ok();
    world.sh(&format!("umount {DIR}/out/rootfs; rm -r {DIR}/out; mkdir {DIR}/out; echo mine >{DIR}/out/file")).ok();
    world.rk(&format!("bundle rm {DIR}/out")).fails(5);
    assert!(world.path("out/file").exists());
    world.sh(&format!("rm -r {DIR}/out")).ok();
    world.rk(&format!("bundle rm {DIR}/out")).ok();
}

#[test]
fn a_bundle_that_lost_its_journal_in_a_reboot_goes_by_its_record() {
    let world = World::new();
    let before = world.observe();
    for source in [format!("oci-archive:{}", images().oci_archive("layers")), format!("oci:{}:latest", images().layout("layers"))] {
        for mounted in [true, false] {
            world.rk(&format!("bundle create {source} {DIR}/out")).ok();
            world.sh(&format!("rm -r {DIR}/run")).ok();
            if !mounted {
                world.sh(&format!("umount {DIR}/out/rootfs; rm -rf /run/mount")).ok();
            }
            let script = world.rk(&format!("bundle rm --explain {DIR}/out")).ok().stdout;
            assert!(script.contains(&format!("rm -rf --one-file-system -- {DIR}/out\n")), "{script}");
            world.rk(&format!("bundle rm {DIR}/out")).ok();
            world.rk("gc").ok();
            before.assert_again(&world, "after rm by record");
        }
    }
}

#[test]
fn odd_names_of_bundles_work() {
    let world = World::new();
    let source = format!("oci:{}:latest", images().layout("busybox"));
    for name in ["a b", "it's", "a:b,c", "-dash", "ü"] {
        let out = world.path(name);
        let out = out.to_str().unwrap();
        world.rkbox(["bundle", "create", &source, out]).ok();
        let shell = format!("'{}'", out.replace('\'', "'\\''"));
        world.sh(&format!("runc --root {DIR}/runc run -b {shell} odd-$$ </dev/null")).ok();
        world.rkbox(["bundle", "rm", out]).ok();
        assert!(!Path::new(out).exists(), "{name}");
    }
}

#[test]
fn relative_paths_mean_the_same_place() {
    let world = World::new();
    world
        .sh(&format!("cp -r {} {DIR}/image; cd {DIR}; mkdir in; rkbox bundle create oci:image:latest in/out", images().layout("busybox")))
        .ok();
    runc(&world, &format!("{DIR}/in/out")).ok();
    world.sh(&format!("cd {DIR}/in; rkbox bundle rm ./out/")).ok();
    assert_eq!(fs::read_dir(world.path("in")).unwrap().count(), 0);
}

/// Adds a layer made by a script in an empty directory; a whiteout is a file of its name.
fn with_layer(world: &World, name: &str, script: &str) {
    world.sh(&format!("mkdir {DIR}/l; cd {DIR}/l; {script}; tar -cf {DIR}/l.tar .; umoci raw add-layer --image {DIR}/{name}:latest {DIR}/l.tar; rm -r {DIR}/l {DIR}/l.tar")).ok();
}

#[test]
fn a_layer_that_hides_all_below_it_and_the_attributes_of_the_root_are_kept() {
    let mut world = World::new();
    world.sh(&format!("cp -r {} {DIR}/image", images().layout("busybox"))).ok();
    with_layer(
        &world,
        "image",
        "touch .wh..wh..opq; mkdir -p bin etc; cp /bin/busybox bin/; ln -s busybox bin/sh; echo new >etc/issue; chmod 0711 .; chown 3:4 .; chown 0:42 etc; chmod 0751 etc",
    );
    let source = format!("oci:{DIR}/image:latest");
    world.rk(&format!("bundle create --flat {source} {DIR}/flat")).ok();
    let look = "cd rootfs; stat -c '%a %u:%g %n' . etc bin; ls bin; ls; cat etc/issue";
    let flat = world.sh(&format!("cd {DIR}/flat; {look}")).ok().stdout.replace("dev\nproc\nsys\n", "");
    assert!(flat.starts_with("711 3:4 .\n751 0:42 etc\n755 0:0 bin\nbusybox\nsh\n"), "{flat}");
    world.rk(&format!("bundle create {source} {DIR}/out")).ok();
    let layered = |world: &World| world.sh(&format!("cd {DIR}/out; {look}")).ok().stdout.replace("dev\n", "").replace("proc\nsys\n", "");
    assert_eq!(layered(&world), flat);
    world.rk(&format!("bundle rm {DIR}/out")).ok();
    // The script knows as little of the layers when it is printed.
    let script = world.rk(&format!("bundle create --explain {source} {DIR}/out")).ok().stdout;
    fs::write("/run/explained", script).unwrap();
    world.sh("sh -eu /run/explained").ok();
    assert_eq!(layered(&world), flat);
    world.rk(&format!("bundle rm {DIR}/out")).ok();
    world.allow_leaks();
}
