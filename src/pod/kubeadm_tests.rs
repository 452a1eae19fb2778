//! The configurations of which kubeadm's own output is recorded, and what varies from them.

use super::*;
use crate::fault::Kind;

/// What kubeadm 1.36.2 printed.
const RECORDED: &str = include_str!("../../tests/data/kubeadm/images.txt");

/// Name, input, lines of standard output, lines of standard error.
fn cases() -> Vec<(&'static str, String, Vec<&'static str>, Vec<&'static str>)> {
    let mut cases: Vec<(&str, String, Vec<&str>, Vec<&str>)> = Vec::new();
    for line in RECORDED.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push((name, String::new(), Vec::new(), Vec::new()));
            continue;
        }
        let Some((_, input, out, err)) = cases.last_mut() else { continue };
        if let Some(text) = line.strip_prefix("  | ") {
            input.push_str(&format!("{text}\n"));
        } else if let Some(text) = line.strip_prefix("  stderr: ") {
            err.push(text);
        } else if !line.starts_with("  rc=") {
            out.push(line);
        }
    }
    cases
}

#[test]
fn what_kubeadm_printed_is_what_we_print() {
    let table = Table::built_in().unwrap();
    assert_eq!(cases().len(), 4);
    for (name, input, out, err) in cases() {
        // klog's prefix ends at the first bracket; the record cuts long lines.
        let said: Vec<&str> = err.iter().map(|line| line.split_once("] ").map_or(*line, |(_, text)| text)).collect();
        match read(&input) {
            Ok((cluster, warnings)) => {
                let (images, more) = cluster.images(None, &table).unwrap();
                // The recorded kubeadm was 1.36.2; ours is the one of the version that is asked for.
                let same = |line: &str| line.contains("/kube-") || name != "mirror_v1beta3";
                let ours: Vec<&String> = images.iter().filter(|image| same(image)).collect();
                assert_eq!(ours, out.iter().filter(|line| same(line)).collect::<Vec<_>>(), "{name}");
                assert_eq!(images.len(), out.len());
                assert_eq!((warnings.len(), more.len()), (said.len(), 0), "{name}: {warnings:?}");
                assert!(warnings.iter().zip(&said).all(|(ours, theirs)| ours.starts_with(theirs)), "{warnings:?}\n{said:?}");
            }
            Err(fault) => {
                assert!(out.is_empty() && fault.kind() == Kind::InvalidArgument, "{name}: {fault}");
                assert_eq!(format!("error: {fault}"), err[1], "{name}");
            }
        }
    }
}

fn images(fields: &str) -> Vec<String> {
    let text = format!("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.35.0\n{fields}");
    let (cluster, warnings) = read(&text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    cluster.images(None, &Table::built_in().unwrap()).unwrap().0
}

#[test]
fn every_override_goes_where_kubeadm_puts_it() {
    let last = |fields: &str, nth: usize| images(fields)[nth].clone();
    assert_eq!(last("", 4), "registry.k8s.io/coredns/coredns:v1.13.1");
    assert_eq!(images("")[5..], ["registry.k8s.io/pause:3.10.1", "registry.k8s.io/etcd:3.6.6-0"]);
    // The rule of the coredns path is of the repository alone: any mirror has it one directory higher, even with a path.
    assert_eq!(last("imageRepository: mirror.example/k8s/", 4), "mirror.example/k8s//coredns:v1.13.1");
    assert_eq!(last("imageRepository: mirror.example/k8s", 5), "mirror.example/k8s/pause:3.10.1");
    assert_eq!(last("imageRepository: m.example\ndns: {imageRepository: registry.k8s.io}", 4), "registry.k8s.io/coredns/coredns:v1.13.1");
    assert_eq!(last("dns: {imageRepository: registry.k8s.io/coredns, imageTag: v9}", 4), "registry.k8s.io/coredns/coredns:v9");
    assert_eq!(last("etcd: {local: {imageRepository: e.example/x, imageTag: 3.9.9-0}}", 6), "e.example/x/etcd:3.9.9-0");
    assert_eq!(last("etcd: {local: {dataDir: /x}}", 6), "registry.k8s.io/etcd:3.6.6-0");
    let small =
        images("dns: {disabled: yes}\nproxy: {disabled: on}\netcd: {external: {endpoints: [a], caFile: '', certFile: '', keyFile: ''}}");
    assert_eq!(small.len(), 4);
    assert!(small[3].starts_with("registry.k8s.io/pause:"));
    let version = |text: &str| {
        let (images, warnings) = Cluster { version: text.into(), ..Cluster::default() }.images(None, &Table::built_in().unwrap()).unwrap();
        (images[0].clone(), images[5].clone(), warnings.len())
    };
    let ci = ("gcr.io/k8s-staging-ci-images/kube-apiserver:v1.36.1-beta.0.5_0abc".to_owned(), "registry.k8s.io/pause:3.10.2".to_owned(), 0);
    assert_eq!(version("ci/v1.36.1-beta.0.5+0abc"), ci);
    assert_eq!(version("1.36.0-rc.1+x").0, "registry.k8s.io/kube-apiserver:v1.36.0-rc.1_x");
    assert_eq!(version("stable-1.34"), ("registry.k8s.io/kube-apiserver:v1.34.10".into(), "registry.k8s.io/pause:3.10.1".into(), 1));
    assert_eq!((version("").2, version("v1.99.0").2), (1, 1));
    let asked = Cluster { version: "v1.30.0".into(), ..Cluster::default() }.images(Some("1.36.2"), &Table::built_in().unwrap()).unwrap().0;
    assert_eq!(asked[0], "registry.k8s.io/kube-apiserver:v1.36.2");
}

#[test]
fn documents_are_taken_warned_of_or_refused_as_kubeadm_does() {
    let init = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n";
    let cluster = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nimageRepository: a.example\n";
    let kubelet = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nanything: goes\n";
    let pod = "apiVersion: example.org/v1\nkind: Thing\n";
    let all = format!("{init}---\n{kubelet}---\n{cluster}---\n{pod}");
    let (found, warnings) = read(&all).unwrap();
    assert_eq!(found.repository, "a.example");
    assert_eq!(warnings, ["[config] WARNING: Ignored configuration document with GroupVersionKind example.org/v1, Kind=Thing"]);
    assert_eq!(read(init).unwrap().0, Cluster::default());
    for (text, says) in [
        (format!("{cluster}---\n{cluster}"), "kind \"ClusterConfiguration\" is specified twice"),
        (format!("{cluster}---\nkind: X\n"), "kind and apiVersion is mandatory"),
        (format!("{cluster}---\napiVersion: v1\nkind: Pod\n"), "GroupVersionKind /v1, Kind=Pod"),
        (kubelet.to_owned(), "no InitConfiguration or ClusterConfiguration kind was found"),
        (String::new(), "no InitConfiguration or ClusterConfiguration kind was found"),
        (cluster.replace("v1beta4", "v1beta2"), "Please use kubeadm v1.22 instead"),
        (cluster.replace("v1beta4", "v1beta9"), "no kind \"ClusterConfiguration\" is registered"),
        (
            format!("{cluster}kubernetesVersion: 1.35\n"),
            "cannot unmarshal number into Go struct field ClusterConfiguration.kubernetesVersion",
        ),
        (format!("{cluster}dns: [x]\n"), "cannot unmarshal array into Go struct field ClusterConfiguration.dns"),
        (format!("{cluster}proxy: {{disabled: 'yes'}}\n"), "of type bool"),
        (format!("{cluster}etcd: {{local: {{}}, external: {{}}}}\n"), "mutually exclusive"),
    ] {
        let fault = read(&text).unwrap_err();
        assert!(fault.kind() == Kind::InvalidArgument && fault.to_string().contains(says), "{says}: {fault}");
    }
    for version in ["1.36", "newest", "v1.36.2\u{1b}[2J"] {
        let fault = Cluster { version: version.into(), ..Cluster::default() }.images(None, &Table::built_in().unwrap()).unwrap_err();
        assert!(fault.to_string().contains("doesn't match patterns") && !fault.to_string().contains('\u{1b}'), "{fault}");
    }
}

/// What each kubeadm has as constants: its first release, the last that is on record, and what lies between where a tag changed.
///
/// *Source:* PODS.md, B13, and the rows of the table itself where B13 says only that a late release has another etcd.
#[test]
fn the_tags_are_those_of_the_kubeadm_of_the_version() {
    let table = Table::built_in().unwrap();
    for (versions, coredns, etcd, pause) in [
        (&["1.23.0", "1.23.13"][..], "v1.8.6", "3.5.1-0", "3.6"),
        (&["1.23.17"], "v1.8.6", "3.5.6-0", "3.6"),
        (&["1.24.0"], "v1.8.6", "3.5.3-0", "3.7"),
        (&["1.24.17"], "v1.8.6", "3.5.6-0", "3.7"),
        (&["1.25.0"], "v1.9.3", "3.5.4-0", "3.8"),
        (&["1.25.5", "1.25.14"], "v1.9.3", "3.5.6-0", "3.8"),
        (&["1.25.16"], "v1.9.3", "3.5.9-0", "3.8"),
        (&["1.26.0"], "v1.9.3", "3.5.6-0", "3.9"),
        (&["1.26.15"], "v1.9.3", "3.5.10-0", "3.9"),
        (&["1.27.0"], "v1.10.1", "3.5.7-0", "3.9"),
        (&["1.27.16"], "v1.10.1", "3.5.12-0", "3.9"),
        (&["1.28.0"], "v1.10.1", "3.5.9-0", "3.9"),
        (&["1.28.15"], "v1.10.1", "3.5.15-0", "3.9"),
        (&["1.29.0"], "v1.11.1", "3.5.10-0", "3.9"),
        (&["1.29.9", "1.29.10"], "v1.11.1", "3.5.15-0", "3.9"),
        (&["1.30.0", "1.30.4"], "v1.11.1", "3.5.12-0", "3.9"),
        (&["1.30.5", "1.30.14"], "v1.11.3", "3.5.15-0", "3.9"),
        (&["1.31.0"], "v1.11.1", "3.5.15-0", "3.10"),
        (&["1.31.1"], "v1.11.3", "3.5.15-0", "3.10"),
        (&["1.31.14"], "v1.11.3", "3.5.24-0", "3.10"),
        (&["1.32.0"], "v1.11.3", "3.5.16-0", "3.10"),
        (&["1.32.13"], "v1.11.3", "3.5.24-0", "3.10"),
        (&["1.33.0", "1.33.4"], "v1.12.0", "3.5.21-0", "3.10"),
        (&["1.33.13"], "v1.12.0", "3.5.24-0", "3.10"),
        (&["1.34.0"], "v1.12.1", "3.6.4-0", "3.10.1"),
        (&["1.34.2", "1.34.10"], "v1.12.1", "3.6.5-0", "3.10.1"),
        (&["1.35.0", "1.35.7"], "v1.13.1", "3.6.6-0", "3.10.1"),
        (&["1.36.0", "1.36.3"], "v1.14.2", "3.6.8-0", "3.10.2"),
    ] {
        for version in versions {
            let (images, warnings) = Cluster { version: (*version).into(), ..Cluster::default() }.images(None, &table).unwrap();
            let want = [
                format!("registry.k8s.io/kube-apiserver:v{version}"),
                format!("registry.k8s.io/coredns/coredns:{coredns}"),
                format!("registry.k8s.io/pause:{pause}"),
                format!("registry.k8s.io/etcd:{etcd}"),
            ];
            assert_eq!([&images[0], &images[4], &images[5], &images[6]], want.each_ref(), "{version}");
            assert!(warnings.is_empty(), "{warnings:?}");
        }
    }
}

#[test]
fn each_kind_and_version_of_a_document_is_told_in_kubeadms_words() {
    let cluster = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.0\n";
    let beside = |api: &str, kind: &str| read(&format!("{cluster}---\napiVersion: {api}\nkind: {kind}\n")).unwrap().1;
    for kind in ["JoinConfiguration", "ResetConfiguration", "UpgradeConfiguration"] {
        let ignored = format!("[config] WARNING: Ignored configuration document with GroupVersionKind kubeadm.k8s.io/v1beta4, Kind={kind}");
        assert_eq!(beside("kubeadm.k8s.io/v1beta4", kind), [ignored]);
        let alone = read(&format!("apiVersion: kubeadm.k8s.io/v1beta4\nkind: {kind}\n")).unwrap_err().to_string();
        assert!(alone.contains("no InitConfiguration or ClusterConfiguration kind was found in the configuration file"), "{alone}");
    }
    for (api, kind) in [
        ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"),
        ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"),
        ("kubeadm.k8s.io/v1beta4", "InitConfiguration"),
    ] {
        assert_eq!(beside(api, kind), Vec::<String>::new(), "{kind}");
    }
    let deprecated = beside("kubeadm.k8s.io/v1beta3", "InitConfiguration");
    assert!(
        deprecated.len() == 1
            && deprecated[0].starts_with(
                "your configuration file uses a deprecated API spec: \"kubeadm.k8s.io/v1beta3\" (kind: \"InitConfiguration\"). Please use \
                 'kubeadm config migrate --old-config old-config-file --new-config new-config-file'"
            ),
        "{deprecated:?}"
    );
    for (version, last) in [("v1alpha1", "v1.11"), ("v1alpha2", "v1.12"), ("v1alpha3", "v1.14"), ("v1beta1", "v1.15"), ("v1beta2", "v1.22")]
    {
        let old = read(&cluster.replace("v1beta4", version)).unwrap_err();
        let says = format!(
            "uses an old API spec: \"kubeadm.k8s.io/{version}\" (kind: \"ClusterConfiguration\"). Please use kubeadm {last} instead"
        );
        assert!(old.kind() == Kind::InvalidArgument && old.to_string().contains(&says), "{old}");
    }
    // Fields at any depth, all in one warning.
    let odd = format!("{cluster}imageRepositori: x\ndns: {{imageTagg: y}}\n");
    let (found, warnings) = read(&odd).unwrap();
    assert_eq!(found.version, "v1.36.0");
    assert!(
        warnings.len() == 1
            && ["imageRepositori", "dns.imageTagg"].iter().all(|field| warnings[0].contains(&format!("unknown field {field:?}"))),
        "{warnings:?}"
    );
}

#[test]
fn repositories_and_tags_are_overridden_one_by_one() {
    let nth = |fields: &str, nth: usize| images(fields)[nth].clone();
    assert_eq!(nth("dns: {imageTag: v1.0.0}", 4), "registry.k8s.io/coredns/coredns:v1.0.0");
    assert_eq!(nth("dns: {imageRepository: d.example/x}", 4), "d.example/x/coredns:v1.13.1");
    assert_eq!(nth("etcd: {local: {imageTag: 3.0.0-0}}", 6), "registry.k8s.io/etcd:3.0.0-0");
    // pause has no override of its own, whatever the others have.
    assert_eq!(
        nth("imageRepository: m.example\ndns: {imageRepository: d.example}\netcd: {local: {imageRepository: e.example}}", 5),
        "m.example/pause:3.10.1"
    );
    let table = Table::built_in().unwrap();
    let of = |version: &str, repository: &str| {
        Cluster { version: version.into(), repository: repository.into(), ..Cluster::default() }.images(None, &table)
    };
    // A build that was not released comes from the staging repository, unless another one is named.
    assert_eq!(of("ci/v1.36.1-beta.0.5+0abc", "m.example").unwrap().0[0], "m.example/kube-apiserver:v1.36.1-beta.0.5_0abc");
    let ci = of("ci/v1.36.1-beta.0.5+0abc", "").unwrap().0;
    assert!(ci[..4].iter().all(|image| image.starts_with("gcr.io/k8s-staging-ci-images/kube-")), "{ci:?}");
    assert!(ci[4..].iter().all(|image| image.starts_with("registry.k8s.io/")), "{ci:?}");
    // A label is the newest version of the table, said aloud; one of builds is nobody's to know.
    for (label, version) in
        [("stable", "v1.36.3"), ("stable-1", "v1.36.3"), ("latest", "v1.36.3"), ("stable-1.30", "v1.30.14"), ("", "v1.36.3")]
    {
        let (images, warnings) = of(label, "").unwrap();
        assert_eq!(images[0], format!("registry.k8s.io/kube-apiserver:{version}"), "{label:?}");
        assert!(warnings.len() == 1 && warnings[0].contains("without asking dl.k8s.io"), "{warnings:?}");
    }
    for label in ["ci/latest", "ci/latest-1.36", "stable-1.99"] {
        assert!(of(label, "").unwrap_err().to_string().contains(&format!("nobody here knows which version {label:?} is")), "{label}");
    }
}
