//! What a sandbox or container knows by name: its resolver, and names that the user adds.

use std::net::IpAddr;

use clap::Args;

use super::parse;
use crate::bundle::etc::{self, Resolver};
use crate::fault::{Fault, Kind, Result};
use crate::record::Attachment;

/// `--dns` and its kin.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Names")]
pub struct NamesArgs {
    /// Name server, instead of the host's; may be repeated
    #[arg(long, value_name = "IP")]
    pub dns: Vec<String>,
    /// Search domain, instead of the host's; `.` alone for none
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Resolver option, instead of the host's
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Name in /etc/hosts; host-gateway is the address of the host
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
}

/// Which network a box is on, as far as names go.
#[derive(Clone, Copy, Debug)]
pub enum Reach<'a> {
    /// The host's own.
    Host,
    /// One of its own, with these attachments.
    Own(&'a [Attachment]),
}

impl NamesArgs {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.dns_search.is_empty() && self.dns_option.is_empty() && self.add_host.is_empty()
    }

    /// The text of `/etc/resolv.conf`. On the host's network its loopback servers can be reached, and stay.
    pub fn resolv_conf(&self, reach: Reach<'_>) -> Result<String> {
        let asked = Resolver::parse(&self.dns, &self.dns_search, &self.dns_option)?;
        let attachments = match reach {
            Reach::Host if asked == Resolver::default() => return Ok(parse::own_resolv_conf()),
            Reach::Host => &[],
            Reach::Own(attachments) => attachments,
        };
        let network = attachments.iter().map(of_result).find(|found| *found != Resolver::default()).unwrap_or_default();
        Ok(etc::resolv_conf_of(&asked, &network, &parse::host_resolv_conf()))
    }

    /// The text of `/etc/hosts`.
    pub fn hosts(&self, hostname: &str, reach: Reach<'_>) -> Result<String> {
        let attachments = match reach {
            Reach::Host => &[],
            Reach::Own(attachments) => attachments,
        };
        let mut added = Vec::new();
        for text in &self.add_host {
            let host = etc::parse_added_host(text)?;
            added.push((host.name, host.address.map_or_else(|| gateway(reach), Ok)?));
        }
        let addresses: Vec<IpAddr> =
            attachments.iter().flat_map(|attachment| &attachment.addresses).map(ipnetwork::IpNetwork::ip).collect();
        Ok(etc::hosts_with(hostname, &addresses, &added))
    }
}

/// The host as the box sees it: the next hop of its first network.
fn gateway(reach: Reach<'_>) -> Result<IpAddr> {
    match reach {
        Reach::Host => Ok(IpAddr::from([127, 0, 0, 1])),
        Reach::Own(attachments) => attachments.iter().find_map(|attachment| attachment.gateway).ok_or_else(|| {
            Fault::new(Kind::FailedPrecondition, "host-gateway: this network has no gateway")
                .hint("give the address that the host is reached by")
        }),
    }
}

/// The name servers that a network handed out.
fn of_result(attachment: &Attachment) -> Resolver {
    let words = |key: &str| -> Vec<String> {
        attachment.result["dns"][key].as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let mut search = words("search");
    if let (true, Some(domain)) = (search.is_empty(), attachment.result["dns"]["domain"].as_str().filter(|domain| !domain.is_empty())) {
        search.push(domain.to_owned());
    }
    Resolver::of_network(&words("nameservers"), &search, &words("options"))
}
