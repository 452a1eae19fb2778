//! What the configuration of an image may say of user, directory, environment, command, volumes and labels: tables, judged on the bundle
//! that comes of it. What is accepted is in the tables too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::too_many_lines, reason = "tests")]

mod common;
mod layers;

use std::fs;
use std::path::Path;

use common::World;
use rkbox::image::Digest;
use serde_json::{Value, json};

/// A layout with one plain layer: a user `web` (33) of groups 33 and 70.
struct Image<'a> {
    world: &'a World,
    layer: Vec<u8>,
}

impl<'a> Image<'a> {
    fn new(world: &'a World) -> Self {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/false\nwide:x:4294967296:0::/:/\nno:x:x:y::/:/\n";
        let group = "root:x:0:\nwww:x:33:\nlog:x:70:web\nwide:x:4294967296:\n";
        let layer = layers::Tar::new().dir("etc", 0o755).file("etc/passwd", passwd).file("etc/group", group).end();
        Image { world, layer }
    }

    /// Writes the layout with this `config`; answers its source.
    fn layout(&self, config: &Value) -> String {
        let dir = self.world.path("layout");
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        let store = |bytes: &[u8], media: &str| {
            fs::write(Digest::of(bytes).blob(&dir), bytes).unwrap();
            json!({"mediaType": media, "digest": Digest::of(bytes), "size": bytes.len()})
        };
        let layer = store(&self.layer, "application/vnd.oci.image.layer.v1.tar");
        let config =
            json!({"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
        let config = store(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
        let manifest = store(manifest.as_bytes(), "application/vnd.oci.image.manifest.v1+json");
        fs::write(dir.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string()).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        format!("oci:{}", dir.display())
    }

    /// Makes a plain bundle of an image with this `config`: its `config.json`, or what was said.
    fn bundle(&self, config: &Value) -> Result<Value, String> {
        let out = self.world.path("bundle");
        let said = self.world.rkbox(["bundle", "create", "--flat", &self.layout(config), out.to_str().unwrap()]);
        let clean = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
        assert!(clean(&said.stdout) && clean(&said.stderr) && said.stderr.len() < 2000, "{config:.200}: {:.3000}", said.stderr);
        if said.code != 0 {
            assert!(!out.exists(), "{config:.200} left a bundle");
            assert!(
                said.stderr.lines().count() < 12 && (said.stderr.contains("hint:") || said.stderr.contains("not valid")),
                "{}",
                said.stderr
            );
            return Err(said.stderr);
        }
        let made = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
        fs::remove_dir_all(Path::new(&out)).unwrap();
        Ok(made)
    }

    /// Puts `value` into the configuration as `member`; `wanted` is what stands at `pointer` of the bundle, or what is said.
    #[track_caller]
    fn judge(&self, member: &str, value: &Value, pointer: &str, wanted: Result<Value, &str>) {
        let mut config = json!({"Cmd": ["/bin/sh"]});
        config[member] = value.clone();
        match (self.bundle(&config), wanted) {
            (Ok(made), Ok(wanted)) => assert_eq!(made.pointer(pointer), Some(&wanted), "{member} {value:.200}"),
            (Err(said), Err(why)) => assert!(said.contains(why), "{member} {value:.200}: {said}"),
            (Ok(made), Err(why)) => panic!("{member} {value:.200}: wanted {why:?}, got {:?}", made.pointer(pointer)),
            (Err(said), Ok(_)) => panic!("{member} {value:.200}: {said}"),
        }
    }
}

#[test]
fn users_of_images() {
    let (world, big) = (World::new(), "9".repeat(100_000));
    let image = Image::new(&world);
    let ids = |uid: u32, gid: u32, groups: &[u32]| Ok(json!({"uid": uid, "gid": gid, "umask": 18, "additionalGids": groups}));
    for (user, wanted) in [
        ("", ids(0, 0, &[0])),
        ("0", ids(0, 0, &[0])),
        ("root", ids(0, 0, &[0])),
        ("web", ids(33, 33, &[33, 70])),
        ("33", ids(33, 33, &[33, 70])),
        ("web:", ids(33, 33, &[33, 70])),
        ("web:log", ids(33, 70, &[70])),
        ("web:0", ids(33, 0, &[0])),
        ("1000", ids(1000, 0, &[0])),
        ("1000:1000", ids(1000, 1000, &[1000])),
        (":log", ids(0, 70, &[70])),
        ("2147483647", ids(2_147_483_647, 0, &[0])),
        ("0033", ids(33, 33, &[33, 70])),
        ("00:00", ids(0, 0, &[0])),
        ("2147483648", Err("not between 0 and")),
        ("4294967295", Err("not between 0 and")),
        ("4294967296", Err("not between 0 and")),
        ("4294967329", Err("not between 0 and")),
        ("18446744073709551616", Err("not between 0 and")),
        (&big, Err("not between 0 and")),
        ("-1", Err("not between 0 and")),
        ("+0", Err("not between 0 and")),
        ("0:-1", Err("not between 0 and")),
        ("0:4294967296", Err("not between 0 and")),
        ("web:+0", Err("not between 0 and")),
        ("nobody", Err("is not in /etc/passwd")),
        ("Root", Err("is not in /etc/passwd")),
        ("web:none", Err("is not in /etc/group")),
        ("0x0", Err("is not in /etc/passwd")),
        ("1e3", Err("is not in /etc/passwd")),
        ("0.0", Err("is not in /etc/passwd")),
        ("wide", Err("not between 0 and")),
        ("0:wide", Err("not between 0 and")),
        ("no", Err("no valid ids")),
        ("a:b:c", Err("not USER or USER:GROUP")),
        ("::", Err("not USER or USER:GROUP")),
        (" ", Err("neither a name nor a number")),
        (" root", Err("neither a name nor a number")),
        ("root ", Err("neither a name nor a number")),
        ("root\n", Err("neither a name nor a number")),
        ("root\0", Err("neither a name nor a number")),
        ("r\u{1b}[31m", Err("neither a name nor a number")),
        ("a,b", Err("neither a name nor a number")),
        ("web:\t", Err("neither a name nor a number")),
        ("/etc/passwd", Err("is not in /etc/passwd")),
        ("../root", Err("is not in /etc/passwd")),
        ("$(id)", Err("is not in /etc/passwd")),
        ("root;id", Err("is not in /etc/passwd")),
        ("\u{202e}root", Err("is not in /etc/passwd")),
        (&"a".repeat(100_000), Err("is not in /etc/passwd")),
    ] {
        image.judge("User", &json!(user), "/process/user", wanted);
    }
}

#[test]
fn directories_of_images() {
    let world = World::new();
    let image = Image::new(&world);
    let (deep, long) = (format!("/{}", "d/".repeat(1000)), format!("/{}", "d/".repeat(3000)));
    for (dir, wanted) in [
        ("", Ok("/")),
        ("/", Ok("/")),
        (".", Ok("/")),
        ("..", Ok("/")),
        ("/..", Ok("/")),
        ("/../../..", Ok("/")),
        ("srv", Ok("/srv")),
        ("/srv/", Ok("/srv")),
        ("//srv//x", Ok("/srv/x")),
        ("/srv/../../etc", Ok("/etc")),
        ("../etc", Ok("/etc")),
        ("/a b", Ok("/a b")),
        ("/$(id)", Ok("/$(id)")),
        ("/é", Ok("/é")),
        ("/sys", Ok("/sys")),
        ("/dev/fd", Ok("/dev/fd")),
        ("/procs", Ok("/procs")),
        ("/x/proc", Ok("/x/proc")),
        ("C:\\x", Ok("/C:\\x")),
        (&deep, Ok(deep.trim_end_matches('/'))),
        ("/proc", Err("under /proc")),
        ("/proc/", Err("under /proc")),
        ("proc", Err("under /proc")),
        ("//proc", Err("under /proc")),
        ("/./proc", Err("under /proc")),
        ("/x/../proc/1/root", Err("under /proc")),
        ("/proc/self/fd/7", Err("under /proc")),
        ("/proc/self/fd/../../..", Ok("/")),
        ("/proc/thread-self/cwd", Err("under /proc")),
        ("/a\nb", Err("control character")),
        ("/a\0b", Err("control character")),
        ("/\u{1b}[2J", Err("control character")),
        ("/\u{7f}", Err("control character")),
        ("\r", Err("control character")),
        (&long, Err("is too long")),
        (&format!("/{}", "x".repeat(256)), Err("is too long")),
        (&format!("/{}", "x".repeat(255)), Ok(&format!("/{}", "x".repeat(255)))),
    ] {
        image.judge("WorkingDir", &json!(dir), "/process/cwd", wanted.map(|path| json!(path)));
    }
}

#[test]
fn environments_and_commands_of_images() {
    let world = World::new();
    let image = Image::new(&world);
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let (fits, large) = (format!("A={}", "x".repeat(131_069)), format!("A={}", "x".repeat(131_070)));
    for (env, wanted) in [
        (json!([]), Ok(vec![path])),
        (json!(null), Ok(vec![path])),
        (json!(["A=1", "B=2"]), Ok(vec![path, "A=1", "B=2"])),
        (json!(["A=1", "A=2"]), Ok(vec![path, "A=2"])),
        (json!(["A"]), Ok(vec![path])),
        (json!(["=x"]), Ok(vec![path])),
        (json!([""]), Ok(vec![path])),
        (json!(["A="]), Ok(vec![path, "A="])),
        (json!(["A==="]), Ok(vec![path, "A==="])),
        (json!(["A=1\n2"]), Ok(vec![path, "A=1\n2"])),
        (json!(["A=\u{1b}[31m"]), Ok(vec![path, "A=\u{1b}[31m"])),
        (json!(["A=$(id)"]), Ok(vec![path, "A=$(id)"])),
        (json!(["HOSTNAME=evil"]), Ok(vec![path, "HOSTNAME=rkbox"])),
        (json!(["PATH=/x"]), Ok(vec!["PATH=/x"])),
        (json!(["a b=c"]), Ok(vec![path, "a b=c"])),
        (json!([fits]), Ok(vec![path, &fits])),
        (json!(["A=\0"]), Err("NUL")),
        (json!(["A\0=1"]), Err("NUL")),
        (json!(["\0"]), Ok(vec![path])),
        (json!([large]), Err("bytes")),
        (json!(["A=1", format!("B={}", "y".repeat(3 << 20))]), Err("bytes")),
        (json!("A=1"), Err("not valid")),
        (json!({"A": "1"}), Err("not valid")),
        (json!([1]), Err("not valid")),
        (json!([null]), Err("not valid")),
        (json!([["A=1"]]), Err("not valid")),
    ] {
        let wanted = wanted.map(|list| {
            json!(
                [list.clone(), if list.iter().any(|entry| entry.starts_with("HOSTNAME=")) { vec![] } else { vec!["HOSTNAME=rkbox"] }]
                    .concat()
            )
        });
        image.judge("Env", &env, "/process/env", wanted);
    }
    for (cmd, wanted) in [
        (json!(["a"]), Ok(())),
        (json!(["a b"]), Ok(())),
        (json!(["a", "$(id)", "b\nc", "\u{1b}[31m", ""]), Ok(())),
        (json!(["../x"]), Ok(())),
        (json!(["/proc/self/exe"]), Ok(())),
        (json!([]), Err("no command")),
        (json!(null), Err("no command")),
        (json!([""]), Err("empty word")),
        (json!(["a\nb"]), Err("control character")),
        (json!(["\u{1b}[2J"]), Err("control character")),
        (json!(["a\0"]), Err("control character")),
        (json!(["a", "b\0c"]), Err("NUL")),
        (json!(["a", "x".repeat(200_000)]), Err("bytes")),
        (json!("sh"), Err("not valid")),
        (json!([1]), Err("not valid")),
    ] {
        image.judge("Cmd", &cmd, "/process/args", wanted.map(|()| cmd.clone()));
    }
}

/// A plain bundle has no volumes, and no label of an image gets anywhere.
#[test]
fn labels_and_volumes_of_images() {
    let world = World::new();
    let image = Image::new(&world);
    let plain = image.bundle(&json!({"Cmd": ["/bin/sh"]})).unwrap();
    for labels in [
        json!({"a": "b"}),
        json!({"org.rkbox.pod": "1"}),
        json!({"run.oci.keep_original_groups": "1"}),
        json!({"io.podman.annotations.seccomp": "unconfined"}),
        json!({"a": "x\ny\0z\u{1b}[2J"}),
        json!({"\n\0": ""}),
        json!({"": ""}),
        json!({"a": "x".repeat(1 << 20)}),
        json!({"com.nvidia.cuda": "$(id)"}),
        json!({"../../x": "../../y"}),
    ] {
        assert_eq!(image.bundle(&json!({"Cmd": ["/bin/sh"], "Labels": labels})).unwrap(), plain, "{labels:.200}");
    }
    for (volume, wanted) in [
        ("/data", Ok("/data")),
        ("/data/", Ok("/data")),
        ("//data//x", Ok("/data/x")),
        ("/./a/./b", Ok("/a/b")),
        ("/a b", Ok("/a b")),
        ("/a:b,c", Ok("/a:b,c")),
        ("/$(id)", Ok("/$(id)")),
        ("/devices", Ok("/devices")),
        ("/dev/x", Ok("/dev/x")),
        ("/process", Ok("/process")),
        ("", Err("absolute")),
        ("data", Err("absolute")),
        ("./data", Err("absolute")),
        ("../data", Err("absolute")),
        ("/", Err("root of the container")),
        ("//", Err("root of the container")),
        ("/.", Err("root of the container")),
        ("/..", Err("..")),
        ("/a/../b", Err("..")),
        ("/a/..", Err("..")),
        ("/proc", Err("kernel")),
        ("/proc/self", Err("kernel")),
        ("//proc//", Err("kernel")),
        ("/sys", Err("kernel")),
        ("/sys/fs/cgroup", Err("kernel")),
        ("/dev", Err("device")),
        ("/dev/", Err("device")),
        ("/a\0b", Err("control character")),
        ("/a\nb", Err("control character")),
        ("/\u{1b}[2J", Err("control character")),
        (&format!("/{}", "a/".repeat(3000)), Err("is too long")),
        (&format!("/{}", "x".repeat(256)), Err("is too long")),
    ] {
        match (rkbox::bundle::mounts::check_destination(volume), wanted) {
            (Ok(clean), Ok(wanted)) => assert_eq!(clean, wanted, "{volume:.200}"),
            (Err(fault), Err(why)) => {
                let said = fault.to_string();
                assert!(said.contains(why) && said.len() < 500 && !said.chars().any(char::is_control), "{volume:.200}: {said}");
            }
            (found, wanted) => panic!("{volume:.200}: wanted {wanted:?}, got {found:?}"),
        }
        // In a plain bundle it is only told of: no directory of the host is made for it.
        assert_eq!(image.bundle(&json!({"Cmd": ["/bin/sh"], "Volumes": {volume: {}}})).unwrap(), plain, "{volume:.200}");
    }
}
