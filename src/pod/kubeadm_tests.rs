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
