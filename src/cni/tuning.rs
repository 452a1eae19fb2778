//! The configuration of the `tuning` plugin: kernel parameters and flags of an interface that stands already.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::args::CniArgs;
use super::inject::runtime_config;
use super::keys::Keys;
use super::list::Plugin;
use crate::fault::{Fault, Result};
use crate::ids::Mac;

/// What the `tuning` plugin is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TuningConf {
    /// Kernel parameters of the sandbox: path below `/proc/sys/`, value. `IFNAME` stands for the interface.
    pub sysctl: BTreeMap<String, String>,
    /// MAC.
    pub mac: Option<Mac>,
    /// Promiscuous mode is set.
    pub promisc: bool,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Whether all multicast frames are received.
    pub allmulti: Option<bool>,
    /// Length of the transmit queue in packets.
    pub tx_queue: Option<u32>,
    /// Where what was is kept, when not in `/run/cni/tuning`.
    pub data_dir: Option<PathBuf>,
}

impl TuningConf {
    /// Reads a plugin of type `tuning`.
    ///
    /// *Source:* reference `tuning` `parseConf`: `CNI_ARGS` and `runtimeConfig` say the MAC, `args.cni` whatever the configuration may say.
    pub fn read(plugin: &Plugin, args: &CniArgs) -> Result<TuningConf> {
        args.refuse_unknown(&["MAC"])?;
        let keys = plugin.keys();
        let mut conf = TuningConf::default();
        conf.take(&keys)?;
        if let Some(mac) = args.find("MAC") {
            conf.mac = Some(mac.parse()?);
        }
        if let Some(told) = runtime_config(&keys)?
            && !told.text("mac")?.is_empty()
        {
            conf.mac = Some(told.text("mac")?.parse()?);
        }
        if let Some(cni) = keys.object("args")?.map(|args| args.object("cni")).transpose()?.flatten() {
            conf.take(&cni)?;
        }
        let dir = keys.text("dataDir")?;
        if !dir.is_empty() && !dir.starts_with('/') {
            return Err(Fault::invalid(format!("\"dataDir\" of tuning must be an absolute path, not {dir:?}")));
        }
        conf.data_dir = (!dir.is_empty()).then(|| PathBuf::from(dir));
        Ok(conf)
    }

    /// Leaves out what a later plugin of the same list tunes again.
    pub fn give_way(&mut self, later: &TuningConf) {
        self.sysctl.retain(|key, _| !later.sysctl.contains_key(key));
        self.mac = self.mac.filter(|_| later.mac.is_none());
        self.promisc &= !later.promisc;
        self.mtu = self.mtu.filter(|_| later.mtu.is_none());
        self.allmulti = self.allmulti.filter(|_| later.allmulti.is_none());
        self.tx_queue = self.tx_queue.filter(|_| later.tx_queue.is_none());
    }

    fn take(&mut self, keys: &Keys<'_>) -> Result<()> {
        if let Some(sysctl) = keys.object("sysctl")? {
            for (key, value) in sysctl.others(&[]) {
                let value = value.as_str().ok_or_else(|| Fault::invalid(format!("{key:?} of sysctl must be a string")))?;
                self.sysctl.insert(path_of(&key)?, value.to_owned());
            }
        }
        if !keys.text("mac")?.is_empty() {
            self.mac = Some(keys.text("mac")?.parse()?);
        }
        self.promisc |= keys.flag("promisc")?;
        let number = |key| keys.number(key).map(|value| (value != 0).then_some(value));
        self.mtu = number("mtu")?.or(self.mtu);
        self.tx_queue = number("txQLen")?.or(self.tx_queue);
        if keys.find("allmulti").is_some() {
            self.allmulti = Some(keys.flag("allmulti")?);
        }
        Ok(())
    }
}

/// The path of a kernel parameter below `/proc/sys/`.
///
/// *Errors:* a name that leaves `/proc/sys/net`, which is all that belongs to a network namespace. *Source:* reference `tuning`: dots
/// become slashes unless the name has slashes; other parameters are refused there by `/proc/sys/net/` as the only prefix.
fn path_of(key: &str) -> Result<String> {
    let path = if key.contains('/') { key.trim_start_matches('/').to_owned() } else { key.replace('.', "/") };
    let path = path.strip_prefix("proc/sys/").map_or(path.clone(), str::to_owned);
    if path.split('/').any(|part| part.is_empty() || matches!(part, "." | "..")) {
        return Err(Fault::invalid(format!("sysctl {key:?} is not the name of a kernel parameter")));
    }
    if !path.starts_with("net/") {
        return Err(Fault::invalid(format!("invalid net sysctl key: {key:?}")).hint("only parameters below net belong to a sandbox"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TuningConf> {
        TuningConf::read(&Plugin::parse(text.as_bytes()).unwrap(), &CniArgs::default())
    }

    #[test]
    fn arguments_go_over_the_configuration() {
        let conf = read(
            r#"{"type":"tuning","mtu":1400,"sysctl":{"net.core.somaxconn":"500","net/ipv4/conf/IFNAME/arp_filter":"1"},"allmulti":false,
                "args":{"cni":{"mtu":1300,"sysctl":{"net.core.somaxconn":"600"},"promisc":true}},"runtimeConfig":{"mac":"02:00:00:00:00:07"}}"#,
        )
        .unwrap();
        assert_eq!((conf.mtu, conf.promisc, conf.allmulti), (Some(1300), true, Some(false)));
        assert_eq!(conf.sysctl["net/core/somaxconn"], "600");
        assert_eq!(conf.sysctl["net/ipv4/conf/IFNAME/arp_filter"], "1");
        assert_eq!(conf.mac.unwrap().to_string(), "02:00:00:00:00:07");
    }

    #[test]
    fn parameters_of_the_host_are_out_of_reach() {
        for key in ["kernel.shmmax", "net/../kernel/x", "../x", "net//x", "/etc/passwd", ""] {
            assert!(read(&format!(r#"{{"type":"tuning","sysctl":{{"{key}":"1"}}}}"#)).is_err(), "{key}");
        }
    }
}
