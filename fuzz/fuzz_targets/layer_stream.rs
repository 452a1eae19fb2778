//! A layer of any bytes and any compression through the whole reader stack: it never answers for a blob that is not the claimed one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkbox::image::Digest;
use rkbox::image::layer::{Claim, read_layer};
use rkbox::image::tar_reader::Limits;

fuzz_target!(|data: &[u8]| {
    let Some((&how, blob)) = data.split_first() else { return };
    let media_type = match how & 3 {
        0 => "",
        1 => "application/vnd.oci.image.layer.v1.tar",
        2 => "application/vnd.oci.image.layer.v1.tar+gzip",
        _ => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    let digest = Digest::of(blob).to_string();
    let claim = Claim { media_type, digest: &digest, size: blob.len() as u64, diff_id: &digest };
    let read = read_layer(blob, &claim, Limits { entries: 64, bytes: 1 << 20 }, |reader| {
        while reader.next_verdict()?.is_some() {}
        Ok(())
    });
    // The diffID is that of the blob, so that what is compressed can never be right.
    let compressed = blob.starts_with(&[0x1f, 0x8b]) || blob.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    assert!(read.is_err() || !compressed);
});
