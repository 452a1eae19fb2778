//! Which proxy a URL goes through, as the environment says.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::endpoint::{is_loopback, origin};

/// The proxy variables of an environment. *Source:* curl(1) and Go's `httpproxy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyEnvironment {
    http: Option<String>,
    https: Option<String>,
    none: Vec<String>,
}

impl ProxyEnvironment {
    /// Reads `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` through `variable`, in capitals or not.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| variable(name).or_else(|| variable(&name.to_ascii_lowercase())).filter(|value| !value.trim().is_empty());
        let all = either("ALL_PROXY");
        let none = either("NO_PROXY").unwrap_or_default();
        ProxyEnvironment {
            http: either("HTTP_PROXY").or_else(|| all.clone()),
            https: either("HTTPS_PROXY").or(all),
            none: none.split([',', ' ']).map(|rule| rule.trim().to_ascii_lowercase()).filter(|rule| !rule.is_empty()).collect(),
        }
    }

    /// The proxy for `url`; none for this machine and for what `NO_PROXY` names.
    pub fn find(&self, url: &str) -> Option<&str> {
        let (scheme, host, port) = origin(url);
        let proxy = if scheme == "http" { &self.http } else { &self.https };
        let host = host.trim_matches(['[', ']']);
        let direct = is_loopback(host) || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if direct || self.none.iter().any(|rule| excludes(rule, host, port)) {
            return None;
        }
        proxy.as_deref()
    }
}

fn excludes(rule: &str, host: &str, port: u16) -> bool {
    if rule == "*" {
        return true;
    }
    if let (Ok(network), Ok(address)) = (rule.parse::<IpNetwork>(), host.parse::<IpAddr>()) {
        return network.contains(address);
    }
    let (name, only) = match rule.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') && digits.parse::<u16>().is_ok() => (name, digits.parse::<u16>().ok()),
        _ => (rule, None),
    };
    if only.is_some_and(|only| only != port) {
        return false;
    }
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
        None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_find_their_proxy() {
        let none = "Internal.example,.only-below.example, 10.0.0.0/8 h.example:5000,fd00::/8";
        let environment = ProxyEnvironment::read(|name| match name {
            "https_proxy" => Some("http://s:1".into()),
            "ALL_PROXY" => Some("http://all:2".into()),
            "HTTP_PROXY" => Some(" ".into()),
            "NO_PROXY" => Some(none.into()),
            _ => None,
        });
        for (url, proxy) in [
            ("https://quay.io/v2", Some("http://s:1")),
            ("http://quay.io/v2", Some("http://all:2")),
            ("https://internal.example", None),
            ("https://a.internal.example", None),
            ("https://notinternal.example", Some("http://s:1")),
            ("https://only-below.example", Some("http://s:1")),
            ("https://a.only-below.example", None),
            ("https://10.1.2.3:5000", None),
            ("https://11.1.2.3", Some("http://s:1")),
            ("https://[fd00::1]:5000", None),
            ("https://h.example:5000", None),
            ("https://h.example", Some("http://s:1")),
            ("http://localhost:5000", None),
            ("http://127.0.0.1:5000", None),
            ("http://[::1]:5000", None),
        ] {
            assert_eq!(environment.find(url), proxy, "{url}");
        }
        assert_eq!(ProxyEnvironment::default().find("https://x"), None);
        let all = ProxyEnvironment::read(|name| matches!(name, "NO_PROXY" | "HTTPS_PROXY").then(|| "*".to_owned()));
        assert_eq!(all.find("https://x"), None);
    }
}
