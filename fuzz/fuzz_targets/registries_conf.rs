//! registries.conf of any text, and what a reference becomes by it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkbox::image::Reference;
use rkbox::image::registry::registries_conf::RegistriesConf;

fuzz_target!(|text: &str| {
    let Ok(conf) = RegistriesConf::parse(text) else { return };
    for name in ["busybox", "registry.example.com/a/b:1", "localhost:5000/x"] {
        let reference: Reference = name.parse().expect("a good reference");
        if let Some(registry) = conf.find(&reference) {
            for location in registry.mirrors.iter().chain([&registry.own]) {
                assert!(!registry.renamed(location, &reference).is_empty());
            }
        }
    }
    let mut merged = conf.clone();
    merged.merge(conf.clone());
    merged.merge(conf);
});
