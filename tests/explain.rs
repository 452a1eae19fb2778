//! `--explain` ≡ doing it: the printed script in one world and the command in another leave the same behind and say the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::world::DIR;
use common::{Observation, World, images, portmap, reboot, registry};

/// A pod as crictl takes it, for `POD_FILE`.
const POD: &str = r#"{"metadata": {"name": "web", "namespace": "a", "uid": "u"}, "hostname": "web", "dns_config": {"servers": ["192.0.2.1"]},
    "port_mappings": [{"container_port": 80, "host_port": 8080}], "linux": {"sysctls": {"net.core.somaxconn": "8", "kernel.shmmni": "9"},
    "security_context": {"run_as_user": {"value": 7}, "seccomp": {"profile_type": 0}}}}"#;

/// A container in it, for `CONTAINER_FILE`.
const CONTAINER: &str = r#"{"metadata": {"name": "c"}, "image": {"image": "busybox"}, "command": ["sh", "-c"], "args": ["hostname; id -u; ls /made"],
    "envs": [{"key": "A", "value": "1"}], "mounts": [{"container_path": "/made", "host_path": "/tmp/rkbox-world/made"}],
    "linux": {"security_context": {"run_as_user": {"value": 7}, "namespace_options": {"pid": 1}}}}"#;

/// Makes two worlds ready with `prepare`; runs the script of `command` in one and `command` in the other.
#[track_caller]
fn assert_the_script_does_the_same(prepare: &str, command: &str) {
    let fill = |text: &str| {
        text.replace("POD_FILE", &format!("cat >$HOME/pod.json <<'EOF'\n{POD}\nEOF\n"))
            .replace("CONTAINER_FILE", &format!("cat >$HOME/c.json <<'EOF'\n{CONTAINER}\nEOF\n"))
            .replace("PORTMAP", portmap::CONFIGURE)
            .replace("BUSYBOX", &images().oci_archive("busybox"))
            .replace("LAYERED", &images().oci_archive("layers"))
            .replace("LAYERS", &images().layout("layers"))
            .replace("REBOOT", reboot::SCRIPT)
            .replace("REGISTRY", &registry::script(&images().layout("layers")))
    };
    let (prepare, command) = (fill(prepare), fill(command));
    let ready = || {
        let mut world = World::new();
        world.allow_leaks();
        world.sh(&prepare).ok();
        world
    };
    let words = command.split_whitespace();
    let of_one_word = ["run ", "update ", "rename ", "start "];
    let verb = if of_one_word.iter().any(|word| command.starts_with(word)) { 1 } else { 2 };

    let world = ready();
    let before = world.observe();
    let mut explained: Vec<&str> = words.clone().collect();
    explained.insert(verb, "--explain");
    let script = world.rkbox(explained).ok().stdout;
    Observation::assert_same(&before, &world.observe());
    std::fs::write("/run/explained", &script).unwrap();
    let said = world.sh("exec sh -eu /run/explained").ok().stdout;
    std::fs::remove_file("/run/explained").unwrap();
    let by_script = comparable(&settled(&world));
    drop(world);

    let world = ready();
    let output = world.rkbox(words).ok();
    let by_command = comparable(&settled(&world));
    if command.starts_with("run ") {
        assert_eq!(said, output.stdout, "the script and rkbox {command} print different things");
    }
    let difference = by_script.difference(&by_command);
    assert!(
        difference.is_empty(),
        "rkbox {command}: - is left by the script only, + by the command only\n  {}\n--- script\n{script}",
        difference.join("\n  ")
    );
}

/// What is there when nothing changes any more: the kernel takes the links of a dead namespace away in its own time.
fn settled(world: &World) -> Observation {
    let mut seen = world.observe();
    for _ in 0..20 {
        std::thread::sleep(std::time::Duration::from_millis(250));
        let again = world.observe();
        if again == seen {
            break;
        }
        seen = again;
    }
    seen
}

/// Without what no script can know: the notes that rkbox keeps of shared things, and what runc writes about a running process.
fn comparable(seen: &Observation) -> Observation {
    let run = format!("file {DIR}/run");
    // mount(8) keeps a directory of its own; the system call does not.
    let notes = [run.clone(), format!("{run}/shared.jsonl"), "file /run/mount".to_owned(), "file /run/mount/utab".to_owned()];
    // The shell unpacks layers without listing their files.
    let listed = |key: &str| key.ends_with("/layer.mtree");
    let mut kept = seen.normalise_ids().only(|key| !listed(key) && !notes.iter().any(|note| note == key));
    for (key, value) in &mut kept.facts {
        if key.ends_with("/state.json") || key.ends_with("/monitor.json") || key.ends_with("/pid") || key.ends_with(".pid") {
            "<of the process>".clone_into(value);
        }
        // The random word by which a process knows the layer that it unpacked itself.
        if let (true, Some(at)) = (key.ends_with("/layer.json"), value.find("\\\"entries")) {
            let opaque = value.contains("opaque_root\\\":true");
            value.truncate(at);
            value.push_str(if opaque { "opaque root" } else { "no opaque root" });
        }
        // The same layers, said in the old and in the new mount call.
        *value = value.replace(",lowerdir+=", ":").replacen("rw:", "rw,lowerdir=", 1).replacen("ro:", "ro,lowerdir=", 1);
        // The kernel makes a new one for each upper layer.
        if let Some(at) = value.find(" trusted.overlay.uuid=") {
            value.truncate(at);
        }
    }
    kept
}

macro_rules! explains {
    ($($(#[$row:meta])* $name:ident: $prepare:expr, $command:expr;)+) => { $(
        #[test]
        $(#[$row])*
        fn $name() {
            assert_the_script_does_the_same($prepare, $command);
        }
    )+ };
}

explains! {
    net_add: "ip netns add connet", "net add connet connet";
    net_create: "true", "net create mine";
    net_add_second: "ip netns add one; ip netns add two; rkbox net add connet one", "net add connet two";
    net_del: "ip netns add connet; rkbox net add connet connet", "net del connet connet";
    net_add_ports: "ip netns add connet", "net add -p 8080:80 -p 127.0.0.1:5353:53/udp connet connet";
    net_del_ports: "ip netns add connet; rkbox net add -p 8080:80 -p 127.0.0.1:5353:53/udp connet connet", "net del connet connet";
    net_add_portmap: "ip netns add web; PORTMAP", "net add -p 8080:80 -p 5353:53/udp chain web";
    net_del_portmap: "ip netns add web; PORTMAP rkbox net add -p 8080:80 -p 5353:53/udp chain web", "net del chain web";
    sandbox_create_portmap: "PORTMAP", "sandbox create --net chain -p 8080:80 web";
    sandbox_create: "true", "sandbox create -p 8080:80 -p 5353:53/udp -p 127.0.0.1:9090-9091:90-91 web";
    sandbox_create_userns: "true", "sandbox create --userns auto web";
    sandbox_rm_userns: "rkbox sandbox create --userns auto web", "sandbox rm web";
    run_userns: "rkbox image load BUSYBOX", "run --rm --userns keep-id busybox cat /proc/self/uid_map";
    run_userns_kept: "rkbox image load BUSYBOX", "run --name c --userns 0:0:65536 busybox stat -c %u /etc/hosts";
    sandbox_create_second: "rkbox sandbox create db", "sandbox create web";
    sandbox_create_from_file: "POD_FILE", "sandbox create --config /tmp/rkbox-world/pod.json";
    run_from_file: "rkbox image load BUSYBOX; CONTAINER_FILE POD_FILE rkbox sandbox create --config $HOME/pod.json",
        "run --rm --sandbox web_a_u_0 --config /tmp/rkbox-world/c.json";
    sandbox_start_after_reboot: "rkbox sandbox create -p 8080:80 web
        REBOOT", "sandbox start web";
    sandbox_stop: "rkbox sandbox create web", "sandbox stop web";
    sandbox_rm: "rkbox sandbox create -p 8080:80 -p 5353:53/udp -p 127.0.0.1:9090-9091:90-91 web", "sandbox rm --force web";
    run: "rkbox image load BUSYBOX", "run --rm busybox echo hi";
    run_in_sandbox: "rkbox image load BUSYBOX; rkbox sandbox create web", "run --rm --sandbox web busybox ip -4 addr show lo";
    run_kept: "rkbox image load BUSYBOX", "run --name c busybox true";
    run_init: "rkbox image load BUSYBOX", "run --init --name c busybox cat /proc/1/cmdline";
    rm: "rkbox image load BUSYBOX; rkbox run --name c busybox true", "rm c";
    run_volumes: "rkbox image load LAYERED", "run --rm --net none -v cache:/c -v /tmp/rkbox-world/made:/m layers pwd";
    run_volumes_kept: "rkbox image load LAYERED; mkdir /tmp/rkbox-world/dir", "run --net none --name c -v /tmp/rkbox-world/dir:/d:ro,U layers pwd";
    rm_volumes: "rkbox image load LAYERED; rkbox run --net none --name c -v cache:/c layers", "rm c";
    start: "rkbox image load BUSYBOX; rkbox create --net none --name c busybox sleep 1000", "start c";
    rename: "rkbox image load BUSYBOX; rkbox run --name c busybox true", "rename c d";
    update_policy: "rkbox image load BUSYBOX; rkbox run --net none --name c busybox true", "update --memory 64m --restart on-failure:3 c";
    update: "rkbox image load BUSYBOX; rkbox run --net none --name c busybox true", "update --memory 64m --pids-limit 9 c";
    volume_create: "true", "volume create --label a=b cache";
    volume_rm: "rkbox volume create cache", "volume rm cache";
    image_load: "true", "image load BUSYBOX";
    image_pull: "REGISTRY", "image pull -q 127.0.0.1:5000/layers:1";
    image_rm: "rkbox image load BUSYBOX", "image rm busybox";
    image_repair_documents: "REGISTRY; rkbox image pull -q 127.0.0.1:5000/layers:1
        for blob in $HOME/lib/images/blobs/sha256/*; do printf X | dd of=$blob bs=1 seek=100 conv=notrunc status=none; done", "image verify --repair";
    image_repair_index: "rkbox image load BUSYBOX; echo '{' >$HOME/lib/images/index.json; rm $HOME/lib/images/oci-layout", "image verify --repair";
    image_tag: "rkbox image load BUSYBOX", "image tag busybox other:1 busybox";
    image_untag: "rkbox image load BUSYBOX; rkbox image tag busybox other", "image untag busybox";
    image_pin: "rkbox image load BUSYBOX", "image pin busybox";
    image_unpin: "rkbox image load BUSYBOX; rkbox image pin busybox", "image unpin busybox";
    image_save: "rkbox image load BUSYBOX", "image save busybox --to oci:/tmp/rkbox-world/out";
    image_mount: "rkbox image load BUSYBOX", "image mount busybox";
    image_unmount: "rkbox image load BUSYBOX; rkbox image mount busybox", "image unmount busybox";
    image_prune: "rkbox image load BUSYBOX", "image prune -a";
    bundle_create: "true", "bundle create oci:LAYERS:latest /tmp/rkbox-world/out";
    bundle_create_flat: "true", "bundle create --flat oci:LAYERS:latest /tmp/rkbox-world/out";
    bundle_create_archive: "true", "bundle create oci-archive:BUSYBOX /tmp/rkbox-world/out";
    bundle_rm: "rkbox bundle create oci:LAYERS:latest /tmp/rkbox-world/out", "bundle rm /tmp/rkbox-world/out";
}
