//! The `dns` part of a CNI document, and how host-local reads it from a resolv.conf.

use serde::{Deserialize, Serialize};

use super::keys::Keys;
use crate::fault::Result;

/// Name servers and search domains that a network hands to its attachments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

/// The `dns` of a configuration.
pub fn read_dns(keys: &Keys<'_>) -> Result<Dns> {
    let Some(dns) = keys.object("dns")? else { return Ok(Dns::default()) };
    let domain = dns.text("domain")?.to_owned();
    Ok(Dns { nameservers: dns.texts("nameservers")?, domain, search: dns.texts("search")?, options: dns.texts("options")? })
}

/// Reads the text of a resolv.conf.
///
/// *Source:* host-local `parseResolvConf`: comments and lines of one word are passed over, `search` and `options` add up.
pub fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(keyword), Some(first)) = (words.next(), words.next()) else { continue };
        match keyword.as_str() {
            "nameserver" => dns.nameservers.push(first),
            "domain" => dns.domain = first,
            "search" => dns.search.extend(std::iter::once(first).chain(words)),
            "options" => dns.options.extend(std::iter::once(first).chain(words)),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_is_read_as_host_local_reads_it() {
        let dns = parse("# x\n;y\nnameserver 1.1.1.1 ignored\nnameserver\n search a b\nsearch c\noptions ndots:5\ndomain d\n");
        assert_eq!(dns.nameservers, ["1.1.1.1"]);
        assert_eq!(dns.search, ["a", "b", "c"]);
        assert_eq!((dns.domain.as_str(), dns.options.len()), ("d", 1));
        assert!(parse("").is_empty());
    }
}
