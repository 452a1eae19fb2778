//! A tar of any bytes: every verdict holds what the rest of rkbox takes for granted, and the limits hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkbox::image::tar_entry::{EntryKind, Verdict, keeps_xattr};
use rkbox::image::tar_path::TarPath;
use rkbox::image::tar_reader::{Limits, TarReader};

/// Small enough to be met.
const LIMITS: Limits = Limits { entries: 64, bytes: 1 << 20 };

fuzz_target!(|data: &[u8]| {
    let mut reader = TarReader::new(data, LIMITS);
    while let Ok(Some(verdict)) = reader.next_verdict() {
        assert!(reader.entries() <= LIMITS.entries && reader.bytes() <= LIMITS.bytes);
        match verdict {
            Verdict::Make(entry) => {
                normal(&entry.path);
                assert!(entry.path.components().all(|part| !part.starts_with(b".wh.")));
                let is_file = entry.kind == EntryKind::File;
                assert!(is_file || entry.size == 0);
                assert!(!entry.path.is_root() || entry.kind == EntryKind::Directory);
                assert!(entry.attributes.mode <= 0o7777 && entry.attributes.mtime.nanos < 1_000_000_000);
                assert!(entry.attributes.uid != u32::MAX && entry.attributes.gid != u32::MAX);
                assert!(entry.attributes.xattrs.iter().all(|(name, _)| keeps_xattr(name)));
                match &entry.kind {
                    EntryKind::Hardlink(target) => {
                        normal(target);
                        assert!(!target.is_root());
                    }
                    EntryKind::Symlink(target) => assert!(!target.is_empty() && target.len() <= 4095 && !target.contains(&0)),
                    EntryKind::CharDevice(major, minor) => assert!((*major, *minor) != (0, 0)),
                    _ => {}
                }
                if is_file {
                    let mut read = 0;
                    while let Ok(chunk) = reader.chunk() {
                        if chunk.is_empty() {
                            assert_eq!(read, entry.size);
                            break;
                        }
                        let count = chunk.len();
                        read += count as u64;
                        reader.consume(count);
                    }
                    assert!(read <= entry.size);
                }
            }
            Verdict::Whiteout(path) => {
                normal(&path);
                assert!(!path.is_root());
            }
            Verdict::Opaque(path) => normal(&path),
            Verdict::Ignore => {}
        }
    }
});

fn normal(path: &TarPath) {
    assert!(path.as_bytes().len() <= 8192 && !path.as_bytes().contains(&0));
    assert!(path.components().all(|part| part != b"." && part != b".." && part.len() <= 255));
    assert_eq!(TarPath::parse(path.as_bytes()).ok().as_ref(), Some(path));
}
