//! Volumes and mounts through the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{World, images};

const SHELL: &str = "[\"sh\", \"-euc\"]";

fn with(image: &str) -> World {
    let world = World::new();
    world.rkbox(["image", "load", &images().oci_archive(image)]).ok();
    world
}

/// Runs a shell line in a container without a network of its own.
fn told(world: &World, options: &[&str], line: &str) -> String {
    let words = [&["run", "--rm", "--net", "none"], options, &["busybox", "sh", "-euc", line]].concat();
    world.rkbox(words).ok().stdout
}

#[test]
fn a_named_volume_outlives_its_containers_and_is_guarded_while_used() {
    let world = with("busybox");
    world.rk("volume create --label kind=cache cache").ok().prints("cache");
    world.rk("volume create --label kind=cache cache").ok().prints("cache");
    world.rk("volume create cache").fails(4).says("other labels");
    told(&world, &["-v", "cache:/data"], "echo kept > /data/file");
    assert_eq!(told(&world, &["-v", "cache:/elsewhere:ro"], "cat /elsewhere/file").trim(), "kept");
    world.rk("run --name c --net none -v cache:/a -v cache:/b busybox true").ok();
    world.rk("volume rm cache").fails(5).says("used by container");
    world.rk("volume prune --all").ok();
    let seen = world.rk("volume inspect cache").ok().json();
    assert_eq!((seen[0]["containers"].as_array().unwrap().len(), seen[0]["labels"]["kind"].as_str()), (1, Some("cache")));
    world.rk("rm -v c").ok();
    world.rk("volume ls --filter dangling=true").ok().prints("cache");
    assert_eq!(world.rk("volume ls -q --filter label=kind=other").ok().stdout, "");
    assert_eq!(world.rk("volume prune").ok().stdout, "");
    assert_eq!(world.rk("volume prune --all").ok().stdout, "cache\n");
    world.rk("volume rm cache").fails(3).says("no volume is named cache");
    world.rk("volume rm --force cache").ok();
}

#[test]
fn volumes_of_an_image_are_filled_and_go_only_when_asked() {
    let world = with("layers");
    let run = |options: &[&str], line: &str| {
        world.rkbox([&["run", "--net", "none", "-u", "0", "--entrypoint", SHELL], options, &["layers", line]].concat()).ok().stdout
    };
    let look = "cd /data; stat -c '%a %u %g' .; stat -c '%n %a %u %g %h' *; cat first replaced; readlink absolute";
    // The test image's /data: hard links, set-group-id, owners, extended attributes, links that lead out.
    let rooted = world.rkbox(["run", "--rm", "--net", "none", "-u", "0", "--entrypoint", SHELL, "-v", "/tmp", "layers", look]).ok().stdout;
    assert!(rooted.starts_with("2775 0 44\n"), "{rooted}");
    assert!(rooted.contains("first 640 1000 44 2\n") && rooted.contains("/etc/passwd\n"), "{rooted}");
    run(&["--name", "c"], "echo more > /data/new");
    let listed = world.rk("--format json volume ls").ok().json();
    assert_eq!((listed.as_array().unwrap().len(), listed[0]["anonymous"].as_bool()), (1, Some(true)), "{listed}");
    world.rk("rm c").ok();
    let name = world.rk("volume ls -q").ok().stdout.trim().to_owned();
    assert_eq!(name.len(), 64);
    // What is there is kept, and not written over by the image again.
    assert_eq!(run(&["--rm", "-v", &format!("{name}:/data")], "rm /data/first; ls /data/new"), "/data/new\n");
    assert!(!run(&["--rm", "-v", &format!("{name}:/data")], "ls /data").contains("first"));
    world.rkbox(["volume", "rm", &name[..8]]).ok();
    run(&["--name", "d"], "true");
    world.rk("rm -v d").ok();
    assert_eq!(world.rk("volume ls -q").ok().stdout, "");
}

#[test]
fn a_new_volume_gets_what_the_image_has_and_one_that_was_used_does_not() {
    let world = with("busybox");
    let ls = |options: &[&str]| told(&world, options, "ls /etc; stat -c %a /root");
    assert!(ls(&["-v", "one:/etc"]).contains("passwd"));
    assert!(!ls(&["-v", "two:/etc:nocopy"]).contains("passwd"));
    assert!(!ls(&["-v", "two:/etc"]).contains("passwd"), "a volume that a container had is not new");
    assert!(told(&world, &["-v", "three:/root"], "stat -c %a /root").contains("700"), "an empty directory lends its mode");
    world.rk("volume create four").ok();
    std::fs::write(world.root().join("volumes/four/data/mine"), "").unwrap();
    let four = ls(&["-v", "four:/etc"]);
    assert!(four.contains("mine") && !four.contains("passwd"), "{four}");
    let list = world.sh("ls $RKBOX_ROOT/volumes/one/users").ok().stdout;
    assert_eq!(list, "", "nobody uses it any more");
}

#[test]
fn paths_of_the_host_are_bound_as_docker_binds_them() {
    let world = with("busybox");
    let at = |path: &str| world.path(path).display().to_string();
    std::fs::create_dir_all(at("dir/below")).unwrap();
    std::fs::write(at("file"), "one file").unwrap();
    let out =
        told(&world, &["-v", &format!("{}:/f", at("file")), "-v", &format!("{}:/d:ro", at("dir"))], "cat /f; touch /d/x 2>&1 || true");
    assert!(out.contains("one file") && out.contains("Read-only"), "{out}");
    // A missing source: made for -v with a warning, an error for --mount.
    let missing = at("made/deep");
    let words = ["run", "--rm", "--net", "none", "-v", &format!("{missing}:/m"), "busybox", "touch", "/m/x"];
    world.rkbox(words).ok().says("it is made");
    assert!(std::path::Path::new(&missing).join("x").exists());
    let none = format!("type=bind,source={},target=/m", at("none"));
    world.rkbox(["run", "--rm", "--net", "none", "--mount", &none, "busybox", "true"]).fails(125).says("is not there");
    assert!(!std::path::Path::new(&at("none")).exists());
    // A start that fails takes the made source back.
    let words = ["run", "--rm", "--net", "none", "-v", &format!("{}:/m", at("fresh")), "-v", "/x:/proc/y", "busybox", "true"];
    world.rkbox(words).fails(125);
    assert!(!std::path::Path::new(&at("fresh")).exists());
    // By depth, whatever the order of the words.
    let (dir, file) = (at("dir"), at("file"));
    let out = told(&world, &["-v", &format!("{file}:/a/below/f"), "-v", &format!("{dir}:/a"), "--tmpfs", "/a/below"], "cat /a/below/f");
    assert_eq!(out, "one file");
    let words = ["run", "--rm", "--net", "none", "-v", &format!("{file}:/a"), "-v", &format!("{dir}:/a"), "busybox", "true"];
    world.rkbox(words).fails(125).says("two mounts have the destination");
    // A user's own takes the place of a default one.
    assert_eq!(
        told(
            &world,
            &["-v", &format!("{file}:/etc/hosts"), "--tmpfs", "/dev/shm:size=1m"],
            "cat /etc/hosts; df -k /dev/shm | grep -c ' 1024 '"
        ),
        "one file1\n"
    );
    let warned = world.rkbox(["run", "--rm", "--net", "none", "-v", &format!("{dir}:/d:z"), "busybox", "true"]).ok();
    assert!(warned.stderr.contains("no SELinux"), "{warned}");
}

#[test]
fn options_of_mounts_reach_the_kernel() {
    let world = with("busybox");
    let dir = world.path("dir").display().to_string();
    std::fs::create_dir_all(format!("{dir}/sub")).unwrap();
    let row = |options: &[&str], place: &str| told(&world, options, &format!("grep ' {place} ' /proc/self/mountinfo"));
    let plain = row(&["-v", &format!("{dir}:/d")], "/d");
    assert!(plain.contains("rw,nosuid,nodev") && !plain.contains("noexec") && !plain.contains("shared:"), "{plain}");
    assert!(row(&["-v", &format!("{dir}:/d:noexec,suid,dev")], "/d").contains("rw,noexec"), "flags");
    world.sh(&format!("mount --bind {dir} {dir}; mount --make-shared {dir}")).ok();
    assert!(row(&["-v", &format!("{dir}:/d:rslave")], "/d").contains("master:"));
    assert!(row(&["-v", &format!("{dir}:/d:rshared")], "/d").contains("shared:"));
    // What a container mounts on a shared mount is seen on the host; the removal of the container does not take what is below off.
    world.sh(&format!("mount -t tmpfs mine {dir}/sub")).ok();
    told(&world, &["-v", &format!("{dir}:/d:rshared")], "grep -q ' /d/sub ' /proc/self/mountinfo");
    told(&world, &["-v", &format!("{dir}:/d")], "grep -q ' /d/sub ' /proc/self/mountinfo");
    world.sh(&format!("grep -q '{dir}/sub' /proc/self/mountinfo; umount {dir}/sub; umount {dir}")).ok();
    let words = ["run", "--rm", "--net", "none", "-v", &format!("{dir}:/d:rshared"), "busybox", "true"];
    world.rkbox(words).fails(125).says("shared mount");
    let tmpfs = row(&["--tmpfs", "/t:size=2m,mode=700,exec"], "/t");
    assert!(tmpfs.contains("size=2048k,mode=700") && !tmpfs.contains("noexec"), "{tmpfs}");
    let shm = row(&["--shm-size", "1m"], "/dev/shm");
    assert!(shm.contains("size=1024k"), "{shm}");
    let fixed = told(&world, &["--read-only"], "touch /tmp/x /run/y; touch /z 2>&1 || true");
    assert!(fixed.contains("Read-only"), "{fixed}");
    let strict = told(&world, &["--read-only", "--read-only-tmpfs=false"], "touch /tmp/x 2>&1 || true");
    assert!(strict.contains("Read-only"), "{strict}");
}

#[test]
fn an_image_is_mounted_read_only_or_with_a_layer_of_its_own() {
    let world = with("busybox");
    world.rkbox(["image", "load", &images().oci_archive("layers")]).ok();
    let out = told(&world, &["--mount", "type=image,source=layers,target=/i"], "cat /i/data/late; touch /i/x 2>&1 || true");
    assert!(out.starts_with("three\n") && out.contains("Read-only"), "{out}");
    told(&world, &["--mount", "type=image,source=layers,target=/i,rw"], "echo x > /i/data/late");
    let part = told(&world, &["--mount", "type=image,source=layers,target=/i,image-subpath=data"], "cat /i/late");
    assert_eq!(part, "three\n");
    world.rk("run --net none --name c --mount type=image,source=layers,target=/i busybox true").ok();
    world.rk("image rm layers").fails(5).says("used by container \"c\"");
    world.rk("rm c").ok();
    world.rk("image rm layers").ok();
}

#[test]
fn content_is_given_to_the_user_of_the_container() {
    let world = with("busybox");
    let dir = world.path("dir").display().to_string();
    world.sh(&format!("mkdir -p {dir}/a; : > {dir}/a/b; ln -s /etc/passwd {dir}/out")).ok();
    let out = told(&world, &["-u", "7:8", "-v", &format!("{dir}:/d:U")], "stat -c '%u:%g' /d /d/a /d/a/b; touch /d/mine");
    assert_eq!(out, "7:8\n7:8\n7:8\n");
    assert_eq!(world.sh(&format!("stat -c %u:%g {dir}/a/b {dir}/out; stat -L -c %u {dir}/out")).ok().stdout, "7:8\n7:8\n0\n");
}

#[test]
fn resources_and_devices_reach_the_kernel() {
    let world = with("busybox");
    let run = |options: &[&str], line: &str| told(&world, options, line).trim().to_owned();
    let group = "g=/sys/fs/cgroup; v() { cat $g/$1 2>/dev/null || cat $g/$2; }";
    assert_eq!(run(&["-m", "64m"], &format!("{group}; v memory/memory.limit_in_bytes memory.max")), "67108864");
    assert_eq!(run(&["--cpus", "0.5"], &format!("{group}; v cpu/cpu.cfs_quota_us cpu.max | cut -d' ' -f1")), "50000");
    assert_eq!(run(&["--pids-limit", "99"], &format!("{group}; v pids/pids.max pids.max")), "99");
    assert_eq!(run(&["--cpuset-cpus", "0"], &format!("{group}; v cpuset/cpuset.cpus cpuset.cpus")), "0");
    assert_eq!(run(&["--ulimit", "nofile=77:88", "--ulimit", "core=0"], "ulimit -n; ulimit -Hn"), "77\n88");
    assert_eq!(run(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500");
    assert_eq!(
        run(
            &["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shmmni=77"],
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni"
        ),
        "1\n77"
    );
    assert_eq!(run(&["--device", "/dev/null:/dev/mine:rw"], "stat -c %t:%T /dev/mine; echo x > /dev/mine"), "1:3");
    for (option, value, why) in [
        ("--memory", "1x", "unknown unit"),
        ("--memory", "1m", "less than 6m"),
        ("--cpus", "none", "not a number"),
        ("--ulimit", "none=1", "not known"),
        ("--sysctl", "kernel.panic=1", "would change the host"),
        ("--sysctl", "net.ipv4.ip_forward=1\nkernel.panic=1", "value that is none"),
        ("--sysctl", "net.ipv4/../../kernel.panic=1", "name that is none"),
        ("--device", "/dev/none", "/dev/none"),
        ("--device", "/etc/passwd", "is not a device"),
        ("--tmpfs", "/proc/x", "kernel file system"),
        ("--shm-size", "1", "less than 1k"),
        ("--mount", "type=bind", "has no target"),
    ] {
        world.rkbox(["run", "--rm", "--net", "none", option, value, "busybox", "true"]).fails(125).says(why);
    }
    world
        .rkbox(["run", "--rm", "--net", "host", "--sysctl", "net.ipv4.ip_forward=1", "busybox", "true"])
        .fails(125)
        .says("not this container's own");
}

/// R4: a container turns a directory of a shared volume into a link to the host's root while another is started with it.
#[test]
fn a_turning_source_never_leads_to_the_host() {
    let world = with("busybox");
    world.sh("echo of the host >$HOME/canary; mkdir -p $HOME/vol/a; : >$HOME/vol/a/inside").ok();
    let script = r#"
        flip='while [ ! -e /vol/done ]; do mv -T /vol/a /vol/b; ln -s / /vol/a; rm /vol/a; mv -T /vol/b /vol/a; done'
        rkbox run --rm --net none -v $HOME/vol:/vol busybox sh -c "$flip" 2>/dev/null & bind=$!
        rkbox run --rm --net none -v named:/vol busybox sh -c "mkdir /vol/a; : >/vol/a/inside; $flip" 2>/dev/null & named=$!
        until [ -e $RKBOX_ROOT/volumes/named/data/a/inside ]; do sleep 0.05; done
        try() { rkbox run --rm --net none "$@" busybox sh -c "cat /x$HOME/canary /x/tmp/rkbox-world/canary /vol2/a$HOME/canary; [ -e /x/inside ] && echo good" 2>/dev/null || true; }
        for n in $(seq 40); do
            try -v $HOME/vol/a:/x; try --mount type=volume,source=named,target=/x,volume-subpath=a
            try -v $HOME/vol:/vol2 -v $HOME/vol/a:/vol2/a
        done
        touch $HOME/vol/done $RKBOX_ROOT/volumes/named/data/done; wait $bind $named"#;
    let out = world.sh(script).ok().stdout;
    assert!(!out.contains("of the host"), "{out}");
    assert!(out.contains("good"), "it never worked either");
    // Where a container may write, a link is nobody's word for another place.
    world.sh("rm -rf $HOME/vol/a; ln -s / $HOME/vol/a").ok();
    world.sh("rkbox run --name holder --net none -v $HOME/vol:/vol busybox true").ok();
    let at = format!("{}:/x", world.path("vol/a").display());
    world.rkbox(["run", "--rm", "--net", "none", "-v", &at, "busybox", "true"]).fails(125).says("could lead anywhere");
    world.rk("rm holder").ok();
    world
        .rkbox(["run", "--rm", "--net", "none", "--mount", "type=volume,source=named,target=/x,volume-subpath=../..", "busybox", "true"])
        .fails(125);
}

/// R7: what an image puts where its VOLUME is cannot bring anything of the host into the volume.
#[test]
fn a_volume_is_filled_with_the_images_own_things_only() {
    let world = with("busybox");
    world.sh("echo of the host >$HOME/canary").ok();
    let dir = world.path("").display().to_string();
    // An image whose volume is behind a link that leads out, and full of links, devices and hard links.
    let script = format!(
        r#"cd $HOME; cp -r {layout} evil; umoci unpack --image evil:latest bundle >/dev/null; cd bundle/rootfs
        mkdir -p real/dir; ln -s {dir}/canary real/out; ln -s / real/root; mknod real/null c 1 3; echo x >real/one; ln real/one real/two; ln -s ../../../../../../../..{dir} up; ln -s /real way
        cd $HOME; umoci repack --image evil:latest bundle; umoci config --image evil:latest --config.volume /way --config.volume /up --config.volume /real/root/deep
        rkbox image load oci:evil:latest >&2; rm -rf bundle"#,
        layout = images().layout("busybox")
    );
    world.sh(&script).ok();
    let name = world.rkbox(["--format", "json", "image", "ls"]).ok().json();
    let evil = name.as_array().unwrap().iter().find(|image| image.to_string().contains("evil")).map(|_| "evil").unwrap_or("evil");
    let out = world.rkbox([
        "run",
        "--name",
        "c",
        "--net",
        "none",
        evil,
        "sh",
        "-c",
        "cat /way/one; stat -c %h /way/two; cat /way/out /up/canary 2>&1; head -c1 /way/null 2>&1 | wc -c",
    ]);
    assert!(!out.stdout.contains("of the host"), "{out}");
    assert!(
        out.stdout.starts_with(
            "x
2
"
        ),
        "{out}"
    );
    assert!(
        !world.sh("grep -rl 'of the host' $RKBOX_ROOT/volumes || true").ok().stdout.contains("data"),
        "nothing of the host in a volume"
    );
    world.rk("rm -v c").ok();
}
