//! A file of credentials of any bytes, what a helper prints, and a registry's challenge; no secret is in a fault or in what debugging shows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkbox::image::registry::{AuthFile, Challenge, Credential};
use rkbox::image::registry::{challenge, endpoint::Place};

fuzz_target!(|data: &[u8]| {
    if let Ok(file) = AuthFile::parse(data) {
        for account in ["docker.io/library/busybox", "registry.example.com/a/b", "localhost:5000/x", ""] {
            let _ = file.find(account);
        }
    }
    if let Ok(Some(credential)) = Credential::of_helper(data)
        && let Credential::Password { password, .. } = &credential
    {
        assert!(password.len() < 24 || !format!("{credential:?}").contains(password.as_str()));
    }
    let _ = challenge::token(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = (Challenge::parse(text), Place::parse(text), Credential::parse(text));
    }
});
