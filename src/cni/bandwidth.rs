//! The configuration of the `bandwidth` plugin.

use super::inject::runtime_config;
use super::keys::Keys;
use super::list::Plugin;
use crate::fault::{Fault, Result};

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Bits per second.
    pub rate: u64,
    /// Bits.
    pub burst: u64,
}

/// What the `bandwidth` plugin is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BandwidthConf {
    /// Of what the sandbox receives.
    pub ingress: Option<Bucket>,
    /// Of what the sandbox sends.
    pub egress: Option<Bucket>,
}

/// The largest burst: it must fit 32 bits of bytes.
const MOST: u64 = u32::MAX as u64 * 8;

impl BandwidthConf {
    /// Reads a plugin of type `bandwidth`.
    ///
    /// *Errors:* a rate without a burst and the other way round; `Unimplemented` for subnets that are shaped apart. *Source:*
    /// reference `bandwidth` `parseConfig`, `getBandwidth`: what the runtime says takes the place of the configuration.
    pub fn read(plugin: &Plugin) -> Result<BandwidthConf> {
        let keys = plugin.keys();
        keys.refuse(&["shapedSubnets", "unshapedSubnets"])?;
        let told = runtime_config(&keys)?.map(|told| told.object("bandwidth")).transpose()?.flatten();
        if let Some(told) = told {
            told.refuse(&["shapedSubnets", "unshapedSubnets"])?;
        }
        let keys = told.unwrap_or(keys);
        let ingress = bucket(&keys, "ingressRate", "ingressBurst")?;
        Ok(BandwidthConf { ingress, egress: bucket(&keys, "egressRate", "egressBurst")? })
    }
}

fn bucket(keys: &Keys<'_>, rate_key: &str, burst_key: &str) -> Result<Option<Bucket>> {
    let number = |key: &str| match keys.find(key) {
        None => Ok(0),
        Some(value) => value.as_u64().ok_or_else(|| Fault::invalid(format!("{key:?} of bandwidth must be a whole number from 0 up"))),
    };
    match (number(rate_key)?, number(burst_key)?) {
        (0, 0) => Ok(None),
        (0, _) => Err(Fault::invalid(format!("if burst is set, rate must also be set ({rate_key})"))),
        (_, 0) => Err(Fault::invalid(format!("if rate is set, burst must also be set ({burst_key})"))),
        (_, burst) if burst >= MOST => Err(Fault::invalid(format!("burst cannot be more than 4GB ({burst_key})"))),
        (rate, _) if rate < 8 => Err(Fault::invalid(format!("{rate_key} of {rate} bits per second is less than a byte"))),
        (rate, burst) => Ok(Some(Bucket { rate, burst })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_or_neither_and_the_runtime_before_the_file() {
        let read = |text: &str| BandwidthConf::read(&Plugin::parse(format!(r#"{{"type":"bandwidth"{text}}}"#).as_bytes()).unwrap());
        assert_eq!(read("").unwrap(), BandwidthConf::default());
        let conf = read(r#","ingressRate":8000,"ingressBurst":80"#).unwrap();
        assert_eq!((conf.ingress, conf.egress), (Some(Bucket { rate: 8000, burst: 80 }), None));
        let told =
            read(r#","ingressRate":8000,"ingressBurst":80,"runtimeConfig":{"bandwidth":{"egressRate":9000,"egressBurst":90}}"#).unwrap();
        assert_eq!((told.ingress, told.egress), (None, Some(Bucket { rate: 9000, burst: 90 })));
        for bad in [r#","ingressRate":1"#, r#","egressBurst":1"#, r#","egressRate":8,"egressBurst":34359738360"#, r#","egressRate":-1"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(r#","shapedSubnets":["10.0.0.0/8"]"#).unwrap_err().to_string().contains("shapedSubnets"));
    }
}
