//! Which cgroup driver a kubelet, containerd or CRI-O is configured with.

use crate::ids::CgroupDriver;

/// A kubelet's, from its configuration file and its command line, which wins; `None` when there is neither.
///
/// *Source:* KubeletConfiguration v1beta1 `cgroupDriver` (default `cgroupfs`), which is what kubeadm writes `systemd` into.
pub fn of_kubelet(config: Option<&str>, arguments: Option<&[String]>) -> Option<CgroupDriver> {
    let flag = arguments.and_then(|words| {
        let at = words.iter().position(|word| word == "--cgroup-driver").and_then(|at| words.get(at + 1).map(String::as_str));
        at.or_else(|| words.iter().find_map(|word| word.strip_prefix("--cgroup-driver=")))
    });
    let line = config.and_then(|text| text.lines().find_map(|line| line.strip_prefix("cgroupDriver:")));
    let word = flag.or(line).map(|word| word.trim().trim_matches('"'));
    match word {
        Some(word) => named(word),
        None => (config.is_some() || arguments.is_some()).then_some(CgroupDriver::Cgroupfs),
    }
}

/// containerd's, for its runtime `runc`: `SystemdCgroup = true` in `config.toml`; `None` when the CRI part is not configured.
pub fn of_containerd(config: &str) -> Option<CgroupDriver> {
    let document: toml::Value = toml::from_str(config).ok()?;
    let plugins = document.get("plugins")?;
    // Version 2 of the file, then version 3.
    let cri = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"].iter().find_map(|name| plugins.get(name))?;
    let runc = cri.get("containerd").and_then(|containerd| containerd.get("runtimes")).and_then(|all| all.get("runc"));
    let systemd = runc.and_then(|runc| runc.get("options")).and_then(|options| options.get("SystemdCgroup")).and_then(toml::Value::as_bool);
    Some(if systemd == Some(true) { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs })
}

/// CRI-O's `cgroup_manager`; its default is systemd.
pub fn of_crio(config: &str) -> Option<CgroupDriver> {
    let document: toml::Value = toml::from_str(config).ok()?;
    let runtime = document.get("crio").and_then(|crio| crio.get("runtime"));
    let manager = runtime.and_then(|runtime| runtime.get("cgroup_manager")).and_then(toml::Value::as_str);
    manager.map_or(Some(CgroupDriver::Systemd), named)
}

fn named(word: &str) -> Option<CgroupDriver> {
    match word {
        "systemd" => Some(CgroupDriver::Systemd),
        "cgroupfs" => Some(CgroupDriver::Cgroupfs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_its_driver_in_its_own_way() {
        use CgroupDriver::{Cgroupfs, Systemd};
        assert_eq!(of_kubelet(Some("kind: KubeletConfiguration\ncgroupDriver: systemd\n"), None), Some(Systemd));
        assert_eq!(of_kubelet(Some("a: b\n"), None), Some(Cgroupfs));
        let words = ["kubelet".to_owned(), "--cgroup-driver=cgroupfs".to_owned()];
        assert_eq!(of_kubelet(Some("cgroupDriver: \"systemd\"\n"), Some(&words)), Some(Cgroupfs));
        assert_eq!(of_kubelet(None, None), None);
        let two = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n  SystemdCgroup = true\n";
        assert_eq!(of_containerd(two), Some(Systemd));
        assert_eq!(of_containerd(&two.replace("true", "false")), Some(Cgroupfs));
        assert_eq!(
            of_containerd("version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = true"),
            Some(Systemd)
        );
        assert_eq!(of_containerd("version = 2\n"), None);
        assert_eq!(of_crio("[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n"), Some(Cgroupfs));
        assert_eq!(of_crio(""), Some(Systemd));
    }
}
