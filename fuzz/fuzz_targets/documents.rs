//! Manifest, index and configuration of any bytes, at each entrance.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkbox::image::layer_stamp::Stamp;
use rkbox::image::layout::{Index, check_marker, descend};
use rkbox::image::manifest::{INDEX_LIMIT, LAYER_LIMIT};
use rkbox::image::{Config, Digest, Manifest, Platform};

fuzz_target!(|data: &[u8]| {
    let platform = Platform::of_host();
    let manifest = Manifest::parse(data);
    if let Ok(manifest) = &manifest {
        assert!(manifest.layers.len() <= LAYER_LIMIT && manifest.raw == data && manifest.digest() == Digest::of(data));
        assert!(manifest.layers.iter().all(|layer| layer.size <= i64::MAX as u64));
    }
    if let Ok(config) = Config::parse(data) {
        assert_eq!(config.chain_ids().len(), config.diff_ids.len());
        assert_eq!(config.id(), Digest::of(data));
        let _ = (config.labels(), config.volumes(), config.exposed_ports(), config.stop_signal(), config.env().len(), config.platform());
        if let Ok(manifest) = &manifest {
            let _ = config.check_against(manifest);
        }
    }
    if let Ok(index) = Index::parse(data) {
        assert_eq!(index.entries().len(), index.raw_entries().len());
        let again = Index::parse(index.to_text().as_bytes());
        assert!(index.to_text().len() as u64 > INDEX_LIMIT || again.is_ok_and(|again| again.entries() == index.entries()));
        for entry in index.entries() {
            // Whatever a descriptor points at, bytes that are not its own are not taken for it.
            let found = descend(entry, &platform, &mut |_| Ok(data.to_vec()));
            assert!(found.is_err() || entry.digest == Digest::of(data));
        }
        let _ = index.select(None, &platform);
    }
    let _ = check_marker(data);
    let _ = Stamp::parse(data);
});
