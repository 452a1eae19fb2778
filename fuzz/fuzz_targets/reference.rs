//! A reference of any text: what is accepted has one form, reads back as itself and is safe in a path and on a terminal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkbox::image::{Digest, Reference};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let form = reference.to_string();
        assert_eq!(form.parse::<Reference>().ok().as_ref(), Some(&reference), "{form:?}");
        assert!(form.bytes().all(|byte| byte.is_ascii_graphic()), "{form:?}");
        assert!(reference.repository().len() <= 255);
        assert!(reference.path().split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        assert!(reference.tag().is_some() || reference.digest().is_some());
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
});
