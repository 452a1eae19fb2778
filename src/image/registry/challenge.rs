//! How a registry asks who is there, and what its token server answers.

use serde_json::Value;

use super::endpoint::encoded;
use crate::fault::{Fault, Kind, Result};

/// The longest header that is read, in bytes.
const LIMIT: usize = 8 << 10;
/// How long a token holds when its server does not say. *Source:* distribution `docs/spec/auth/token.md`.
const DEFAULT_SECONDS: u64 = 60;

/// What a 401 asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A user name and password with each request.
    Basic,
    /// A token of another server.
    Bearer {
        /// The URL of that server.
        realm: String,
        /// Who the token is for.
        service: String,
        /// What it allows; empty when the registry does not say.
        scope: String,
    },
}

impl Challenge {
    /// Reads `WWW-Authenticate`; of several challenges a token is preferred, as Docker and containerd do.
    ///
    /// *Source:* RFC 9110, 11.6.1. *Errors:* `Unimplemented`, naming the scheme, when rkbox knows none of them.
    pub fn parse(header: &str) -> Result<Self> {
        let shown = || header.chars().take(100).collect::<String>();
        if header.len() > LIMIT {
            return Err(Fault::invalid("the registry's challenge is too long"));
        }
        let all = challenges(header);
        let bearer = all.iter().find(|(scheme, _)| scheme == "bearer");
        if let Some((_, parameters)) = bearer {
            let find = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default();
            let realm = find("realm");
            if !realm.starts_with("https://") && !realm.starts_with("http://") {
                return Err(Fault::invalid(format!("the registry's challenge names no token server: {:?}", shown())));
            }
            return Ok(Challenge::Bearer { realm, service: find("service"), scope: find("scope") });
        }
        if all.iter().any(|(scheme, _)| scheme == "basic") {
            return Ok(Challenge::Basic);
        }
        Err(Fault::new(Kind::Unimplemented, format!("the registry asks for a login that rkbox does not know: {:?}", shown())))
    }
}

/// Schemes in lower case, with their parameters, keys in lower case.
fn challenges(header: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut all: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | '=')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start();
        match after.strip_prefix('=') {
            Some(value) if !word.is_empty() => {
                let (value, left) = value_of(value.trim_start());
                if let Some((_, parameters)) = all.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = left;
            }
            // A lone `=` or `,`.
            _ if word.is_empty() => rest = after.get(1..).unwrap_or_default(),
            _ => {
                all.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
        rest = rest.trim_start();
    }
    all
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// The URL at which a token for `scope` (`repository:library/busybox:pull`) is asked for.
pub fn token_url(realm: &str, service: &str, scope: &str) -> String {
    let mark = if realm.contains('?') { '&' } else { '?' };
    let service = if service.is_empty() { String::new() } else { format!("service={}&", encoded(service)) };
    format!("{realm}{mark}{service}scope={}", encoded(scope))
}

/// A token and how long it holds, in seconds.
///
/// *Source:* distribution `docs/spec/auth/token.md`. *Errors:* `Unauthenticated` when there is none in the answer.
pub fn token(body: &[u8]) -> Result<(String, u64)> {
    let bad = |why: &str| Fault::new(Kind::Unauthenticated, format!("the token server's answer {why}"));
    let answer: Value = serde_json::from_slice(body).map_err(|_| bad("is not JSON"))?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).filter(|token| !token.is_empty());
    let token = text("token").or_else(|| text("access_token")).ok_or_else(|| bad("has no token"))?;
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad("has a token that is not plain text"));
    }
    Ok((token.to_owned(), answer.get("expires_in").and_then(Value::as_u64).unwrap_or(DEFAULT_SECONDS).max(DEFAULT_SECONDS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.into(), scope: scope.into() }
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull""#;
        for (header, wanted) in [
            (hub, bearer("https://auth.docker.io/token", "registry.docker.io", "repository:library/x:pull")),
            ("Basic realm=\"x\"", Challenge::Basic),
            ("basic", Challenge::Basic),
            ("Basic realm=\"a, b\", Bearer realm=\"https://t\"", bearer("https://t", "", "")),
            ("BEARER  Realm = \"https://t/\\\"q\" , service=plain", bearer("https://t/\"q", "plain", "")),
            ("Negotiate, Basic realm=x", Challenge::Basic),
        ] {
            assert_eq!(Challenge::parse(header).unwrap(), wanted, "{header}");
        }
        for bad in
            ["", "Negotiate", "Bearer", "Bearer realm=\"ftp://x\"", ",,,=", "\"", "Bearer realm=\"", "\u{e9}=\u{e9}", &"x".repeat(9000)]
        {
            assert!(Challenge::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tokens_are_asked_for_and_read() {
        assert_eq!(
            token_url("https://t/token", "r.io", "repository:a/b:pull"),
            "https://t/token?service=r.io&scope=repository%3Aa%2Fb%3Apull"
        );
        assert_eq!(token_url("https://t/token?x=y", "", "repository:a:pull"), "https://t/token?x=y&scope=repository%3Aa%3Apull");
        assert_eq!(token(br#"{"token":"abc","expires_in":300}"#).unwrap(), ("abc".into(), 300));
        assert_eq!(token(br#"{"access_token":"abc","expires_in":1}"#).unwrap(), ("abc".into(), 60));
        for bad in [&b"{}"[..], b"[]", b"x", br#"{"token":""}"#, br#"{"token":"a\r\nb"}"#, br#"{"token":1}"#] {
            assert_eq!(token(bad).unwrap_err().kind(), Kind::Unauthenticated);
        }
    }
}
