//! Packet filters, forwarding and network configurations.

use std::path::Path;

use super::Finding;
use crate::cmd::network::networks;
use crate::fault::Fault;
use crate::sys::nft::Nft;
use crate::sys::{Host, file};

pub(super) fn look(host: &Host, all: &mut Vec<Finding>) {
    let answer = Nft::open().and_then(|mut nft| nft.has_table());
    all.push(match answer {
        Ok(true) => Finding::ok("nftables", "rkbox's table is there"),
        Ok(false) => Finding::ok("nftables", "the kernel has it; rkbox has no table yet"),
        Err(error) => {
            let fault = Fault::from(error);
            Finding::fail("nftables", fault.to_string(), fault.hints().join("; "))
        }
    });
    let setting = |name: &str| file::read_kernel(&Path::new("/proc/sys").join(name)).ok().map(|text| text.trim().to_owned());
    let legacy = file::read_kernel(Path::new("/proc/net/ip_tables_names")).unwrap_or_default();
    if !legacy.trim().is_empty() {
        let names = legacy.split_whitespace().collect::<Vec<_>>().join(" ");
        let hint = "its rules hold beside those of nftables: what it drops stays dropped; iptables-legacy-save shows them";
        all.push(Finding::warn("iptables", format!("legacy tables are in use: {names}"), hint));
    }
    let forwarding =
        if setting("net/ipv4/ip_forward").as_deref() == Some("1") { "on" } else { "off (rkbox turns it on with the first bridge)" };
    all.push(Finding::ok("forwarding", forwarding));
    if setting("net/bridge/bridge-nf-call-iptables").as_deref() == Some("1") {
        all.push(Finding::ok("br_netfilter", "on: rules of the ip family see what bridges forward"));
    }
    configurations(host, all);
}

fn configurations(host: &Host, all: &mut Vec<Finding>) {
    let dir = host.cni_conf.display();
    match networks::all(host) {
        Err(fault) => all.push(Finding::warn("networks", fault.to_string(), format!("look at {dir}"))),
        Ok(entries) => {
            let names: Vec<String> = entries.iter().filter_map(|entry| Some(entry.network.as_ref().ok()?.name.to_string())).collect();
            all.push(Finding::ok("networks", format!("{} (from {dir})", names.join(" "))));
            for entry in &entries {
                if let Err(fault) = &entry.network {
                    all.push(Finding::warn("networks", format!("{}: {fault}", entry.source), "mend the file, or move it away"));
                }
            }
        }
    }
}
