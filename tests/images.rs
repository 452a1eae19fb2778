//! The image store through the real binary: what is listed, named, pinned, pruned, measured; podman and skopeo as judges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{World, images};
use serde_json::Value;

/// A world with three images: `old:1` (2001, label stage=a), `new:1` and its other name `a.b/c/new:2` (2020), and one without a name.
fn world() -> World {
    let world = World::new();
    let script = "cp -r LAYOUT made; cd made; \
        umoci config --image .:latest --tag one --created 2001-02-03T04:05:06Z --config.label stage=a --config.cmd one; \
        umoci config --image .:latest --tag two --created 2020-02-03T04:05:06Z --config.label stage=b --config.cmd two; \
        umoci config --image .:latest --tag three --created 2010-02-03T04:05:06Z --config.cmd three; \
        rkbox image load oci:$PWD:one --name old:1; rkbox image load oci:$PWD:two --name new:1 --name a.b/c/new:2; \
        rkbox image load oci:$PWD:three --name gone; rkbox image untag gone";
    world.sh(&format!("cd $HOME; {}", script.replace("LAYOUT", &images().layout("busybox")))).ok();
    world
}

fn json(world: &World, line: &str) -> Value {
    serde_json::from_str(&world.rk(&format!("{line} --format json")).ok().stdout).unwrap()
}

/// `repository:tag` of each row.
fn names(world: &World, filters: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("<none>").to_owned();
    let rows = json(world, &format!("image ls {filters}"));
    rows.as_array().unwrap().iter().map(|row| format!("{}:{}", text(&row["repository"]), text(&row["tag"]))).collect()
}

const OLD: &str = "docker.io/library/old:1";
const NEW: &str = "docker.io/library/new:1";
const OTHER: &str = "a.b/c/new:2";
const NONE: &str = "<none>:<none>";

#[test]
fn a_list_is_filtered_and_newest_first() {
    let world = world();
    for (filters, rows) in [
        ("", &[OTHER, NEW, NONE, OLD][..]),
        ("new", &[NEW]),
        ("a.*/*/new", &[OTHER]),
        ("-f reference=*:1", &[NEW, OLD]),
        ("-f reference=old -f reference=a.b/*/*", &[OTHER, OLD]),
        ("-f dangling=true", &[NONE]),
        ("-f dangling=false -f label=stage", &[OTHER, NEW, OLD]),
        ("-f label=stage=a", &[OLD]),
        ("-f label!=stage", &[NONE]),
        ("-f label=stage=a -f label=stage=b", &[]),
        ("-f before=new:1", &[NONE, OLD]),
        ("-f since=old:1", &[OTHER, NEW, NONE]),
        ("-f until=2005-01-01", &[OLD]),
        ("-f until=1h -f pinned=true", &[]),
    ] {
        assert_eq!(names(&world, filters), rows, "{filters}");
    }
    let text = world.rk("image ls --no-trunc --digests old").ok().stdout;
    let facts = &json(&world, "image ls old")[0];
    assert!(text.contains(facts["id"].as_str().unwrap()) && text.contains(facts["digest"].as_str().unwrap()), "{text}");
    assert_eq!(facts["platform"], "linux/amd64");
    assert!(facts["source"].as_str().unwrap().starts_with("oci:/tmp/"), "{facts}");
    let quiet = world.rk("image list -q").ok().stdout;
    assert_eq!(quiet.lines().count(), 3, "each id once: {quiet}");
    for (bad, code) in [("-f colour=red", 2), ("-f before=nothing", 3), ("-f dangling=maybe", 2)] {
        world.rk(&format!("image ls {bad}")).fails(code);
    }
    // Nothing but the index is read: the list does not need the blobs.
    std::fs::remove_dir_all(world.root().join("images/blobs")).unwrap();
    assert_eq!(names(&world, "").len(), 4);
}

#[test]
fn every_form_of_a_reference_finds_the_image() {
    let world = world();
    let facts = &json(&world, "image ls new:1")[0];
    let (id, digest) = (facts["id"].as_str().unwrap(), facts["digest"].as_str().unwrap());
    let wrong = format!("sha256:{}", "0".repeat(64));
    let found = |text: &str| json(&world, &format!("image inspect {text}"))[0]["Id"].as_str().unwrap().to_owned();
    for text in ["new:1", "docker.io/library/new:1", "a.b/c/new:2", id, &id[7..], &id[7..20], digest] {
        assert_eq!(found(text), id, "{text}");
    }
    for text in [format!("new@{digest}"), format!("new:1@{digest}"), format!("new:9@{digest}"), format!("a.b/c/new@{digest}")] {
        assert_eq!(found(&text), id, "{text}");
    }
    for text in ["new", "new:2", &format!("new@{wrong}"), &format!("old@{digest}"), &wrong] {
        world.rk(&format!("image inspect {text}")).fails(3);
    }
    let inspected = &json(&world, &format!("image inspect {id}"))[0];
    assert!(inspected["UnpackedSize"].as_u64().unwrap() > inspected["Size"].as_u64().unwrap());
    assert_eq!(inspected["RepoTags"], serde_json::json!([OTHER, NEW]));
    // A removal is exact: a tag that does not have the digest names nothing.
    world.rk(&format!("image rm new:9@{digest}")).fails(3);
    let removed = world.rk(&format!("image rm new:1@{digest}")).ok().stdout;
    assert_eq!(removed, format!("Untagged: {NEW}\n"));
    let removed = world.rk(&format!("image rm a.b/c/new@{digest}")).ok().stdout;
    assert_eq!(removed, format!("Untagged: {OTHER}\nDeleted: {id}\n"));
    world.rk("image rm nothing").fails(3);
    world.rk("image rm --force nothing").ok();
}

#[test]
fn names_come_and_go_and_the_image_stays() {
    let world = world();
    let id = json(&world, "image ls new:1")[0]["id"].as_str().unwrap().to_owned();
    world.rk("image tag new:1 third:3 old:1").ok();
    assert_eq!(names(&world, "-f reference=third -f reference=old"), [OLD, "docker.io/library/third:3"]);
    assert_eq!(json(&world, "image ls old:1")[0]["id"], Value::from(id.clone()));
    assert_eq!(names(&world, "-f dangling=true").len(), 2, "what lost its name to another is kept");
    world.rk("image untag new:1 third:3").ok();
    world.rk("image untag new:1 third:3").fails(3);
    world.rk(&format!("image untag {id}")).ok();
    world.rk("image inspect old:1").fails(3);
    assert_eq!(json(&world, &format!("image inspect {}", &id[7..19]))[0]["RepoTags"], serde_json::json!([]));
    assert_eq!(names(&world, "-f dangling=true").len(), 3);
    world.rk(&format!("image tag {id} back")).ok();
    assert_eq!(names(&world, "back"), ["docker.io/library/back:latest"]);
    world.rk(&format!("image tag back other@sha256:{}", "0".repeat(64))).fails(2);
    world.rk("image tag nothing back").fails(3);
    let store = world.root().join("images");
    world.sh(&format!("skopeo inspect oci:{}:docker.io/library/back:latest >/dev/null", store.display())).ok();
}

#[test]
fn pinned_and_used_images_survive() {
    let world = world();
    world.rk("image pin old:1").ok();
    world.rk("image pin old:1").ok();
    let pinned = world.rk("image rm old:1").fails(5);
    assert!(pinned.stderr.contains("image is pinned") && pinned.stderr.contains("image unpin"), "{pinned}");
    world.rk("run --name c new:1 true").ok();
    for line in ["image rm a.b/c/new:2", "image tag old:1 also:1", "image rm old:1", "image prune --all --force"] {
        world.rk(line).ok();
    }
    assert_eq!(names(&world, ""), [NEW, "docker.io/library/also:1"], "what is pinned or used stays");
    world.rk("image rm also:1").fails(5);
    assert_eq!(names(&world, "-f pinned=true"), ["docker.io/library/also:1"], "the pin went over to the name that is left");
    // Loading it again does not take the pin off.
    let load = format!("image load oci:{}:one --name again", world.path("made").display());
    world.rk(&load).ok();
    assert_eq!(names(&world, "-f pinned=true").len(), 2);
    world.rk("image unpin also:1").ok();
    assert!(names(&world, "-f pinned=true").is_empty());
    world.rk("image pin also:1").ok();
    world.rk("image rm --force also:1 again").ok();
    let used = world.rk("image rm --force new:1").fails(5);
    assert!(used.stderr.contains("used by container \"c\""), "{used}");
    world.rk("rm c").ok();
    let answer: Value = serde_json::from_str(&world.rk("image prune -a --format json").ok().stdout).unwrap();
    assert_eq!(answer["untagged"], serde_json::json!([NEW]));
    assert!(answer["freed"].as_u64().unwrap() > 1_000_000, "{answer}");
    assert!(names(&world, "").is_empty());
    let left = world.sh("find $HOME/lib/images/blobs/sha256 $HOME/lib/layers -mindepth 1").ok().stdout;
    assert_eq!(left, "", "nothing is left");
}

#[test]
fn prune_takes_only_what_the_filters_let_through() {
    let world = world();
    let first = world.rk("image prune").ok().stdout;
    assert!(first.starts_with("Deleted: sha256:") && first.contains("Total reclaimed space: "), "{first}");
    assert_eq!(names(&world, ""), [OTHER, NEW, OLD]);
    assert_eq!(world.rk("image prune").ok().stdout, "Total reclaimed space: 0B\n");
    world.rk("image prune -a --filter label=stage=a --filter until=2000-01-01").ok();
    assert_eq!(names(&world, ""), [OTHER, NEW, OLD]);
    world.rk("image prune -a --filter until=2005-01-01").ok();
    assert_eq!(names(&world, ""), [OTHER, NEW]);
    // The layers are shared: the images that stay still run.
    world.rk("run --rm new:1 true").ok();
}

/// A run, a mount and a bundle are uses; a list, an inspection and a verification are none.
#[test]
fn when_an_image_was_used_last_is_known_and_filters_by_it() {
    let world = world();
    let used = |name: &str| json(&world, &format!("image inspect {name}"))[0]["LastUsed"].clone();
    world.rk("image verify").ok();
    assert!(used("new:1").is_null() && used("old:1").is_null());
    let day_ago = "touch -d '-26 hours' $HOME/lib/images/blobs/sha256/$(rkbox image inspect new:1 | jq -r '.[0].Id' | cut -d: -f2)";
    let mut last = String::new();
    for (line, after) in [
        ("run --name c new:1 true", "image ls"),
        ("rm c", "image history new:1"),
        ("run --rm --mount type=image,source=new:1,target=/m old:1 true", "image df"),
        ("image mount new:1", "image unmount new:1"),
        ("bundle create new:1 /tmp/rkbox-world/b", "bundle rm /tmp/rkbox-world/b"),
    ] {
        world.sh(day_ago).ok();
        assert!(used("new:1").as_str().unwrap() < last.as_str() || last.is_empty(), "{line}");
        world.rk(line).ok();
        last = used("new:1").as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
        world.rk(after).ok();
        assert_eq!(used("new:1"), last.as_str(), "{after}");
        assert!(last.parse::<jiff::Timestamp>().unwrap() > jiff::Timestamp::now() - jiff::Span::new().hours(1), "{line}: {last}");
    }
    let row = json(&world, "image ls new:1");
    assert_eq!(row[0]["last_used"], last.as_str());
    // Neither a pull of the same image nor a use counts as damage.
    world.rk("image verify").ok();
    // All came just now, so that nothing is unused for an hour; of no time nobody was used.
    assert!(names(&world, "-f unused-for=1h").is_empty());
    world.sh("cd $HOME/lib/images; jq -c '(.manifests[].annotations[\"io.rkbox.image.pulled-at\"]) = \"2020-01-01T00:00:00Z\"' index.json >i; mv i index.json").ok();
    assert_eq!(names(&world, "-f unused-for=1h"), [NONE], "the others were used just now");
    world.sh(day_ago).ok();
    assert_eq!(names(&world, "-f unused-for=24h"), [OTHER, NEW, NONE]);
    assert_eq!(names(&world, "-f unused-for=48h"), [NONE]);
    world.rk("image prune -a --filter unused-for=24h").ok();
    assert_eq!(names(&world, ""), [OLD]);
}

/// What the index tells of the other images is enough: nothing of those is read that share nothing with the one that goes.
#[test]
fn a_removal_reads_only_images_that_may_share_something() {
    let world = World::new();
    let script = "cp -r LAYERS made; cd made; for n in 1 2 3 4 5; do
            mkdir $HOME/f$n; echo $n >$HOME/f$n/f; tar -cf $HOME/l$n.tar -C $HOME/f$n f; umoci init --layout $HOME/o$n; umoci new --image $HOME/o$n:v
            umoci raw add-layer --image $HOME/o$n:v $HOME/l$n.tar; rkbox image load oci:$HOME/o$n:v --name apart:$n
        done
        umoci config --image .:latest --tag one --config.cmd one; umoci config --image .:latest --tag two --config.cmd two
        rkbox image load oci:$PWD:one --name shares:1; rkbox image load oci:$PWD:two --name shares:2";
    world.sh(&format!("cd $HOME; {}", script.replace("LAYERS", &images().layout("layers")))).ok();
    // The manifests of the others cannot be read any more; a list does not need them, and neither does a removal.
    let documents = "for d in $(jq -r '.manifests[] | select(.annotations[\"org.opencontainers.image.ref.name\"] | test(\"apart:[2-5]\")).digest' \
        $HOME/lib/images/index.json | cut -d: -f2); do echo >$HOME/lib/images/blobs/sha256/$d; done";
    world.sh(documents).ok();
    let layers = || world.sh("ls $HOME/lib/layers | wc -l").ok().stdout.trim().parse::<u32>().unwrap();
    let before = layers();
    world.rk("image rm apart:1").ok().quiet();
    assert_eq!(layers(), before - 1, "its layer is gone");
    // Images that share layers are read all the same, and nothing is taken from them.
    world.rk("image rm shares:1").ok().quiet();
    assert_eq!(layers(), before - 1);
    world.rk("run --rm --net none --entrypoint /bin/sh shares:2 -c true").ok();
    world.rk("image rm shares:2").ok().quiet();
    assert_eq!(layers(), 4);
    // An entry that tells nothing (of another tool, or of an older rkbox) is read, and what cannot be read keeps everything.
    world.sh("cd $HOME/lib/images; jq -c 'del(.manifests[].annotations[\"io.rkbox.image.parts\"])' index.json >i; mv i index.json").ok();
    world.rkbox(["image", "load", &images().oci_archive("busybox")]).ok();
    world.rk("image rm busybox").ok().says("blobs and layers stay");
}

#[test]
fn a_history_is_that_of_podman() {
    let world = world();
    let archive = images().oci_archive("layers");
    world.rk(&format!("image load oci-archive:{archive} --name layers:latest")).ok();
    let store = world.path("podman");
    let podman = format!("podman --root {0}/root --runroot {0}/run --storage-driver vfs", store.display());
    world.sh(&format!("{podman} load -q -i {archive} >/dev/null")).ok();
    let name = world.sh(&format!("{podman} images --format '{{{{.Id}}}}' | head -n 1")).ok().stdout.trim().to_owned();
    let theirs: Value = serde_json::from_str(&world.sh(&format!("{podman} history --format json {name}")).ok().stdout).unwrap();
    let ours = json(&world, "image history layers:latest");
    let rows = |list: &Value, key: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap_or_default().trim().to_owned()).collect()
    };
    assert_eq!(rows(&ours, "created_by"), rows(&theirs, "CreatedBy"));
    assert_eq!(rows(&ours, "comment"), rows(&theirs, "comment"));
    let layers = ours.as_array().unwrap().iter().filter(|row| row["empty_layer"] == false).count();
    assert_eq!(layers, json(&world, "image inspect layers:latest")[0]["Layers"].as_array().unwrap().len());
    let text = world.rk("image history layers:latest").ok().stdout;
    assert!(text.lines().all(|line| line.chars().count() < 200) && text.contains("<missing>"), "{text}");
    assert_eq!(world.rk("image history -q --no-trunc layers:latest").ok().stdout.lines().next(), ours[0]["id"].as_str());
    world.rk("image history --human=false layers:latest").ok();
}

#[test]
fn what_df_calls_reclaimable_is_what_prune_and_gc_free() {
    let world = world();
    world.rk("run --name c new:1 true").ok();
    let room = || world.sh("du -sB1 $HOME/lib/images/blobs/sha256 $HOME/lib/layers | awk '{ s += $1 } END { print s }'").ok().stdout;
    let rows = json(&world, "image df");
    let total = |rows: &Value, key: &str| rows.as_array().unwrap().iter().map(|row| row[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((rows[0]["type"].as_str(), rows[0]["total"].as_u64(), rows[0]["active"].as_u64()), (Some("Images"), Some(3), Some(1)));
    let size: u64 = room().trim().parse().unwrap();
    // du counts the directories and rounds each file up to a page.
    assert!(total(&rows, "size").abs_diff(size) < 200_000, "{rows} {size}");
    let mut verbose = json(&world, "image df -v");
    assert_eq!(verbose.as_array_mut().unwrap().len(), 3);
    assert!(verbose.as_array().unwrap().iter().all(|image| image["shared"].as_u64().unwrap() > 0), "{verbose}");
    world.rk("image prune -a").ok();
    world.rk("gc").ok();
    assert_eq!(total(&json(&world, "image df"), "reclaimable"), 0);
    world.rk("rm c").ok();
    world.rk("image prune -a").ok();
    assert_eq!(total(&json(&world, "image df"), "size"), 0);
    assert!(world.rk("image df").ok().stdout.starts_with("TYPE "));
}

#[test]
fn a_mounted_image_is_the_image_and_cannot_vanish() {
    let world = world();
    world.rk(&format!("image load oci:{}:latest --name layers:1", images().layout("layers"))).ok();
    let path = world.rk("image mount layers:1").ok().stdout.trim().to_owned();
    assert_eq!(world.rk("image mount layers:1").ok().stdout.trim(), path, "once is enough");
    // umoci unpacks the same tree, but for what it makes of whiteouts' directories itself.
    world.sh("rkbox bundle create --flat layers:1 $HOME/flat").ok();
    world.sh(&format!("diff -r --no-dereference {path} $HOME/flat/rootfs")).ok();
    world.sh(&format!("! touch {path}/x 2>/dev/null; ! rm -f {path}/bin/busybox 2>/dev/null")).ok();
    let listed = &json(&world, "image mount")[0];
    assert_eq!((listed["path"].as_str().unwrap(), listed["state"].as_str().unwrap()), (path.as_str(), "mounted"));
    let refused = world.rk("image rm layers:1").fails(5);
    assert!(refused.stderr.contains("image is mounted on") && refused.stderr.contains("image unmount"), "{refused}");
    for line in ["image prune --all", "gc", "image untag layers:1", "gc"] {
        world.rk(line).ok();
    }
    world.sh(&format!("diff -r --no-dereference {path} $HOME/flat/rootfs")).ok();
    let id = listed["id"].as_str().unwrap();
    // Somebody takes it off by hand, and mounts it again.
    world.sh(&format!("umount {path}")).ok();
    assert_eq!(json(&world, "image mount")[0]["state"], "gone");
    assert_eq!(world.rk(&format!("image mount {id}")).ok().stdout.trim(), path);
    world.rk(&format!("image unmount {id}")).ok();
    world.rk(&format!("image unmount {id}")).fails(3).says("is not mounted");
    world.rk(&format!("image umount --force {id}")).ok();
    assert!(json(&world, "image mount").as_array().unwrap().is_empty());
    // --force takes the mount off, but not from under a container.
    world.rk(&format!("image mount {id}")).ok();
    world.rk(&format!("image rm --force {id}")).ok();
    assert!(!std::path::Path::new(&path).exists());
    world.rk("image unmount --all").ok();
    world.sh("! grep ' - overlay rkbox ' /proc/self/mountinfo").ok();
    world.sh("rkbox gc; ! test -e $HOME/run/mounts").ok();
}

#[test]
fn a_layer_that_would_fill_the_disk_is_told_what_is_free_and_what_is_kept_back() {
    let world = World::new();
    let archive = images().oci_archive("busybox");
    // Room for the compressed blob and not for what it becomes.
    world.sh(&format!("mkdir $HOME/small; mount -t tmpfs -o size=$(( $(stat -c %s {archive}) + 300 * 1024 )) tmpfs $HOME/small")).ok();
    let root = "export RKBOX_ROOT=$HOME/small/lib; ";
    let output = world.sh(&format!("{root}rkbox image load {archive}")).fails(6);
    for needle in
        ["does not fit on the file system of", "bytes are free", "(5 % of the whole) are kept back", "hint: make room", "--root DIR"]
    {
        assert!(output.stderr.contains(needle), "{needle:?} in {output}");
    }
    world.sh(&format!("{root}[ -z \"$(ls $RKBOX_ROOT/layers 2>/dev/null)\" ] && [ -z \"$(rkbox image ls --quiet)\" ]")).ok();
}

/// A layer of many small files, on a file system with few: the host keeps some to go on with, and says how to give more.
#[test]
fn a_layer_that_would_use_up_all_files_is_refused_and_what_is_kept_back_is_a_choice() {
    let world = World::new();
    world
        .sh("cd $HOME; mkdir many; (cd many; seq 700 | xargs touch); tar -cf many.tar many; umoci init --layout oci
             umoci new --image oci:many; umoci raw add-layer --image oci:many many.tar; umoci config --image oci:many --config.cmd sh
             mkdir small; mount -t tmpfs -o size=20m,nr_inodes=735 tmpfs small")
        .ok();
    let load = |options: &str| {
        world.sh(&format!("RKBOX_ROOT=$HOME/small/lib; export RKBOX_ROOT; cd $HOME; rkbox {options} image load oci:oci:many"))
    };
    let refused = load("").fails(6);
    for needle in ["the layer does not fit", "inodes are free", "(5 % of the whole) are kept back", "--keep-free SHARE"] {
        assert!(refused.stderr.contains(needle), "{needle:?} in {refused}");
    }
    world.sh("[ -z \"$(ls $HOME/small/lib/layers 2>/dev/null)\" ]").ok();
    assert_eq!(refused.stderr.matches("unpack layer").count(), 1, "one layer is named once: {refused}");
    load("--keep-free 50%").fails(6).says("(50 % of the whole)");
    load("--keep-free 0").ok();
    world.sh("rm -r $HOME/small/lib").ok();
    load("--keep-free 1%").ok();
    world.sh("rm -r $HOME/small/lib").ok();
    for bad in ["100%", "-1", "much"] {
        load(&format!("--keep-free={bad}")).fails(2).says("5%, 10g or 0");
    }
}
