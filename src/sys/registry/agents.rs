//! Connections: one pool for each way to trust and each proxy.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use super::held;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::registry::Trust;
use crate::image::registry::proxy::ProxyEnvironment;
use crate::sys::file;

/// Where distributions keep the authorities that they trust.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The largest file of certificates, in bytes.
const LIMIT: u64 = 16 << 20;
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may think before it answers.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// What makes a pool: whom it trusts, its proxy, and whether it needs certificates at all.
type Key = (Trust, Option<String>, bool);

/// The pools of a session.
pub(super) struct Agents {
    proxies: ProxyEnvironment,
    pools: Mutex<HashMap<Key, Agent>>,
    system: OnceLock<Vec<Certificate<'static>>>,
}

impl Agents {
    pub fn new(proxies: ProxyEnvironment) -> Self {
        Agents { proxies, pools: Mutex::default(), system: OnceLock::new() }
    }

    /// The pool for `url`.
    pub fn find(&self, trust: &Trust, url: &str) -> Result<Agent> {
        let proxy = self.proxies.find(url).map(str::to_owned);
        // Plain HTTP needs no certificates, and reading them takes longer than a small image.
        let tls = url.starts_with("https://") || proxy.as_ref().is_some_and(|proxy| proxy.starts_with("https://"));
        let key = (trust.clone(), proxy.clone(), tls);
        if let Some(known) = held(&self.pools).get(&key) {
            return Ok(known.clone());
        }
        let proxy = match &proxy {
            None => None,
            Some(text) => Some(Proxy::new(text).map_err(|_| Fault::invalid("the proxy of the environment is not a valid URL"))?),
        };
        let tls = if tls { self.tls(trust)? } else { TlsConfig::default() };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("rkbox/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .proxy(proxy)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .max_idle_connections(64)
            .max_idle_connections_per_host(32)
            .build();
        Ok(held(&self.pools).entry(key).or_insert(config.new_agent()).clone())
    }

    /// Breaks all connections, also those that wait.
    pub fn shut(&self) {
        held(&self.pools).values().for_each(|agent| agent.clone().shutdown());
    }

    fn tls(&self, trust: &Trust) -> Result<TlsConfig> {
        let mut roots = self.system.get_or_init(system_roots).clone();
        for path in &trust.ca {
            let found = certificates(path)?;
            if found.is_empty() {
                return Err(Fault::invalid(format!("{} has no certificate", path.display())));
            }
            roots.extend(found);
        }
        let roots = if roots.is_empty() { RootCerts::WebPki } else { RootCerts::Specific(Arc::new(roots)) };
        let client = trust.client.first().map(|(cert, key)| client(cert, key)).transpose()?;
        Ok(TlsConfig::builder().root_certs(roots).client_cert(client).disable_verification(trust.skip_verify).build())
    }
}

/// The authorities of the system: `SSL_CERT_FILE` and `SSL_CERT_DIR`, else the distribution's bundle. None is no fault: then those that
/// are built in stand for them.
fn system_roots() -> Vec<Certificate<'static>> {
    let of = |path: &Path| certificates(path).unwrap_or_default();
    let (named, dirs) = (std::env::var_os("SSL_CERT_FILE"), std::env::var_os("SSL_CERT_DIR"));
    let mut roots: Vec<Certificate<'static>> = Vec::new();
    for dir in dirs.iter().flat_map(std::env::split_paths) {
        let names = file::list(&dir).unwrap_or_default();
        let is_pem = |name: &&String| [".pem", ".crt"].iter().any(|end| name.ends_with(end));
        roots.extend(names.iter().filter(is_pem).flat_map(|name| of(&dir.join(name))));
    }
    match named {
        Some(named) => roots.extend(of(Path::new(&named))),
        None if roots.is_empty() => {
            roots.extend(BUNDLES.iter().map(|path| of(Path::new(path))).find(|found| !found.is_empty()).unwrap_or_default())
        }
        None => {}
    }
    roots
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>> {
    let text = file::read_following(path, LIMIT)?;
    parse_pem(&text)
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Fault::invalid("it is not PEM"))
        .doing(|| format!("reading {}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    Ok(items(path)?.into_iter().filter_map(|item| if let PemItem::Certificate(found) = item { Some(found) } else { None }).collect())
}

fn client(cert: &Path, key: &Path) -> Result<ClientCert> {
    let chain = certificates(cert)?;
    let found = items(key)?.into_iter().find_map(|item| if let PemItem::PrivateKey(found) = item { Some(found) } else { None });
    let key: PrivateKey<'static> =
        found.ok_or_else(|| Fault::new(Kind::InvalidArgument, format!("{} has no private key", key.display())))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}
