//! `cp`, `diff` and `export` through the real binary, and the attacks on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;

use common::{World, images};

fn with(image: &str) -> World {
    let world = World::new();
    world.rkbox(["image", "load", &images().oci_archive(image)]).ok();
    world
}

/// Runs `script` while container `c` runs `inside`; answers what the script printed.
fn beside(world: &World, options: &str, inside: &str, script: &str) -> String {
    let script = format!(
        "rkbox run --rm --net none --name c {options} busybox sh -c '{inside}
        touch /ready; while [ ! -e /done ]; do sleep 0.05; done' >$HOME/out 2>&1 & run=$!
        until rkbox cp c:/ready $HOME/ready 2>/dev/null; do kill -0 $run; sleep 0.05; done
        {script}
        : >$HOME/done; rkbox cp $HOME/done c:/done >&2; wait $run"
    );
    world.sh(&script).ok().stdout
}

#[test]
fn files_go_in_and_out_as_docker_copies_them() {
    let world = with("busybox");
    let script = r#"
        cd $HOME; mkdir -p tree/deep; echo one >tree/one; echo two >tree/deep/two; ln -s one tree/link; ln tree/one tree/again; chmod 4755 tree/one; chown 7:8 tree/deep/two; mkfifo tree/pipe
        rkbox cp tree c:/srv >&2; rkbox cp tree c:/tmp >&2; rkbox cp tree/. c:/home >&2; rkbox cp tree/one c:/etc/new >&2; rkbox cp -a tree c:/kept >&2
        rkbox cp c:/srv out1 >&2; mkdir out2; rkbox cp c:/srv out2 >&2; rkbox cp c:/srv/. out2 >&2; rkbox cp c:etc/new one >&2; rkbox cp -L c:/srv/link followed >&2; rkbox cp c:/srv/link linked >&2
        find out1 | sort | tr '\n' ' '; find out2 | sort | tr '\n' ' '; cat one followed; readlink linked
        stat -c '%a %u:%g %h' out1/one out1/deep/two
        rkbox cp -a c:/kept - | tar tvf - | awk '{print $1, $2, $NF}' | sort
        tar cf - tree | rkbox cp - c:/root >&2; rkbox cp c:/root/tree/deep/two - | tar xOf -
        rkbox cp tree c:/etc/new 2>&1 || true; rkbox cp c:/none x 2>&1 | head -n1 || true; rkbox cp tree c:/no/such 2>&1 | head -n1 || true
        echo 10.0.0.1 mine >hosts; rkbox cp hosts c:/etc/hosts >&2; rkbox cp c:/etc/hosts back >&2; cat back
    "#;
    let out = beside(&world, "", "true", script);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        "out1 out1/again out1/deep out1/deep/two out1/link out1/one out1/pipe out2 out2/again out2/deep out2/deep/two out2/link out2/one out2/pipe out2/srv out2/srv/again out2/srv/deep out2/srv/deep/two out2/srv/link out2/srv/one out2/srv/pipe one"
    );
    assert_eq!(lines[1..5], ["one", "one", "755 0:0 2", "644 0:0 1"], "{out}");
    assert!(out.contains("-rwsr-xr-x 0/0 kept/again\n") || out.contains("-rwsr-xr-x root/root kept/again\n"), "{out}");
    assert!(out.contains("-rw-r--r-- 7/8 kept/deep/two\n") || out.contains("7/8"), "{out}");
    assert!(out.contains("\ntwo\n") && out.contains("is a file, and the source is a directory"), "{out}");
    assert!(out.matches("is not there").count() == 2 && out.ends_with("10.0.0.1 mine\n"), "{out}");
}

#[test]
fn from_one_container_to_another() {
    let world = with("busybox");
    let make = |name: &str, options: &[&str], line: &str| {
        world.rkbox([&["run", "--net", "none", "--name", name][..], options, &["busybox", "sh", "-c", line]].concat()).ok();
    };
    // One of them runs, one has ids of its own, both share a volume.
    make(
        "a",
        &["-d", "-v", "shared:/vol"],
        "mkdir -p /w/in; echo one >/w/one; echo two >/w/in/two; chown 7:8 /w/one; chmod 4755 /w/one; ln -s /etc/passwd /w/link; mknod /w/null c 1 3; touch /w/ready; sleep 1000",
    );
    make("b", &["--userns", "auto", "-v", "shared:/other/vol"], "echo mine >/etc/mine; chown 9:9 /etc/mine");
    common::wait_for("its files", || world.rk("exec a test -e /w/ready").code == 0);
    let out = world.sh(
        "rkbox cp a:/w b:/new; rkbox cp -a a:/w/. b:/srv2 2>&1 | head -n1; rkbox cp -a a:/w b:/kept; rkbox cp b:/etc/mine a:/tmp; rkbox cp -a b:/etc/mine a:/tmp/kept
        rkbox exec a stat -c '%n %u:%g' /tmp/mine /tmp/kept; rkbox cp -a b:/new - | tar tvf - | awk '{print $1, $2, $6, $7, $8}' | sort; rkbox cp -a b:/kept/one - | tar tvf - | awk '{print $1, $2}'",
    );
    let expected = "/tmp/mine 0:0\n/tmp/kept 9:9\n-rw-r--r-- 0/0 new/in/two  \n-rw-r--r-- 0/0 new/ready  \n-rwxr-xr-x 0/0 new/one  \ndrwxr-xr-x 0/0 new/  \ndrwxr-xr-x 0/0 new/in/  \nlrwxrwxrwx 0/0 new/link -> /etc/passwd\n-rwsr-xr-x 7/8\n";
    assert_eq!(out.clone().ok().stdout.replace("root/root", "0/0"), expected, "{out}");
    assert!(!out.stderr.contains("panicked"), "{out}");
    // Into itself, by whatever path: refused, not endless.
    for (from, to) in [("a:/w", "a:/w/in"), ("a:/w", "a:/w"), ("a:/vol", "b:/other/vol"), ("a:/", "a:/tmp")] {
        world.rkbox(["cp", from, to]).fails(2).says("is in what is to be copied");
    }
    world.rk("rm -f a b").ok();
}

#[test]
fn volumes_and_roots_that_cannot_be_written() {
    let world = with("busybox");
    let script = r#"
        echo x >$HOME/x; rkbox cp $HOME/x c:/data/in >&2; rkbox cp $HOME/x c:/etc/in 2>&1 | head -n1 || true; rkbox cp c:/data/made - | tar xOf -"#;
    let script = format!(
        "rkbox run --rm --net none --name c --read-only -v vol:/data busybox sh -c 'echo made >/data/made; while [ ! -e /data/done ]; do sleep 0.05; done' & run=$!
        until rkbox cp c:/data/made $HOME/ready 2>/dev/null; do kill -0 $run; sleep 0.05; done
        {script}
        : >$HOME/done; rkbox cp $HOME/done c:/data/done >&2; wait $run; cat $RKBOX_ROOT/volumes/vol/data/in"
    );
    let out = world.sh(&script).ok().stdout;
    assert!(out.contains("EROFS") && out.ends_with("made\nx\n"), "{out}");
}

/// R12: whatever the container turns while it is copied, nothing of the host is read or written.
#[test]
fn links_that_turn_lead_nowhere() {
    let world = with("busybox");
    let canary = world.path("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), "of the host").unwrap();
    // The same path exists in the container, with other content: a link to it must find that one.
    let flip = format!(
        "mkdir -p {0} /w/dir; echo of the container >{0}/secret; echo of the container >/w/dir/secret; ln -s {0} /w/link; ln -s ../../../../../../../..{0} /w/up
        (while [ ! -e /done ]; do mv -T /w/dir /w/tmp; mv -T /w/link /w/dir; mv -T /w/dir /w/link; mv -T /w/tmp /w/dir; done) 2>/dev/null & (cd /w; while [ ! -e /done ]; do rm -rf f; ln -s {0}/secret f; rm f; echo of the container >f; done) 2>/dev/null &",
        canary.display()
    );
    let script = r#"
        echo new >$HOME/new; mkdir $HOME/got
        for n in $(seq 100); do
            rkbox cp c:/w/dir/secret $HOME/got/a$n 2>/dev/null || true; rkbox cp -L c:/w/f $HOME/got/b$n 2>/dev/null || true; rkbox cp c:/w $HOME/got/c$n 2>/dev/null || true
            rkbox cp $HOME/new c:/w/dir/secret 2>/dev/null || true; rkbox cp $HOME/new c:/w/up/secret 2>/dev/null || true; rkbox cp $HOME/new c:/w/f 2>/dev/null || true
        done
        grep -rl "of the host" $HOME/got || true; ls $HOME/got | wc -l"#;
    let out = beside(&world, "", &flip, script);
    assert!(out.trim().parse::<u32>().unwrap() > 20, "{out}");
    assert_eq!(fs::read_to_string(canary.join("secret")).unwrap(), "of the host");
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 1);
}

/// R13: large with holes, growing, a FIFO, and what only root may read.
#[test]
fn odd_files_are_copied_in_bounds() {
    let world = with("busybox");
    let inside = "mkdir /w; dd if=/dev/zero of=/w/hole bs=1 count=1 seek=10G 2>/dev/null; mkfifo /w/pipe; echo secret >/w/closed; chmod 400 /w/closed; mkdir /d; mknod /d/null c 1 3 2>/dev/null; (while [ ! -e /done ]; do echo more; done >>/w/grows) &";
    let script = r#"
        rkbox cp c:/w $HOME/w >&2; stat -c %s $HOME/w/hole; test $(stat -c %b $HOME/w/hole) -lt 100000; cat $HOME/w/closed; test -p $HOME/w/pipe
        rkbox cp c:/w/grows - | tar tf -; rkbox cp $HOME/w/hole c:/in >&2; rkbox cp c:/in $HOME/again >&2; test $(stat -c %b $HOME/again) -lt 100000; rm -f $HOME/again $HOME/w/grows"#;
    assert_eq!(beside(&world, "", inside, script), "10737418241\nsecret\ngrows\n");
}

#[test]
fn a_container_tells_what_it_changed_and_gives_its_files() {
    let world = with("layers");
    let change = "rm -r /tree; mkdir /tree; echo n >/tree/new; ln -s a /made; rm /was-dir; chmod 700 /home";
    world.rkbox(["run", "--net", "none", "--name", "c", "-u", "0", "--entrypoint", "[\"sh\",\"-euc\"]", "layers", change]).ok();
    let diff = world.rk("diff c").ok().stdout;
    assert_eq!(diff, "C /home\nA /made\nC /tree\nD /tree/fresh\nA /tree/new\nD /was-dir\n");
    assert_eq!(world.rk("--format json diff c").ok().json()[1]["kind"].as_str(), Some("A"));
    let listed = world.sh("rkbox export c | tar tf - | grep -E '^(made|tree|data|was|bin/sh$)' | sort | tr '\\n' ' '").ok().stdout;
    // `/data` is a volume: its content is not the container's.
    assert_eq!(
        listed,
        "bin/sh data/ data/absolute data/dangling data/first data/fourth data/labelled data/late data/replaced data/second made tree/ tree/new was-file/ was-file/child "
    );
    world.sh("rkbox export -o $HOME/c.tar c; tar xOf $HOME/c.tar tree/new; rkbox cp c:/tree/new $HOME/new; cat $HOME/new; rkbox cp c:/data/late - | tar xOf -").ok().prints("n\nn\nthree\n");
    world.rk("rm -v c").ok();
}
