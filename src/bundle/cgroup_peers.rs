//! Which cgroup driver a kubelet, containerd or CRI-O is configured with.

use crate::ids::CgroupDriver;

/// A driver, and whether the configuration says so in words or leaves it to the program's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The driver.
    pub driver: CgroupDriver,
    /// Whether it is written there.
    pub written: bool,
}

/// A kubelet's, from its configuration file and its command line, which wins; `None` when there is neither.
///
/// *Source:* KubeletConfiguration v1beta1 `cgroupDriver` (default `cgroupfs`), which is what kubeadm writes `systemd` into.
pub fn of_kubelet(config: Option<&str>, arguments: Option<&[String]>) -> Option<Stated> {
    let flag = arguments.and_then(|words| {
        let at = words.iter().position(|word| word == "--cgroup-driver").and_then(|at| words.get(at + 1).map(String::as_str));
        at.or_else(|| words.iter().find_map(|word| word.strip_prefix("--cgroup-driver=")))
    });
    let line = config.and_then(|text| text.lines().find_map(|line| line.strip_prefix("cgroupDriver:")));
    let word = flag.or(line).map(|word| word.trim().trim_matches('"'));
    match word {
        Some(word) => named(word),
        None => (config.is_some() || arguments.is_some()).then_some(Stated { driver: CgroupDriver::Cgroupfs, written: false }),
    }
}

/// containerd's plugin that serves a kubelet, in version 2 of its file and in version 3.
const CRI: [&str; 2] = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

/// containerd's, for its runtime `runc`: `SystemdCgroup = true` in `config.toml`; `None` when the CRI part is not configured, or is off.
pub fn of_containerd(config: &str) -> Option<Stated> {
    let document: toml::Value = toml::from_str(config).ok()?;
    let off = document.get("disabled_plugins").and_then(toml::Value::as_array);
    if off.is_some_and(|names| names.iter().filter_map(toml::Value::as_str).any(|name| name == "cri" || CRI.contains(&name))) {
        return None;
    }
    let plugins = document.get("plugins")?;
    let cri = CRI.iter().find_map(|name| plugins.get(name))?;
    let runc = cri.get("containerd").and_then(|containerd| containerd.get("runtimes")).and_then(|all| all.get("runc"));
    let systemd = runc.and_then(|runc| runc.get("options")).and_then(|options| options.get("SystemdCgroup")).and_then(toml::Value::as_bool);
    let driver = if systemd == Some(true) { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
    Some(Stated { driver, written: systemd.is_some() })
}

/// CRI-O's `cgroup_manager`; its default is systemd.
pub fn of_crio(config: &str) -> Option<Stated> {
    let document: toml::Value = toml::from_str(config).ok()?;
    let runtime = document.get("crio").and_then(|crio| crio.get("runtime"));
    let manager = runtime.and_then(|runtime| runtime.get("cgroup_manager")).and_then(toml::Value::as_str);
    manager.map_or(Some(Stated { driver: CgroupDriver::Systemd, written: false }), named)
}

fn named(word: &str) -> Option<Stated> {
    let driver = [CgroupDriver::Systemd, CgroupDriver::Cgroupfs].into_iter().find(|driver| driver.word() == word)?;
    Some(Stated { driver, written: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_its_driver_in_its_own_way() {
        use CgroupDriver::{Cgroupfs, Systemd};
        let written = |driver| Some(Stated { driver, written: true });
        let implied = |driver| Some(Stated { driver, written: false });
        assert_eq!(of_kubelet(Some("kind: KubeletConfiguration\ncgroupDriver: systemd\n"), None), written(Systemd));
        assert_eq!(of_kubelet(Some("a: b\n"), None), implied(Cgroupfs));
        let words = ["kubelet".to_owned(), "--cgroup-driver=cgroupfs".to_owned()];
        assert_eq!(of_kubelet(Some("cgroupDriver: \"systemd\"\n"), Some(&words)), written(Cgroupfs));
        assert_eq!(of_kubelet(None, None), None);
        let two = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n  SystemdCgroup = true\n";
        assert_eq!(of_containerd(two), written(Systemd));
        assert_eq!(of_containerd(&two.replace("true", "false")), written(Cgroupfs));
        assert_eq!(
            of_containerd("version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = true"),
            written(Systemd)
        );
        assert_eq!(of_containerd(&two.replace("SystemdCgroup", "BinaryName")), implied(Cgroupfs));
        assert_eq!(of_containerd(&format!("disabled_plugins = [\"cri\"]\n{two}")), None);
        assert_eq!(of_containerd("version = 2\n"), None);
        assert_eq!(of_crio("[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n"), written(Cgroupfs));
        assert_eq!(of_crio(""), implied(Systemd));
    }
}
