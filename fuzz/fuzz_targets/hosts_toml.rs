//! containerd's hosts.toml of any text.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rkbox::image::registry::hosts_toml;

fuzz_target!(|text: &str| {
    if let Ok(hosts) = hosts_toml::parse(text, Path::new("/certs.d/example.com")) {
        assert!(!hosts.is_empty(), "the server itself is always there");
        for host in &hosts {
            // What would end a header and begin another one.
            assert!(host.headers.iter().all(|(name, value)| !name.contains(['\r', '\n']) && !value.contains(['\r', '\n'])));
        }
    }
});
