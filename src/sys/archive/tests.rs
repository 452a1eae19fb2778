use tar::{EntryType, Header};

use super::*;
use crate::image::Digest;

fn member(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, data: &[u8]) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.set_size(0);
        let target = std::str::from_utf8(data).unwrap();
        header.set_link_name_literal(target).unwrap();
    } else {
        header.set_size(data.len() as u64);
    }
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    let body = if matches!(kind, EntryType::Symlink | EntryType::Link) { &[] } else { data };
    builder.append(&header, body).unwrap();
}

fn opened(bytes: &[u8]) -> (tempfile::TempDir, Result<Archive>) {
    let world = tempfile::tempdir().unwrap();
    let path = world.path().join("a.tar");
    fs::write(&path, bytes).unwrap();
    let archive = Archive::open(&path);
    (world, archive)
}

fn refusal(bytes: &[u8]) -> String {
    opened(bytes).1.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn members_are_found_where_they_are_and_links_are_followed() {
    let mut builder = tar::Builder::new(Vec::new());
    member(&mut builder, EntryType::Directory, "./d/", b"");
    member(&mut builder, EntryType::Regular, "./d/one", b"1111");
    member(&mut builder, EntryType::Symlink, "e/two", b"../d/one");
    member(&mut builder, EntryType::Link, "three", b"e/two");
    member(&mut builder, EntryType::Symlink, "out", b"../../etc/passwd");
    member(&mut builder, EntryType::Symlink, "loop", b"loop");
    member(&mut builder, EntryType::Symlink, "void", b"nothing");
    member(&mut builder, EntryType::Regular, "twice", b"a");
    member(&mut builder, EntryType::Regular, "twice", b"b");
    member(&mut builder, EntryType::Regular, "../../evil", b"x");
    member(&mut builder, EntryType::Fifo, "fifo", b"");
    let (_world, archive) = opened(&builder.into_inner().unwrap());
    let archive = archive.unwrap();
    for name in ["d/one", "e/two", "three"] {
        let span = archive.find(name).unwrap().unwrap();
        assert_eq!(span.read(10).unwrap(), b"1111");
        assert_eq!(span.digest().unwrap(), Digest::of(b"1111"));
        assert_eq!(span.offset, 1024);
        assert!(span.read(3).is_err());
    }
    for (name, says) in [
        ("out", "outside of the archive"),
        ("loop", "circle of links"),
        ("void", "link to nothing"),
        ("twice", "occurs twice"),
        ("fifo", "not a regular file"),
        ("d", "not a regular file"),
    ] {
        let fault = archive.find(name).unwrap_err().to_string();
        assert!(fault.contains(says), "{name}: {fault}");
    }
    assert!(archive.find("absent").unwrap().is_none() && !archive.has("evil"));
}

#[test]
fn a_size_in_a_pax_header_is_the_size() {
    let mut builder = tar::Builder::new(Vec::new());
    member(&mut builder, EntryType::XHeader, "pax", b"9 size=4\n");
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(1024);
    let mut rest = tar::Builder::new(Vec::new());
    member(&mut rest, EntryType::Regular, "one", b"");
    let mut tail = rest.into_inner().unwrap();
    tail.truncate(512);
    bytes.extend(tail);
    bytes.extend(b"data");
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    let (_world, archive) = opened(&bytes);
    assert_eq!(archive.unwrap().find("one").unwrap().unwrap().read(10).unwrap(), b"data");
}

#[test]
fn damaged_and_hostile_archives_are_refused_by_name() {
    let one = |kind, name: &str, data: &[u8]| {
        let mut builder = tar::Builder::new(Vec::new());
        member(&mut builder, kind, name, data);
        builder.into_inner().unwrap()
    };
    assert!(refusal(b"").contains("no members"));
    assert!(refusal(&[0; 10240]).contains("no members"));
    assert!(refusal(b"{\"schemaVersion\":2}").contains("cut off"));
    assert!(refusal(&[b'x'; 2048]).contains("wrong checksum"));
    assert!(refusal(&one(EntryType::Regular, "a", &[1; 2000])[..1024]).contains("cut off"));
    assert!(refusal(&one(EntryType::XHeader, "p", b"9 size=-4\n")).contains("malformed"));
    assert!(refusal(&one(EntryType::XHeader, "p", b"11 size=-4\n")).contains("wrong size"));
    assert!(refusal(&one(EntryType::XHeader, "p", b"30 size=4\n")).contains("malformed"));
    assert!(refusal(&one(EntryType::XHeader, "p", b"\n9 size=4\n")).contains("malformed"));
    assert!(refusal(&one(EntryType::XHeader, "p", b"9 size=4\n")).contains("no member"));
    assert!(refusal(&one(EntryType::XGlobalHeader, "p", b"9 size=4\n")).contains("global header"));
    assert!(refusal(&one(EntryType::XHeader, "p", b"22 GNU.sparse.major=1\n")).contains("sparse"));
    assert!(refusal(&one(EntryType::GNULongName, "p", &vec![b'a'; 2 << 20])).contains("too large"));
    let (_world, zipped) = opened(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    let fault = Fault::from(zipped.map(|_| ()).unwrap_err());
    assert_eq!(fault.kind(), Kind::Unimplemented);
    assert!(fault.to_string().contains("compressed with gzip") && fault.hints()[0].contains("gzip -dc"), "{fault}");
}

#[test]
fn an_archive_that_never_ends_costs_nothing() {
    let world = tempfile::tempdir().unwrap();
    let path = world.path().join("sparse.tar");
    let mut builder = tar::Builder::new(Vec::new());
    member(&mut builder, EntryType::Regular, "a", b"x");
    fs::write(&path, builder.into_inner().unwrap()).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(Archive::open(&path).unwrap().has("a"));
    let fifo = world.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Archive::open(&fifo).is_err());
}
