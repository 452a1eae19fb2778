//! `image list --kubeadm` and `--manifests` through the real binary, against what kubeadm printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{Registry, World, images};
use serde_json::Value;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kubeadm");

const CONFIG: &str = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.2\n";

fn world(config: &str) -> World {
    let world = World::new();
    std::fs::write(world.path("config.yaml"), config).unwrap();
    world
}

const IMAGES: [&str; 7] = [
    "registry.k8s.io/kube-apiserver:v1.36.2",
    "registry.k8s.io/kube-controller-manager:v1.36.2",
    "registry.k8s.io/kube-scheduler:v1.36.2",
    "registry.k8s.io/kube-proxy:v1.36.2",
    "registry.k8s.io/coredns/coredns:v1.14.2",
    "registry.k8s.io/pause:3.10.2",
    "registry.k8s.io/etcd:3.6.8-0",
];

#[test]
fn the_list_is_kubeadms_in_all_its_forms() {
    let world = world(CONFIG);
    let text = IMAGES.map(|image| format!("{image}\n")).concat();
    let list = "image list --kubeadm /tmp/rkbox-world/config.yaml";
    assert_eq!(world.rk(list).ok().stdout, text);
    assert_eq!(world.rk(&format!("{list} -o text")).ok().stdout, text);
    assert_eq!(world.sh("cat $HOME/config.yaml | rkbox image ls --kubeadm -").ok().stdout, text);
    assert_eq!(world.rk("image list --kubernetes-version 1.36.2").ok().stdout, text);
    for line in [format!("{list} -o json"), format!("{list} --format json")] {
        let json: Value = serde_json::from_str(&world.rk(&line).ok().stdout).unwrap();
        let want = serde_json::json!({"kind": "Images", "apiVersion": "output.kubeadm.k8s.io/v1alpha3", "images": IMAGES});
        assert_eq!(json, want);
    }
    let yaml = world.rk(&format!("{list} -o yaml")).ok().stdout;
    assert!(yaml.starts_with("apiVersion: output.kubeadm.k8s.io/v1alpha3\nimages:\n- registry.k8s.io/kube-apiserver:v1.36.2\n"), "{yaml}");
    assert!(yaml.ends_with("\nkind: Images\n"), "{yaml}");
    // No store was made for it.
    assert!(!world.root().exists());
}

#[test]
fn warnings_and_errors_are_kubeadms() {
    let world = world(&format!("{CONFIG}imageRepositori: x\n").replace("v1beta4", "v1beta3"));
    let list = "image list --kubeadm /tmp/rkbox-world/config.yaml";
    let listed = world.rk(list).ok();
    assert_eq!(listed.stdout.lines().count(), 7);
    assert!(listed.stderr.contains("warning: your configuration file uses a deprecated API spec: \"kubeadm.k8s.io/v1beta3\""), "{listed}");
    assert!(listed.stderr.contains("strict decoding error: unknown field \"imageRepositori\""), "{listed}");
    for (config, says) in [
        ("apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n", "no InitConfiguration or ClusterConfiguration kind was found"),
        ("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: 1.36\n", "cannot unmarshal number"),
        ("a: [", "is no YAML"),
        ("\u{ff}", "kind and apiVersion is mandatory"),
    ] {
        std::fs::write(world.path("config.yaml"), config).unwrap();
        let refused = world.rk(list).fails(2);
        assert!(refused.stderr.contains(says) && refused.stdout.is_empty(), "{refused}");
    }
    world.rk("image list --kubeadm /nowhere").fails(3);
    world.rk("image list --output json").fails(2);
    world.rk("image list --kubernetes-version latest-1.99").fails(2).says("--kubernetes-version");
}

#[test]
fn a_table_of_ones_own_is_used() {
    let world = world(CONFIG);
    let table = "[versions]\n\"1.36.0\" = { coredns = \"v9.9.9\", etcd = \"8.8.8-0\", pause = \"7\" }\n";
    std::fs::write(world.path("table.toml"), table).unwrap();
    let list = "image list --kubeadm /tmp/rkbox-world/config.yaml --component-versions /tmp/rkbox-world/table.toml";
    let listed = world.rk(list).ok().stdout;
    for image in ["registry.k8s.io/coredns/coredns:v9.9.9", "registry.k8s.io/pause:7", "registry.k8s.io/etcd:8.8.8-0"] {
        assert!(listed.lines().any(|line| line == image), "{listed}");
    }
    std::fs::write(world.path("table.toml"), "nonsense").unwrap();
    world.rk(list).fails(2).says("component versions");
}

#[test]
fn the_images_of_manifests_are_listed_and_a_bad_file_does_not_hide_them() {
    let world = world(CONFIG);
    let listed = world.rk(&format!("image list --manifests {DATA}/manifests")).ok().stdout;
    let want = world.sh(&format!("grep -h ' image: ' {DATA}/manifests/* | awk '{{ print $2 }}' | sort -u")).ok().stdout;
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, want.lines().collect::<Vec<_>>());
    assert_eq!(lines.len(), 4);
    world
        .sh(&format!(
            "cp -r {DATA}/manifests $HOME/m; echo '{{{{ x' > $HOME/m/b.yaml; echo x > $HOME/m/notes.txt; echo '[' > $HOME/m/.c.yaml"
        ))
        .ok();
    let partly = world.rk("image list --manifests /tmp/rkbox-world/m").fails(2);
    assert_eq!(partly.stdout, listed);
    assert!(partly.stderr.contains("b.yaml"), "{partly}");
    let both = world.rk(&format!("image list --kubeadm /tmp/rkbox-world/config.yaml --manifests {DATA}/manifests/etcd.yaml")).ok().stdout;
    assert_eq!(both.lines().count(), 8, "{both}");
    world.rk("image list --manifests /tmp/rkbox-world/none").fails(3);
    world.sh("mkdir $HOME/empty; ! rkbox image list --manifests $HOME/empty").ok();
}

/// A mirror that has all images but kube-proxy's and, from its manifests, one more.
fn mirrored() -> (World, Registry) {
    let world = world(&format!("{CONFIG}imageRepository: 127.0.0.1:5000/k8s\n"));
    let registry = Registry::start(&world, 5000, "");
    let layout = format!("oci:{}:latest", images().layout("busybox"));
    for image in IMAGES.iter().filter(|image| !image.contains("kube-proxy")) {
        let name = image.trim_start_matches("registry.k8s.io/").replace("coredns/coredns", "coredns");
        registry.push(&world, &layout, &format!("k8s/{name}"), "");
    }
    registry.push(&world, &layout, "extra:1", "");
    let pod = "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: '127.0.0.1:5000/extra:1'}, {image: 'Not/Valid'}]}\n";
    std::fs::write(world.path("pod.yaml"), pod).unwrap();
    (world, registry)
}

#[test]
fn a_pull_brings_all_it_can_and_says_what_it_could_not() {
    let (world, registry) = mirrored();
    let pull = "image pull --kubeadm /tmp/rkbox-world/config.yaml --manifests /tmp/rkbox-world/pod.yaml";
    let partly = world.rk(pull);
    assert_ne!(partly.code, 0, "{partly}");
    assert!(partly.stderr.contains("k8s/kube-proxy:v1.36.2") && partly.stderr.contains("Not/Valid"), "{partly}");
    assert!(partly.stderr.contains("8 images: 7 pulled, 0 already there, 1 failed"), "{partly}");
    assert_eq!(partly.stdout.lines().filter(|line| line.starts_with("Pulled image: 127.0.0.1:5000/")).count(), 7, "{partly}");
    let have = world.rk("image ls -f reference=127.0.0.1:5000/*/* -f reference=127.0.0.1:5000/* --format json").ok().stdout;
    assert_eq!(serde_json::from_str::<Value>(&have).unwrap().as_array().unwrap().len(), 7);
    // What is there is not asked for again, as with kubeadm's IfNotPresent: no registry is needed.
    let (config, two) = (world.path("config.yaml"), format!("{CONFIG}imageRepository: 127.0.0.1:5000/k8s\nproxy: {{disabled: true}}\n"));
    std::fs::write(config, two).unwrap();
    registry.stop();
    let again = world.rk("image pull --kubeadm /tmp/rkbox-world/config.yaml").ok();
    assert!(again.stderr.contains("6 images: 0 pulled, 6 already there, 0 failed"), "{again}");
    let quiet = world.rk("image pull -q --kubeadm /tmp/rkbox-world/config.yaml").ok();
    assert!(quiet.stderr.is_empty() && quiet.stdout.lines().all(|line| line.starts_with("sha256:")), "{quiet}");
    world.rk("image pull").fails(2);
}
