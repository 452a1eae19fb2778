//! The plugins that change an interface which another plugin has made: tuning, bandwidth, firewall.

use std::net::IpAddr;
use std::path::Path;

use sha2::{Digest, Sha512};

use super::call::{Call, Planned};
use crate::cni::bandwidth::{BandwidthConf, Bucket};
use crate::cni::built_in::{BuiltIn, without_previous};
use crate::cni::firewall::{FirewallConf, IngressPolicy};
use crate::cni::result::{CniResult, Interface};
use crate::cni::tuning::TuningConf;
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, hex, veth_names};
use crate::step::{self, Step, bandwidth::Limit};
use crate::sys::file;

/// Where upstream's tuning keeps what an interface was.
const TUNING_DIR: &str = "/run/cni/tuning";
/// What an administrator allows to be tuned.
const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";

/// What a tuning takes and makes of the result.
pub fn plan_tuning(call: &Call<'_>, conf: &TuningConf, previous: Option<&CniResult>) -> Result<Planned> {
    let mut result = previous.cloned().ok_or_else(|| without_previous("tuning"))?;
    refuse_forbidden(conf)?;
    if let Some(mac) = conf.mac {
        let ours = |interface: &&mut Interface| !interface.sandbox.is_empty() && interface.name == call.ifname.as_ref();
        result.interfaces.iter_mut().filter(ours).for_each(|interface| interface.mac = mac.to_string());
    }
    Ok(Planned { steps: tuning(call, conf).map(Step::from).into_iter().collect(), result, ..Planned::default() })
}

/// The step of a tuning; none when nothing is asked.
pub fn tuning(call: &Call<'_>, conf: &TuningConf) -> Option<step::Tuning> {
    let nothing = TuningConf { data_dir: conf.data_dir.clone(), ..TuningConf::default() };
    if *conf == nothing {
        return None;
    }
    let dir = conf.data_dir.as_deref().unwrap_or(Path::new(TUNING_DIR));
    Some(step::Tuning {
        netns: call.netns.to_path_buf(),
        ifname: call.ifname.clone(),
        sysctl: conf.sysctl.clone(),
        mac: conf.mac,
        promisc: conf.promisc,
        mtu: conf.mtu,
        allmulti: conf.allmulti,
        tx_queue: conf.tx_queue,
        backup: dir.join(format!("{}_{}.json", call.owner, call.ifname)),
        own_netns: call.own_netns,
    })
}

/// *Source:* reference `tuning` `validateSysctlConf`: each parameter must match a line of the list, when there is one.
fn refuse_forbidden(conf: &TuningConf) -> Result<()> {
    if conf.sysctl.is_empty() {
        return Ok(());
    }
    let Some(text) = file::find(Path::new(ALLOWLIST), 1 << 20)? else { return Ok(()) };
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for key in conf.sysctl.keys() {
        let dotted = key.replace('/', ".");
        let mut allowed = false;
        for line in &lines {
            allowed |= matches(line, &dotted)?;
        }
        if !allowed {
            return Err(Fault::new(
                Kind::PermissionDenied,
                format!("Sysctl {dotted} is not allowed. Only the following sysctls are allowed: {lines:?}"),
            )
            .hint(format!("an administrator says so in {ALLOWLIST}")));
        }
    }
    Ok(())
}

/// Whether a line of the list matches: a regular expression of letters, `^`, `$`, `\.` and `.*`, and no other.
fn matches(line: &str, key: &str) -> Result<bool> {
    let begins = line.starts_with('^');
    let ends = line.ends_with('$');
    let body = line.trim_start_matches('^').trim_end_matches('$');
    let parts: Vec<String> = body.split(".*").map(|part| part.replace("\\.", ".")).collect();
    if parts.iter().any(|part| part.contains(['[', '(', '+', '?', '{', '|', '\\', '*', '^', '$'])) {
        let fault =
            Fault::new(Kind::Unimplemented, format!("the line {line:?} of {ALLOWLIST} is a regular expression beyond ^, $, \\. and .*"));
        return Err(fault.hint("write one line for each parameter"));
    }
    let mut rest = key;
    for (nth, part) in parts.iter().enumerate() {
        match rest.find(part.as_str()) {
            Some(at) if nth > 0 || !begins || at == 0 => rest = &rest[at + part.len()..],
            _ => return Ok(false),
        }
    }
    Ok(!ends || rest.is_empty() || body.ends_with(".*"))
}

/// What limits of bandwidth take and add to the result.
pub fn plan_bandwidth(call: &Call<'_>, conf: BandwidthConf, previous: Option<&CniResult>) -> Result<Planned> {
    let mut result = previous.cloned().ok_or_else(|| without_previous("bandwidth"))?;
    let host = host_end(call, &result);
    if conf == BandwidthConf::default() {
        return Ok(Planned { result, ..Planned::default() });
    }
    let Some(host) = host else {
        return Err(
            Fault::invalid("no interface on the host in the result of the plugin before").hint("bandwidth goes after bridge or ptp")
        );
    };
    let step = bandwidth(call, conf, host.name.parse()?)?;
    if conf.egress.is_some() {
        result.interfaces.push(Interface { name: step.ifb.to_string(), mac: step.ifb_mac.to_string(), ..Interface::default() });
    }
    Ok(Planned { steps: vec![step.into()], result, ..Planned::default() })
}

/// The end of the interface on the host, as its result tells.
fn host_end<'a>(call: &Call<'_>, result: &'a CniResult) -> Option<&'a Interface> {
    let inner = result.interfaces.iter().position(|interface| !interface.sandbox.is_empty() && interface.name == call.ifname.as_ref());
    inner.and_then(|inner| result.interfaces.get(inner.checked_sub(1)?)).filter(|interface| interface.sandbox.is_empty())
}

/// What is not as a chained plugin has made it; none for all others.
pub fn differences(call: &Call<'_>, built_in: &BuiltIn, result: &CniResult) -> Result<Vec<String>> {
    match built_in {
        BuiltIn::Tuning(conf) => tuning(call, conf).map_or(Ok(Vec::new()), |step| step.differences(call.host)),
        BuiltIn::Bandwidth(conf) if *conf != BandwidthConf::default() => match host_end(call, result) {
            Some(host) => bandwidth(call, *conf, host.name.parse()?)?.differences(),
            None => Ok(vec!["the result tells of no interface on the host".to_owned()]),
        },
        BuiltIn::Firewall(conf) => firewall(conf, result)?.map_or(Ok(Vec::new()), |step| step.differences(call.host)),
        _ => Ok(Vec::new()),
    }
}

/// The step of limits on a link.
///
/// *Source:* reference `bandwidth` `ifbDeviceName`: the SHA-512 of network and container id, cut to the length of a name.
pub fn bandwidth(call: &Call<'_>, conf: BandwidthConf, link: IfName) -> Result<step::Bandwidth> {
    let digest = Sha512::digest(format!("{}{}", call.network, call.owner).as_bytes());
    let ifb: IfName = format!("bwp{}", hex(&digest)).get(..15).unwrap_or("bwp").parse()?;
    let limit = |bucket: Bucket| Limit { rate: bucket.rate, burst: bucket.burst };
    let ifb_mac = veth_names(call.network, &format!("ifb of {}", call.owner), call.ifname).host_mac;
    Ok(step::Bandwidth { link, ingress: conf.ingress.map(limit), egress: conf.egress.map(limit), ifb, ifb_mac })
}

/// What a firewall takes.
pub fn plan_firewall(conf: &FirewallConf, previous: Option<&CniResult>) -> Result<Planned> {
    let result = previous.cloned().ok_or_else(|| without_previous("firewall"))?;
    let step = firewall(conf, &result)?;
    Ok(Planned { steps: step.map(Step::from).into_iter().collect(), result, ..Planned::default() })
}

/// The step of a firewall; none without an address.
pub fn firewall(conf: &FirewallConf, result: &CniResult) -> Result<Option<step::Firewall>> {
    let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
    let bridge = result.interfaces.first().filter(|interface| interface.sandbox.is_empty());
    let bridge: Option<IfName> = bridge.map(|interface| interface.name.parse()).transpose()?;
    if conf.ingress != IngressPolicy::Open && bridge.is_none() {
        return Err(Fault::invalid("an ingress policy needs the bridge in the result of the plugin before"));
    }
    if addresses.is_empty() {
        return Ok(None);
    }
    Ok(Some(step::Firewall { addresses, admin_chain: conf.admin_chain.clone(), ingress: conf.ingress, bridge }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_allowlist_are_matched_as_regular_expressions() {
        for (line, key, expected) in [
            (r"^net\.ipv4\.conf\.IFNAME\.arp_filter$", "net.ipv4.conf.IFNAME.arp_filter", true),
            (r"^net\.ipv4\.conf\.IFNAME\.arp_filter$", "net.ipv4.conf.IFNAME.arp_filterx", false),
            (r"^net\.ipv4\..*$", "net.ipv4.tcp_x", true),
            ("somaxconn", "net.core.somaxconn", true),
            ("^somaxconn", "net.core.somaxconn", false),
        ] {
            assert_eq!(matches(line, key).unwrap(), expected, "{line} {key}");
        }
        assert_eq!(matches("a|b", "a").unwrap_err().kind(), Kind::Unimplemented);
    }
}
