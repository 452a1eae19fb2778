//! Images that aim at the host through the runtime, run on the runc of this machine, however old: links where it mounts, links as files
//! that it opens, names with control characters. Nothing outside of the container changes, whatever the container is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use common::world::DIR;
use common::{Output, World, images};

/// Where the attacks aim: a directory and a file of the host.
fn canary(world: &World) -> PathBuf {
    let canary = world.path("canary");
    fs::create_dir_all(canary.join("below")).unwrap();
    for name in ["keep", "null", "ptmx", "console", "hosts"] {
        fs::write(canary.join(name), format!("{name} of the host\n")).unwrap();
    }
    canary
}

/// All that can change of a file without its name changing, for everything in the canary.
fn seen(canary: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut waiting = vec![canary.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let text = if meta.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
        lines.push(format!(
            "{} {:o} {}:{} {}.{} {text:?}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ctime(),
            meta.ctime_nsec()
        ));
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

/// Makes an image `NAME` in the world's store: busybox with one more layer, which the shell commands `made` fill in an empty directory.
fn load(world: &World, name: &str, made: &str, config: &str) {
    let layout = images().layout("busybox");
    world
        .sh(&format!(
            "cd {DIR}; rm -rf work; mkdir -p work/layer; cp -r {layout} work/oci; cd work/layer; {made}
             cd ..; tar -C layer --owner 0 --group 0 -cf layer.tar $(ls -A layer)
             umoci raw add-layer --image oci:latest --tag {name} layer.tar
             umoci config --image oci:{name} {config}
             rkbox image load oci:oci:{name}"
        ))
        .ok();
}

fn run(world: &World, more: &[&str]) -> Output {
    world.rkbox([&["run", "--rm", "--net", "none"], more].concat())
}

/// R3: what the runtime mounts on, makes nodes in or opens by its path: each as a link to the host.
const LINKS: [(&str, &str); 9] = [
    ("dev", "ln -s {canary} dev"),
    ("proc", "ln -s {canary} proc"),
    ("sys", "ln -s {canary} sys"),
    ("etc", "ln -s {canary} etc"),
    (
        "in-dev",
        "mkdir dev; for n in null ptmx console pts shm mqueue fd core full tty; do ln -s {canary}/$n dev/$n; done; ln -s {canary}/below dev/random",
    ),
    (
        "in-sys",
        "mkdir sys; ln -s {canary} sys/fs; ln -s {canary} sys/firmware; mkdir proc; ln -s {canary} proc/self; ln -s {canary}/keep proc/kcore",
    ),
    ("in-etc", "mkdir etc; for n in hosts hostname resolv.conf; do ln -s {canary}/hosts etc/$n; done"),
    ("up", "ln -s ../../../../../../../../../..{canary} dev; ln -s /proc/self/root{canary} sys"),
    ("chain", "ln -s b dev; ln -s c b; ln -s {canary} c"),
];

#[test]
fn links_where_the_runtime_mounts_do_not_lead_out() {
    let world = World::new();
    let canary = canary(&world);
    let at = canary.display().to_string();
    let before = seen(&canary);
    for (name, made) in LINKS {
        load(&world, name, &made.replace("{canary}", &at), "");
        let said = run(
            &world,
            &[
                "-v",
                &format!("{at}/below:/below:ro"),
                name,
                "sh",
                "-c",
                "test -c /dev/null && test -d /proc/1 && echo $(ls -d /dev/pts /sys/kernel)",
            ],
        );
        assert_eq!(said.clone().ok().stdout, "/dev/pts /sys/kernel\n", "{name}: {said}");
        assert_eq!(seen(&canary), before, "{name}");
        // With a terminal and as privileged as can be: the runtime then makes more of its own.
        world
            .sh(&format!("script -qec '{} run --rm --net none -t --privileged {name} true' /dev/null </dev/null", world.program.display()))
            .ok();
        assert_eq!(seen(&canary), before, "{name}, with a terminal");
    }
}

/// The same without an init layer: what runc alone makes of such a tree is why rkbox refuses to write a plain bundle of it.
#[test]
fn a_plain_bundle_with_such_links_is_refused() {
    let world = World::new();
    let canary = canary(&world);
    let at = canary.display().to_string();
    let before = seen(&canary);
    for (name, made) in LINKS.iter().filter(|(name, _)| ["dev", "proc", "sys", "up", "chain"].contains(name)) {
        load(&world, name, &made.replace("{canary}", &at), "");
        world.rk(&format!("bundle create --flat {name} {DIR}/flat-{name}")).fails(5).says("is not a real directory");
        assert!(!world.path(format!("flat-{name}")).exists());
        // On an overlay it is as safe as a container.
        world.rk(&format!("bundle create {name} {DIR}/bundle-{name}")).ok();
        world.sh(&format!("runc --root {DIR}/runc run -b {DIR}/bundle-{name} x-$$ </dev/null")).ok();
        assert_eq!(seen(&canary), before, "{name}");
        world.rk(&format!("bundle rm {DIR}/bundle-{name}")).ok();
    }
    // The proof that the links are live ammunition: this runc, given the tree, changes the host. (A newer one may not.)
    let version = world.sh("runc --version").stdout;
    if version.starts_with("runc version 1.1.5") {
        world.sh(&format!(
            "cd {DIR}; rkbox bundle create --flat {} naked; ln -sT {at} x; rm -r naked/rootfs/dev; mv x naked/rootfs/dev
             runc --root {DIR}/runc run -b naked y-$$ </dev/null || true",
            images().oci_archive("busybox")
        ));
        assert_ne!(seen(&canary), before, "runc 1.1.5 is known to follow /dev: the canary is not watched");
    }
}

#[test]
fn directories_and_volumes_are_made_inside() {
    let world = World::new();
    let canary = canary(&world);
    let at = canary.display().to_string();
    load(&world, "links", &format!("ln -s {at} out; mkdir -p srv; ln -s ../../..{at} srv/up; ln -s /proc/self/root root2"), "");
    let before = seen(&canary);
    // A working directory that is not there is made by the runtime.
    for dir in ["/out/new", "/srv/up/new", "/root2/new"] {
        let _ = run(&world, &["-w", dir, "links", "true"]);
        assert_eq!(seen(&canary), before, "{dir}");
    }
    fs::create_dir(world.path("data")).unwrap();
    let source = world.path("data").display().to_string();
    for dir in ["/out", "/out/below/x", "/srv/up/y", "/out/keep"] {
        let said = run(&world, &["-v", &format!("{source}:{dir}"), "links", "sh", "-c", &format!("ls -d {dir}")]);
        assert_eq!(seen(&canary), before, "{dir}: {said}");
    }
    for dir in ["/", "/proc", "/proc/self", "/sys/fs/cgroup", "/dev", "/a/../proc", "relative", "//proc//"] {
        run(&world, &["-v", &format!("{source}:{dir}"), "links", "true"]).fails(125).says("hint:");
    }
}

/// R2: a program of the image that is an interpreter of itself makes the runtime execute itself inside the container.
#[test]
fn the_programs_of_the_host_cannot_be_overwritten() {
    let world = World::new();
    let bytes = |program: &Path| fs::read(program).unwrap();
    let runc = PathBuf::from(world.sh("readlink -f $(command -v runc)").ok().stdout.trim());
    let before = (bytes(&runc), bytes(&world.program));
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    let made = "mkdir bin; printf '#!/proc/self/exe\\n' > bin/evil; chmod 755 bin/evil";
    load(&world, "exe", made, "");
    let _ = run(&world, &["exe", "/bin/evil"]);
    let over = "for p in /proc/[0-9]*/exe; do (echo x >> $p) 2>/dev/null; done; for p in /proc/1/exe /proc/self/exe; do dd if=/dev/zero of=$p bs=1 count=1 conv=notrunc 2>/dev/null; done; true";
    for options in [&[][..], &["--privileged"]] {
        let _ = run(&world, &[options, &["exe", "sh", "-c", over]].concat());
    }
    // While others are executed into it: the program of the runtime is in the container for a moment each time.
    let wait = "for n in 1 2 3 4 5 6; do while :; do for p in /proc/[0-9]*/exe; do [ $p = /proc/1/exe ] || (echo x >> $p); done; done & done; wait";
    let quiet = format!("exec 2>/dev/null; {wait}");
    world.rkbox(["run", "-d", "--name", "lurker", "--net", "none", "--privileged", "busybox", "sh", "-c", &quiet]).ok();
    for _ in 0..20 {
        let _ = world.rk("exec lurker true");
    }
    world.rk("rm --force lurker").ok();
    assert!(before == (bytes(&runc), bytes(&world.program)), "a program of the host was changed");
}

#[test]
fn words_of_an_image_reach_no_host_file_and_no_terminal() {
    let world = World::new();
    let evil = "$(printf 'a\\033[31m\\nroot:x:0:0::/:/bin/sh')";
    let made = "mkdir etc; printf 'root:x:0:0:root:/r\\033[1m:/bin/sh\\nev\\033il:x:5:5::/:\\n' > etc/passwd";
    load(&world, "words", made, &format!("--config.env A=\"{evil}\" --config.label x=\"{evil}\" --config.cmd \"{evil}\""));
    let clean = |said: &Output| {
        let bad = |text: &str| text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'));
        assert!(!bad(&said.stdout) && !bad(&said.stderr), "{said:?}");
        assert!(!said.stderr.lines().any(|line| line.starts_with("root:x")), "{said:?}");
    };
    // There is no such program; who says so, the runtime too, must not repeat the escape.
    for args in [&["words"][..], &["-w", "/a\u{1b}[1m", "words", "true"], &["words", "no\u{1b}[1m-such"]] {
        let said = run(&world, args);
        clean(&said);
        said.fails(125).says("control character");
    }
    world.rk("run --name kept --net none words true").ok();
    for line in ["ps -a", "image ls", "image inspect words", "--format json ps -a", "image history words"] {
        clean(&world.rk(line));
    }
    let id = world.rk("ps -aq --no-trunc").ok().stdout.trim().to_owned();
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(world.root().join("containers").join(&id).join("config.json")).unwrap()).unwrap();
    // Labels are not annotations: runtimes and their hooks act on those.
    let names: Vec<&String> = config["annotations"].as_object().unwrap().keys().collect();
    assert!(names.iter().all(|name| name.starts_with("org.rkbox.")), "{names:?}");
    for name in ["hosts", "hostname", "resolv.conf"] {
        let text = fs::read_to_string(world.root().join("containers").join(&id).join(name)).unwrap();
        assert!(!text.contains('\u{1b}') && !text.contains("root:x"), "{name}: {text:?}");
    }
    world.rk("rm kept").ok();
    for (option, value) in [("--hostname", "a\nb"), ("--hostname", "a b"), ("--name", "a\nb"), ("--name", "../x"), ("--user", "a\nb")] {
        world.rkbox(["run", "--rm", option, value, "words", "true"]).fails(125);
    }
}

/// R6: the user of the image is the user of the container, with the groups of the image and nothing more.
#[test]
fn the_user_of_the_image_is_who_it_runs_as() {
    let world = World::new();
    load(&world, "user", "mkdir x", "--config.user alice");
    let who = "id; grep -E '^(Groups|CapEff):' /proc/self/status";
    let first = run(&world, &["user", "sh", "-c", who]).ok().stdout;
    assert!(first.starts_with("uid=1000(alice) gid=1000(alice) groups=29(audio),44(video),1000(alice)\n"), "{first}");
    assert!(first.contains("CapEff:\t0000000000000000"), "{first}");
    world.rk("sandbox create web").ok();
    assert_eq!(world.rkbox(["run", "--rm", "--sandbox", "web", "user", "sh", "-c", who]).ok().stdout, first);
    world.rk("sandbox rm --force web").ok();
    world.rk("run -d --name again --net none user sleep 300").ok();
    assert_eq!(world.rkbox(["exec", "again", "sh", "-c", who]).ok().stdout, first);
    world.rk("stop -t 0 again").ok();
    world.rk("start again").ok();
    assert_eq!(world.rkbox(["exec", "again", "sh", "-c", who]).ok().stdout, first);
    world.rk("rm --force again").ok();
    for user in ["4294967296", "-1", "alice:4294967296", "99999999999999999999", "nobody-here"] {
        load(&world, "odd", "mkdir x", &format!("--config.user {user}"));
        run(&world, &["odd", "true"]).fails(125);
    }
}

/// R14: another user of the machine reads, opens and connects to nothing.
#[test]
fn another_user_can_open_nothing_of_ours() {
    let world = World::new();
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    world.rk("sandbox create web").ok();
    world.rk("run --name kept --sandbox web busybox true").ok();
    let open = format!(
        "setpriv --reuid 1000 --regid 1000 --clear-groups find {} {} -mindepth 1 2>/dev/null || true",
        world.root().display(),
        world.run_dir().display()
    );
    assert_eq!(world.sh(&open).ok().stdout, "");
    // Even with their parents open, each record, configuration, journal and exit file is its owner's alone.
    for top in [world.root(), world.run_dir()] {
        assert_eq!(fs::metadata(&top).unwrap().permissions().mode() & 0o77, 0, "{}", top.display());
    }
    let lax = world.sh(&format!("find {} {} \\( -name record.json -o -name config.json -o -name '*.sock' -o -path '*/journals/*' -o -name exit.json \\) -type f -perm /077", world.root().display(), world.run_dir().display()));
    assert_eq!(lax.ok().stdout, "");
    // No socket that every process of the network namespace could reach.
    let sockets = fs::read_to_string("/proc/thread-self/net/unix").unwrap();
    assert!(!sockets.lines().any(|line| line.contains('@')), "{sockets}");
    world.rk("rm kept").ok();
    world.rk("sandbox rm --force web").ok();
}
