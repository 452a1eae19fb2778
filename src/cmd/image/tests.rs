//! Images made with umoci and skopeo, loaded from every transport, listed, read by skopeo and umoci, removed.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::catalog::{Catalog, Listed};
use super::{LoadArgs, Loaded, Wish, plan_load, rm, store, sweep};
use crate::cmd::{Context, PlanArgs};
use crate::fault::{Fault, Kind, Result};
use crate::image::{Digest, Transport};
use crate::step::{Action as _, Home, Step};
use crate::sys::{Host, file};

mod hostile;

struct World {
    dir: tempfile::TempDir,
    host: Host,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::below(dir.path());
    let home = Home { dirs: super::load::home_dirs(&host, &[]) };
    home.apply(&home.look(&host).unwrap(), &host).unwrap();
    World { dir, host }
}

fn tool(words: &[&str]) -> String {
    let output = program::output(words[0], &words[1..]);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl World {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// An OCI layout `made` with image `v1`: busybox and a second layer.
    fn made(&self) -> String {
        let layout = self.path("made");
        let (image, one, two) = (format!("{layout}:busybox"), self.path("one"), self.path("two"));
        fs::create_dir_all(Path::new(&one).join("bin")).unwrap();
        fs::copy("/bin/busybox", Path::new(&one).join("bin/busybox")).unwrap();
        fs::create_dir(&two).unwrap();
        fs::write(Path::new(&two).join("hello"), "world").unwrap();
        tool(&["umoci", "init", "--layout", &layout]);
        tool(&["umoci", "new", "--image", &image]);
        tool(&["umoci", "insert", "--image", &image, &one, "/"]);
        tool(&["umoci", "insert", "--image", &image, &two, "/etc"]);
        tool(&["umoci", "config", "--image", &image, "--config.cmd", "sh", "--config.env", "A=b", "--config.user", "1:2"]);
        layout
    }

    fn plan(&self, source: &str) -> Result<Loaded> {
        plan_load(&self.host, &source.parse::<Transport>()?, &Wish::default())
    }

    /// Carries out all steps, one by one.
    fn load(&self, source: &str) -> Result<Loaded> {
        let loaded = self.plan(source)?;
        carry(&loaded.steps, &self.host)?;
        Ok(loaded)
    }

    fn refusal(&self, source: &str) -> Fault {
        let fault = self.load(source).map(|_| ()).unwrap_err();
        assert!(!fault.to_string().chars().any(char::is_control), "{fault:?}");
        fault
    }

    /// The store as a source for skopeo and umoci.
    fn store(&self, reference: &str) -> String {
        format!("{}:{reference}", self.host.images().display())
    }

    fn tree(&self) -> Vec<String> {
        let mut all: Vec<String> = file::list(&self.host.images().join("blobs/sha256")).unwrap();
        all.extend(file::list(&self.host.layers()).unwrap());
        all
    }
}

/// As `rkbox image rm`.
fn remove(host: &Host, text: &str) -> Result<super::removal::Removed> {
    let removed = rm::take(host, text, false)?;
    removed.empty_trash().map(|()| removed)
}

/// The images as `rkbox image ls` sees them.
fn listed(host: &Host) -> Vec<Listed> {
    Catalog::read(host).unwrap().images
}

fn carry(steps: &[Step], host: &Host) -> Result<()> {
    for step in steps {
        let before = step.look(host)?;
        if !step.already(&before)? {
            step.apply(&before, host)?;
        }
    }
    Ok(())
}

const NAME: &str = "docker.io/library/busybox:latest";

#[test]
fn every_transport_gives_the_same_image() {
    let world = world();
    let layout = world.made();
    let (oci, docker) = (world.path("oci.tar"), world.path("docker.tar"));
    tool(&["skopeo", "copy", "-q", &format!("oci:{layout}:busybox"), &format!("oci-archive:{oci}:busybox")]);
    tool(&["skopeo", "copy", "-q", &format!("oci:{layout}:busybox"), &format!("docker-archive:{docker}:busybox:latest")]);
    let mut ids = Vec::new();
    let sources = [
        layout.clone(),
        format!("oci:{layout}"),
        format!("oci:{layout}:busybox"),
        oci.clone(),
        format!("oci-archive:{oci}:busybox"),
        docker.clone(),
        format!("docker-archive:{docker}:busybox"),
        format!("docker-archive:{docker}:@0"),
    ];
    for source in sources {
        let loaded = world.load(&source).unwrap();
        assert_eq!(loaded.images.len(), 1, "{source}");
        assert_eq!(loaded.images[0].references[0].to_string(), NAME, "{source}");
        let image = store::find(&world.host, "busybox").unwrap();
        assert_eq!(image.id, loaded.images[0].id);
        assert_eq!(image.layers.len(), 2);
        assert_eq!(image.references.len(), 1);
        assert_eq!(store::lowers(&world.host, &image).unwrap().len(), 2);
        assert_eq!(image.config.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["sh"]);
        ids.push(image.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one config, one id: {ids:?}");
    let id = &ids[0];
    for text in [id.as_str(), &id[7..], &id[7..12], NAME, "library/busybox"] {
        assert_eq!(store::find(&world.host, text).unwrap().id, *id, "{text}");
    }
    for text in ["nothing", "0123456", "busybox:v9", "Ä"] {
        assert!(matches!(store::find(&world.host, text).unwrap_err().kind(), Kind::NotFound | Kind::InvalidArgument), "{text}");
    }
}

#[test]
fn other_tools_read_the_store() {
    let world = world();
    let layout = world.made();
    let docker = world.path("docker.tar");
    tool(&["skopeo", "copy", "-q", &format!("oci:{layout}:busybox"), &format!("docker-archive:{docker}:quay.io/a/b:v1")]);
    world.load(&docker).unwrap();
    world.load(&layout).unwrap();
    for name in ["quay.io/a/b:v1", NAME] {
        let seen: Value = serde_json::from_str(&tool(&["skopeo", "inspect", &format!("oci:{}", world.store(name))])).unwrap();
        let image = store::find(&world.host, name).unwrap();
        assert_eq!(seen["Digest"], json!(image.manifest_digest));
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
        assert!(tool(&["umoci", "stat", "--image", &world.store(name)]).contains("umoci insert"));
        let copy = world.path("copy");
        tool(&["skopeo", "copy", "-q", &format!("oci:{}", world.store(name)), &format!("dir:{copy}")]);
    }
    let names = tool(&["umoci", "ls", "--layout", world.host.images().to_str().unwrap()]);
    assert!(names.contains(NAME) && names.contains("quay.io/a/b:v1"), "{names}");
    let before = world.tree();
    tool(&["umoci", "gc", "--layout", world.host.images().to_str().unwrap()]);
    assert_eq!(world.tree(), before, "umoci finds nothing that no image needs");
    let unpacked = world.path("bundle");
    tool(&["umoci", "unpack", "--image", &world.store(NAME), &unpacked]);
    assert_eq!(fs::read_to_string(Path::new(&unpacked).join("rootfs/etc/hello")).unwrap(), "world");
}

#[test]
fn docker_manifests_become_oci_manifests_of_the_same_image() {
    let world = world();
    let layout = world.made();
    let dir = world.path("dir");
    tool(&["skopeo", "copy", "-q", "-f", "v2s2", &format!("oci:{layout}:busybox"), &format!("dir:{dir}")]);
    let manifest = fs::read(Path::new(&dir).join("manifest.json")).unwrap();
    let digest = Digest::of(&manifest);
    let other = PathBuf::from(world.path("schema2"));
    fs::create_dir_all(other.join("blobs/sha256")).unwrap();
    for name in file::list(Path::new(&dir)).unwrap().iter().filter(|name| name.len() == 64) {
        fs::copy(Path::new(&dir).join(name), other.join("blobs/sha256").join(name)).unwrap();
    }
    fs::write(digest.blob(&other), &manifest).unwrap();
    fs::write(other.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let media = "application/vnd.docker.distribution.manifest.v2+json";
    let names = json!({"io.containerd.image.name": "docker.io/library/x:1", "org.opencontainers.image.ref.name": "1"});
    let entry = json!({"mediaType": media, "digest": digest, "size": manifest.len(), "annotations": names});
    fs::write(other.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    world.load(other.to_str().unwrap()).unwrap();
    world.load(&layout).unwrap();
    let (one, two) = (store::find(&world.host, "x:1").unwrap(), store::find(&world.host, "busybox").unwrap());
    assert!(one.manifest.is_oci());
    assert_eq!(one.id, two.id);
    let inspected = tool(&["skopeo", "inspect", &format!("oci:{}", world.store("docker.io/library/x:1"))]);
    assert!(inspected.contains(&one.manifest_digest));
    let images = listed(&world.host);
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].references.len(), 2);
}

#[test]
fn removal_takes_what_nobody_needs_and_nothing_else() {
    let world = world();
    let host = &world.host;
    let layout = world.made();
    world.load(&layout).unwrap();
    let empty = world.tree();
    tool(&["umoci", "tag", "--image", &format!("{layout}:busybox"), "second"]);
    tool(&["umoci", "config", "--image", &format!("{layout}:second"), "--config.cmd", "other"]);
    world.load(&format!("oci:{layout}:second")).unwrap();
    let alias = plan_load(
        host,
        &format!("oci:{layout}:busybox").parse().unwrap(),
        &Wish { names: vec!["a/alias".parse().unwrap()], ..Wish::default() },
    );
    carry(&alias.unwrap().steps, host).unwrap();
    let id = store::find(host, "busybox").unwrap().id;

    let record = host.container_dir("c1");
    fs::create_dir_all(&record).unwrap();
    fs::write(record.join("record.json"), json!({"v": 1, "name": "web", "image_id": id}).to_string()).unwrap();
    let untagged = remove(host, "a/alias").unwrap();
    assert_eq!((untagged.untagged.len(), untagged.deleted.as_slice()), (1, &[][..]));
    let used = remove(host, "busybox").unwrap_err();
    assert!(used.kind() == Kind::FailedPrecondition && used.to_string().contains("\"web\""), "{used}");
    assert_eq!(remove(host, &id).unwrap_err().kind(), Kind::FailedPrecondition);
    assert_eq!(remove(host, "none").unwrap_err().kind(), Kind::NotFound);
    fs::remove_dir_all(&record).unwrap();

    let shared = remove(host, "second").unwrap();
    assert!(shared.deleted.len() == 1);
    assert_eq!(world.tree(), empty, "the layers are shared and stay");
    assert_eq!(remove(host, &id[7..20]).unwrap().deleted, [id]);
    assert!(world.tree().is_empty(), "{:?}", world.tree());
    assert!(listed(host).is_empty());
}

#[test]
fn an_image_that_loses_its_name_stays_for_what_runs_on_it() {
    let world = world();
    let layout = world.made();
    world.load(&layout).unwrap();
    let old = store::find(&world.host, "busybox").unwrap().id;
    tool(&["umoci", "config", "--image", &format!("{layout}:busybox"), "--config.cmd", "other"]);
    world.load(&layout).unwrap();
    assert_ne!(store::find(&world.host, "busybox").unwrap().id, old);
    let nameless = store::find(&world.host, &old).unwrap();
    assert!(nameless.references.is_empty());
    assert!(sweep(&world.host).unwrap().is_empty());
    assert_eq!(remove(&world.host, &old).unwrap().deleted, [old]);
    assert_eq!(listed(&world.host).len(), 1);
}

#[test]
fn a_sweep_finds_all_garbage_and_nothing_else() {
    let world = world();
    let host = &world.host;
    let layout = world.made();
    world.load(&layout).unwrap();
    let good = world.tree();
    let blobs = host.images().join("blobs/sha256");
    let stray = "f".repeat(64);
    fs::write(blobs.join(&stray), "x").unwrap();
    fs::write(blobs.join(".partial-dead-1-0"), "x").unwrap();
    fs::write(host.images().join(".index.json.1.tmp"), "x").unwrap();
    fs::create_dir_all(host.layers().join(&stray).join("deep")).unwrap();
    fs::create_dir(host.layers().join(format!("{stray}.partial-1-0"))).unwrap();
    fs::write(host.images().join("notes.txt"), "not ours").unwrap();
    let held = crate::sys::store::share(&host.images()).unwrap();
    drop(held);
    let gone = sweep(host).unwrap();
    assert_eq!(gone.len(), 5, "{gone:?}");
    assert_eq!(world.tree(), good);
    assert!(file::exists(&host.images().join("notes.txt")).unwrap());
    assert!(sweep(host).unwrap().is_empty());
    // A crash of rm between index and blobs.
    let index = fs::read(host.images().join("index.json")).unwrap();
    fs::write(host.images().join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    let image = serde_json::from_slice::<Value>(&index).unwrap()["manifests"][0].clone();
    assert_eq!(sweep(host).unwrap().len(), good.len());
    assert!(world.tree().is_empty(), "{image}");
    fs::write(host.images().join("index.json"), &index).unwrap();
    assert_eq!(sweep(host).unwrap_err().kind(), Kind::DataLoss);
    let digest = image["digest"].as_str().unwrap();
    remove(host, digest).unwrap();
    assert!(sweep(host).unwrap().is_empty(), "a broken image can be removed");
}

#[test]
fn one_plain_archive_without_a_name_is_kept_without_one() {
    let world = world();
    let layout = world.made();
    let docker = world.path("docker.tar");
    tool(&["skopeo", "copy", "-q", &format!("oci:{layout}:busybox"), &format!("docker-archive:{docker}")]);
    let loaded = world.load(&docker).unwrap();
    assert!(loaded.images[0].references.is_empty());
    assert!(store::find(&world.host, &loaded.images[0].id).unwrap().references.is_empty());
    for tag in ["latest", "v1.2", "1.36"] {
        tool(&["umoci", "tag", "--image", &format!("{layout}:busybox"), tag]);
        let stem = layout.rsplit('/').next().unwrap().split('.').next().unwrap();
        let named = world.plan(&format!("oci:{layout}:{tag}")).unwrap();
        assert_eq!(named.images[0].references[0].to_string(), format!("docker.io/library/{stem}:{tag}"));
    }
    let zipped = world.path("docker.tar.gz");
    fs::write(&zipped, program::output("gzip", &["-c", &docker]).stdout).unwrap();
    let fault = world.refusal(&zipped);
    assert!(fault.kind() == Kind::Unimplemented && fault.to_string().contains("compressed with gzip"), "{fault}");
    let wish = Wish { names: vec!["mine:1".parse().unwrap()], ..Wish::default() };
    carry(&plan_load(&world.host, &docker.parse().unwrap(), &wish).unwrap().steps, &world.host).unwrap();
    assert_eq!(store::find(&world.host, "mine:1").unwrap().references.len(), 1);
    let other = Wish { names: Vec::new(), platform: Some("linux/riscv64".parse().unwrap()), ..Wish::default() };
    assert_eq!(plan_load(&world.host, &docker.parse().unwrap(), &other).unwrap_err().kind(), Kind::NotFound);
}

/// Through the whole command and the engine.
#[test]
fn the_command_settles_or_leaves_nothing_and_its_script_does_the_same() {
    let world = world();
    let layout = world.path("bare");
    tool(&["umoci", "init", "--layout", &layout]);
    tool(&["umoci", "new", "--image", &format!("{layout}:bare")]);
    tool(&["umoci", "gc", "--layout", &layout]);
    let fresh = |name: &str| Context {
        host: Host::below(Path::new(&world.path(name))),
        format: crate::cmd::Format::Table,
        driver: Default::default(),
    };
    let args = |source: &str| LoadArgs {
        source: Some(source.to_owned()),
        input: None,
        name: Vec::new(),
        platform: None,
        plan: PlanArgs::default(),
    };
    let (one, two) = (fresh("one"), fresh("two"));
    assert_eq!(super::load::run(&one, &args(&layout)).unwrap(), 0);
    assert_eq!(super::load::run(&one, &args(&layout)).unwrap(), 0);
    assert!(file::list(&one.host.journals()).unwrap().is_empty());
    let image = store::find(&one.host, "bare").unwrap();

    let mut script = crate::script::Script::new();
    let loaded = plan_load(&two.host, &layout.parse().unwrap(), &Wish::default()).unwrap();
    let home = Step::from(Home { dirs: super::load::home_dirs(&two.host, &[]) });
    [home].iter().chain(&loaded.steps).for_each(|step| step.script(None, &mut script).unwrap());
    tool(&["sh", "-c", script.as_str()]);
    assert_eq!(store::find(&two.host, "bare").unwrap().id, image.id);
    // When and whence it came is the command's to say.
    for host in [&one.host, &two.host] {
        tool(&[
            "sed",
            "-i",
            "-E",
            r#"s/"io.rkbox.image.(pulled-at|source)":"[^"]*",?//g"#,
            host.images().join("index.json").to_str().unwrap(),
        ]);
    }
    tool(&["diff", "-r", one.host.root.to_str().unwrap(), two.host.root.to_str().unwrap()]);

    let config = Digest::of(&image.config_raw).blob(Path::new(&layout));
    let three = fresh("three");
    let mut bytes = fs::read(&config).unwrap();
    bytes.push(b' ');
    fs::write(&config, &bytes).unwrap();
    assert!(super::load::run(&three, &args(&layout)).is_err());
    let missing = "docker-archive:/nowhere.tar";
    assert_eq!(super::load::run(&three, &args(missing)).unwrap_err().kind(), Kind::NotFound);
    assert!(!file::exists(&three.host.root).unwrap());
}

#[cfg(test)]
mod program {
    #[allow(clippy::disallowed_methods)]
    pub(super) fn output(name: &str, arguments: &[&str]) -> std::process::Output {
        std::process::Command::new(name).args(arguments).output().unwrap()
    }
}
