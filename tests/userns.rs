//! User namespaces of boxes, judged from inside and from outside: ids, owners of files, what root inside can do to the host, and where the
//! ranges come from and go to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use common::{Output, World, images};

/// Where ranges of `auto` start when `/etc/subuid` says nothing.
const FIRST: u32 = 1 << 31;

/// A world with the images, and `/etc/subuid` and `/etc/subgid` as a fresh host has them.
fn with_images() -> World {
    let world = World::new();
    subordinate(&world, "");
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    world.rkbox(["image", "load", &images().oci_archive("layers")]).ok();
    world
}

fn subordinate(world: &World, text: &str) {
    fs::write(world.path("subid"), text).unwrap();
    for file in ["/etc/subuid", "/etc/subgid"] {
        world
            .sh(&format!("[ -e {file} ] || : >{file}; umount {file} 2>/dev/null || true; mount --bind {}/subid {file}", common::world::DIR))
            .ok();
    }
}

/// Runs a script in a container of busybox with these options.
fn inside(world: &World, options: &str, script: &str) -> Output {
    world.rkbox(["run", "--rm"].into_iter().chain(options.split_whitespace()).chain(["busybox", "sh", "-euc", script]))
}

/// The record of a container.
fn record(world: &World, name: &str) -> serde_json::Value {
    world.rk(&format!("inspect {name}")).ok().json()[0]["record"].clone()
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let meta = fs::symlink_metadata(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()));
    (meta.uid(), meta.gid())
}

fn bundle(record: &serde_json::Value) -> PathBuf {
    record["bundle"].as_str().unwrap().into()
}

/// Both ways of giving an image's files to the namespace: by mounts, and by a copy.
fn ways(test: impl Fn(&World, &dyn Fn(&str) -> Output)) {
    for copied in [false, true] {
        let world = with_images();
        test(&world, &|line: &str| {
            let mut command = world.command(&world.program);
            if copied {
                command.env("RKBOX_TEST_NO_IDMAP", "1");
            }
            Output::of(command.args(line.split_whitespace()), world.limit)
        });
    }
}

#[test]
fn root_inside_is_nobody_outside_and_owns_what_the_image_gives_root() {
    ways(|world, rkbox| {
        rkbox("run -d --name c --userns auto busybox sleep 1000").ok();
        let seen = world.rk("exec c sh -c").code;
        assert_ne!(seen, 0);
        let look = |script: &str| world.rkbox(["exec", "c", "sh", "-euc", script]).ok().stdout;
        assert_eq!(
            look("cat /proc/self/uid_map /proc/self/gid_map").split_whitespace().collect::<Vec<_>>(),
            ["0", "2147483648", "65536", "0", "2147483648", "65536"]
        );
        assert_eq!(look("id -u; stat -c %u:%g / /bin /bin/busybox /etc/hosts /etc/resolv.conf"), "0\n0:0\n0:0\n0:0\n0:0\n0:0\n");
        look("echo 10.9.9.9 x >>/etc/hosts; mkdir /d; echo x >/d/f; chown 33:44 /d/f; chmod 4755 /d/f; ln -s f /d/l");
        assert_eq!(look("stat -c '%u:%g %a' /d/f"), "33:44 4755\n");
        let record = record(world, "c");
        let upper = bundle(&record).join("upper");
        assert_eq!(owner(upper.join("d")), (FIRST, FIRST));
        assert_eq!(owner(upper.join("d/f")), (FIRST + 33, FIRST + 44));
        assert_eq!(owner(bundle(&record).join("rootfs/bin/busybox")), (FIRST, FIRST));
        // The store is as it was.
        for lower in record["lowers"].as_array().unwrap() {
            assert_eq!(owner(lower.as_str().unwrap()), (0, 0));
        }
        // The process is nobody of this host.
        let pid = world.rk("inspect c").ok().json()[0]["pid"].as_u64().unwrap();
        assert_eq!(owner(format!("/proc/{pid}")), (FIRST, FIRST));
        rkbox("rm --force c").ok();
        assert_eq!(fs::read_dir(world.root().join("userns")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(world.path("run-userns")).unwrap().count(), 0);
    });
}

/// Each of these works for root without a user namespace, and is what makes root inside dangerous.
#[test]
fn root_inside_can_do_nothing_to_the_host() {
    ways(|world, rkbox| {
        let secret = world.path("secret");
        fs::write(&secret, "of root").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(world.path("shared")).unwrap();
        fs::set_permissions(world.path("shared"), fs::Permissions::from_mode(0o777)).unwrap();
        let mounts = format!("-v {}:/secret -v {}:/shared", secret.display(), world.path("shared").display());
        let attempt = |userns: &str, more: &str, script: &str| {
            fs::write(world.path("attempt"), script).unwrap();
            let line = format!(
                "run --rm --net none {userns} {more} {mounts} -v {}:/attempt:ro busybox sh /attempt",
                world.path("attempt").display()
            );
            rkbox(&line)
        };
        let all = "--cap-add ALL --security-opt seccomp=unconfined --security-opt unmask=ALL";
        // What of it does no harm to this host is shown to work without a user namespace.
        for (script, more, harmless) in [
            ("cat /secret", "--cap-add DAC_READ_SEARCH", true),
            ("chown 0:0 /secret", "", true),
            ("chmod 0600 /secret", "", true),
            ("mknod /dev/kmsg2 c 1 11", all, true),
            ("mknod /b b 7 0", all, true),
            ("echo 1 >/proc/sys/kernel/panic_on_oops", all, false),
            ("echo core >/proc/sys/kernel/core_pattern", all, false),
            ("mount -o remount,rw /proc/sys && echo 0 >/proc/sys/vm/overcommit_memory", all, false),
        ] {
            let refused = attempt("--userns auto", more, script);
            assert!(refused.code != 0, "{script} is not refused: {refused}");
            if harmless {
                attempt("", more, script).ok();
            }
        }
        // A set-uid file that root inside makes on the host is not root's.
        attempt("--userns auto", "", "cp /bin/busybox /shared/sh; chmod 4755 /shared/sh").ok();
        let left = fs::metadata(world.path("shared/sh")).unwrap();
        assert_eq!(left.mode() & 0o7777, 0o4755);
        assert!(left.uid() >= FIRST, "{}", left.uid());
        assert_eq!(fs::read_to_string(&secret).unwrap(), "of root");
        assert_eq!(owner(&secret), (0, 0));
        // Set-uid programs of an image are root inside and nobody outside, also when they may gain privileges.
        let said =
            attempt("--userns auto", "--user 1000 --allow-new-privs --cap-add SETUID,SETGID", "id -u; cat /proc/self/uid_map").ok().stdout;
        assert!(said.starts_with("1000\n") && said.contains("2147483648"), "{said}");
    });
}

#[test]
fn ranges_are_each_boxs_own_and_come_back() {
    let world = with_images();
    let start = |name: &str| record(&world, name)["userns"]["map"][0]["outside"].as_u64().unwrap();
    for name in ["a", "b", "c"] {
        world.rk(&format!("create --name {name} --net none --userns auto busybox sleep 100")).ok();
    }
    assert_eq!([start("a"), start("b"), start("c")], [0, 1, 2].map(|nth| u64::from(FIRST) + nth * 65536));
    let claims = || {
        let mut names: Vec<String> =
            fs::read_dir(world.root().join("userns")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(claims(), ["2147483648-65536", "2147549184-65536", "2147614720-65536"]);
    // What is freed serves again, where it fits.
    world.rk("rm --force b").ok();
    world.rk("create --name big --net none --userns auto:size=65537 busybox true").ok();
    world.rk("create --name d --net none --userns auto:size=1000 busybox true").ok();
    assert_eq!([start("big"), start("d")], [u64::from(FIRST) + 3 * 65536, u64::from(FIRST) + 65536]);
    // A claim of a box that never came to be is no claim.
    let dead = world.root().join("userns").join(format!("{}-65536", u64::from(FIRST) + 5 * 65536));
    std::os::unix::fs::symlink("0".repeat(64), &dead).unwrap();
    world.rk("gc").ok();
    assert!(fs::symlink_metadata(&dead).is_err());
    assert_eq!(claims().len(), 4);
    // What /etc/subuid gives is taken, and nothing else; nor what is others'.
    subordinate(&world, "joe:100000:65536\nrkbox:300000:100\n");
    world.rk("create --name e --net none --userns auto:size=100 busybox true").ok();
    assert_eq!(start("e"), 300_000);
    world.rk("create --name f --net none --userns auto:size=100 busybox true").fails(6).says("/etc/subuid");
    subordinate(&world, "joe:2147483648:65536\n");
    world.rk("create --name f --net none --userns auto busybox true").fails(5).says("somebody else's").says("rkbox:");
    for name in ["a", "c", "d", "e", "big"] {
        world.rk(&format!("rm --force {name}")).ok();
    }
    assert!(claims().is_empty());
}

#[test]
fn two_at_once_never_get_the_same_range() {
    let world = with_images();
    let script = "for n in 1 2 3 4 5 6; do rkbox create --name c$n --net none --userns auto busybox true >/dev/null & pids=\"${pids:-} $!\"; done\n\
                  for pid in $pids; do wait $pid; done";
    world.sh(script).ok();
    let mut starts: Vec<u64> = (1..=6).map(|n| record(&world, &format!("c{n}"))["userns"]["map"][0]["outside"].as_u64().unwrap()).collect();
    starts.sort_unstable();
    assert_eq!(starts, (0..6).map(|nth| u64::from(FIRST) + nth * 65536).collect::<Vec<_>>());
    world.rk("rm --force c1 c2 c3 c4 c5 c6").ok();
}

#[test]
fn maps_and_keep_id_are_as_told() {
    let world = with_images();
    inside(&world, "--net none --userns 0:100000:1000,1000:5000:1", "cat /proc/self/uid_map")
        .ok()
        .prints("0     100000       1000")
        .prints("1000       5000          1");
    let kept =
        inside(&world, "--net none --userns keep-id --cap-add ALL", "cat /proc/self/uid_map; stat -c %u /bin/busybox /proc/1").ok().stdout;
    assert_eq!(kept.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295", "0", "0"]);
    inside(&world, "--net none --userns 0:100000:3", "ls -l /dev/pts >/dev/null; id -u").ok().prints("0");
    world.rk("run --net none --userns 0:100000:10 --user 10 busybox true").fails(125).says("id 10").says("not in its user namespace");
    for bad in ["0:1", "1:100000:10", "self", "0:0:10,5:100:10"] {
        world.rk(&format!("run --net none --userns {bad} busybox true")).fails(125).says("--userns");
        world.rk(&format!("sandbox create --net none --userns {bad} s")).fails(2).says("--userns");
    }
}

#[test]
fn a_network_of_its_own_belongs_to_the_namespace() {
    let world = with_images();
    // Settings, ping and raw sockets of its own network; `/sys` of its own.
    let script = "cat /proc/sys/net/ipv4/ping_group_range; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip -4 -o addr show eth0; \
                  ping -c1 -W5 127.0.0.1 >/dev/null; ls /sys/class/net; ip link add dummy0 type veth && echo made";
    let said = inside(&world, "--userns auto --cap-add NET_ADMIN,NET_RAW --sysctl net.ipv4.ip_default_ttl=17", script).ok().stdout;
    for expected in ["0\t65535\n0\n", "10.88.", "eth0", "made"] {
        assert!(said.contains(expected), "{expected:?} in {said}");
    }
    // The host's network is not its own: no capability over it, and its `/sys` is the host's, read-only.
    let said = inside(
        &world,
        "--net host --userns auto --cap-add NET_ADMIN",
        "ip link add d0 type veth 2>&1 || echo refused; touch /sys/x 2>&1 || echo kept",
    )
    .ok();
    said.prints("refused").prints("kept");
}

#[test]
fn the_containers_of_a_sandbox_share_its_namespace() {
    ways(|world, rkbox| {
        rkbox("sandbox create --userns auto s").ok();
        let sandbox = world.rk("sandbox inspect s").ok().json()[0].clone();
        let pid = sandbox["pid"].as_u64().unwrap();
        assert_eq!(owner(format!("/proc/{pid}")), (FIRST, FIRST));
        rkbox("run -d --name one --sandbox s busybox sleep 1000").ok();
        rkbox("run -d --name two --sandbox s --userns auto busybox sleep 1000").ok();
        let look = |name: &str, script: &str| world.rkbox(["exec", name, "sh", "-euc", script]).ok().stdout;
        let of = |name: &str| look(name, "for kind in user net ipc; do readlink /proc/self/ns/$kind; done");
        assert_eq!(of("one"), of("two"));
        assert!(look("one", "cat /proc/self/uid_map").contains("2147483648"));
        // The memory that they share, and files of the sandbox.
        look("one", "echo hello >/dev/shm/m; grep -q 127.0.0.1 /etc/hosts; hostname >/dev/null");
        assert_eq!(look("two", "cat /dev/shm/m; stat -c %u /dev/shm/m /etc/hosts"), "hello\n0\n0\n");
        rkbox("run --rm --sandbox s --userns host busybox true").fails(125).says("sandbox s has auto");
        assert_eq!(fs::read_dir(world.root().join("userns")).unwrap().count(), 1);
        rkbox("sandbox rm --force s").ok();
        assert_eq!(fs::read_dir(world.root().join("userns")).unwrap().count(), 0);
        rkbox("sandbox create --net none plain").ok();
        rkbox("run --rm --sandbox plain --userns auto busybox true").fails(125).says("sandbox plain has host");
        rkbox("sandbox rm --force plain").ok();
    });
}

#[test]
fn volumes_keep_the_ids_inside_and_paths_of_the_host_keep_theirs() {
    let world = with_images();
    let data = world.root().join("volumes/vol/data");
    inside(&world, "--net none --userns auto -v vol:/v", "echo x >/v/f; chown 5:6 /v/f; stat -c %u:%g /v").ok().prints("0:0");
    assert_eq!([owner(&data), owner(data.join("f"))], [(0, 0), (5, 6)], "the disk has the ids inside");
    // Whoever has it next sees the same, with whatever ids.
    for options in ["", "--userns auto:size=100", "--userns 0:7000:10"] {
        inside(&world, &format!("--net none {options} -v vol:/v"), "stat -c %u:%g /v/f").ok().prints("5:6");
    }
    // The first content of a volume comes with the ids inside.
    world.rk("run --rm --net none --userns auto -v etc:/etc busybox true").ok();
    assert_eq!(owner(world.root().join("volumes/etc/data")), (0, 0));
    // A path of the host is nobody's, until it is given away.
    fs::create_dir(world.path("dir")).unwrap();
    let bind = format!("-v {}:/d", world.path("dir").display());
    inside(&world, &format!("--net none --userns auto {bind}"), "stat -c %u /d; touch /d/x 2>/dev/null || echo kept")
        .ok()
        .prints("65534")
        .prints("kept");
    inside(&world, &format!("--net none --userns auto {bind}:U"), "stat -c %u /d; touch /d/x").ok().prints("0");
    assert_eq!(owner(world.path("dir/x")), (FIRST, FIRST));
    world.rk("volume rm vol etc").ok();
}

/// Files go in and out with the ids inside.
#[test]
fn what_is_copied_has_the_ids_inside() {
    ways(|world, rkbox| {
        rkbox("run -d --name c --net none --userns auto busybox sleep 1000").ok();
        fs::write(world.path("file"), "x").unwrap();
        std::os::unix::fs::chown(world.path("file"), Some(5), Some(6)).unwrap();
        let file = world.path("file").display().to_string();
        let look = |script: &str| world.rkbox(["exec", "c", "sh", "-euc", script]).ok().stdout;
        rkbox(&format!("cp {file} c:/plain")).ok();
        rkbox(&format!("cp -a {file} c:/kept")).ok();
        assert_eq!(look("stat -c %u:%g /plain /kept; chown 7:8 /plain"), "0:0\n5:6\n");
        rkbox(&format!("cp -a c:/plain {}", world.path("back").display())).ok();
        assert_eq!(owner(world.path("back")), (7, 8));
        let line = "export c | tar -tv --numeric-owner | grep -E ' (plain|kept|bin/busybox)$'";
        let listed = world.sh(&format!("rkbox {line}")).ok().stdout;
        assert!(listed.contains("7/8") && listed.contains("5/6") && listed.contains("0/0") && !listed.contains("2147"), "{listed}");
        world.sh(&format!("cd {} && tar -cf - file | rkbox cp - c:/tmp", common::world::DIR)).ok();
        assert_eq!(look("stat -c %u:%g /tmp/file"), "5:6\n");
        rkbox("rm --force c").ok();
    });
}

/// A volume shows the ids inside while its container runs, and has them on its disk when it does not.
#[test]
fn what_is_copied_into_a_volume_has_the_ids_inside() {
    ways(|world, rkbox| {
        rkbox("run -d --name c --net none --userns auto -v vol:/v -v /anonymous busybox sleep 1000").ok();
        world.rkbox(["exec", "c", "sh", "-euc", "ln -s /v /link"]).ok();
        fs::write(world.path("file"), "x").unwrap();
        std::os::unix::fs::chown(world.path("file"), Some(5), Some(6)).unwrap();
        world.sh(&format!("mkdir -p {0}/tree/below; echo y >{0}/tree/below/y", common::world::DIR)).ok();
        let (file, tree) = (world.path("file").display().to_string(), world.path("tree").display().to_string());
        let fill = |at: &str| {
            for (options, to) in [("", format!("{at}/plain")), ("-a ", format!("{at}/kept")), ("", "/anonymous/plain".to_owned())] {
                rkbox(&format!("cp {options}{file} c:{to}")).ok();
            }
            rkbox(&format!("cp {tree} c:{at}")).ok();
            world.sh(&format!("cd {} && tar -cf - file | rkbox cp - c:{at}", common::world::DIR)).ok();
        };
        let look = "stat -c %u:%g /v/plain /v/kept /anonymous/plain /v/tree/below/y /v/file";
        fill("/link");
        world.rkbox(["exec", "c", "sh", "-euc", look]).ok().prints("0:0\n5:6\n0:0\n0:0\n5:6\n");
        rkbox("stop -t 0 c").ok();
        fill("/v");
        rkbox("start c").ok();
        world.rkbox(["exec", "c", "sh", "-euc", look]).ok().prints("0:0\n5:6\n0:0\n0:0\n5:6\n");
        // And out of it again.
        rkbox(&format!("cp -a c:/v/kept {}", world.path("z").display())).ok();
        assert_eq!(owner(world.path("z")), (5, 6));
        rkbox("rm --force --volumes c").ok();
        rkbox("volume rm vol").ok();
        fs::remove_file(world.path("z")).unwrap();
        fs::remove_dir_all(world.path("tree")).unwrap();
    });
}

#[test]
fn what_stopped_starts_again_with_its_range() {
    let world = with_images();
    world
        .rkbox([
            "create",
            "--name",
            "c",
            "--userns",
            "auto",
            "busybox",
            "sh",
            "-c",
            "echo x >>/count; wc -l </count; cat /proc/self/uid_map",
        ])
        .ok();
    for nth in ["1", "2"] {
        world.rk("start c").ok();
        world.rk("wait c").ok();
        let said = world.rk("logs c").ok();
        let last: Vec<&str> = said.stdout.lines().rev().take(2).collect();
        assert!(last[1] == nth && last[0].contains("2147483648"), "{said}");
    }
    world.rk("rm c").ok();
}
