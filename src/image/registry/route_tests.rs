use std::collections::BTreeMap;
use std::path::Path;

use super::*;

const CONF: &str = r#"
    [[registry]]
    location = "docker.io"
    [[registry.mirror]]
    location = "m1.example/hub"
    [[registry.mirror]]
    location = "m2.example"
    insecure = true
    pull-from-mirror = "digest-only"
    [[registry]]
    location = "blocked.example"
    blocked = true
"#;

fn bases(reference: &str, mirrors: &[&str], hosts: &[(&str, &str)], conf: &str) -> Result<Vec<String>> {
    let dirs: BTreeMap<&str, Vec<hosts_toml::Host>> =
        hosts.iter().map(|(host, text)| (*host, hosts_toml::parse(text, Path::new("/c")).unwrap())).collect();
    let host_dir = |host: &str| Ok(dirs.get(host).cloned().map(HostDir::Hosts));
    let places: Vec<Place> = mirrors.iter().map(|mirror| Place::parse(mirror).unwrap()).collect();
    let sources = Sources { mirrors: &places, host_dir: &host_dir, registries: &RegistriesConf::parse(conf).unwrap() };
    let endpoints = route(&reference.parse().unwrap(), &sources)?;
    Ok(endpoints
        .into_iter()
        .map(|one| {
            let ns = one.namespace.map_or(String::new(), |ns| format!(" ns={ns}"));
            let insecure = if one.trust.skip_verify { " insecure" } else { "" };
            format!("{}/{} as {}{ns}{insecure}", one.base, one.repository, one.account)
        })
        .collect())
}

/// A reference, `--mirror`, files of hosts, `registries.conf`, and what is to come of them.
type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)], &'a str, &'a [&'a str]);

#[test]
fn each_configuration_gives_its_endpoints() {
    let digest = format!("x/y@sha256:{}", "0".repeat(64));
    let hub = "https://registry-1.docker.io/v2/library/busybox as docker.io/library/busybox";
    let toml = "[host.\"https://mirror.example/deep\"]\n[host.\"http://other.example:5000\"]\nskip_verify = true";
    let cases: [Case<'_>; 9] = [
        ("busybox", &[], &[], "", &[hub]),
        ("quay.io/a/b", &[], &[], "", &["https://quay.io/v2/a/b as quay.io/a/b"]),
        (
            "localhost:5000/a",
            &[],
            &[],
            "",
            &["http://localhost:5000/v2/a as localhost:5000/a", "https://localhost:5000/v2/a as localhost:5000/a"],
        ),
        ("127.0.0.1:443/a", &[], &[], "", &["https://127.0.0.1:443/v2/a as 127.0.0.1:443/a"]),
        ("busybox", &["http://m:1"], &[], "", &["http://m:1/v2/library/busybox as m:1/library/busybox ns=docker.io", hub]),
        (
            "busybox",
            &[],
            &[("docker.io", toml)],
            CONF,
            &[
                "https://mirror.example/deep/v2/library/busybox as mirror.example/library/busybox ns=docker.io",
                "http://other.example:5000/v2/library/busybox as other.example:5000/library/busybox ns=docker.io insecure",
                hub,
            ],
        ),
        ("busybox", &[], &[], CONF, &["https://m1.example/v2/hub/library/busybox as m1.example/hub/library/busybox", hub]),
        (
            &digest,
            &[],
            &[],
            CONF,
            &[
                "https://m1.example/v2/hub/x/y as m1.example/hub/x/y",
                "https://m2.example/v2/x/y as m2.example/x/y insecure",
                "http://m2.example/v2/x/y as m2.example/x/y insecure",
                "https://registry-1.docker.io/v2/x/y as docker.io/x/y",
            ],
        ),
        (
            "quay.io/a",
            &[],
            &[("quay.io", "server = \"https://cache.example\"")],
            "",
            &["https://cache.example/v2/a as cache.example/a ns=quay.io"],
        ),
    ];
    for (reference, mirrors, hosts, conf, wanted) in cases {
        assert_eq!(bases(reference, mirrors, hosts, conf).unwrap(), wanted, "{reference} {mirrors:?}");
    }
}

#[test]
fn what_is_blocked_or_cannot_be_asked_is_said() {
    let blocked = bases("blocked.example/x", &["http://m"], &[], CONF).unwrap_err();
    assert!(blocked.kind() == Kind::FailedPrecondition && blocked.to_string().contains("blocked.example is blocked"), "{blocked}");
    let mute = bases("quay.io/x", &[], &[("quay.io", "capabilities = [\"push\"]")], "").unwrap_err();
    assert!(mute.to_string().contains("no configured host"), "{mute}");
}
