//! The text of `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a sandbox.

use std::net::IpAddr;

use crate::fault::{Fault, Result};

/// `/etc/hosts`: loopback names, then the sandbox's own name at each of its addresses.
pub fn hosts(hostname: &str, addresses: &[IpAddr]) -> String {
    hosts_with(hostname, addresses, &[])
}

/// As [`hosts`], then the names that the user added.
pub fn hosts_with(hostname: &str, addresses: &[IpAddr], added: &[(String, IpAddr)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for address in addresses {
        text.push_str(&format!("{address}\t{hostname}\n"));
    }
    for (name, address) in added {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}

/// One `--add-host`: a name, and its address; `None` is the host as a container sees it (`host-gateway`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedHost {
    /// The name.
    pub name: String,
    /// The address.
    pub address: Option<IpAddr>,
}

/// Reads one `--add-host NAME:IP`, `NAME=IP` or `NAME:host-gateway`; an IPv6 address may stand in brackets.
///
/// *Errors:* `InvalidArgument` for a name that is none or an address that is none: neither can add a line. *Source:* docker run.
pub fn parse_added_host(text: &str) -> Result<AddedHost> {
    let bad = |why: &str| Fault::invalid(format!("host {text:?} {why}")).hint("the form is NAME:IP, or NAME:host-gateway");
    let (name, address) = text.split_once(['=', ':']).ok_or_else(|| bad("has no address"))?;
    if !is_domain(name) {
        return Err(bad("has a name that is none"));
    }
    if address == "host-gateway" {
        return Ok(AddedHost { name: name.to_owned(), address: None });
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = bare.parse().map_err(|_| bad("has an address that is none"))?;
    Ok(AddedHost { name: name.to_owned(), address: Some(address) })
}

/// Dot-separated labels of letters, digits, `-` and `_`, at most 253 bytes.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.trim_end_matches('.').split('.').all(label)
}

/// What a resolver is told; an empty part says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains; `.` alone is none.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads `--dns`, `--dns-search` and `--dns-option`.
    ///
    /// *Errors:* `InvalidArgument` for a server that is no address, and a word that would be more than one.
    pub fn parse(servers: &[String], search: &[String], options: &[String]) -> Result<Self> {
        for server in servers {
            server.parse::<IpAddr>().map_err(|_| {
                Fault::invalid(format!("name server {server:?} is not an IP address")).hint("give an address such as 192.0.2.53")
            })?;
        }
        if let Some(bad) = search.iter().find(|domain| *domain != "." && !is_domain(domain)) {
            return Err(
                Fault::invalid(format!("search domain {bad:?} is not valid")).hint("use letters, digits, - and ., or . alone for none")
            );
        }
        let word = |option: &&String| {
            option.is_empty() || option.len() > 64 || !option.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b';')
        };
        if let Some(bad) = options.iter().find(word) {
            return Err(Fault::invalid(format!("resolver option {bad:?} is not a word")).hint("such as ndots:2"));
        }
        Ok(Resolver { servers: servers.to_vec(), search: search.to_vec(), options: options.to_vec() })
    }

    /// What a network hands out: words that are none are passed over, it is not the user's to mend them.
    pub fn of_network(servers: &[String], search: &[String], options: &[String]) -> Self {
        let fitting = |list: &[String], fits: fn(&str) -> bool| list.iter().filter(|word| fits(word)).cloned().collect();
        Resolver {
            servers: fitting(servers, |word| word.parse::<IpAddr>().is_ok()),
            search: fitting(search, is_domain),
            options: fitting(options, |word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic())),
        }
    }
}

/// `/etc/resolv.conf`: the user's words, else the network's, else the host's; each of servers, search domains and options for itself.
///
/// *Source:* docker (`--dns` replaces the servers, the search domains of the host stay), podman for the network's.
pub fn resolv_conf_of(asked: &Resolver, network: &Resolver, of_host: &str) -> String {
    if *asked == Resolver::default() && *network == Resolver::default() {
        return resolv_conf(of_host);
    }
    let host = resolv_conf(of_host);
    let of = |keywords: &[&str]| -> Vec<String> {
        let lines = host.lines().filter_map(|line| line.split_once(char::is_whitespace)).filter(|(keyword, _)| keywords.contains(keyword));
        lines.flat_map(|(_, words)| words.split_whitespace().map(str::to_owned)).collect()
    };
    let pick = |asked: &[String], network: &[String], keywords: &[&str]| match (asked, network) {
        ([], []) => of(keywords),
        ([], network) => network.to_vec(),
        (asked, _) => asked.to_vec(),
    };
    let mut text = String::new();
    for server in pick(&asked.servers, &network.servers, &["nameserver"]) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    let search = pick(&asked.search, &network.search, &["search", "domain"]);
    if !search.is_empty() && search != ["."] {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    let options = pick(&asked.options, &network.options, &["options"]);
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

/// `/etc/resolv.conf`: the host's without its loopback servers, which a sandbox cannot reach.
///
/// *Shape:* other lines stay in order; control characters and lines over 1024 bytes are dropped. *Source:* Docker and CRI behaviour, CVE-2025-8283.
pub fn resolv_conf(of_host: &str) -> String {
    let mut text = String::new();
    for line in of_host.lines().map(str::trim) {
        let mut words = line.split_whitespace();
        let keeps = match (words.next(), words.next()) {
            (Some("nameserver"), Some(server)) => {
                server.split('%').next().and_then(|ip| ip.parse::<IpAddr>().ok()).is_some_and(|ip| !ip.is_loopback())
            }
            (Some("search" | "domain" | "options"), Some(_)) => true,
            _ => false,
        };
        if keeps && line.len() <= 1024 && !line.chars().any(|c| c.is_control() && c != '\t') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_do_not_reach_a_sandbox() {
        let text = "# stub\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.1\r\nsearch a.b\noptions edns0\nnameserver nonsense\nnameserver fe80::1%eth0\nsearch \u{1b}[31m\n";
        assert_eq!(resolv_conf(text), "nameserver 10.0.0.1\nsearch a.b\noptions edns0\nnameserver fe80::1%eth0\n");
    }

    #[test]
    fn the_users_words_come_before_the_networks_and_those_before_the_hosts() {
        let host = "nameserver 10.0.0.1\nnameserver 127.0.0.1\nsearch corp.example\noptions edns0\n";
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let none = Resolver::default();
        let asked = Resolver::parse(&words(&["192.0.2.1", "2001:db8::1"]), &[], &words(&["ndots:2"])).unwrap();
        assert_eq!(
            resolv_conf_of(&asked, &none, host),
            "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch corp.example\noptions ndots:2\n"
        );
        let network = Resolver::of_network(&words(&["10.88.0.1", "no\nserver"]), &words(&["pod.example", "a b"]), &[]);
        assert_eq!(resolv_conf_of(&none, &network, host), "nameserver 10.88.0.1\nsearch pod.example\noptions edns0\n");
        let unsearched = Resolver::parse(&[], &words(&["."]), &[]).unwrap();
        assert_eq!(resolv_conf_of(&unsearched, &network, host), "nameserver 10.88.0.1\noptions edns0\n");
        assert_eq!(resolv_conf_of(&none, &none, host), resolv_conf(host));
        for bad in ["", "a", "10.0.0.1\nsearch x", "10.0.0.1 10.0.0.2", "fe80::1%eth0"] {
            assert!(Resolver::parse(&words(&[bad]), &[], &[]).is_err(), "{bad:?}");
        }
        for bad in ["", "a b", "a\nnameserver 1.1.1.1", "-a", &"a.".repeat(200)] {
            assert!(Resolver::parse(&[], &words(&[bad]), &[]).is_err() && Resolver::parse(&[], &[], &words(&["a b"])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_sandbox_knows_its_own_name_and_those_that_were_added() {
        assert!(hosts("web", &["10.88.0.2".parse().unwrap()]).ends_with("10.88.0.2\tweb\n"));
        let read = |text: &str| parse_added_host(text).map(|added| (added.name, added.address.map(|ip| ip.to_string())));
        assert_eq!(read("db:10.0.0.9").unwrap(), ("db".to_owned(), Some("10.0.0.9".to_owned())));
        assert_eq!(read("db.example=2001:db8::9").unwrap().1.as_deref(), Some("2001:db8::9"));
        assert_eq!(read("db:[::1]").unwrap().1.as_deref(), Some("::1"));
        assert_eq!(read("me:host-gateway").unwrap(), ("me".to_owned(), None));
        let long = format!("{}:1.2.3.4", "a".repeat(65_536));
        for bad in [
            "",
            "db",
            ":1.2.3.4",
            "db:",
            "db:x",
            "d b:1.2.3.4",
            "db\n1.2.3.4 evil:1.2.3.4",
            "db:1.2.3.4\n5.6.7.8 evil",
            "db\0:1.2.3.4",
            "-db:1.2.3.4",
            &long,
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
