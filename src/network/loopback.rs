//! What the `loopback` plugin takes: lo set up.

use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;

use super::call::{Call, Planned};
use crate::cni::result::{CniResult, Interface, Ip};
use crate::fault::{Fault, Result};
use crate::step::{self, Step};
use crate::sys::file;

/// Plans an ADD.
///
/// *Source:* reference `loopback` `cmdAdd`: whatever the interface is called, it is `lo`; a result that there is already is handed on.
pub fn plan_add(call: &Call<'_>, previous: Option<&CniResult>) -> Result<Planned> {
    let network = |address: IpAddr, prefix| IpNetwork::new(address, prefix).map_err(|error| Fault::internal(error.to_string()));
    let result = match previous {
        Some(previous) => previous.clone(),
        None => {
            let sandbox = call.netns.to_string_lossy().into_owned();
            let mac = "00:00:00:00:00:00".to_owned();
            let lo = Interface { name: "lo".to_owned(), mac, sandbox, ..Interface::default() };
            let mut addresses = vec![network(IpAddr::from([127, 0, 0, 1]), 8)?];
            if file::exists(Path::new("/proc/sys/net/ipv6"))? {
                addresses.push(network(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128)?);
            }
            let ips = addresses.into_iter().map(|address| Ip { interface: Some(0), address, gateway: None }).collect();
            CniResult { interfaces: vec![lo], ips, ..CniResult::default() }
        }
    };
    Ok(Planned { steps: vec![lo(call)], result, ..Planned::default() })
}

/// The private steps of an attachment.
pub fn plan_del(call: &Call<'_>) -> Vec<Step> {
    vec![lo(call)]
}

fn lo(call: &Call<'_>) -> Step {
    step::Loopback { netns: call.netns.to_path_buf(), own_netns: call.own_netns }.into()
}
