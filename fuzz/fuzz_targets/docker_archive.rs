//! The manifest.json of a docker-archive of any bytes, and names and links of any text: nothing leads out of the archive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkbox::image::docker_archive::{link_target, member_name, parse};

fuzz_target!(|data: &[u8]| {
    if let Ok(images) = parse(data) {
        for image in &images {
            inside(&image.config);
            image.layers.iter().for_each(|layer| inside(layer));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (member, target) = text.split_once('\n').unwrap_or((text, text));
    if let Ok(name) = member_name(member) {
        inside(&name);
        if let Ok(found) = link_target(&name, target) {
            inside(&found);
        }
    }
});

fn inside(name: &str) {
    assert!(!name.is_empty() && !name.contains('\0'));
    assert!(name.split('/').all(|part| !matches!(part, "" | "." | "..")), "{name:?}");
}
