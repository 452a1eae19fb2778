//! The text of `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a sandbox.

use std::net::IpAddr;

/// `/etc/hosts`: loopback names, then the sandbox's own name at each of its addresses.
pub fn hosts(hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for address in addresses {
        text.push_str(&format!("{address}\t{hostname}\n"));
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
    fn a_sandbox_knows_its_own_name() {
        assert!(hosts("web", &["10.88.0.2".parse().unwrap()]).ends_with("10.88.0.2\tweb\n"));
    }
}
