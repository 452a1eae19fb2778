//! A name of any bytes as an entry of a layer: what it hides is a path inside, told apart from what it makes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkbox::image::tar_entry::{Attributes, Entry, EntryKind, Verdict, judge};
use rkbox::image::tar_path::TarPath;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, name)) = data.split_first() else { return };
    let Ok(path) = TarPath::parse(name) else { return };
    let kind = match kind & 7 {
        0 => EntryKind::Directory,
        1 => EntryKind::Symlink(name.to_vec()),
        2 => EntryKind::Hardlink(path.clone()),
        3 => EntryKind::CharDevice(0, 0),
        4 => EntryKind::Fifo,
        _ => EntryKind::File,
    };
    let parent = path.parent();
    let marked = path.components().any(|part| part.starts_with(b".wh."));
    let entry = Entry { path: path.clone(), kind, attributes: Attributes::default(), size: 0 };
    match judge(entry.clone()) {
        Ok(Verdict::Make(made)) => assert!(!marked && made == entry),
        Ok(Verdict::Whiteout(hidden)) => {
            let (above, name) = hidden.split_last().expect("a whiteout never hides the root");
            assert!(marked && above == parent && !name.contains(&b'/') && name != b"." && name != b"..");
            assert!(!name.starts_with(b".wh."));
            assert_eq!(path.as_bytes(), above.join(&[b".wh.", name].concat()).as_bytes());
        }
        Ok(Verdict::Opaque(hidden)) => assert!(marked && hidden == parent),
        Ok(Verdict::Ignore) => assert!(path.components().any(|part| part.starts_with(b".wh..wh."))),
        Err(_) => {}
    }
});
