//! Files with credentials: the containers tools' `auth.json` and Docker's `config.json`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use crate::fault::{Fault, Result};

/// The largest file, in bytes.
pub const LIMIT: u64 = 4 << 20;
/// The name under which Docker keeps the credentials of `docker.io`.
pub const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Who a registry is told that we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that a token server takes for a name and password (OAuth 2 refresh token).
    Identity(String),
    /// A token that the registry itself takes.
    Registry(String),
}

impl fmt::Debug for Credential {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Password { user, .. } => write!(f, "Password({user:?}, …)"),
            Credential::Identity(_) => f.write_str("Identity(…)"),
            Credential::Registry(_) => f.write_str("Registry(…)"),
        }
    }
}

impl Credential {
    /// Reads `USER:PASSWORD`. *Errors:* `InvalidArgument`, without the text.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() => Ok(Credential::Password { user: user.to_owned(), password: password.to_owned() }),
            _ => Err(Fault::invalid("credentials are not of the form USER:PASSWORD")),
        }
    }

    /// The value of `Authorization` for a name and password.
    pub fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    /// What a credential helper printed. *Source:* docker-credential-helpers, `credentials.go`.
    pub fn of_helper(output: &[u8]) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Printed {
            #[serde(default)]
            username: String,
            #[serde(default)]
            secret: String,
        }
        let printed: Printed =
            serde_json::from_slice(output).map_err(|_| Fault::invalid("it did not print JSON with Username and Secret"))?;
        Ok(match (printed.username.as_str(), printed.secret) {
            (_, secret) if secret.is_empty() => None,
            ("<token>", secret) => Some(Credential::Identity(secret)),
            (user, password) => Some(Credential::Password { user: user.to_owned(), password }),
        })
    }
}

/// What a file says about a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The credential itself.
    Credential(Credential),
    /// The helper `docker-credential-NAME`, and what it is asked for.
    Helper {
        /// `NAME`.
        name: String,
        /// The names under which it may know the registry, the first first.
        keys: Vec<String>,
    },
}

/// A file with credentials.
#[derive(Clone, Debug, Default)]
pub struct AuthFile {
    auths: BTreeMap<String, Entry>,
    helpers: BTreeMap<String, String>,
    store: String,
}

#[derive(Clone, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl fmt::Debug for Entry {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(…)")
    }
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl AuthFile {
    /// Reads a file. *Errors:* `InvalidArgument`, without any of its text.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default, deserialize_with = "or_default")]
            auths: BTreeMap<String, Option<Entry>>,
            #[serde(default, rename = "credHelpers", deserialize_with = "or_default")]
            helpers: BTreeMap<String, String>,
            #[serde(default, rename = "credsStore", deserialize_with = "or_default")]
            store: String,
        }
        // A list would do for the fields in their order.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(Fault::invalid("it is not a file of credentials: it is no JSON object"));
        }
        let file: File = serde_json::from_slice(bytes).map_err(|error| {
            Fault::invalid(format!("it is not a file of credentials (line {}, column {})", error.line(), error.column()))
        })?;
        let keyed = |(key, entry): (String, Option<Entry>)| (normal(&key), entry.unwrap_or_default());
        let helpers = file.helpers.into_iter().map(|(key, name)| (normal(&key), name)).collect();
        Ok(AuthFile { auths: file.auths.into_iter().map(keyed).collect(), helpers, store: file.store })
    }

    /// What the file says about `account` (`quay.io/a/b`): a helper of its host, an entry of the repository or of what is above it, the
    /// helper for all. *Errors:* `InvalidArgument` for an entry that does not decode.
    pub fn find(&self, account: &str) -> Result<Option<Found>> {
        let account = normal(account);
        let host = account.split('/').next().unwrap_or_default();
        let keys = || if host == "docker.io" { vec![HUB_KEY.to_owned(), host.to_owned()] } else { vec![host.to_owned()] };
        if let Some(name) = self.helpers.get(host).filter(|name| !name.is_empty()) {
            return Ok(Some(Found::Helper { name: name.clone(), keys: keys() }));
        }
        let mut key = account.as_str();
        loop {
            if let Some(credential) = self.auths.get(key).map(|entry| entry.credential(key)).transpose()?.flatten() {
                return Ok(Some(Found::Credential(credential)));
            }
            match key.rsplit_once('/') {
                Some((above, _)) => key = above,
                None => break,
            }
        }
        Ok((!self.store.is_empty()).then(|| Found::Helper { name: self.store.clone(), keys: keys() }))
    }
}

impl Entry {
    fn credential(&self, key: &str) -> Result<Option<Credential>> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::Registry(self.registrytoken.clone())));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::Identity(self.identitytoken.clone())));
        }
        if !self.auth.is_empty() {
            let bad = || Fault::invalid(format!("the entry {key:?} does not decode"));
            let text = STANDARD.decode(self.auth.trim()).map_err(|_| bad())?;
            let text = String::from_utf8(text).map_err(|_| bad())?;
            // Docker pads with NUL.
            return Credential::parse(text.trim_end_matches('\0')).map(Some).map_err(|_| bad());
        }
        let named = !self.username.is_empty();
        Ok(named.then(|| Credential::Password { user: self.username.clone(), password: self.password.clone() }))
    }
}

/// A key as it is compared: no scheme, of a URL only the host, and one name for `docker.io`.
fn normal(key: &str) -> String {
    let (is_url, rest) = match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => (true, rest),
        None => (false, key),
    };
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
    if is_url || path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Option<Found> {
        Some(Found::Credential(Credential::Password { user: user.into(), password: password.into() }))
    }

    fn file(text: &str) -> AuthFile {
        AuthFile::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_nearest_key_is_taken() {
        let entry = |text: &str| format!("{{\"auth\":\"{}\"}}", STANDARD.encode(text));
        let text = format!(
            r#"{{"auths":{{"quay.io":{},"quay.io/a":{},"quay.io/a/b":{},"https://index.docker.io/v1/":{},"https://r.example/v2/":{},
               "localhost:5000":{{"username":"u","password":"p"}},"id.example":{{"identitytoken":"t"}},"null.example":null}}}}"#,
            entry("host:1"),
            entry("ns:2"),
            entry("repo:3:4"),
            entry("hub:5\0\0"),
            entry("url:6"),
        );
        let file = file(&text);
        for (account, wanted) in [
            ("quay.io/a/b", password("repo", "3:4")),
            ("quay.io/a/c", password("ns", "2")),
            ("quay.io/ab", password("host", "1")),
            ("quay.io.evil/a", None),
            ("docker.io/library/busybox", password("hub", "5")),
            ("registry-1.docker.io/x", password("hub", "5")),
            ("r.example/x", password("url", "6")),
            ("localhost:5000/x", password("u", "p")),
            ("localhost:5001/x", None),
            ("id.example/x", Some(Found::Credential(Credential::Identity("t".into())))),
            ("null.example/x", None),
        ] {
            assert_eq!(file.find(account).unwrap(), wanted, "{account}");
        }
    }

    #[test]
    fn helpers_come_before_entries_and_the_store_after_them() {
        let file = file(
            r#"{"credsStore":"all","credHelpers":{"gcr.io":"gcloud"},"auths":{"gcr.io":{"username":"u"},"x.example":{"username":"u"},"empty.example":{}}}"#,
        );
        let helper =
            |name: &str, keys: &[&str]| Some(Found::Helper { name: name.into(), keys: keys.iter().map(|key| (*key).to_owned()).collect() });
        assert_eq!(file.find("gcr.io/a/b").unwrap(), helper("gcloud", &["gcr.io"]));
        assert_eq!(file.find("x.example/a").unwrap(), password("u", ""));
        assert_eq!(file.find("empty.example/a").unwrap(), helper("all", &["empty.example"]));
        assert_eq!(file.find("docker.io/a/b").unwrap(), helper("all", &[HUB_KEY, "docker.io"]));
    }

    #[test]
    fn bad_files_are_refused_without_telling_secrets() {
        for text in ["", "[]", r#"{"auths":[]}"#, r#"{"auths":{"x":{"auth":5}}}"#, "{\"secret\": hunter2}"] {
            let fault = AuthFile::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(!fault.contains("hunter2"), "{fault}");
        }
        assert!(file(r#"{"auths":null,"credHelpers":null,"credsStore":null}"#).find("x").unwrap().is_none());
        for auth in ["!!", "aHVudGVyMg==", "/w=="] {
            let fault = file(&format!(r#"{{"auths":{{"x":{{"auth":"{auth}"}}}}}}"#)).find("x/y").unwrap_err().to_string();
            assert!(!fault.contains("hunter2"), "{fault}");
        }
        assert!(!format!("{:?}", Credential::parse("u:hunter2").unwrap()).contains("hunter2"));
        assert!(!Credential::parse("hunter2").unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn helpers_print_json() {
        let of = |text: &str| Credential::of_helper(text.as_bytes());
        assert_eq!(
            of(r#"{"ServerURL":"x","Username":"u","Secret":"s"}"#).unwrap(),
            Some(Credential::Password { user: "u".into(), password: "s".into() })
        );
        assert_eq!(of(r#"{"Username":"<token>","Secret":"s"}"#).unwrap(), Some(Credential::Identity("s".into())));
        assert_eq!(of("{}").unwrap(), None);
        assert!(of("credentials not found").is_err());
    }
}
