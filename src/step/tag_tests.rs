use std::path::Path;

use super::*;
use crate::image::{Compression, Digest};
use crate::step::blob::{Blob, BlobSource};

/// A store with the blobs of an image whose one layer is `text`; answers the descriptor of its manifest.
fn image(host: &Host, text: &str) -> String {
    let layer = Digest::of(text.as_bytes());
    let config = format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#);
    let manifest = Manifest::compose(config.as_bytes(), &[(layer.clone(), text.len() as u64, Compression::None)]).unwrap();
    file::ensure_dir(&host.images().join("blobs/sha256"), 0o700).unwrap();
    file::ensure_dir(&host.layers().join(layer.hex()), 0o700).unwrap();
    for bytes in [text, &config, std::str::from_utf8(&manifest.raw).unwrap()] {
        apply(&blob(host, bytes), host);
    }
    serde_json::json!({"mediaType": manifest.media_type, "digest": manifest.digest(), "size": manifest.raw.len()}).to_string()
}

fn blob(host: &Host, text: &str) -> Blob {
    let digest = Digest::of(text.as_bytes()).to_string();
    Blob { store: host.images(), digest, size: text.len() as u64, source: BlobSource::Text(text.to_owned()) }
}

fn apply<S: Action>(step: &S, host: &Host) -> S::Before {
    let before = step.look(host).unwrap();
    if !step.already(&before) {
        step.apply(&before, host).unwrap();
    }
    before
}

fn tag(host: &Host, reference: &str, manifest: &str) -> Tag {
    Tag { store: host.images(), reference: reference.to_owned(), manifest: manifest.to_owned() }
}

fn index(host: &Host) -> String {
    file::find(&store::index_path(&host.images()), 1 << 20).unwrap().map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
}

fn shell(write: impl FnOnce(&mut Script), dir: &Path) {
    let mut script = Script::new();
    write(&mut script);
    let path = dir.join("script");
    file::write_atomic(&path, 0o700, script.as_str().as_bytes(), file::Durable::No).unwrap();
    let output = program::output("sh", &[path.to_str().unwrap()]);
    assert!(output.status.success(), "{}{}", script.as_str(), String::from_utf8_lossy(&output.stderr));
}

#[test]
fn apply_and_script_give_the_same_index_and_undo_gives_it_back() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (world_a, world_b) = (Host::below(one.path()), Host::below(two.path()));
    for host in [&world_a, &world_b] {
        image(host, "first");
    }
    let (first, second) = (image(&world_a, "first"), image(&world_a, "second"));
    image(&world_b, "second");
    let steps = [("a:1", &first), ("b:1", &first), ("a:1", &second), ("b:1", &second), ("", &first), ("", &second), ("b:1", &second)];
    let mut history = Vec::new();
    for (reference, manifest) in steps {
        history.push((index(&world_a), tag(&world_a, reference, manifest), apply(&tag(&world_a, reference, manifest), &world_a)));
        shell(|out| tag(&world_b, reference, manifest).script(Way::Apply, out), two.path());
        assert_eq!(index(&world_a), index(&world_b), "{reference}");
    }
    assert!(index(&world_a).matches(&first[..80]).count() <= 1);
    for (text, step, before) in history.into_iter().rev() {
        step.undo(&before, &world_a).unwrap();
        step.undo(&before, &world_a).unwrap();
        shell(|out| Tag { store: world_b.images(), ..step.clone() }.script(Way::Undo(&before), out), two.path());
        assert_eq!(index(&world_a), text, "{step}");
        assert_eq!(index(&world_b), text, "script of {step}");
    }
    assert_eq!(file::list(&world_a.images()).unwrap(), ["blobs"]);
    assert_eq!(file::list(&world_b.images()).unwrap(), ["blobs"]);
}

#[test]
fn a_lost_race_is_a_conflict() {
    let world = tempfile::tempdir().unwrap();
    let host = Host::below(world.path());
    let (first, second) = (image(&host, "first"), image(&host, "second"));
    let mine = tag(&host, "a:1", &first);
    let before = mine.look(&host).unwrap();
    let theirs = tag(&host, "a:1", &second);
    apply(&theirs, &host);
    assert_eq!(mine.apply(&before, &host).unwrap_err().kind(), Kind::Conflict);
    mine.undo(&before, &host).unwrap();
    assert!(theirs.already(&theirs.look(&host).unwrap()), "an undo never takes what is not ours");
    file::remove_file(&Digest::of(b"first").blob(&host.images())).unwrap();
    let before = mine.look(&host).unwrap();
    let fault = mine.apply(&before, &host).unwrap_err();
    assert!(fault.kind() == Kind::Conflict && fault.to_string().contains("not in the store any more"), "{fault}");
}

#[test]
fn a_blob_is_taken_back_only_by_its_maker_and_only_while_unused() {
    let world = tempfile::tempdir().unwrap();
    let host = Host::below(world.path());
    let manifest = image(&host, "used");
    let used = blob(&host, "used");
    apply(&tag(&host, "a:1", &manifest), &host);
    assert_eq!(used.undo(&Default::default(), &host).unwrap(), Undone::Kept);
    assert!(used.already(&used.look(&host).unwrap()));
    let free = blob(&host, "free");
    let before = apply(&free, &host);
    let again = apply(&free, &host);
    free.undo(&again, &host).unwrap();
    assert!(free.already(&free.look(&host).unwrap()), "it was there before the second");
    for _ in 0..2 {
        assert_eq!(free.undo(&before, &host).unwrap(), Undone::Done);
        assert!(!free.already(&free.look(&host).unwrap()));
    }
    std::fs::File::create(Digest::of(b"free").blob(&host.images())).unwrap();
    apply(&free, &host);
    assert!(free.already(&free.look(&host).unwrap()), "a torn blob is written again");
    for hostile in ["sha256:../../x", "", "sha256:/etc/passwd"] {
        assert!(Blob { digest: hostile.into(), ..free.clone() }.look(&host).is_err());
    }
}

#[test]
fn a_span_and_its_script_give_the_same_blob() {
    let world = tempfile::tempdir().unwrap();
    let (host, other) = (Host::below(&world.path().join("a")), Host::below(&world.path().join("b")));
    let path = world.path().join("it's an archive");
    file::write_atomic(&path, 0o600, b"..wanted..", file::Durable::No).unwrap();
    for host in [&host, &other] {
        file::ensure_dir(&host.images().join("blobs/sha256"), 0o700).unwrap();
    }
    for (offset, bytes) in [(2, &b"wanted"[..]), (0, b"..wanted..")] {
        let digest = Digest::of(bytes);
        let source = BlobSource::Span { path: path.clone(), offset };
        let step = Blob { store: host.images(), digest: digest.to_string(), size: bytes.len() as u64, source };
        apply(&step, &host);
        let copy = Blob { store: other.images(), ..step };
        shell(|out| copy.script(Way::Apply, out), world.path());
        assert_eq!(file::read(&digest.blob(&host.images()), 99).unwrap(), file::read(&digest.blob(&other.images()), 99).unwrap());
        shell(|out| copy.script(Way::Undo(&Default::default()), out), world.path());
    }
    assert!(file::list(&other.images().join("blobs/sha256")).unwrap().is_empty());
}

#[cfg(test)]
mod program {
    #[allow(clippy::disallowed_methods)]
    pub(super) fn output(name: &str, arguments: &[&str]) -> std::process::Output {
        std::process::Command::new(name).args(arguments).output().unwrap()
    }
}
